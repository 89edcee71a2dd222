"""A run recorded in a log file: replayed from any kept segment, explained and compared (L4-17, L4-24)."""

from __future__ import annotations

import json
import subprocess
import sys
import types
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar
from xml.etree import ElementTree

import pytest

from plumbline.contracts.records import Arrival, Finish, Segment, Snapshot, decode_record, encode_record
from plumbline.contracts.requests import RequestId, TenantId
from plumbline.product.cli import main
from plumbline.scheduling.decisions import DecisionCore
from plumbline.scheduling.explanation import explain
from plumbline.scheduling.launch import Launch
from plumbline.scheduling.policies.priority import PriorityPolicy
from plumbline.scheduling.policies.registry import PolicyUnknown, open_policy, policy_opener
from plumbline.scheduling.recording import DecisionRecorder
from plumbline.scheduling.refusals import QueueFull
from plumbline.scheduling.replay import ReplayDiverged, replay
from plumbline.scheduling.request import BatchTerms, ExecutionRequest
from plumbline.scheduling.rules import RulesDiffer, fingerprint_of
from plumbline.serving.decisions import explain_from_logs
from plumbline.telemetry.decision_log import DecisionLog, DecisionLogFailed
from plumbline.telemetry.decision_log_reader import read_log
from plumbline.testing.policies import generated_requests


def record_load(
    folder: Path, policy: str = "fair", name: str = "worker-0", count: int = 400, segment_bytes: int = 16384
) -> DecisionCore:
    """Two streams; each launch takes 1 ms and a bit; the queue holds 20."""
    core = DecisionCore(policy=open_policy(policy), capacity=20, streams=2)
    log = DecisionLog(folder, name, segment_bytes=segment_bytes, keep_segments=4)
    recorder = DecisionRecorder(core, log)
    free, running, now_ns = [0, 1], [], 0
    for request in generated_requests(count, seed=3):
        now_ns = max(now_ns, request.arrived_ns)
        while running and running[0][0] <= now_ns:
            ended_ns, launch = running.pop(0)
            core.finish(launch.number, ended_ns, {r.id: "ok" for r in launch.requests})
            free.append(launch.stream)
        with suppress(QueueFull):
            core.submit(request, now_ns)
        for stream in sorted(free):
            answer = core.select(stream, now_ns)
            if isinstance(answer, Launch):
                core.launched(answer.number, now_ns + 10)
                free.remove(stream)
                running.append((now_ns + 1500, answer))
        core.expire(now_ns)
    assert recorder.stopped_because is None
    assert core.depth > 0
    log.close()
    return core


@pytest.mark.parametrize("policy", ["fifo", "priority", "fair", "edf", "rate_monotonic"])
def test_a_log_replays_to_the_same_chain_from_every_kept_segment(policy: str, tmp_path: Path) -> None:
    core = record_load(tmp_path, policy)
    log = read_log(tmp_path, "worker-0")
    assert log.segments == 4
    assert log.stored[0].number > 0, "the first segments are gone"
    starts = [n for n, r in enumerate(log.records()) if isinstance(r, Segment)]
    for start in starts:
        before = log.previous if start == 0 else log.stored[start - 1].digest
        result = replay(log.bodies[start:], first=log.stored[start].number, previous=before)
        assert result.digest == log.digest
        assert result.core is not None
        assert result.core.snapshot() == core.snapshot()


def test_a_record_that_was_changed_with_a_repaired_chain_is_found_by_replay(tmp_path: Path) -> None:
    """The chain only shows that nothing was changed since; that the decision was right shows replay."""
    record_load(tmp_path)
    bodies = read_log(tmp_path, "worker-0").bodies
    for number, body in enumerate(bodies):
        record = decode_record(body)
        if isinstance(record, Arrival) and number > 50:
            changed = Arrival(
                record.time_ns,
                record.request,
                record.number,
                (record.key[0] + 5, record.key[1]),
                record.depth,
            )
            with pytest.raises(ReplayDiverged) as found:
                replay([*bodies[:number], encode_record(changed), *bodies[number + 1 :]])
            assert found.value.record == number
            return
    pytest.fail("no arrival in the log")


def call(name: str) -> ExecutionRequest:
    return ExecutionRequest(id=RequestId(name), graph="m@1", tenant=TenantId("t"))


class Inverted(PriorityPolicy):
    """Another version of the priority policy."""

    def enter(self, request: ExecutionRequest, arrival: int) -> tuple[int, ...]:
        return (request.priority, arrival)


def test_a_log_of_other_rules_is_refused_with_both_fingerprints(tmp_path: Path) -> None:
    """L4-17: the policy changed since; what the log says is not doubted."""
    record_load(tmp_path, "priority")
    log = read_log(tmp_path, "worker-0")
    with pytest.raises(RulesDiffer) as found:
        replay(log.bodies, first=log.stored[0].number, policy=lambda _: Inverted())
    assert found.value.record == log.stored[1].number, "the snapshot that the log begins with"
    assert found.value.policy == "priority"
    assert found.value.logged == fingerprint_of(open_policy("priority"))
    assert found.value.here == fingerprint_of(Inverted())
    assert found.value.logged != found.value.here
    with pytest.raises(RulesDiffer):
        explain(log.bodies, "request-399", policy=lambda _: Inverted())


def test_replay_by_other_rules_where_that_is_wanted_says_where_they_decide_otherwise(tmp_path: Path) -> None:
    record_load(tmp_path, "priority")
    with pytest.raises(ReplayDiverged):
        replay(read_log(tmp_path, "worker-0").bodies, policy=lambda _: Inverted(), any_rules=True)


def test_a_log_from_before_fingerprints_replays_and_its_rules_are_unknown(tmp_path: Path) -> None:
    """Its snapshots have no such field; the same bytes must come out."""
    record_load(tmp_path, "priority")
    bodies = []
    for record in read_log(tmp_path, "worker-0").records():
        if isinstance(record, Snapshot):
            state = {name: value for name, value in record.state.items() if name != "rules"}
            assert len(state) == len(record.state) - 1
            record = Snapshot(record.time_ns, state)
        bodies.append(encode_record(record))
    result = replay(bodies)
    assert result.rules == [("priority", "")]
    assert result.records == len(bodies)
    with pytest.raises(ReplayDiverged):
        replay(bodies, policy=lambda _: Inverted())


def test_plumb_replay_states_the_rules_and_takes_other_ones_only_when_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    record_load(tmp_path, "priority")
    code, text = run_cli(capsys, "replay", str(tmp_path), "--json")
    fingerprint = fingerprint_of(open_policy("priority"))
    assert code == 0
    assert json.loads(text)["logs"][0]["rules"] == [{"policy": "priority", "fingerprint": fingerprint}]
    monkeypatch.setattr(PriorityPolicy, "enter", Inverted.enter)
    assert main(["replay", str(tmp_path)]) != 0
    assert "other_rules" in capsys.readouterr().err
    assert main(["replay", str(tmp_path), "--any-rules"]) != 0
    assert "replay_diverged" in capsys.readouterr().err


class FullJournal:
    """Takes three bodies, then none until there is room; may be tried again whenever `due` says so."""

    def __init__(self) -> None:
        self.room, self.due = 3, False
        self.begun: list[int] = []
        self.notes: list[tuple[str | None, int]] = []

    def append(self, body: bytes) -> None:
        self.room -= 1
        if self.room < 0:
            raise DecisionLogFailed(name="w", reason="no space left")

    def begin_segments_with(self, snapshot: Any, missed: int = 0) -> None:
        if self.room < 0:
            raise DecisionLogFailed(name="w", reason="no space left yet")
        snapshot()
        self.begun.append(missed)

    def is_due(self) -> bool:
        return self.due

    def note(self, stopped_because: str | None, missed: int) -> None:
        self.notes.append((stopped_because, missed))


class Newest(PriorityPolicy):
    """A policy of a user, which no package offers by its name."""

    name: ClassVar[str] = "newest"

    def enter(self, request: ExecutionRequest, arrival: int) -> tuple[int, ...]:
        return (-arrival, arrival)


def test_a_log_of_a_policy_of_the_users_replays_and_is_explained_where_its_place_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """L4-05, X-70: the log has its own name for it and is not believed where the code is."""
    module = types.ModuleType("policies_of_a_user")
    module.Newest = Newest  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "policies_of_a_user", module)
    place = "policies_of_a_user:Newest"
    record_load(tmp_path, place)
    assert main(["replay", str(tmp_path)]) != 0
    assert "policy_unknown" in capsys.readouterr().err
    code, text = run_cli(capsys, "replay", str(tmp_path), "--policy", place)
    assert code == 0
    assert f"newest {fingerprint_of(Newest())}" in text
    log = read_log(tmp_path, "worker-0")
    request = [record for record in log.records() if isinstance(record, Arrival)][-1].request.id
    code, text = run_cli(capsys, "explain", request, "--log", str(tmp_path), "--policy", place)
    assert code == 0
    assert "policy newest" in text
    with pytest.raises(PolicyUnknown):
        explain_from_logs(tmp_path, request)
    explained = explain_from_logs(tmp_path, request, policy_opener(place))
    assert explained["logs"]["worker-0"]["policy"] == "newest"


def test_a_journal_that_fails_stops_the_recording_and_not_the_scheduling() -> None:
    journal = FullJournal()
    core = DecisionCore(policy=open_policy("fifo"), capacity=20, streams=1)
    recorder = DecisionRecorder(core, journal)
    for number in range(5):
        core.submit(call(f"r{number}"), number)
    assert core.depth == 5
    assert recorder.missed == 2
    assert recorder.stopped_because is not None
    assert "no space left" in recorder.stopped_because
    assert [missed for _, missed in journal.notes] == [1, 2]


def test_recording_goes_on_when_the_journal_can_be_written_again_and_says_what_it_missed() -> None:
    journal = FullJournal()
    core = DecisionCore(policy=open_policy("fifo"), capacity=20, streams=1)
    recorder = DecisionRecorder(core, journal)
    for number in range(5):
        core.submit(call(f"r{number}"), number)
    journal.due = True
    core.submit(call("r5"), 5)
    assert recorder.stopped_because is not None, "tried, and failed again"
    journal.room = 3
    core.submit(call("r6"), 6)
    assert recorder.stopped_because is None
    assert journal.begun == [0, 4], "the record that tried is in the state that the segment begins with"
    core.submit(call("r7"), 7)
    assert journal.room == 2
    assert recorder.missed == 4
    assert journal.notes[-1] == (None, 4)


def test_a_disk_that_is_full_for_a_while_costs_records_and_nothing_else(tmp_path: Path) -> None:
    """The system refuses more bytes of a file (`RLIMIT_FSIZE`); decisions go on, the log goes on later, and
    replay and explanation know what is missing (L4-17, X-33)."""
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    told = json.loads(done.stdout)
    assert told["depth"] == 1000, "every request was queued"
    assert told["while_full"] == [27, told["missed"]], "EFBIG, and how many were missed"
    assert told["missed"] > 500
    assert told["after"] == [0, told["missed"]]
    log = read_log(tmp_path, "w")
    gaps = [record.missed for record in log.records() if isinstance(record, Segment)]
    assert sum(gaps) == told["missed"]
    result = replay(log.bodies, first=log.stored[0].number, previous=log.previous)
    assert result.digest == log.digest
    assert result.core is not None
    assert result.core.depth == 1000
    last = explain(log.bodies, "r999")
    assert last.passages[0].arrived is not None
    first = explain(log.bodies, "r0").passages[0].ended
    assert first is not None
    assert first["how"] == "not_recorded"
    assert first["missed"] == told["missed"]


FULL_DISK = """
import json, resource, sys
from pathlib import Path
from plumbline.contracts.clock import FakeClock
from plumbline.contracts.requests import RequestId, TenantId
from plumbline.scheduling.decisions import DecisionCore
from plumbline.scheduling.policies.fifo import FifoPolicy
from plumbline.scheduling.recording import DecisionRecorder
from plumbline.scheduling.request import ExecutionRequest
from plumbline.telemetry.decision_log import DecisionLog

clock, health = FakeClock(), [0, 0]
core = DecisionCore(policy=FifoPolicy(), capacity=2000, streams=1)
log = DecisionLog(Path(sys.argv[1]), "w", segment_bytes=8192, clock=clock, health=health)
recorder = DecisionRecorder(core, log)

def submit(begin, end):
    for number in range(begin, end):
        clock.advance(2_000_000)
        request = ExecutionRequest(id=RequestId(f"r{number}"), graph="m@1", tenant=TenantId("t"))
        core.submit(request, clock.now_ns())

submit(0, 20)
_, most = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, most))
submit(20, 990)
while_full = list(health)
resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
clock.advance(1_000_000_000)
submit(990, 1000)
log.close()
while_full[1] += 1  # the arrival that found room again is in the state that the segment begins with
print(json.dumps(
    {"depth": core.depth, "while_full": while_full, "after": health, "missed": recorder.missed}
))
"""


def test_a_value_that_no_record_can_hold_ends_the_recording_and_not_the_scheduling(tmp_path: Path) -> None:
    from plumbline.scheduling.policies.fifo import FifoPolicy

    class Huge(FifoPolicy):
        def enter(self, request: ExecutionRequest, arrival: int) -> tuple[int, ...]:
            return (1 << 80, arrival)

    log = DecisionLog(tmp_path, "w")
    core = DecisionCore(policy=Huge(), capacity=20, streams=1)
    recorder = DecisionRecorder(core, log)
    core.submit(ExecutionRequest(id=RequestId("a"), graph="m@1", tenant=TenantId("t")), 0)
    assert isinstance(core.select(0, 0), Launch)
    assert recorder.stopped_because is not None
    assert "cannot be written" in recorder.stopped_because
    log.close()
    replay(read_log(tmp_path, "w").bodies, policy=lambda _: Huge())


def test_a_second_life_of_an_engine_goes_on_in_the_same_log(tmp_path: Path) -> None:
    """Its core is fresh; what the first one had has ended with it."""
    log = DecisionLog(tmp_path, "w")
    for life in range(2):
        core = DecisionCore(policy=open_policy("fair"), capacity=20, streams=1)
        DecisionRecorder(core, log)
        for number in range(3):
            core.submit(
                ExecutionRequest(id=RequestId(f"r{life}-{number}"), graph="m@1", tenant=TenantId("t")), number
            )
    log.close()
    contents = read_log(tmp_path, "w")
    result = replay(contents.bodies)
    assert result.digest == contents.digest
    assert result.core is not None
    assert result.core.snapshot() == core.snapshot()
    assert [r.fresh for r in contents.records() if isinstance(r, Segment)] == [True, True]


def run_cli(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    code = main(list(arguments))
    return code, capsys.readouterr().out


def test_plumb_replay_says_identical_and_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record_load(tmp_path / "logs")
    record_load(tmp_path / "logs" / "inner", "edf", name="engine", count=50)
    svg, trace = tmp_path / "t.svg", tmp_path / "t.json"
    code, out = run_cli(
        capsys, "replay", str(tmp_path / "logs"), "--svg", str(svg), "--perfetto", str(trace), "--json"
    )
    logs = json.loads(out)["logs"]
    assert code == 0
    assert [log["name"] for log in logs] == ["worker-0", "inner/engine"]
    assert all(log["identical"] and log["digest"] == log["replayed_digest"] for log in logs)
    picture = ElementTree.fromstring(svg.read_text(encoding="utf-8"))
    assert len(list(picture.iter("{http://www.w3.org/2000/svg}rect"))) > 50
    events = json.loads(trace.read_text(encoding="utf-8"))["traceEvents"]
    launches = [e for e in events if e["ph"] == "X"]
    records = read_log(tmp_path / "logs", "worker-0").records()
    finished = sum(isinstance(r, Finish) for r in records)
    assert finished - 2 <= sum(e["pid"] == 1 for e in launches) <= finished
    assert all(e["dur"] > 0 for e in launches)
    code, out = run_cli(capsys, "replay", str(tmp_path / "logs"), "--name", "inner/engine")
    assert code == 0
    assert "worker-0" not in out
    assert main(["replay", str(tmp_path / "logs"), "--name", "nobody"]) != 0
    assert {e["ph"] for e in events} >= {"X", "b", "e", "C", "M"}


def test_plumb_replay_of_a_damaged_log_names_the_record(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record_load(tmp_path, segment_bytes=1 << 20, count=30)
    path = next(tmp_path.glob("*.records"))
    data, victim = bytearray(path.read_bytes()), read_log(tmp_path, "worker-0").stored[20]
    data[victim.offset + 12] ^= 0x10
    path.write_bytes(data)
    assert main(["replay", str(tmp_path)]) != 0
    captured = capsys.readouterr()
    assert "record 20" in captured.err
    assert str(tmp_path) not in captured.err


def test_plumb_explain_answers_from_the_log_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    core = DecisionCore(policy=open_policy("priority"), capacity=20, streams=1)
    log = DecisionLog(tmp_path, "worker-0")
    DecisionRecorder(core, log)
    terms = BatchTerms(key="m@1", units=1, max_units=2, max_requests=2)

    def submit(name: str, priority: int, now_ns: int, graph: str = "m@1") -> None:
        core.submit(
            ExecutionRequest(
                id=RequestId(name), graph=graph, tenant=TenantId("t"), priority=priority, batch=terms
            ),
            now_ns,
        )

    submit("running", 3, 0)
    first = core.select(0, 0)
    assert isinstance(first, Launch)
    core.launched(first.number, 5)
    submit("mine", 4, 1_000_000)
    submit("urgent", 9, 2_000_000, graph="n@1")
    submit("companion", 4, 2_500_000)
    submit("left behind", 1, 2_600_000)
    core.boundary(first.number, 1, 3_000_000)
    interrupting = core.select(0, 3_000_000, above=first.key)
    assert isinstance(interrupting, Launch)
    core.launched(interrupting.number, 3_000_001)
    core.finish(interrupting.number, 4_000_000, {RequestId("urgent"): "ok"})
    second = core.select(0, 4_000_000, busy=["m@1"], above=first.key)
    assert second is None
    core.finish(first.number, 5_000_000, {RequestId("running"): "ok"})
    third = core.select(0, 5_000_000)
    assert isinstance(third, Launch)
    core.launched(third.number, 5_000_100)
    core.finish(third.number, 6_000_000, {RequestId("mine"): "ok", RequestId("companion"): "failed"})
    log.close()

    code, out = run_cli(capsys, "explain", "mine", "--log", str(tmp_path), "--json")
    passage = json.loads(out)["explanations"][0]["passages"][0]
    assert code == 0
    assert passage["arrived"]["depth"] == 1
    assert passage["running"][0]["requests"] == ["running"]
    assert passage["passed_over"][0]["requests"] == ["urgent"]
    assert "priority 4 is lower than 9" in passage["passed_over"][0]["because"]
    assert passage["selection"]["requests"] == ["mine", "companion"]
    assert passage["selection"]["stream"] == 0
    assert passage["selection"]["waited_ns"] == 4_000_000
    assert [loser["request"] for loser in passage["selection"]["losers"]] == ["left behind"]
    assert passage["started_ns"] == 5_000_100
    assert passage["ended"] == {"how": "finished", "time_ns": 6_000_000, "outcome": "ok"}

    _, text = run_cli(capsys, "explain", "mine", "--log", str(tmp_path))
    for line in (
        "+0.000 ms arrived for m@1, tenant 't', priority 4; 0 queued before it",
        "then stream 0 ran launch 0 of m@1",
        "+2.000 ms launch 1 on stream 0 took urgent: its priority 4 is lower than 9",
        "+4.000 ms chosen for launch 2 on stream 0 with companion, after 4.000 ms in the queue",
        "+5.000 ms finished: ok",
    ):
        assert line in text

    _, text = run_cli(capsys, "explain", "running", "--log", str(tmp_path))
    assert "interrupted before segment 1 by launch 1 (urgent): its priority 3 is lower than 9" in text
    _, text = run_cli(capsys, "explain", "companion", "--log", str(tmp_path))
    assert "finished: failed" in text
    _, text = run_cli(capsys, "explain", "left behind", "--log", str(tmp_path))
    assert "its end is not in this log" in text
    assert main(["explain", "stranger", "--log", str(tmp_path)]) != 0


def test_plumb_sched_simulate_compares_policies_on_one_recorded_load(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """L4-24."""
    record_load(tmp_path / "logs", "fifo")
    svg = tmp_path / "c.svg"
    arguments = ["sched", "simulate", "--policy", "fifo,priority,edf", str(tmp_path / "logs"), "--json"]
    code, out = run_cli(capsys, *arguments, "--svg", str(svg))
    assert code == 0
    (log,) = json.loads(out)["logs"]
    assert [p["policy"] for p in log["policies"]] == ["fifo", "priority", "edf"]
    for result in log["policies"]:
        ends = sum(result[name] for name in ("finished", "expired", "cancelled", "refused"))
        assert ends == result["requests"] > 100
        assert result["p50_latency_ns"] <= result["p99_latency_ns"]
        assert sum(t["share"] for t in result["tenants"]) == pytest.approx(1)
    assert len({p["requests"] for p in log["policies"]}) == 1
    assert len({p["mean_latency_ns"] for p in log["policies"]}) > 1
    ElementTree.fromstring(svg.read_text(encoding="utf-8"))
    assert run_cli(capsys, *arguments)[1] == out, "deterministic"
    _, text = run_cli(capsys, "sched", "simulate", "--policy", "fifo", str(tmp_path / "logs"))
    assert "p99 ms" in text
    assert main(["sched", "simulate", "--policy", "nope", str(tmp_path / "logs")]) != 0
