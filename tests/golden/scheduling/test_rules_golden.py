"""The fingerprints of our policies against a file: whoever changes what is decided sees it here (L4-17)."""

from __future__ import annotations

import json
from pathlib import Path

from plumbline.scheduling.policies.registry import open_policy, policy_names
from plumbline.scheduling.rules import fingerprint_of

GOLDEN = Path(__file__).parent / "rules.json"


def test_the_rules_of_each_policy_have_the_fingerprint_of_the_golden_file() -> None:
    """A difference means that logs of the released version are refused: say in the changelog what is decided
    otherwise. When the examination itself changed, its number must rise."""
    ours = list(policy_names())[:5]
    assert {name: fingerprint_of(open_policy(name)) for name in ours} == json.loads(GOLDEN.read_text())
