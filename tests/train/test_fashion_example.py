"""The truly sparse network that is shipped is what its recipe and metrics say, and runs."""

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx")

import onnx

from trencadis_bench.verify.verify import reference_outputs
from trencadis_boards import load_board
from trencadis_compiler.compile import Compiled, compile_model
from trencadis_host.session import Session
from trencadis_train.recipe import load_recipe, parse_recipe

FOLDER = Path(__file__).parents[2] / "examples/fashion"
MODEL = FOLDER / "small.onnx"
METRICS = json.loads((FOLDER / "metrics.json").read_text())
INPUTS = 784


@pytest.fixture(scope="module")
def compiled() -> Compiled:
    """Pictures have no zeros, so all pixels count as such in the format of sparse inputs."""
    return compile_model(MODEL, load_board("sim"), input_nonzeros=INPUTS)


def test_it_is_that_of_its_recipe_and_good_enough() -> None:
    made_by = parse_recipe(METRICS["recipe"])
    assert load_recipe(FOLDER / "small.toml", [f"seed={made_by.seed}"]) == made_by
    assert METRICS["accuracy"]["int8"]["test"] >= 0.87


def test_its_weights_are_sparse_in_the_file() -> None:
    graph = onnx.load(MODEL).graph
    sizes = [sparse.values.dims[0] for sparse in graph.sparse_initializer]
    assert sizes == [layer["nonzeros"] for layer in METRICS["layers"]]
    assert max(np.prod(dense.dims, dtype=int) for dense in graph.initializer) <= 256


def test_it_packs_without_a_gap(compiled: Compiled) -> None:
    report = compiled.overlay.report
    assert report["nonzero_weights"] == METRICS["nonzeros"]
    for found, trained in zip(report["layers"][:-1], METRICS["layers"][:-1], strict=True):
        assert found["nonzeros"] == trained["nonzeros"]
        assert found["packing_efficiency"] > 0.9


@pytest.mark.parametrize("device", ["emulator", pytest.param("sim", marks=pytest.mark.rtl)])
def test_devices_compute_it_exactly(
    compiled: Compiled, device: str, tmp_path: Path, build_dir: Path
) -> None:
    image = tmp_path / "small.tcd"
    compiled.save(image)
    rng = np.random.default_rng(4)
    x = rng.integers(0, 256, (4 if device == "sim" else 40, 1, 28, 28)).astype(np.float32)
    expected = reference_outputs(MODEL, compiled.overlay, x)
    with Session(image, device, build_dir=build_dir) as session:
        (outputs,) = session.run(None, {session.get_inputs()[0].name: x})
    assert np.array_equal(outputs, expected)
    assert len(np.unique(expected)) > 10
