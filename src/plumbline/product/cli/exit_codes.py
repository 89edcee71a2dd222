"""Exit codes of `plumb`: what a script may conclude without reading a word."""

from __future__ import annotations

from enum import IntEnum

from plumbline.errors import ErrorClass, PlumblineError, Recoverability

__all__ = ["ExitCode", "exit_code_of"]


class ExitCode(IntEnum):
    """What ended a command."""

    OK = 0
    CHECK_FAILED = 1
    """The command ran and the answer is no."""
    USAGE = 2
    REFUSED = 3
    """A file or a request was refused: artifact, validation or policy errors."""
    RESOURCE = 4
    BACKEND = 5
    """A device, a native tool or a run failed: backend, execution or decoding errors."""
    TRY_AGAIN = 6
    """Not now, and nothing was done: the same command may work later, such as after `Retry-After`."""
    BUG = 70
    """A defect of Plumbline."""
    INTERRUPTED = 130


_OF_CLASS = {
    ErrorClass.ARTIFACT: ExitCode.REFUSED,
    ErrorClass.VALIDATION: ExitCode.REFUSED,
    ErrorClass.POLICY: ExitCode.REFUSED,
    ErrorClass.RESOURCE: ExitCode.RESOURCE,
    ErrorClass.BACKEND: ExitCode.BACKEND,
    ErrorClass.EXECUTION: ExitCode.BACKEND,
    ErrorClass.DECODING: ExitCode.BACKEND,
}


def exit_code_of(error: PlumblineError) -> ExitCode:
    """The exit code of a typed error, by its class; a transient one says so.

    >>> from plumbline.errors import ResourceError
    >>> exit_code_of(ResourceError()).value
    4
    """
    if error.recoverability is Recoverability.TRANSIENT:
        return ExitCode.TRY_AGAIN
    return _OF_CLASS[error.error_class]
