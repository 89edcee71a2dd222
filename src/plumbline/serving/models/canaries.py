"""`Canaries`: begins, watches and ends the canaries of the directory's models."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from plumbline.contracts.clock import Clock
from plumbline.contracts.inference import VersionRef
from plumbline.serving.models.announcing import Announce
from plumbline.serving.models.kept_rollouts import KeptModel, KeptRollout, KeptRollouts
from plumbline.serving.models.refusals import CanaryRefused, NoCanaryRuns, VersionBusy
from plumbline.serving.models.rollout import (
    Outcome,
    OutcomeWindow,
    Rollout,
    RolloutEvent,
    RolloutPolicy,
    RolloutState,
    advance,
    verify_policy,
)
from plumbline.serving.models.routing import decide_route
from plumbline.serving.models.served import ServedModel, ServedVersion
from plumbline.serving.repository.port import PublishedState
from plumbline.serving.repository.refusals import VersionUnknown

__all__ = ["Canaries"]


class Canaries:
    """Part of the directory: changes `rollout`, `window` and `held` of its models.

    Args:
        find: the record of a model by name; raises where there is none.
        clock: for times.
        announce: told when one starts, is promoted or rolled back.
        kept: outlives the server; None keeps nothing.
    """

    def __init__(
        self,
        find: Callable[[str], ServedModel],
        clock: Clock,
        announce: Announce,
        kept: KeptRollouts | None = None,
    ) -> None:
        self._find, self._clock, self._announce = find, clock, announce
        self._kept = kept or KeptRollouts()
        self._unrecalled = dict(self._kept.models())

    def start(self, model: str, version: str, policy: RolloutPolicy) -> None:
        """Give a ready version a share of the requests that name none, and watch it.

        Raises:
            CanaryRefused: it is not ready, there is one already, nobody to compare it with, or the policy
                cannot be.
            ModelUnknown, VersionUnknown: there is no such version.
        """
        known = self._find(model)
        found = known.versions.get(version)
        if found is None:
            raise VersionUnknown(model=model, version=version[:200])
        if not found.is_ready:
            raise CanaryRefused(model=model, version=version, reason=f"it is {found.life.state.value}")
        self.begin(known, found, self.base_for(known, found, policy), policy)

    def end(self, model: str, *, promote: bool, reason: str = "an operator asked for it") -> None:
        """Give the canary of a model all requests that name no version, or none of them.

        A version that was rolled back stays ready for requests that name it, until it is unloaded or made a
        canary again. A promoted one goes before newer versions that are ready now.

        Raises:
            NoCanaryRuns: there is nothing to end.
            CanaryRefused: its base is pinned (`Directory.promote` moves the pin).
        """
        known = self._find(model)
        if known.canary is None:
            raise NoCanaryRuns(model=model)
        if promote:
            self._verify_base_unpinned(known, known.canary.canary, known.canary.base)
        self._end(known, RolloutEvent.PROMOTE if promote else RolloutEvent.ROLL_BACK, reason)

    def rollout(self, model: str) -> Rollout | None:
        """The canary of a model that runs or ended last.

        Raises:
            ModelUnknown: there is no such model.
        """
        return self._find(model).rollout

    def observe(self, model: ServedModel, version: ServedVersion, outcome: Outcome) -> None:
        """An answer of a version: the rule may end the canary now."""
        rollout = model.canary
        if rollout is None or model.window is None or version.ref not in (rollout.canary, rollout.base):
            return
        verdict = model.window.see(outcome, of_canary=version.ref == rollout.canary)
        if verdict is None or (verdict.event is RolloutEvent.PROMOTE and _is_pinned(model, rollout.base)):
            return
        self._end(model, verdict.event, verdict.reason)

    def base_for(self, model: ServedModel, canary: ServedVersion, policy: RolloutPolicy) -> ServedVersion:
        """The version that a canary would be compared with.

        Raises:
            CanaryRefused: saying why there can be none.
        """
        ref = canary.ref
        verify_policy(policy, ref)
        if model.canary is not None:
            reason = f"{model.canary.canary} is one already"
            raise CanaryRefused(model=ref.model, version=ref.version, reason=reason)
        others = [candidate for candidate in model.candidates if candidate.ref != ref]
        decision = decide_route(others, None, 1.0)
        if decision.chosen is None:
            reason = "no other version is ready to compare it with"
            raise CanaryRefused(model=ref.model, version=ref.version, reason=reason)
        if policy.promote_after:
            self._verify_base_unpinned(model, ref, decision.chosen)
        return model.versions[decision.chosen.version]

    def begin(
        self, model: ServedModel, canary: ServedVersion, base: ServedVersion, policy: RolloutPolicy
    ) -> None:
        """Begin one whose base `base_for` named."""
        model.rollout = Rollout(
            canary=canary.ref, base=base.ref, policy=policy, since_wall_ns=self._clock.wall_ns()
        )
        model.window = OutcomeWindow(policy)
        model.held.discard(canary.ref.version)
        model.settle()
        self._keep(model)
        self._announce("canary.started", canary.key, base=base.key, share=policy.share)

    def end_with(self, model: ServedModel, leaving: Sequence[ServedVersion], reason: str) -> None:
        """Roll the canary back when it is among the versions that leave."""
        running = model.canary
        if running is not None and running.canary in [version.ref for version in leaving]:
            self._end(model, RolloutEvent.ROLL_BACK, reason)

    def verify_not_base(self, ref: VersionRef) -> None:
        """Raises VersionBusy when a canary is compared with this version."""
        canary = self._find(ref.model).canary
        if canary is not None and canary.base == ref:
            reason = f"the canary {canary.canary} is compared with it; end that first"
            raise VersionBusy(model=ref.model, version=ref.version, reason=reason)

    def recall(self, model: ServedModel) -> None:
        """Give a model that was just found what an earlier run of the server kept of it, once.

        Versions of other content than then are not meant. A canary that ran when the server ended is not
        tried further: it counts as rolled back.
        """
        kept = self._unrecalled.pop(model.name, None)
        if kept is None:
            return
        digests = {name: version.published.digest for name, version in model.versions.items()}
        model.held |= {name for name, digest in kept.held.items() if digests.get(name) == digest}
        rollout = kept.rollout
        if rollout is None or rollout.canary not in model.versions:
            return
        if rollout.canary in model.held or rollout.state is RolloutState.PROMOTED:
            model.rollout = self._recalled(model.name, rollout)

    def forget(self, model: ServedModel, version: str) -> None:
        """A version was unloaded: when it is loaded again, it is like any other."""
        if version in model.held:
            model.held.discard(version)
            self._keep(model)

    def _recalled(self, model: str, kept: KeptRollout) -> Rollout:
        found = Rollout(
            canary=VersionRef(model=model, version=kept.canary),
            base=VersionRef(model=model, version=kept.base),
            policy=RolloutPolicy(share=kept.share),
            state=kept.state,
            reason=kept.reason,
            since_wall_ns=kept.since_wall_ns,
        )
        if found.state is not RolloutState.CANARY:
            return found
        reason = "the server ended while it was tried"
        return advance(found, RolloutEvent.ROLL_BACK, reason, self._clock.wall_ns())

    def _keep(self, model: ServedModel) -> None:
        """What a next run must know: also a canary that still runs is not to get everything then."""
        names = model.held | ({model.canary.canary.version} if model.canary else set())
        held = {name: model.versions[name].published.digest for name in names if name in model.versions}
        self._kept.keep(model.name, KeptModel(held=held, rollout=_kept_rollout(model.rollout)))

    def _end(self, model: ServedModel, event: RolloutEvent, reason: str) -> None:
        running = model.canary
        if running is None:
            return
        model.rollout = advance(running, event, reason, self._clock.wall_ns())
        model.window = None
        if model.rollout.state is RolloutState.ROLLED_BACK:
            model.held.add(running.canary.version)
        else:
            model.held.update(_newer_ready(model, running.canary))
        model.settle()
        self._keep(model)
        self._announce(f"canary.{model.rollout.state.value}", str(running.canary), reason=reason)

    def _verify_base_unpinned(self, model: ServedModel, canary: VersionRef, base: VersionRef) -> None:
        if _is_pinned(model, base):
            reason = f"its base {base} is pinned, so a promotion would change nothing"
            raise CanaryRefused(model=canary.model, version=canary.version, reason=reason)


def _kept_rollout(rollout: Rollout | None) -> KeptRollout | None:
    if rollout is None:
        return None
    return KeptRollout(
        canary=rollout.canary.version,
        base=rollout.base.version,
        share=rollout.policy.share,
        state=rollout.state,
        reason=rollout.reason,
        since_wall_ns=rollout.since_wall_ns,
    )


def _is_pinned(model: ServedModel, ref: VersionRef) -> bool:
    version = model.versions.get(ref.version)
    return version is not None and version.published.state is PublishedState.PINNED


def _newer_ready(model: ServedModel, ref: VersionRef) -> list[str]:
    """Ready versions that would go before this one."""
    names = list(model.versions)
    return [name for name in names[: names.index(ref.version)] if model.versions[name].is_ready]
