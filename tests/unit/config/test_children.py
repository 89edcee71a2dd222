"""The environment of a child."""

from __future__ import annotations

from plumbline.config.children import environment_of_child


def test_a_child_gets_the_environment_of_its_parent_with_the_changes() -> None:
    parent = {"HOME": "here", "MODE": "old"}
    assert environment_of_child({"MODE": "new", "PORT": "1"}, parent) == {
        "HOME": "here",
        "MODE": "new",
        "PORT": "1",
    }
    assert parent == {"HOME": "here", "MODE": "old"}
