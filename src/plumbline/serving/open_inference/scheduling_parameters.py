"""The schedule policy extension: `priority` and `timeout`, and which parameters are ours.

Priority. The protocol's 1 is the most urgent and larger numbers are less urgent; 0 means no wish. Here 9 is
the most urgent. So 1 becomes 9, 2 becomes 8, ..., 10 and everything beyond becomes 0, and 0 the default 5.

Timeout. Microseconds that a request may wait before it is launched: `start_by_ns`. 0 means no limit.

`plumbline_deadline_us` is our own: microseconds until the answer must be there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from plumbline.contracts.requests import DEFAULT_PRIORITY, HIGHEST_PRIORITY, LOWEST_PRIORITY
from plumbline.serving.open_inference.limits import TensorLimits
from plumbline.serving.open_inference.refusals import ExtensionRefused, ParameterRefused

__all__ = ["NO_TERMS", "Terms", "priority_of", "read_terms"]

_MOST_MICROSECONDS = 2**53
_SEQUENCE = ("sequence_id", "sequence_start", "sequence_end")


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What the parameters of a request say.

    Attributes:
        priority: 0..9, higher is more urgent.
        start_within_ns: from arrival to launch, None for no limit.
        finish_within_ns: from arrival to answer, None for no limit.
        binary_outputs: whether outputs travel as binary data unless they say otherwise.
        custom: what is left, for the version.
    """

    priority: int = DEFAULT_PRIORITY
    start_within_ns: int | None = None
    finish_within_ns: int | None = None
    binary_outputs: bool = False
    custom: Mapping[str, Any] = field(default_factory=dict)


NO_TERMS = Terms()


def priority_of(protocol_priority: int) -> int:
    """Our priority for one of the protocol.

    >>> [priority_of(p) for p in (0, 1, 2, 10, 2**32)]
    [5, 9, 8, 0, 0]
    """
    if protocol_priority == 0:
        return DEFAULT_PRIORITY
    return max(LOWEST_PRIORITY, HIGHEST_PRIORITY + 1 - protocol_priority)


def read_terms(parameters: Mapping[str, Any], limits: TensorLimits) -> Terms:
    """What the parameters of a request say.

    Raises:
        ParameterRefused: a wrong value, or a reserved name that is not known.
        ExtensionRefused: sequences.
    """
    if not parameters:
        return NO_TERMS
    if len(parameters) > limits.max_parameters:
        raise ParameterRefused(parameter="*", reason=f"more than {limits.max_parameters} parameters")
    custom = dict(parameters)
    for name in _SEQUENCE:
        if custom.pop(name, 0) not in (0, "", False):
            raise ExtensionRefused(extension="sequence", reason=f"parameter {name!r}: requests have no state")
    priority = priority_of(_whole_number(custom, "priority"))
    start_us = _whole_number(custom, "timeout")
    finish_us = _whole_number(custom, "plumbline_deadline_us")
    binary = custom.pop("binary_data_output", False)
    if not isinstance(binary, bool):
        raise ParameterRefused(parameter="binary_data_output", reason="expected true or false")
    custom.pop("triton_enable_empty_final_response", None)
    for name in custom:
        if name.startswith(("triton_", "plumbline_", "shared_memory_")) or len(name) > limits.max_name_bytes:
            raise ParameterRefused(parameter=name[:64], reason="the name is reserved or too long")
    return Terms(
        priority=priority,
        start_within_ns=start_us * 1000 or None,
        finish_within_ns=finish_us * 1000 or None,
        binary_outputs=binary,
        custom=custom,
    )


def _whole_number(parameters: dict[str, Any], name: str) -> int:
    value = parameters.pop(name, 0)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MOST_MICROSECONDS:
        raise ParameterRefused(
            parameter=name, reason=f"expected a whole number from 0 to {_MOST_MICROSECONDS}"
        )
    return value
