"""Devices of this machine (requirement L4-33)."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Annotated

from fastapi import APIRouter, Path, Query

from plumbline.serving.api.caller import DeviceOperator, Parts, Reader
from plumbline.serving.api.problems import errors
from plumbline.serving.api.schemas.resources import DeviceInfo, DeviceList

__all__ = ["router"]

router = APIRouter(prefix="/devices", tags=["devices"])

_Id = Annotated[str, Path(min_length=1, max_length=64)]


@router.get("", responses=errors(), summary="Every device")
async def list_devices(parts: Parts, caller: Reader) -> DeviceList:
    """What can compute here, and why the rest cannot: the numbers of `plumb devices`."""
    return DeviceList(devices=[DeviceInfo.model_validate(d) for d in parts.devices.devices()])


@router.get("/{device_id}", responses=errors(404), summary="One device")
async def read_device(device_id: _Id, parts: Parts, caller: Reader) -> DeviceInfo:
    """With the memory that is free now."""
    return DeviceInfo.model_validate(parts.devices.device(device_id))


@router.post("/{device_id}/drain", responses=errors(404, 409), summary="Take no new work")
async def drain_device(
    device_id: _Id, parts: Parts, caller: DeviceOperator, wait_s: Annotated[float, Query(ge=0, le=300)] = 30.0
) -> DeviceInfo:
    """Answers when the work that the device had is done, or after `wait_s` with `draining`: it goes on."""
    with suppress(TimeoutError):
        async with asyncio.timeout(wait_s):
            await parts.devices.drain(device_id)
    return DeviceInfo.model_validate(parts.devices.device(device_id))


@router.post("/{device_id}/resume", responses=errors(404, 409), summary="Take work again")
async def resume_device(device_id: _Id, parts: Parts, caller: DeviceOperator) -> DeviceInfo:
    """Ends a drain, or takes a drained device back; 409 for one that was not drained."""
    return DeviceInfo.model_validate(parts.devices.resume(device_id))


@router.post("/{device_id}/retire", responses=errors(404, 409), summary="End its use")
async def retire_device(device_id: _Id, parts: Parts, caller: DeviceOperator) -> DeviceInfo:
    """Of a device that is drained, or lost: it takes no work until the server starts again; 409 otherwise."""
    return DeviceInfo.model_validate(parts.devices.retire(device_id))
