"""Pieces of the command line: sizes, shapes, exit codes, documents, the catalogue."""

from __future__ import annotations

import json
from argparse import ArgumentTypeError

import pytest

from plumbline import errors
from plumbline.product.cli import main
from plumbline.product.cli.answer import OutputUnwritable, table, to_json
from plumbline.product.cli.arguments import parse_assignment, parse_shape, parse_size
from plumbline.product.cli.catalogue import COMMANDS, find_command
from plumbline.product.cli.exit_codes import ExitCode, exit_code_of
from plumbline.product.cli.progress import StageProgress


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("100MB", 10**8), ("512MiB", 2**29), ("1.5 GiB", 3 * 2**29), ("64k", 2**16), ("7B", 7)],
)
def test_a_size_is_decimal_or_binary_as_its_unit_says(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "MB", "-1MB", "1 parsec", "1e9", "0x10", "NaN", "1_000"])
def test_a_text_that_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ArgumentTypeError):
        parse_size(text)


@pytest.mark.parametrize("text", ["", "x", "1x", "1x-2", "²x3", "1.5x2", "1x9999999999999999"])
def test_a_text_that_is_no_shape_is_refused(text: str) -> None:
    with pytest.raises(ArgumentTypeError):
        parse_shape(text)


def test_a_shape_may_be_a_scalar_or_hold_a_zero() -> None:
    assert parse_shape("scalar") == ()
    assert parse_shape("0x3") == (0, 3)


def test_an_assignment_ends_its_name_at_the_first_sign() -> None:
    assert parse_assignment("a=b=c") == ("a", "b=c")
    for text in ("a", "=b", "a="):
        with pytest.raises(ArgumentTypeError):
            parse_assignment(text)


def test_every_class_of_error_has_an_exit_code_of_its_group() -> None:
    codes = {
        kind: exit_code_of(kind())
        for kind in (
            errors.ArtifactError, errors.ValidationError, errors.PolicyError, errors.ResourceError,
            errors.BackendError, errors.ExecutionError, errors.DecodingError,
        )
    }  # fmt: skip
    assert {kind.__name__: int(code) for kind, code in codes.items()} == {
        "ArtifactError": 3, "ValidationError": 3, "PolicyError": 3, "ResourceError": 4,
        "BackendError": 5, "ExecutionError": 5, "DecodingError": 5,
    }  # fmt: skip
    assert (ExitCode.OK, ExitCode.CHECK_FAILED, ExitCode.USAGE, ExitCode.BUG) == (0, 1, 2, 70)


def test_a_document_is_strict_json_whatever_numbers_it_holds() -> None:
    text = to_json({"a": [float("nan"), float("-inf")], "b": (1, 2)})
    assert json.loads(text, parse_constant=pytest.fail) == {"a": ["nan", "-inf"], "b": [1, 2]}


def test_an_empty_table_is_its_headings() -> None:
    assert table([], ["a", "b"]) == "a  b"


def test_the_longest_command_wins_and_the_rest_are_its_arguments() -> None:
    entry, rest = find_command(["trace", "export", "--perfetto", "f"])
    assert entry is not None
    assert entry.words == ("trace", "export")
    assert rest == ["--perfetto", "f"]
    entry, rest = find_command(["trace", "model.onnx"])
    assert entry is not None
    assert (entry.words, rest) == (("trace",), ["model.onnx"])


def test_every_command_has_a_module_with_both_functions() -> None:
    for entry in COMMANDS:
        module = entry.load()
        assert callable(module.configure), entry.name
        assert callable(module.execute), entry.name


def test_the_parts_of_the_conformance_suite_are_those_of_the_suite() -> None:
    """The command repeats them so that its help need not import the suite."""
    from plumbline.product.cli.conformance import KINDS
    from plumbline.testing import onnx_suite

    assert KINDS == onnx_suite.KINDS


def raising(error: BaseException) -> object:
    """A function that raises, in the place of a command."""

    def execute(arguments: object) -> None:
        raise error

    return execute


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.ResourceError(), 4),
        (errors.BackendError(), 5),
        (errors.ArtifactError(), 3),
        (KeyboardInterrupt(), 130),
        (BrokenPipeError(), 0),
    ],
    ids=lambda value: str(value) if isinstance(value, int) else type(value).__name__,
)
def test_what_a_command_raises_becomes_its_exit_code(
    error: BaseException, code: int, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("plumbline.product.cli.cache_path.execute", raising(error))
    assert main(["cache", "path"]) == code
    assert "Traceback" not in capfd.readouterr().err


def test_a_defect_is_exit_code_70_with_a_traceback_and_one_last_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("plumbline.product.cli.cache_path.execute", raising(ZeroDivisionError("odd\nword")))
    assert main(["cache", "path"]) == 70
    written = capsys.readouterr().err
    assert "Traceback" in written
    assert written.splitlines()[-1] == "error[bug]: a defect of Plumbline: ZeroDivisionError: odd word"
    assert main(["cache", "path", "--json"]) == 70
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "bug"


def test_an_error_of_several_lines_is_one_line_for_people(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error = OutputUnwritable(file="a\nb", reason="no\n\nroom")
    monkeypatch.setattr("plumbline.product.cli.cache_path.execute", raising(error))
    assert main(["cache", "path"]) == 4
    assert capsys.readouterr().err.count("\n") == 1


def test_stages_are_timed_and_the_same_stage_adds_up() -> None:
    progress = StageProgress(quiet=True)
    with progress:
        progress.start("read")
        progress.start("code")
        progress.start("read")
    assert progress.seconds.keys() == {"read", "code"}
    assert all(seconds >= 0 for seconds in progress.seconds.values())
