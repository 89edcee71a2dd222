"""`plumb bench serve`: our server and others, the same two models, one server at a time."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from pathlib import Path
from typing import Any

from plumbline.product.cli.answer import Answer, table
from plumbline.product.cli.arguments import add_document_file
from plumbline.product.cli.exit_codes import ExitCode


def configure(parser: ArgumentParser) -> None:
    """Arguments of `plumb bench serve`."""
    add = parser.add_argument
    add("--peers", default="litserve,kserve,ray", metavar="A,B", help="of them; `none` for none")
    add(
        "--peer-python", type=_assignment, action="append", default=[], metavar="NAME=PATH",
        help="interpreter of a peer's environment (default .venv-peers/NAME/bin/python)",
    )  # fmt: skip
    add("--modes", default="workers,in-process", metavar="A,B", help="of ours (default workers,in-process)")
    add("--rounds", type=int, default=3, metavar="R", help="starts of each server (default 3)")
    add("--seconds", type=float, default=3.0, metavar="N", help="of each phase (default 3)")
    add("--rate", type=float, default=200.0, metavar="N", help="requests/s at equal load (default 200)")
    add("--overhead", type=int, default=1000, metavar="N", help="requests for the overhead; 0 for none")
    add_document_file(parser)


def execute(arguments: Namespace) -> Answer:
    """Measure; exit code 1 when an answer of ours was an error."""
    import sys
    import tempfile

    from plumbline.product.bench.serving.comparison import (
        ComparisonOptions,
        compare_servers,
        installed_versions,
        verdicts,
    )
    from plumbline.product.bench.serving.overhead import measure_overhead
    from plumbline.product.bench.serving.setting import prepare_setting
    from plumbline.product.bench.suite import commit_of_checkout, machine_facts

    with tempfile.TemporaryDirectory(prefix="plumb-bench-") as folder:
        setting = prepare_setting(Path(folder))
        targets = _targets(arguments, Path(folder), setting)
        options = ComparisonOptions(
            rounds=arguments.rounds, seconds=arguments.seconds, rate=arguments.rate, work=Path(folder),
            expected=setting.expected, progress=lambda line: print(line, file=sys.stderr, flush=True),
        )  # fmt: skip
        rows = compare_servers(targets, options)
        overhead = measure_overhead(setting, Path(folder), arguments.overhead) if arguments.overhead else None
        document: dict[str, Any] = {
            "schema_version": 1,
            "machine": machine_facts(),
            "commit": commit_of_checkout(),
            "seconds": arguments.seconds,
            "rounds": arguments.rounds,
            "servers": {
                target.name: {"versions": installed_versions(target), "command": _command(target, folder)}
                for target in targets
            },
            "rows": rows,
            "verdicts": verdicts(rows),
            "overhead": overhead,
        }
    wrong = any(row["errors"] for row in rows if row["server"].startswith("plumbline"))
    return Answer(
        document=document, text=_text(document), exit_code=ExitCode.CHECK_FAILED if wrong else ExitCode.OK
    )


def _targets(arguments: Namespace, folder: Path, setting: Any) -> list[Any]:
    import plumbline
    from plumbline.product.bench.serving.targets import PEERS, our_targets, peer_target
    from plumbline.product.cli.entry import CommandLineRefused

    source = str(Path(plumbline.__file__).parents[1])
    pythons = dict(arguments.peer_python)
    targets = our_targets(setting.repository, folder, arguments.modes.split(","))
    for peer in () if arguments.peers == "none" else arguments.peers.split(","):
        if peer not in PEERS:
            reason = f"there is no peer {peer!r}; peers: {', '.join(PEERS)}"
            raise CommandLineRefused(command="plumb bench serve", reason=reason)
        python = pythons.get(peer, f".venv-peers/{peer}/bin/python")
        if not Path(python).exists():
            reason = f"{peer} has no environment; make one with `make peers`, or name one with --peer-python"
            raise CommandLineRefused(command="plumb bench serve", reason=reason)
        targets.append(peer_target(peer, python, source, setting.encoder))
    return targets


def _command(target: Any, folder: str) -> str:
    """Without the paths of this machine."""
    words = ["python" if word == target.python else word.replace(folder, "WORK") for word in target.command]
    return " ".join(words)


def _text(document: dict[str, Any]) -> str:
    rows: list[list[object]] = [
        [
            r["phase"], r["server"], f"{r['requests_per_s']:.0f}", f"{r['p50_ms']:.3f}", f"{r['p99_ms']:.3f}",
            r["errors"],
        ]
        for r in document["rows"]
    ]  # fmt: skip
    lines = [table(rows, ["load", "server", "requests/s", "p50 ms", "p99 ms", "errors"]), ""]
    for v in document["verdicts"]:
        lines.append(
            f"{v['phase']}: {v['requests_ratio']:.2f} times the requests/s of {v['best_peer']}, "
            f"p50 {v['p50_ratio']:.2f} and p99 {v['p99_ratio']:.2f} of the lowest"
        )
    if document["overhead"]:
        for way, found in document["overhead"].items():
            lines.append(
                f"MiniLM, {way}: served p50 {found['served_p50_ms']:.3f} ms, direct "
                f"{found['direct_p50_ms']:.3f} ms, overhead {found['overhead_p50_ms']:.3f} ms"
            )
    return "\n".join(lines)


def _assignment(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not (name and sign and value):
        raise ArgumentTypeError(f"{text!r} is not NAME=PATH")
    return name, value
