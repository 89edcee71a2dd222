"""Every error that the package can raise keeps the promises of `plumbline.errors` (X-26..X-36, X-92)."""

from __future__ import annotations

import collections
import contextlib
import copy
import dataclasses
import json
import pickle
import re

import pytest

import error_catalogue
import generate_errors
import layers
from plumbline import errors

LEAVES = error_catalogue.error_leaves()
IDS = [leaf.code for leaf in LEAVES]
KINDS = {
    errors.ArtifactError: errors.ErrorClass.ARTIFACT,
    errors.ValidationError: errors.ErrorClass.VALIDATION,
    errors.ResourceError: errors.ErrorClass.RESOURCE,
    errors.BackendError: errors.ErrorClass.BACKEND,
    errors.ExecutionError: errors.ErrorClass.EXECUTION,
    errors.DecodingError: errors.ErrorClass.DECODING,
    errors.PolicyError: errors.ErrorClass.POLICY,
}

each_leaf = pytest.mark.parametrize("leaf", LEAVES, ids=IDS)


def test_the_walk_finds_errors_in_several_packages() -> None:
    """The tests below would pass on an empty list."""
    assert len({leaf.owner for leaf in LEAVES}) >= 4


def test_each_code_belongs_to_one_error() -> None:
    counts = collections.Counter(leaf.code for leaf in LEAVES)
    assert [code for code, count in counts.items() if count > 1] == []


@each_leaf
def test_a_leaf_has_one_kind_and_a_code_that_starts_with_it(leaf: type[errors.PlumblineError]) -> None:
    """X-26..X-32: the kind is distinguishable by type, by class and in the code."""
    kinds = [kind for kind in KINDS if issubclass(leaf, kind)]
    assert len(kinds) == 1
    assert leaf.error_class is KINDS[kinds[0]]
    assert re.fullmatch(rf"{leaf.error_class.value}(\.[a-z0-9_]+)+", leaf.code)


@each_leaf
def test_a_leaf_is_a_mutable_keyword_only_dataclass(leaf: type[errors.PlumblineError]) -> None:
    """A frozen exception breaks inside context managers; equality by value would merge distinct failures."""
    assert "__dataclass_fields__" in vars(leaf), "a leaf is itself a dataclass"
    parameters = leaf.__dataclass_params__  # type: ignore[attr-defined]
    assert not parameters.eq
    assert not parameters.frozen
    assert all(field.kw_only for field in dataclasses.fields(leaf))


@each_leaf
def test_an_owner_of_the_ownership_file_answers_for_it(leaf: type[errors.PlumblineError]) -> None:
    """X-92: an accountable owner for every failure boundary."""
    assert leaf.owner.split(".")[0] in layers.owners()
    assert f"{leaf.__module__}.".startswith(f"plumbline.{leaf.owner}."), (
        "the owner is the package that raises it"
    )


@each_leaf
def test_it_maps_to_one_http_status_of_its_kind(leaf: type[errors.PlumblineError]) -> None:
    permanent_or_request = {"artifact": 4, "validation": 4, "policy": 4}
    assert 400 <= leaf.http_status <= 599
    if leaf.error_class.value in permanent_or_request:
        assert leaf.http_status // 100 == 4


@each_leaf
def test_it_survives_pickling_with_message_fields_and_context(leaf: type[errors.PlumblineError]) -> None:
    """X-36: category, message and context travel between processes."""
    error = error_catalogue.example(leaf)
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(twin) is leaf
        assert twin.to_dict() == error.to_dict()
        assert str(twin) == str(error) == error.message


@each_leaf
def test_its_message_is_made_from_its_fields(leaf: type[errors.PlumblineError]) -> None:
    error = error_catalogue.example(leaf)
    assert error.message
    assert error.message != error.code
    assert "object at 0x" not in error.message


@each_leaf
def test_its_document_is_json_and_says_where_without_a_path(leaf: type[errors.PlumblineError]) -> None:
    """X-36: the context names module, line and function, never a file of this machine."""
    document = json.loads(json.dumps(error_catalogue.example(leaf).to_dict()))
    assert set(document["context"]) == {"module", "line", "function"}
    assert ".py" not in document["context"]["module"]
    assert "/" not in document["context"]["module"]


@each_leaf
def test_it_passes_through_a_context_manager(leaf: type[errors.PlumblineError]) -> None:
    """contextlib sets __traceback__ on the way out, which a frozen dataclass refuses."""

    @contextlib.contextmanager
    def section() -> collections.abc.Iterator[None]:
        yield

    error = error_catalogue.example(leaf)
    with pytest.raises(leaf) as caught, section():
        raise error
    assert caught.value is error


@each_leaf
def test_it_has_a_docstring_of_its_own(leaf: type[errors.PlumblineError]) -> None:
    assert (vars(leaf).get("__doc__") or "").strip()
    assert not (vars(leaf)["__doc__"] or "").startswith(f"{leaf.__name__}("), "dataclass made this docstring"


def test_the_page_of_errors_is_current() -> None:
    """Every code is documented in docs/reference/errors.md, which is generated from the classes."""
    page = (layers.ROOT / "docs" / "reference" / "errors.md").read_text(encoding="utf-8")
    assert page == generate_errors.render()
    assert all(f"### `{leaf.code}`" in page for leaf in LEAVES)
