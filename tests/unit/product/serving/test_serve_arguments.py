"""Numbers that `plumb serve` cannot serve with are refused under the name of their option."""

from __future__ import annotations

import pytest

from plumbline.product.cli import main
from plumbline.product.cli.exit_codes import ExitCode


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--workers", "-3"),
        ("--workers", "0"),
        ("--max-workers", "none"),
        ("--streams", "0"),
        ("--queue", "-1"),
        ("--max-body", "0"),
        ("--promise-deadlines", "-5"),
        ("--drain-timeout", "-1"),
        ("--memory-budget", "-1"),
    ],
)
def test_a_number_that_cannot_be_is_a_usage_error_of_its_option(option, value, capsys, tmp_path):
    """X-74: the operator reads which of many options it was."""
    assert main(["serve", "--models", str(tmp_path), option, value]) == ExitCode.USAGE
    told = capsys.readouterr().err
    assert option in told
    assert "Traceback" not in told
