"""A model repository to try the runtime out with: one version of every kind.

minilm            text      all-MiniLM-L6-v2: texts to vectors
echo              model     the null model, for the cost of serving itself
random-cnn        model     a small image classifier with random weights
nearest           python    vectors to the nearest docstrings of Python's standard library
semantic-search   pipeline  minilm, then nearest: plain text in, passages out
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import cast

import numpy as np

from plumbline.contracts.versions import VersionSettings
from plumbline.engine.encoder import TextEncoder
from plumbline.product.compose import open_prepared, prepare
from plumbline.product.demo.docstrings import collect_passages
from plumbline.product.demo.model_folder import find_demo_model
from plumbline.product.demo_models import nearest
from plumbline.product.demo_models.networks import write_echo, write_random_cnn
from plumbline.product.sessions import version_options

__all__ = ["PASSAGES", "write_demo_repository"]

PASSAGES = 2400
MAX_LANES = 4
TEXTS_A_PART = 100
ENCODER_FILES = (
    "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
    "modules.json", "sentence_bert_config.json", "config_sentence_transformers.json", "1_Pooling/config.json",
)  # fmt: skip
"""What makes the encoder; its package holds more."""
MARKER = ".plumbline-demo.json"
"""What the repository was written from; a name with a dot is no model."""
CALIBRATED = frozenset({"calibration.json"})
"""What `plumb calibrate` puts beside a version."""
Files = Mapping[str, bytes | Path]

_RANDOM = b"""# random-cnn

Layers of a classifier of 28 x 28 grey images. The weights are random numbers from a fixed seed: it has learnt
nothing, and its answers mean nothing. It is here for its work, not for its answers.
"""
_PIPELINE = "# Plain text in, the nearest docstrings of Python's standard library out.\n"
_STAGE = '  {{ model = "{model}", version = "{version}" }},\n'


def write_demo_repository(
    folder: Path, *, passages: int = PASSAGES, progress: Callable[[str], None] = lambda stage: None
) -> Path:
    """Write the repository, or leave it as it is where it was written from the same things.

    Equal machines, interpreters and versions of this package give equal bytes. A version that is there is
    never changed: other bytes become the next version. The passages are embedded here, so the encoder is
    compiled into the user's cache.

    Args:
        folder: of the repository, made when absent.
        passages: docstrings that can be found.
        progress: called with the name of each model as its turn comes, and while passages are embedded.

    Returns:
        The folder.

    Raises:
        DemoModelMissing: the package with the encoder is not installed.
    """
    encoder = find_demo_model()
    folder.mkdir(parents=True, exist_ok=True)
    key = _key(encoder, passages)
    if _written_from(folder) == key:
        return folder
    versions: dict[str, str] = {}

    def put(model: str, files: Files) -> Path:
        progress(model)
        versions[model] = _put(folder, model, files)
        return folder / model / versions[model]

    placed = put("minilm", {name: encoder / name for name in ENCODER_FILES if (encoder / name).is_file()})
    put("echo", {"model.onnx": write_echo(), "version.toml": b"max_batch = 64\n"})
    put("random-cnn", {"model.onnx": write_random_cnn(), "README.md": _RANDOM})
    put("nearest", _nearest_files(placed, passages, progress))
    stages = "".join(_STAGE.format(model=model, version=versions[model]) for model in ("minilm", "nearest"))
    put("semantic-search", {"pipeline.toml": f"{_PIPELINE}stages = [\n{stages}]\n".encode()})
    document = json.dumps({"key": key, "versions": versions}, indent=1)
    (folder / MARKER).write_text(document, encoding="utf-8")
    return folder


def _key(encoder: Path, passages: int) -> str:
    """Everything that the bytes depend on. The encoder counts by sizes: it is a released package."""
    sizes = [(name, (encoder / name).stat().st_size) for name in ENCODER_FILES if (encoder / name).is_file()]
    own = [path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py"))]
    state = hashlib.sha256(repr((sizes, passages, sys.version)).encode())
    for source in own:
        state.update(source)
    return state.hexdigest()


def _written_from(folder: Path) -> str:
    """The key of a complete repository, or nothing."""
    try:
        document = json.loads((folder / MARKER).read_text(encoding="utf-8"))
        complete = all((folder / model / version).is_dir() for model, version in document["versions"].items())
        return str(document["key"]) if complete else ""
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return ""


def _put(folder: Path, model: str, files: Files) -> str:
    """Make a version of a model, whole or not at all; one that has the same bytes serves as it is.

    A version never changes: other bytes are the next version.
    """
    staging = Path(tempfile.mkdtemp(prefix=".making-", dir=folder))
    try:
        for name, content in files.items():
            path = staging / name
            path.parent.mkdir(exist_ok=True)
            if isinstance(content, Path):
                shutil.copyfile(content, path)
            else:
                path.write_bytes(content)
        staging.chmod(0o755)
        parent = folder / model
        parent.mkdir(exist_ok=True)
        numbers = sorted(int(path.name) for path in parent.iterdir() if path.name.isdigit())
        digest = _digest(staging)
        for number in reversed(numbers):
            if _digest(parent / str(number)) == digest:
                return str(number)
        version = str(numbers[-1] + 1 if numbers else 1)
        staging.rename(parent / version)
        return version
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _digest(folder: Path) -> str:
    state = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.name not in CALIBRATED):
        state.update(f"{path.relative_to(folder)}\0".encode())
        with path.open("rb") as file:
            state.update(hashlib.file_digest(file, "sha256").digest())
    return state.hexdigest()


def _nearest_files(encoder: Path, passages: int, progress: Callable[[str], None]) -> Files:
    """The class, the passages, and their vectors as the served encoder computes them."""
    found = collect_passages(passages)
    vectors = BytesIO()
    np.save(vectors, _embed(encoder, [p.embedded_text for p in found], progress), allow_pickle=False)
    listed = json.dumps([[p.name, p.text] for p in found], ensure_ascii=False)
    return {
        "model.py": Path(nearest.__file__),
        "version.toml": b'entry = "model.py:Nearest"\n',
        "passages.json": listed.encode(),
        "vectors.npy": vectors.getvalue(),
    }


def _embed(encoder: Path, texts: list[str], progress: Callable[[str], None]) -> np.ndarray:
    """Vectors of texts, by the executable that will serve, on as many processors as there are.

    A vector has the same bits whatever runs beside it.
    """
    lanes = max(1, min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1, MAX_LANES))
    options = replace(version_options(VersionSettings()), contexts=lanes)
    parts = [texts[begin : begin + TEXTS_A_PART] for begin in range(0, len(texts), TEXTS_A_PART)]
    done: list[np.ndarray] = []
    with (
        cast(TextEncoder, open_prepared(prepare(encoder, options), encoder, options)) as model,
        ThreadPoolExecutor(lanes) as pool,
    ):
        for part in pool.map(model.encode, parts):
            done.append(part)
            progress(f"nearest: {sum(map(len, done))} of {len(texts)} passages")
    return np.concatenate(done) if done else np.empty((0, 384), np.float32)
