"""What happened to each case of the suite, and the sums."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

__all__ = ["CaseResult", "Outcome", "SuiteReport"]


class Outcome(StrEnum):
    """What became of a case."""

    PASSED = "passed"
    """Native code computed the expected outputs from the case's data."""
    FOLDED = "folded"
    """The outputs are right, but they were known at build."""
    REFUSED = "refused"
    """A typed error said why not."""
    WRONG = "wrong"
    """The outputs differ from the expected ones."""
    CRASHED = "crashed"
    """Anything else: an untyped error, a signal, no answer in time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseResult:
    """One case.

    Attributes:
        name: of the case.
        kind: part of the suite.
        operator: of the case's node (the standard operator for an expanded case), or the model's name.
        outcome: see `Outcome`.
        detail: why, for everything but passed.
        code: dotted code of the error of a refused case.
        moves_only: passed, and the only native work was to copy the case's data to the output (a reshape).
        rounding: passed, outside of the suite's tolerance but inside the rounding of the expected outputs
            (`judge.rounding_of`).
        seconds: to build and run.
    """

    name: str
    kind: str
    operator: str
    outcome: Outcome
    detail: str = ""
    code: str = ""
    moves_only: bool = False
    rounding: bool = False
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready document."""
        return {
            "name": self.name, "kind": self.kind, "operator": self.operator, "outcome": self.outcome.value,
            "detail": self.detail, "code": self.code, "moves_only": self.moves_only,
            "rounding": self.rounding, "seconds": round(self.seconds, 4),
        }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteReport:
    """All results.

    Attributes:
        results: one for each case that counts.
        excluded: number of cases left out, by reason (values that are no dense float, int or bool tensors).
    """

    results: tuple[CaseResult, ...]
    excluded: dict[str, int]

    def select(self, outcome: Outcome) -> tuple[CaseResult, ...]:
        """The cases with one outcome."""
        return tuple(r for r in self.results if r.outcome is outcome)

    def count(self, outcome: Outcome) -> int:
        """How many cases had one outcome."""
        return len(self.select(outcome))

    def by_operator(self) -> dict[str, dict[str, int]]:
        """Outcomes of each operator, sorted by name."""
        table: dict[str, Counter[str]] = {}
        for result in self.results:
            table.setdefault(result.operator, Counter())[result.outcome.value] += 1
        return {name: dict(sorted(table[name].items())) for name in sorted(table)}

    def to_dict(self, *, cases: bool = True) -> dict[str, Any]:
        """A JSON-ready document. `total` counts the cases that ran; `excluded` ones are apart.

        Args:
            cases: whether to list every case.
        """
        document: dict[str, Any] = {outcome.value: self.count(outcome) for outcome in Outcome}
        document["total"] = len(self.results)
        document["passed_by_moving"] = sum(r.moves_only for r in self.results)
        document["passed_by_rounding"] = sum(r.rounding for r in self.results)
        document["excluded"] = sum(self.excluded.values())
        document["excluded_by_reason"] = dict(sorted(self.excluded.items()))
        document["by_operator"] = self.by_operator()
        if cases:
            document["cases"] = [r.to_dict() for r in self.results]
        return document
