"""Reading decision logs for commands: a folder (all its logs) or the file of one segment."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from plumbline.scheduling.policy import SchedulingPolicy
    from plumbline.scheduling.replay import Replayed, Watcher
    from plumbline.telemetry.decision_log_reader import LogContents

__all__ = ["add_policy", "find_logs", "replay_log"]


def find_logs(place: str, name: str | None = None) -> list[LogContents]:
    """Every log of a folder and those in it, or one of them by name, or the segment in a file.

    Raises:
        DecisionLogAbsent: nothing is there, or nothing of this name.
        DecisionLogDamaged: naming the first record that is not what was written.
    """
    from plumbline.telemetry.decision_log_reader import DecisionLogAbsent, read_logs

    try:
        logs = read_logs(Path(place))
    except OSError as error:
        raise DecisionLogAbsent(name=Path(place).name, known="none") from error
    chosen = [log for log in logs if name in (None, log.name)]
    if not chosen:
        raise DecisionLogAbsent(name=str(name)[:80], known=", ".join(log.name for log in logs))
    return chosen


def add_policy(parser: ArgumentParser) -> None:
    """The argument that says where the policy of a log is."""
    parser.add_argument(
        "--policy",
        metavar="MODULE:CLASS",
        help="the policy of the log, where no package offers it by its name",
    )


def replay_log(
    log: LogContents,
    policy: Callable[[str], SchedulingPolicy],
    watch: Watcher | None = None,
    *,
    any_rules: bool = False,
) -> Replayed:
    """Replay a log from its first kept segment; the chain goes on where that one began.

    Raises:
        RulesDiffer: it states other rules than those that are here, and not `any_rules`.
        ReplayDiverged: naming the first record that came out otherwise.
    """
    from plumbline.scheduling.replay import replay

    return replay(
        log.bodies,
        first=log.stored[0].number,
        previous=log.previous,
        policy=policy,
        watch=watch,
        any_rules=any_rules,
    )
