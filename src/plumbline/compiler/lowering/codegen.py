"""LLVM IR text to object code: the only module that imports llvmlite."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import llvmlite
import llvmlite.binding as llvm

from plumbline.errors import BackendError
from plumbline.kernels.emit.target import TargetDescription

__all__ = ["CodeGenerationFailed", "compile_assembly", "compile_object", "compiler_version"]

_TRIPLES = {"x86_64": "x86_64-unknown-linux-gnu", "aarch64": "aarch64-unknown-linux-gnu"}
_lock = threading.Lock()
_initialised = False


@dataclass(eq=False, kw_only=True)
class CodeGenerationFailed(BackendError):
    """LLVM refused the emitted module: a defect of Plumbline's code generator."""

    code = "backend.code_generation"
    owner = "compiler"
    template = "code generation for {target} failed: {reason}"

    target: str
    reason: str


def compiler_version() -> str:
    """What made the code: part of every cache key."""
    return f"llvmlite {llvmlite.__version__}, LLVM {'.'.join(map(str, llvm.llvm_version_info))}"


def compile_object(text: str, target: TargetDescription, *, triple: str | None = None) -> bytes:
    """Compile a module to a relocatable object file.

    Raises:
        CodeGenerationFailed: the text is not a valid module.
    """
    machine, module = _prepare(text, target, triple)
    return bytes(machine.emit_object(module))


def compile_assembly(text: str, target: TargetDescription, *, triple: str | None = None) -> str:
    """Compile a module to assembly text (for inspection and emission tests)."""
    machine, module = _prepare(text, target, triple)
    return str(machine.emit_assembly(module))


def _prepare(text: str, target: TargetDescription, triple: str | None) -> tuple[Any, Any]:
    _initialise()
    chosen = triple or _host_triple(target)
    try:
        module = llvm.parse_assembly(text)
        module.triple = chosen
        module.verify()
        machine = llvm.Target.from_triple(chosen).create_target_machine(
            cpu=target.cpu, features=target.features, opt=2, reloc="pic", codemodel="small"
        )
    except RuntimeError as error:
        raise CodeGenerationFailed(target=target.name, reason=str(error)[:2000]) from error
    _promote_variables(module, machine)
    return machine, module


def _promote_variables(module: Any, machine: Any) -> None:
    """Run SROA alone: emitted code is in SSA form already except for the builder's mutable variables."""
    options = llvm.create_pipeline_tuning_options(speed_level=0)
    builder = llvm.create_pass_builder(machine, options)
    passes = llvm.create_new_function_pass_manager()
    passes.add_sroa_pass()
    for function in module.functions:
        if not function.is_declaration:
            passes.run(function, builder)


def _host_triple(target: TargetDescription) -> str:
    default = str(llvm.get_default_triple())
    wanted = target.architecture
    is_host = default.startswith(wanted) or (wanted == "aarch64" and default.startswith("arm64"))
    return default if is_host else _TRIPLES[wanted]


def _initialise() -> None:
    global _initialised
    with _lock:
        if _initialised:
            return
        llvm.initialize_all_targets()
        llvm.initialize_all_asmprinters()
        llvm.set_option("", "-disable-lsr")
        _initialised = True
