"""`plumb replay LOG`: every decision of a log once more; the chain must come out identical (L4-17)."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from typing import Any

from plumbline.product.cli.answer import Answer, table, write_text
from plumbline.product.cli.arguments import add_document_file
from plumbline.product.cli.decision_logs import add_policy


def configure(parser: ArgumentParser) -> None:
    """Arguments of `plumb replay`."""
    parser.add_argument("log", metavar="LOG", help="the folder of decision logs, or the file of one segment")
    parser.add_argument("--name", metavar="NAME", help="only the log of this name")
    parser.add_argument("--perfetto", metavar="FILE", help="write launches and waits for the Perfetto viewer")
    parser.add_argument("--svg", metavar="FILE", help="draw launches and waits")
    parser.add_argument(
        "--any-rules",
        action="store_true",
        help="try it also where the log states other rules of scheduling than those that are here",
    )
    add_policy(parser)
    add_document_file(parser)


def execute(arguments: Namespace) -> Answer:
    """Check every byte, decide everything again, and say what was found."""
    from plumbline.product.cli.decision_logs import find_logs, replay_log
    from plumbline.scheduling.policies.registry import policy_opener

    policy = policy_opener(arguments.policy)
    logs = find_logs(arguments.log, arguments.name)
    found = [(log, replay_log(log, policy, any_rules=arguments.any_rules)) for log in logs]
    if arguments.perfetto or arguments.svg:
        _draw(arguments, logs)
    documents: list[dict[str, Any]] = []
    rows: list[list[object]] = []
    for log, replayed in found:
        torn = [{"file": t.file, "record": t.record, "size_bytes": t.size_bytes} for t in log.torn]
        documents.append(
            {
                "name": log.name,
                "segments": log.segments,
                "records": replayed.records,
                "first_record": log.stored[0].number,
                "kinds": replayed.counts,
                "digest": log.digest.hex(),
                "replayed_digest": replayed.digest.hex(),
                "identical": replayed.digest == log.digest,
                "rules": [{"policy": p, "fingerprint": f or None} for p, f in replayed.rules],
                "torn": torn,
            }
        )
        tail = f"{len(torn)} torn" if torn else "whole"
        verdict = "identical" if replayed.digest == log.digest else "DIFFERENT"
        rules = _rules(replayed.rules)
        rows.append([log.name, log.segments, replayed.records, tail, verdict, log.digest.hex()[:16], rules])
    text = table(rows, ["log", "segments", "records", "tail", "decisions", "digest", "rules"])
    return Answer(document={"schema_version": 1, "logs": documents}, text=text)


def _rules(rules: list[tuple[str, str]]) -> str:
    """Policy and fingerprint of every life, each once; nothing for a log without a schedule (routes)."""
    return ", ".join(dict.fromkeys(f"{policy} {fingerprint or 'unknown'}" for policy, fingerprint in rules))


def _draw(arguments: Namespace, logs: list[Any]) -> None:
    from plumbline.scheduling.spans import read_spans
    from plumbline.scheduling.timeline import perfetto_document, timeline_svg

    spans = [(log.name, read_spans(log.records())) for log in logs]
    if arguments.perfetto:
        write_text(arguments.perfetto, json.dumps(perfetto_document(spans), separators=(",", ":")) + "\n")
    if arguments.svg:
        write_text(arguments.svg, timeline_svg(spans))
