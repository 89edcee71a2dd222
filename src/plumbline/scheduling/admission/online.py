"""May one more job, or one more task, join a stream as it is now?

From a known state two things can miss a deadline. First, what is pending now together with the earliest legal
releases to come: computed exactly (`backlog_demand` for EDF, `backlog_response` for a fixed order). Second,
a later release that finds the stream held by a segment: for segments of tasks the test of the task set has
covered it, for those of one-shots it is tested here as if all tasks could come together just then. That
last part is sufficient; the rest is necessary too.
"""

from __future__ import annotations

from plumbline.scheduling.admission.backlog import Backlog, Pending
from plumbline.scheduling.admission.backlog_demand import DemandCheck
from plumbline.scheduling.admission.backlog_response import ResponseCheck
from plumbline.scheduling.admission.demand import AnalysisTooLong
from plumbline.scheduling.admission.finding import Finding
from plumbline.scheduling.admission.orders import Order
from plumbline.scheduling.admission.verdict import Accepted, Reason, Refused, Verdict

__all__ = ["decide_backlog"]

LEAST_RETRY_NS = 1_000_000


def decide_backlog(backlog: Backlog, subject: str) -> Verdict:
    """Whether every promise is kept with `subject` among the pending jobs, or among the tasks.

    Args:
        backlog: with the job or task that asks.
        subject: its id or name.
    """
    job = next((job for job in backlog.pending if job.subject == subject), None)
    check = DemandCheck(backlog) if backlog.order is Order.EDF else ResponseCheck(backlog)
    try:
        finding = check.find_late(subject)
        if finding is None:
            blockers = [job] if job is not None else list(backlog.pending)
            finding = next(filter(None, map(check.find_blocked, blockers)), None)
        if finding is None:
            bound = 0 if job is None else backlog.now_ns + check.end_ns(job)
            return Accepted(subject=subject, bound_ns=bound)
    except AnalysisTooLong as error:
        return Refused(
            subject=subject, victim=subject, kind=Reason.UNDECIDED, reason=error.message,
            bound_ns=error.steps, limit_ns=error.steps, exact=False, permanent=False,
            retry_after_ns=LEAST_RETRY_NS,
        )  # fmt: skip
    return _refused(backlog, subject, job, finding)


def _refused(backlog: Backlog, subject: str, job: Pending | None, finding: Finding) -> Refused:
    alone = job is not None and sum(job.segments_ns) > job.deadline_ns - backlog.now_ns
    reason = finding.reason
    if job is not None and alone:
        left = job.deadline_ns - backlog.now_ns
        reason = f"it takes up to {sum(job.segments_ns)} ns alone, {max(left, 0)} ns are left to its deadline"
    short = finding.bound_ns - finding.limit_ns
    return Refused(
        subject=subject,
        victim=finding.victim,
        kind=finding.kind,
        reason=reason,
        bound_ns=finding.bound_ns,
        limit_ns=finding.limit_ns,
        exact=finding.exact,
        permanent=alone,
        retry_after_ns=0 if alone else max(short, LEAST_RETRY_NS),
        counterexample=finding.counterexample,
    )
