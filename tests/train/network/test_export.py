from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("torch")

import onnx
import torch

from trencadis_bench.verify.verify import reference_outputs
from trencadis_boards import load_board
from trencadis_compiler.compile import Compiled, compile_model
from trencadis_compiler.ir.occupancy import Occupancy
from trencadis_compiler.packing.tiles import pack
from trencadis_host.session import Session
from trencadis_train.data.labelled import Splits
from trencadis_train.network.export import export_onnx, run_onnx, to_onnx
from trencadis_train.network.integers import ByteScale
from trencadis_train.training.finished import Finished

Floats = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def model(trained: Finished, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("export") / "tiny.onnx"
    export_onnx(trained.network, path)
    return path


@pytest.fixture(scope="module")
def compiled(model: Path) -> Compiled:
    return compile_model(model, load_board("sim"))


def _words(splits: Splits) -> Floats:
    """All pictures of the test part, and noise, which reaches values that pictures do not."""
    noise = np.random.default_rng(9).integers(0, 256, (100, 12, 12))
    words = np.concatenate([splits.test.images, noise])
    return words[:, None].astype(np.float32)


def test_torch_exact_arithmetic_and_emulator_agree_bit_for_bit(
    trained: Finished, model: Path, compiled: Compiled, quadrants: Splits, tmp_path: Path
) -> None:
    words = _words(quadrants)
    image = tmp_path / "tiny.tcd"
    compiled.save(image)
    expected = reference_outputs(model, compiled.overlay, words)
    assert len(np.unique(expected)) > 20
    assert np.array_equal(trained.network(torch.from_numpy(words)).numpy(), expected)
    with Session(image, "emulator") as session:
        (emulated,) = session.run(None, {session.get_inputs()[0].name: words})
    assert np.array_equal(emulated, expected)


def test_onnxruntime_agrees_but_for_ties(trained: Finished, model: Path, quadrants: Splits) -> None:
    words = _words(quadrants)
    ours = trained.network(torch.from_numpy(words)).numpy()
    theirs = run_onnx(model, words)
    differing = np.any(ours != theirs, axis=1)
    # A product of float32 scales that lies on a tie may round either way; it hardly ever does.
    assert differing.mean() <= 0.02
    same = ours[~differing].argmax(axis=1) == theirs[~differing].argmax(axis=1)
    assert same.all()


def test_tiles_have_nothing_left_over(trained: Finished) -> None:
    summary = trained.summary["layers"]
    for layer, size, ways in zip(trained.network.layers, summary, [2, 4, 4, 1], strict=True):
        occupied = (layer.weights != 0).reshape(len(layer.weights), -1)
        packing = pack(Occupancy.of(occupied), 16)
        assert packing.depth == 1
        assert len(packing.tiles) == len(occupied) // ways
        # Rounding to 8 bits makes a few weights zero, but masks deal out all rows.
        assert size["in_mask"] == len(packing.tiles) * occupied.shape[1]


def test_the_schedule_does_not_depend_on_the_data(compiled: Compiled) -> None:
    assert all(placed.plan.static for placed in compiled.placement.layers)


def test_the_same_network_gives_the_same_file(trained: Finished) -> None:
    first, second = (
        to_onnx(trained.network).SerializeToString(deterministic=True) for _ in range(2)
    )
    assert first == second


def test_winners_are_topk_and_scatter(trained: Finished) -> None:
    graph = to_onnx(trained.network).graph
    types = [node.op_type for node in graph.node]
    assert types.count("TopK") == types.count("ScatterElements") == 3
    numbers = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    found = [int(numbers[node.input[1]][0]) for node in graph.node if node.op_type == "TopK"]
    assert found == [2, 2, 4]
    assert graph.input[0].name == "input"
    assert graph.output[0].name == "logits"


def test_batches_are_open(model: Path, trained: Finished) -> None:
    words = np.zeros((3, 1, 12, 12), np.float32)
    outputs = run_onnx(model, words)
    assert outputs.shape == (3, 4)
    assert np.array_equal(run_onnx(to_onnx(trained.network), words), outputs)


def test_bytes_as_they_are_give_what_scaled_bytes_gave(
    trained: Finished, quadrants: Splits
) -> None:
    first = trained.network.layers[0]
    assert (first.input.scale, first.input.zero_point) == (1, 0)
    scale = np.float32(0.25)  # a power of two, so that nothing is rounded
    scaled = replace(first, input=ByteScale(scale, 0), weight_scale=first.weight_scale / scale)
    network = replace(trained.network, layers=(scaled, *trained.network.layers[1:]))
    words = torch.from_numpy(_words(quadrants))
    expected = network(words * float(scale))
    assert torch.equal(expected, trained.network(words))
    assert torch.equal(network.taking_bytes()(words), expected)
    assert not torch.equal(network(words), expected)
