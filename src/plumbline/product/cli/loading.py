"""From options to a loaded model."""

from __future__ import annotations

import dataclasses

from plumbline.compiler.build import TargetUnsupported, host_system
from plumbline.engine.model import Model
from plumbline.product.compose import LoadOptions, choose_target, load

__all__ = ["load_model"]


def load_model(source: str, options: LoadOptions) -> Model:
    """`plumbline.load` with options that were put together already.

    Raises:
        TargetUnsupported: the target is for processors of another architecture.
        PlumblineError: as `plumbline.load`.
    """
    if options.target is not None:
        _verify_architecture(options.target)
    return load(source, **{f.name: getattr(options, f.name) for f in dataclasses.fields(options)})


def _verify_architecture(name: str) -> None:
    target, system = choose_target(name), host_system()
    if target.architecture != system.architecture:
        reason = f"{name} is for {target.architecture}; code is made for the machine that runs it"
        raise TargetUnsupported(machine=system.architecture, reason=reason)
