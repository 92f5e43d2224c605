"""Builds with a network in them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trencadis_boards import Board, load_board
from trencadis_compiler.compile import compile_model
from trencadis_flows.amd.vitis import plan_vitis
from trencadis_flows.amd.zynq import plan_zynq
from trencadis_flows.build import Choices, make_plan
from trencadis_flows.lattice.ecp5 import CONTENTS, PATTERN
from trencadis_flows.plan import PlanError
from trencadis_flows.run import run_steps, write_files
from trencadis_format.compiled import load_overlay

MODEL = Path("examples/digits/digits.onnx")
Boards = Callable[[str], Board]
Vendor = Any


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits network, compiled for the ULX3S."""
    path = tmp_path_factory.mktemp("model") / "digits.tcd"
    compile_model(MODEL, load_board("ulx3s")).save(path)
    return path


def test_memory_of_the_ulx3s_begins_with_the_image(model: Path) -> None:
    plan = make_plan(load_board("ulx3s"), Choices(model=model))
    image = load_overlay(model).image
    beats = str(plan.files[CONTENTS]).split()
    memory = b"".join(bytes.fromhex(beat)[::-1] for beat in beats)
    assert memory == image.ljust(128 * 1024, b"\0")
    # The network is no part of what is synthesised and routed.
    assert f'$readmemh("{PATTERN}", contents);' in str(plan.files["rtl/trencadis_serial.v"])
    users = [step.name for step in plan.steps if CONTENTS in step.inputs]
    assert users == ["memory"]
    plain = make_plan(load_board("ulx3s"), Choices())
    changed = {name for name in plan.files if plan.files[name] != plain.files[name]}
    assert changed == {CONTENTS, "manifest.json"}


def test_model_for_another_kernel_is_refused(model: Path) -> None:
    with pytest.raises(PlanError, match=r"digits\.tcd: is compiled for another kernel than .*u250"):
        make_plan(load_board("u250"), Choices(model=model))


def test_card_carries_the_model(model: Path, board: Boards, vendor: Vendor, tmp_path: Path) -> None:
    u250 = board("u250")
    content = model.read_bytes()
    plan = plan_vitis(u250, platform="p", model=load_overlay(model), model_file=content)
    write_files(plan, tmp_path / "out")
    run_steps(plan, tmp_path / "out", "again")
    assert (tmp_path / "out" / "trencadis.hw.xclbin").read_bytes() == b"linked\n" + content
    assert "USER_METADATA:RAW:model.tcd" in plan.steps[-1].arguments


def test_zynq_has_the_model_beside_it(model: Path, board: Boards) -> None:
    zu3eg = board("zu3eg")
    content = model.read_bytes()
    plan = plan_zynq(zu3eg, model=load_overlay(model), model_file=content)
    assert plan.files["model.tcd"] == content
    assert "model.tcd" in plan.results
