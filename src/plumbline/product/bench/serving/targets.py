"""The servers of the comparison: how each is started, and how each is asked the same two questions."""

from __future__ import annotations

import http.client
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

__all__ = [
    "MODELS",
    "NUMBERS",
    "PEERS",
    "TEXT",
    "Question",
    "Target",
    "ask",
    "our_targets",
    "peer_target",
    "questions",
]

MODELS = ("echo", "minilm")
PEERS = {"litserve": ("litserve",), "kserve": ("kserve",), "ray": ("ray",)}
"""Distributions whose versions are recorded, by peer."""
TEXT = "How do I read a file line by line?"
NUMBERS = [round(0.5 + number, 1) for number in range(16)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A request to a model, and where the numbers are in the answer."""

    path: str
    body: bytes
    is_v2: bool

    def numbers(self, answer: Any) -> np.ndarray:
        """The answer's numbers, flat."""
        found = answer["outputs"][0]["data"] if self.is_v2 else answer["output"]
        return np.asarray(found, np.float64).ravel()


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One server. `python` names the interpreter whose environment it needs."""

    name: str
    python: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    is_v2: bool
    distributions: tuple[str, ...]

    def question(self, model: str) -> Question:
        """What it is asked."""
        return questions(self.is_v2)[model]


def questions(is_v2: bool) -> dict[str, Question]:
    """Both questions, in the shape of the Open Inference Protocol or in plain JSON."""
    if not is_v2:
        echo, embed = {"input": [NUMBERS]}, {"input": [TEXT]}
        return {
            "echo": Question(path="/echo", body=_json(echo), is_v2=False),
            "minilm": Question(path="/minilm", body=_json(embed), is_v2=False),
        }
    x = {"name": "x", "shape": [1, 16], "datatype": "FP32", "data": NUMBERS}
    texts = {"name": "texts", "shape": [1], "datatype": "BYTES", "data": [TEXT]}
    return {
        "echo": Question(path="/v2/models/echo/infer", body=_json({"inputs": [x]}), is_v2=True),
        "minilm": Question(path="/v2/models/minilm/infer", body=_json({"inputs": [texts]}), is_v2=True),
    }


def peer_target(peer: str, python: str, source: str, encoder: Path) -> Target:
    """A peer in its own environment, with our sources on its path for the encoder."""
    return Target(
        name=peer,
        python=python,
        command=(python, "-m", f"plumbline.product.bench.serving.peers.{peer}_server"),
        environment={"PYTHONPATH": source, "PLUMB_BENCH_ENCODER": str(encoder)},
        is_v2=peer == "kserve",
        distributions=(*PEERS[peer], "fastapi", "uvicorn", "uvloop", "numpy"),
    )


def our_targets(repository: Path, state: Path, modes: Sequence[str]) -> list[Target]:
    """Ours: `workers` with a worker process, `in-process` without."""
    return [
        Target(
            name="plumbline" if mode == "workers" else "plumbline in process",
            python=sys.executable,
            command=(
                sys.executable, "-m", "plumbline.product.cli", "serve", "--models", str(repository),
                "--load", ",".join(MODELS), "--port", "PORT", "--grpc-port", "-1",
                "--state", str(state / mode),
                *(() if mode == "workers" else ("--in-process",)),
            ),
            environment={},
            is_v2=True,
            distributions=("plumbline-runtime", "uvicorn", "httptools", "uvloop", "numpy"),
        )
        for mode in modes
    ]  # fmt: skip


def ask(port: int, question: Question) -> np.ndarray:
    """Ask once.

    Raises:
        OSError, ValueError, KeyError, http.client.HTTPException: there is no right answer.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30.0)
    try:
        headers = {"Content-Type": "application/json"}
        connection.request("POST", question.path, question.body, headers)
        response = connection.getresponse()
        content = response.read()
        if response.status != 200:
            raise ValueError(f"status {response.status}: {content[:120]!r}")
        return question.numbers(json.loads(content))
    finally:
        connection.close()


def _json(document: Any) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()
