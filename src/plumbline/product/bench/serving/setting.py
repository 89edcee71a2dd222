"""What every measurement of served models needs: a repository with both models, and the right answers."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from plumbline.product.bench.serving.targets import NUMBERS, TEXT

__all__ = ["Setting", "open_encoder", "prepare_setting"]

_ENCODER_FILES = (
    "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
    "modules.json", "sentence_bert_config.json", "config_sentence_transformers.json", "1_Pooling/config.json",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """Attributes:
    repository: with `echo` and `minilm`, one version each.
    encoder: folder of MiniLM in it.
    expected: the right numbers of each model.
    """

    repository: Path
    encoder: Path
    expected: dict[str, np.ndarray]


def prepare_setting(folder: Path) -> Setting:
    """Write the repository below `folder`, compile the encoder, and work out the right answers.

    Raises:
        MiniLMMissing: the package with the encoder is not installed.
    """
    from plumbline.product.bench.minilm import find_minilm

    source = find_minilm()
    repository = folder / "models"
    echo, encoder = repository / "echo" / "1", repository / "minilm" / "1"
    for made in (echo, encoder / "1_Pooling"):
        made.mkdir(parents=True, exist_ok=True)
    (echo / "model.onnx").write_bytes(_write_echo())
    (echo / "version.toml").write_text("max_batch = 64\n")
    for name in _ENCODER_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, encoder / name)
    numbers = np.asarray(NUMBERS, np.float64)
    with open_encoder(encoder) as model:
        vector = np.asarray(model.encode([TEXT]), np.float64).ravel()
    return Setting(repository=repository, encoder=encoder, expected={"echo": numbers, "minilm": vector})


def open_encoder(folder: Path, contexts: int = 1) -> Any:
    """The encoder as the server compiles it, in this process. The caller closes it."""
    from plumbline.contracts.versions import VersionSettings
    from plumbline.product.compose import open_prepared, prepare
    from plumbline.product.sessions import version_options

    options = replace(version_options(VersionSettings()), contexts=contexts)
    return open_prepared(prepare(folder, options), folder, options)


def _write_echo() -> bytes:
    """The null model: `y = x`, float32 `[rows, 16]`. What is left is the cost of serving."""
    import onnx
    from onnx import TensorProto, helper

    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", 16]) for name in ("x", "y"))
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "echo", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())
