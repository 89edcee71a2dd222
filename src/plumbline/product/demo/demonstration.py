"""The course of the demonstration: write the models, serve them, ask over both protocols, show the books."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import redirect_stderr
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any, cast

from rich.console import Console

from plumbline.config.settings import read_settings
from plumbline.contracts.versions import VersionSettings
from plumbline.engine.encoder import TextEncoder
from plumbline.product.compose import open_prepared, prepare
from plumbline.product.demo.asking import GrpcDoor, RestDoor
from plumbline.product.demo.conversation import commands_to_try, show_answer, show_commands, show_lines
from plumbline.product.demo.evidence import DemoFiles, write_evidence
from plumbline.product.demo.model_folder import find_demo_model
from plumbline.product.demo.ports import HOST, usable_port
from plumbline.product.demo.progress import watched
from plumbline.product.demo_models import write_demo_repository
from plumbline.product.serving.loop import run
from plumbline.product.serving.options import ServeOptions, WorkerOptions
from plumbline.product.sessions import version_options

__all__ = ["QUESTIONS", "DemoOptions", "DemoReport", "run_demo"]

QUESTIONS = (
    "How do I delete a directory together with all files in it?",
    "make several threads wait for each other",
    "how can I find out how long my code takes",
    "split a command line into words like a shell",
)
PORT, GRPC_PORT = 8000, 8001
TIMED_RUNS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoOptions:
    """What the caller decides.

    Attributes:
        once: end after the answers; else serve until SIGINT or SIGTERM.
        questions: asked in turn over REST and over gRPC.
        passages: most docstrings that can be found.
        port, grpc_port: wanted; where another program has one, a free one is taken.
        output: folder for picture and trace; None for `demo` in the cache folder.
    """

    once: bool = False
    questions: tuple[str, ...] = QUESTIONS
    passages: int = 2400
    port: int = PORT
    grpc_port: int = GRPC_PORT
    output: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoReport:
    """What was served and measured. Bytes are those of the encoder's plan, times are of this process.

    Attributes:
        first_answer_seconds: from the start of the demonstration to its first answer.
        repository_seconds: to write the models, or to find them written.
        ready_seconds: to start the server and load every model.
        rest_ms, grpc_ms: median of one question, tokenizer and search included.
        explanations: lines by request id.
        commands: for a shell.
    """

    model: str
    digest: str
    address: str
    grpc_address: str
    weights_bytes: int
    peak_bytes: int
    lower_bound_bytes: int
    total_bytes: int
    repository_seconds: float
    ready_seconds: float
    first_answer_seconds: float
    rest_ms: float
    grpc_ms: float
    answers: dict[str, list[dict[str, Any]]]
    explanations: dict[str, list[str]]
    commands: list[str]
    repository: str
    log: str
    plan_picture: str
    trace: str
    unfinished: int = 0

    def document(self) -> dict[str, Any]:
        """The report as plain data, ready for JSON."""
        return {"schema_version": 2, **asdict(self)}


@dataclass(slots=True)
class _Course:
    """What is found out on the way. Owned by the one running demonstration."""

    began: float
    repository_seconds: float = 0.0
    ready_seconds: float = 0.0
    first_answer_seconds: float = 0.0
    answers: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    explanations: dict[str, list[str]] = field(default_factory=dict)


def run_demo(options: DemoOptions, *, console: Console, errors: Console) -> DemoReport:
    """Serve the demonstration's models and ask them questions about Python's documentation.

    Args:
        options: of the caller.
        console: gets answers and figures.
        errors: gets progress and notices; standard error where a person watches.

    Returns:
        The report, once the server has stopped.

    Raises:
        DemoModelMissing: the weights are not installed.
        ServerRefusal: a question was refused.
        KeyboardInterrupt: the server was told to stop before the answers.
        PlumblineError: as `plumb serve`.
    """
    course = _Course(began=time.perf_counter())
    settings = read_settings()
    find_demo_model()
    place = settings.cache_dir / "demo"
    with watched(errors, "Writing the models of the demonstration") as show:
        repository = write_demo_repository(place / "models", passages=options.passages, progress=show)
    course.repository_seconds = time.perf_counter() - course.began
    state = settings.state_dir / "demo"
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    serve_options = ServeOptions(
        repository=str(repository),
        state=state,
        host=HOST,
        port=usable_port(options.port),
        grpc_port=usable_port(options.grpc_port),
        worker=WorkerOptions(allow_code=True),
    )
    log = state / "server.log"
    with log.open("a", encoding="utf-8") as output, redirect_stderr(output):
        return run(_serve(serve_options, options, course, place, log, console, errors))


async def _serve(
    serve_options: ServeOptions, options: DemoOptions, course: _Course, place: Path, log: Path,
    console: Console, errors: Console,
) -> DemoReport:  # fmt: skip
    from plumbline.product.serving.server import run_server

    stop, addresses = asyncio.Event(), ["", ""]
    talking: list[asyncio.Task[DemoReport]] = []
    loading: list[asyncio.Task[None]] = []
    started = time.perf_counter()

    def opened(listening: Any, runtime: Any) -> None:
        addresses[:] = [f"http://{HOST}:{listening.port}", f"{HOST}:{listening.grpc_port}"]
        for wanted, got in ((options.port, listening.port), (options.grpc_port, listening.grpc_port)):
            if wanted not in (0, got):
                errors.print(f"port {wanted} is taken: listening on {got} instead", markup=False)
        loading.append(asyncio.create_task(_watch_loading(runtime, errors)))

    def ready(runtime: Any) -> None:
        loading[0].cancel()
        course.ready_seconds = time.perf_counter() - started
        talking.append(asyncio.create_task(talk()))

    async def talk() -> DemoReport:
        try:
            report = await asyncio.to_thread(
                _converse, options, course, place, log, addresses[0], addresses[1], console, errors
            )
        except BaseException:
            stop.set()
            raise
        if options.once:
            stop.set()
        else:
            errors.print("\nThe server stays up; Ctrl-C ends it.", markup=False)
        return report

    try:
        await run_server(serve_options, stop=stop, on_listening=opened, on_ready=ready)
    finally:
        for task in loading:
            task.cancel()
        await asyncio.gather(*loading, return_exceptions=True)
    if not talking:
        raise KeyboardInterrupt
    return await talking[0]


async def _watch_loading(runtime: Any, errors: Console) -> None:
    """Name the model that is being compiled, loaded or warmed up."""
    with watched(errors, "Loading the models") as show:
        while True:
            statuses = runtime.directory.statuses()
            done = sum(status.state == "ready" for status in statuses)
            busy = next((s for s in statuses if s.state in ("preparing", "loading", "warming")), None)
            name = "" if busy is None else f"{busy.ref} {busy.state}"
            show(f"{name}: {done} of {len(statuses)}")
            await asyncio.sleep(0.1)


def _converse(
    options: DemoOptions, course: _Course, place: Path, log: Path, address: str, grpc_address: str,
    console: Console, errors: Console,
) -> DemoReport:  # fmt: skip
    with RestDoor(address) as rest, GrpcDoor(grpc_address) as grpc:
        _ask(options.questions, course, rest, grpc, console)
        rest_ms, grpc_ms = _median_ms(rest), _median_ms(grpc)
    with watched(errors, "Drawing the memory plan and tracing one run"):
        encoder, files = _evidence(options.output or place)
    commands = commands_to_try(address, next(iter(course.explanations), "mine-1"))
    report = DemoReport(
        model=encoder["model"], digest=encoder["digest"], address=address, grpc_address=grpc_address,
        weights_bytes=encoder["weights"], peak_bytes=encoder["peak"], lower_bound_bytes=encoder["bound"],
        total_bytes=encoder["total"], repository_seconds=course.repository_seconds,
        ready_seconds=course.ready_seconds, first_answer_seconds=course.first_answer_seconds,
        rest_ms=rest_ms, grpc_ms=grpc_ms, answers=course.answers, explanations=course.explanations,
        commands=[command for _, command in commands], repository=str(place / "models"), log=str(log),
        plan_picture=str(files.plan_picture), trace=str(files.trace),
    )  # fmt: skip
    _show_books(console, report)
    if not options.once:
        show_commands(console, address, grpc_address, commands)
    return report


def _ask(questions: Sequence[str], course: _Course, rest: RestDoor, grpc: GrpcDoor, console: Console) -> None:
    """Every question in turn over one door and the other; the reasons of the first of each in full."""
    doors: tuple[RestDoor | GrpcDoor, ...] = (rest, grpc)
    run_id = f"demo-{time.time_ns():x}"
    for number, question in enumerate(questions):
        door, request_id = doors[number % 2], f"{run_id}-{number + 1}"
        asked = time.perf_counter()
        hits = door.ask(question, request_id)
        answered = time.perf_counter()
        course.first_answer_seconds = course.first_answer_seconds or answered - course.began
        course.answers[question] = [{"name": hit.name, "score": round(hit.score, 4)} for hit in hits]
        course.explanations[request_id] = rest.explain(request_id)
        show_answer(console, door.name, question, hits, (answered - asked) * 1e3)
        if number < len(doors):
            show_lines(console, f"why, of {request_id}:", course.explanations[request_id])


def _median_ms(door: RestDoor | GrpcDoor) -> float:
    spent = []
    for number in range(TIMED_RUNS):
        began = time.perf_counter()
        door.ask(QUESTIONS[0], f"timed-{time.time_ns():x}-{number}")
        spent.append(time.perf_counter() - began)
    return median(spent) * 1e3


def _evidence(output: Path) -> tuple[dict[str, Any], DemoFiles]:
    """The books of the served encoder, from its executable in the cache; its picture and a trace of it."""
    folder = find_demo_model()
    options = replace(version_options(VersionSettings()), contexts=1)  # the engine makes its own
    with cast(TextEncoder, open_prepared(prepare(folder, options), folder, options)) as model:
        files = write_evidence(model, folder, options, output)
        plan = model.plan
        found = {
            "model": model.name, "digest": model.digest, "weights": plan.weights_bytes,
            "peak": plan.peak_bytes, "bound": plan.lower_bound_bytes, "total": plan.total_bytes(1),
        }  # fmt: skip
    return found, files


def _show_books(console: Console, report: DemoReport) -> None:
    lines = (
        ("first answer", f"{report.first_answer_seconds:.1f} s after the start:"
                         f" models written or found {report.repository_seconds:.1f} s,"
                         f" loaded and warm {report.ready_seconds:.1f} s"),
        ("one question", f"{report.rest_ms:.2f} ms over REST, {report.grpc_ms:.2f} ms over gRPC (median)"),
        ("encoder", f"all-MiniLM-L6-v2 as {report.model}"),
        ("graph", report.digest),
        ("weights", f"{report.weights_bytes:,} bytes"),
        ("arena (peak)", f"{report.peak_bytes:,} bytes; lower bound {report.lower_bound_bytes:,} bytes"),
        ("total", f"{report.total_bytes:,} bytes, for one context"),
        ("memory plan", report.plan_picture),
        ("trace", f"{report.trace}  (for a viewer: plumb trace export)"),
        ("models", report.repository),
        ("server log", report.log),
    )  # fmt: skip
    console.print()
    for label, text in lines:
        console.print(f"{label:>13}  {text}", markup=False, soft_wrap=True)
