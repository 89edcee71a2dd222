"""The planned program as JSON: what an artifact carries so that code can be made again from data."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from plumbline.compiler.graph.text import format_attributes, parse_attributes, parse_type
from plumbline.contracts.dims import upper_bound
from plumbline.contracts.program import Operand, PlannedProgram, PlannedStep, Space
from plumbline.contracts.tensors import Packed, storage_bytes
from plumbline.errors import ArtifactError, PlumblineError

__all__ = ["PROGRAM_VERSION", "ProgramRefused", "format_program", "parse_program"]

PROGRAM_VERSION = 1


@dataclass(eq=False, kw_only=True)
class ProgramRefused(ArtifactError):
    """The planned program is damaged, of another version, or points outside its spaces."""

    code = "artifact.program"
    owner = "compiler"
    template = "planned program, {place}: {reason}"

    place: str
    reason: str


def format_program(program: PlannedProgram) -> str:
    """JSON text of a program; equal programs give equal text."""
    document = {
        "schema_version": PROGRAM_VERSION,
        "name": program.name,
        "symbols": dict(program.symbols),
        "threads": program.threads,
        "weights_bytes": program.weights_bytes,
        "state_bytes": program.state_bytes,
        "arena_bytes": program.arena_bytes,
        "segments": list(program.segments),
        "inputs": {name: _operand(o) for name, o in program.inputs.items()},
        "outputs": {name: _operand(o) for name, o in program.outputs.items()},
        "states": {name: _operand(o) for name, o in program.states.items()},
        "steps": [_step(s) for s in program.steps],
    }
    return json.dumps(document, indent=1, ensure_ascii=True)


def _operand(operand: Operand | None) -> list[Any] | None:
    if operand is None:
        return None
    return [operand.value, str(operand.type), operand.space.value, operand.offset]


def _step(step: PlannedStep) -> dict[str, Any]:
    return {
        "name": step.name,
        "operation": step.operation,
        "inputs": [_operand(o) for o in step.inputs],
        "outputs": [_operand(o) for o in step.outputs],
        "attributes": format_attributes(step.attributes),
        "workspace": [step.workspace_offset, step.workspace_bytes],
    }


def parse_program(text: str) -> PlannedProgram:
    """Read and verify a program.

    Raises:
        ProgramRefused: it is not a program of this version, or an address lies outside its space.
    """
    try:
        document = json.loads(text)
        if document["schema_version"] != PROGRAM_VERSION:
            raise ProgramRefused(place="header", reason=f"schema version {document['schema_version']}")
        program = _program(document)
    except ProgramRefused:
        raise
    except (
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RecursionError,
        SyntaxError,
        PlumblineError,
    ) as error:
        raise ProgramRefused(place="document", reason=f"damaged ({type(error).__name__}: {error})") from error
    verify_addresses(program)
    return program


def _program(document: Mapping[str, Any]) -> PlannedProgram:
    return PlannedProgram(
        name=str(document["name"]),
        symbols={str(k): int(v) for k, v in document["symbols"].items()},
        steps=tuple(_read_step(s) for s in document["steps"]),
        inputs=_read_ports(document["inputs"]),
        outputs=_read_ports(document["outputs"]),
        states=_read_ports(document["states"]),
        weights_bytes=int(document["weights_bytes"]),
        state_bytes=int(document["state_bytes"]),
        arena_bytes=int(document["arena_bytes"]),
        threads=int(document["threads"]),
        segments=tuple(int(s) for s in document["segments"]),
    )


def _read_ports(ports: Mapping[str, Any]) -> dict[str, Operand]:
    return {str(name): _read_operand(o) for name, o in ports.items()}


def _read_operand(items: list[Any]) -> Operand:
    value, type_, space, offset = items
    return Operand(value=str(value), type=parse_type(type_), space=Space(space), offset=int(offset))


def _read_step(document: Mapping[str, Any]) -> PlannedStep:
    offset, size = document["workspace"]
    return PlannedStep(
        name=str(document["name"]),
        operation=str(document["operation"]),
        inputs=tuple(None if o is None else _read_operand(o) for o in document["inputs"]),
        outputs=tuple(_read_operand(o) for o in document["outputs"]),
        attributes=parse_attributes(document["attributes"]),
        workspace_offset=int(offset),
        workspace_bytes=int(size),
    )


def verify_addresses(program: PlannedProgram) -> None:
    """Every operand and workspace lies inside its space, at the bound of every symbol.

    Raises:
        ProgramRefused: naming the step and the operand.
    """
    sizes = {
        Space.ARENA: program.arena_bytes,
        Space.WEIGHTS: program.weights_bytes,
        Space.STATE: program.state_bytes,
    }
    for step in program.steps:
        for operand in (*step.inputs, *step.outputs):
            if operand is None:
                continue
            size = 1
            if not isinstance(operand.type.layout, Packed):
                size = upper_bound(storage_bytes(operand.type), program.symbols)
            if operand.offset < 0 or operand.offset + size > sizes[operand.space]:
                reason = f"operand {operand.value!r} lies outside"
                raise ProgramRefused(place=f"step {step.name!r}", reason=reason)
        end = step.workspace_offset + step.workspace_bytes * program.threads
        if step.workspace_offset < 0 or step.workspace_bytes < 0 or end > program.arena_bytes:
            raise ProgramRefused(place=f"step {step.name!r}", reason="its workspace lies outside the arena")
