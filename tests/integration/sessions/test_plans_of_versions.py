"""The memory plans of a version: kept beside the executable, drawn when it is prepared (L2-18, L2-20)."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree
from zlib import crc32

import pytest
from tests.integration.sessions.conftest import MakeSpec, classifier

from plumbline.compiler.planning.plan_file import PlanFileRefused, read_plan
from plumbline.contracts.models import VersionKind
from plumbline.contracts.versions import VersionSpec
from plumbline.execution.artifact import read_manifest
from plumbline.product.serving.drawn_plans import DrawnPlans
from plumbline.product.serving.plan_drawing import draw_plans
from plumbline.product.serving.plan_shelf import (
    PlanNotPrepared,
    PlanPictureMissing,
    PlanShelf,
    PlanStageRefused,
    VersionUnplanned,
)
from plumbline.product.serving.prepare import PreparationFailed, prepare_apart
from plumbline.product.sessions import prepare, prepared_models

CODE = {"code.py": b"class Nothing: pass\n"}
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def model(make_spec: MakeSpec, request: pytest.FixtureRequest) -> VersionSpec:
    """Of weights that no other test has: some change what lies in the cache, which tests share."""
    content = classifier(seed=crc32(request.node.originalname.encode()))
    return make_spec("classifier", VersionKind.MODEL, "model.onnx", {"model.onnx": content})


@pytest.fixture
def code(make_spec: MakeSpec) -> VersionSpec:
    return make_spec("code", VersionKind.PYTHON, "code.py:Nothing", CODE)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    return folder


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[PlanShelf]:
    shelf = PlanShelf(tmp_path / "shelf")
    yield shelf
    asyncio.run(shelf.close())
    assert not (tmp_path / "shelf").exists()


def executable(spec: VersionSpec) -> Path:
    (found,) = prepared_models(spec)
    return found.folder


def buffers_of(svg: bytes) -> set[str]:
    titles = (group.findtext(f"{SVG}title") or "" for group in ElementTree.fromstring(svg).iter(f"{SVG}g"))
    return {title.split(": ")[0] for title in titles}


def test_the_plan_beside_an_executable_is_the_one_of_its_manifest(model: VersionSpec) -> None:
    prepare(model)
    folder = executable(model)
    promised = read_manifest(folder).plan
    plan = read_plan(folder, promised)
    assert plan.digest == promised.digest
    assert plan.peak_bytes == promised.peak_bytes
    assert {"x", "z"} <= {placement.name for placement in plan.placements}


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: "",
        lambda text: text[:-9],
        lambda text: text.replace('"schema_version":1', '"schema_version":2'),
        lambda text: re.sub(r'"buffers":\[\[("[^"]*"),', r'"buffers":[[\1,-1', text),
        lambda text: text.replace('"buffers":[', '"buffers":[["more",0,256,0,0],'),
        lambda text: text.replace('"lower_bound_bytes":', '"lower_bound_bytes":1'),
        lambda text: re.sub(r'"peak_bytes":\d+', '"peak_bytes":256', text),
        lambda text: re.sub(r'"naive_bytes":\d+', f'"naive_bytes":{1 << 70}', text),
        lambda text: re.sub(r'"naive_bytes":\d+', '"naive_bytes":true', text),
        lambda text: "[" * 100_000,
    ],
    ids=["empty", "cut", "version", "negative", "another", "bound", "outside", "huge", "no number", "deep"],
)
def test_a_plan_that_is_damaged_or_of_another_build_is_refused(
    model: VersionSpec, spoil: Callable[[str], str], tmp_path: Path
) -> None:
    prepare(model)
    folder = Path(shutil.copytree(executable(model), tmp_path / "copy"))
    plan = folder / "plan.json"
    plan.write_text(spoil(plan.read_text()))
    with pytest.raises(PlanFileRefused):
        read_plan(folder, read_manifest(folder).plan)


def test_an_executable_that_lost_its_plan_is_planned_again_and_not_compiled(
    model: VersionSpec, pictures: Path
) -> None:
    prepare(model)
    folder = executable(model)
    code = (folder / "code.o").stat()
    written = (folder / "plan.json").read_bytes()
    (folder / "plan.json").unlink()
    drawn = draw_plans(model, pictures)
    assert [plan.stage for plan in drawn.plans] == ["classifier@1"]
    assert (folder / "plan.json").read_bytes() == written
    after = (folder / "code.o").stat()
    assert (after.st_ino, after.st_mtime_ns) == (code.st_ino, code.st_mtime_ns)


def test_a_plan_that_cannot_be_the_one_of_the_executable_is_not_drawn(
    model: VersionSpec, pictures: Path
) -> None:
    """The manifest promises another plan than any planning gives: said, never drawn."""
    prepare(model)
    folder = executable(model)
    manifest = folder / "manifest.json"
    written = manifest.read_text()
    try:
        manifest.write_text(written.replace(read_manifest(folder).plan.digest, "0" * 64))
        drawn = draw_plans(model, pictures)
    finally:
        manifest.write_text(written)
    assert drawn.plans == ()
    assert "not the plan that the executable was made with" in drawn.missing[0].reason
    assert list(pictures.iterdir()) == []


def test_a_picture_shows_the_buffers_of_the_document(model: VersionSpec, pictures: Path) -> None:
    prepare(model)
    (drawn,) = draw_plans(replace(model, settings=replace(model.settings, instances=3)), pictures).plans
    document = json.loads((pictures / f"{drawn.file}.json").read_bytes())
    svg = (pictures / f"{drawn.file}.svg").read_bytes()
    assert {buffer["name"] for buffer in document["buffers"]} == buffers_of(svg) - {""}
    assert document["buffers_total"] == len(document["buffers"])
    assert document["arenas"] == 3
    assert document["total_bytes"] == (
        document["weights_bytes"] + document["state_bytes"] + 3 * document["peak_bytes"]
    )


def test_a_pipeline_has_the_plans_of_its_models_by_name(
    model: VersionSpec, code: VersionSpec, make_spec: MakeSpec, shelf: PlanShelf
) -> None:
    other = make_spec("other", VersionKind.MODEL, "model.onnx", {"model.onnx": classifier(width=5)})
    stages = (model, code, other, model)
    pipeline = make_spec("both", VersionKind.PIPELINE, ".", {}, stages=stages)

    async def ask() -> None:
        await prepare_apart(pipeline, allow_code=True, plans=shelf)
        document = await shelf.plans(pipeline.ref, pipeline.digest)
        assert [plan["stage"] for plan in document["plans"]] == ["classifier@1", "other@1"]
        assert document["without"] == [{"stage": "code@1", "reason": "a Python class has no memory plan"}]
        picture = await shelf.picture(pipeline.ref, pipeline.digest, "other@1")
        assert b"Memory plan of other@1" in picture.svg
        for stage in (None, "nobody@1", "code@1"):
            with pytest.raises(PlanStageRefused) as caught:
                await shelf.picture(pipeline.ref, pipeline.digest, stage)
            assert caught.value.stages == "classifier@1, other@1"

    asyncio.run(asyncio.wait_for(ask(), 120))


def test_a_python_class_has_no_plan_and_that_is_what_is_said(code: VersionSpec, shelf: PlanShelf) -> None:
    async def ask() -> None:
        await prepare_apart(code, allow_code=True, plans=shelf)
        for asked in (shelf.plans(code.ref, code.digest), shelf.picture(code.ref, code.digest)):
            with pytest.raises(VersionUnplanned, match="Python"):
                await asked

    asyncio.run(asyncio.wait_for(ask(), 60))


def test_plans_are_those_of_the_content_that_was_prepared(model: VersionSpec, shelf: PlanShelf) -> None:
    async def ask() -> None:
        with pytest.raises(PlanNotPrepared):
            await shelf.plans(model.ref, model.digest)
        folder = await shelf.empty_folder(model.ref)
        shelf.keep(model, folder, DrawnPlans())
        with pytest.raises(PlanNotPrepared):
            await shelf.picture(model.ref, "another digest")
        await shelf.empty_folder(model.ref)
        with pytest.raises(PlanNotPrepared):
            await shelf.plans(model.ref, model.digest)
        assert folder is not None
        assert not folder.exists()

    asyncio.run(ask())


@pytest.mark.parametrize("folder", ["none", "a file"])
def test_a_version_is_prepared_although_no_picture_can_be_kept(
    model: VersionSpec, tmp_path: Path, folder: str
) -> None:
    """A full disk costs the picture, with the reason, and never the version."""
    place = tmp_path / "occupied"
    place.write_text("")

    class Full(PlanShelf):
        async def empty_folder(self, ref: object) -> Path | None:
            return place if folder == "a file" else None

    shelf = Full(tmp_path / "shelf")

    async def ask() -> None:
        await prepare_apart(model, plans=shelf)
        with pytest.raises(PlanPictureMissing) as caught:
            await shelf.picture(model.ref, model.digest)
        assert caught.value.stage == "classifier@1"
        assert str(tmp_path) not in caught.value.message
        assert (await shelf.plans(model.ref, model.digest))["plans"] == []

    asyncio.run(asyncio.wait_for(ask(), 60))


def test_a_drawing_that_dies_leaves_the_version_prepared(
    model: VersionSpec, shelf: PlanShelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault of ours in the picture is not one of the version."""
    shim = tmp_path / "python"
    shim.write_text(
        "#!/bin/sh\ncat > /dev/null\necho 'a library says hello'\necho '{\"prepared\": true}'\nkill -9 $$\n"
    )
    shim.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(shim))

    async def ask() -> None:
        await prepare_apart(model, plans=shelf)
        with pytest.raises(PlanPictureMissing, match="could not be drawn"):
            await shelf.picture(model.ref, model.digest)

    asyncio.run(asyncio.wait_for(ask(), 60))


def test_a_compilation_that_dies_is_a_failure_with_its_exit_code(
    model: VersionSpec, shelf: PlanShelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shim = tmp_path / "python"
    shim.write_text("#!/bin/sh\ncat > /dev/null\nkill -9 $$\n")
    shim.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(shim))

    async def ask() -> None:
        with pytest.raises(PreparationFailed, match="exit -9"):
            await prepare_apart(model, plans=shelf)
        with pytest.raises(PlanNotPrepared):
            await shelf.plans(model.ref, model.digest)

    asyncio.run(asyncio.wait_for(ask(), 60))


def test_a_picture_that_was_removed_is_said_to_be_gone(model: VersionSpec, shelf: PlanShelf) -> None:
    async def ask() -> None:
        await prepare_apart(model, plans=shelf)
        first = await shelf.picture(model.ref, model.digest)
        assert buffers_of(first.svg) >= {"x", "z"}
        kept = shelf._kept[model.ref].folder
        assert kept is not None
        (kept / "0.svg").unlink()
        with pytest.raises(PlanPictureMissing, match="no such file"):
            await shelf.picture(model.ref, model.digest)

    asyncio.run(asyncio.wait_for(ask(), 60))
