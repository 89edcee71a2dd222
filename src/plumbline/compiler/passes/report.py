"""What the passes did, for `plumb compile --explain`."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["PassReport", "Rewrite"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewrite:
    """One decision of a pass: `kind` is fused, folded, removed, laid_out, packed, partitioned or refused.

    What was odd when the model was read is there too, as `noted` by `import`.
    """

    pass_name: str
    kind: str
    subject: str
    detail: str


@dataclass(slots=True)
class PassReport:
    """All decisions, in order. Owned by `run_passes`."""

    rewrites: list[Rewrite] = field(default_factory=list)

    def note(self, pass_name: str, kind: str, subject: str, detail: str) -> None:
        """Record a decision."""
        self.rewrites.append(Rewrite(pass_name=pass_name, kind=kind, subject=subject, detail=detail))
