"""A network with a sparse input, from the model to results on devices."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest

from trencadis_boards import load_board
from trencadis_compiler.compile import compile_model
from trencadis_format.compiled import load_overlay
from trencadis_format.errors import InputError
from trencadis_host import Session
from trencadis_host.measure.benchmark import measure, random_inputs

NONZEROS = 9


@pytest.fixture(scope="module")
def images(
    tmp_path_factory: pytest.TempPathFactory, linear_model: Callable[..., onnx.ModelProto]
) -> dict[str, Path]:
    """A layer of 300 inputs and 20 outputs, compiled for a dense and for a sparse input."""
    rng = np.random.default_rng(3)
    weights = rng.integers(-50, 50, (20, 300)).astype(np.int8)
    weights[rng.random(weights.shape) < 0.8] = 0
    folder = tmp_path_factory.mktemp("events")
    onnx.save(linear_model(weights, zero=-5), folder / "x.onnx")
    board = load_board("sim")
    for name, nonzeros in (("dense", None), ("sparse", NONZEROS)):
        compiled = compile_model(folder / "x.onnx", board, input_nonzeros=nonzeros)
        compiled.save(folder / f"{name}.tcd")
    return {name: folder / f"{name}.tcd" for name in ("dense", "sparse")}


def events(samples: int) -> npt.NDArray[np.float32]:
    """Vectors of which 0 to 9 of 300 numbers are not zero."""
    rng = np.random.default_rng(samples)
    x = np.zeros((samples, 300), np.float32)
    for row in x:
        chosen = rng.permutation(300)[: rng.integers(0, NONZEROS + 1)]
        row[chosen] = rng.normal(0, 3, len(chosen))
    return x


@pytest.mark.parametrize("device", ["emulator", pytest.param("sim", marks=pytest.mark.rtl)])
def test_outputs_are_those_of_the_dense_input(
    images: dict[str, Path], device: str, build_dir: Path
) -> None:
    x = events(25)
    with Session(images["dense"]) as session:
        (expected,) = session.run(None, {"x": x})
    with Session(images["sparse"], device, build_dir=build_dir) as session:
        (outputs,) = session.run(None, {"x": x})
        (first,) = session.run(None, {"x": x[:1]})
    assert np.array_equal(outputs, expected)
    assert np.array_equal(first, expected[:1])
    assert len(np.unique(expected)) > 20


def test_samples_and_cycles_are_fewer(images: dict[str, Path]) -> None:
    dense, sparse = (load_overlay(images[name]) for name in ("dense", "sparse"))
    assert (dense.input_bytes, sparse.input_bytes) == (304, 40)
    cycles = [overlay.report["cycles_per_word"] for overlay in (dense, sparse)]
    assert cycles[1] < cycles[0] / 5


def test_too_many_numbers(images: dict[str, Path]) -> None:
    x = events(4)
    x[2, : NONZEROS + 1] = 1
    with (
        Session(images["sparse"]) as session,
        pytest.raises(InputError, match=r"input 'x' may have 9 values .* sample 2 has 1. at row 0"),
    ):
        session.run(None, {"x": x})


def test_benchmarks_have_inputs_for_it(images: dict[str, Path]) -> None:
    with Session(images["sparse"]) as session:
        x = random_inputs(session, 30)
        keys = session.overlay.input.keys(x)
        assert set(np.count_nonzero(keys != session.overlay.input.zero_key, axis=3).ravel()) <= {
            NONZEROS - 1,  # a random value may be zero
            NONZEROS,
        }
        assert measure(session, None, samples=8, runs=1)["words"] == 8
