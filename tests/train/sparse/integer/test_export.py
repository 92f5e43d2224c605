from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import onnx
import onnx.numpy_helper

from trencadis_format.onnxruntime_door import Mode, open_session
from trencadis_train.data.labelled import Splits
from trencadis_train.errors import TrainingError
from trencadis_train.recipe import Recipe
from trencadis_train.sparse.integer.export import sparse_to_onnx
from trencadis_train.sparse.integer.integers import SparseIntegerLayer, SparseIntegers
from trencadis_train.sparse.integer.quantise import ByteGrid
from trencadis_train.sparse.topologies.topology import Topology, draw_topology
from trencadis_train.sparse.trainer import SparseTrainer

MakeSparse = Callable[..., Recipe]


@pytest.mark.parametrize("activation", ["all-relu", "relu"])
@pytest.mark.parametrize("dense", [False, True])
def test_onnxruntime_computes_the_same(
    make_sparse: MakeSparse, quadrants: Splits, activation: str, dense: bool
) -> None:
    layers = [
        {"kind": "linear", "units": 24},
        {"kind": "linear", "units": 16, "winners": 5},
        {"kind": "linear", "units": 4},
    ]
    recipe = make_sparse(sparse={"activation": activation}, layer=layers, training={"epochs": 2})
    network = SparseTrainer(recipe, quadrants).run().network
    found = _run(sparse_to_onnx(network, dense=dense), quadrants.test.images)
    expected = network(quadrants.test.images)
    step = network.layers[-1].output.scale
    # onnxruntime adds up in float32: near a rounding boundary a byte may be another, and one of a
    # hidden layer may change outputs by some steps.
    assert np.abs(found - expected).max() <= 3.01 * step
    assert (found == expected).mean() > 0.99


def test_weights_are_written_as_coordinates(make_sparse: MakeSparse, quadrants: Splits) -> None:
    network = SparseTrainer(make_sparse(training={"epochs": 1}), quadrants).run().network
    graph = sparse_to_onnx(network).graph
    names = [tensor.values.name for tensor in graph.sparse_initializer]
    assert names == ["layer0.weight", "layer1.weight", "layer2.weight"]
    for tensor, layer in zip(graph.sparse_initializer, network.layers, strict=True):
        topology = layer.topology
        assert list(tensor.dims) == [topology.outputs, topology.inputs]
        assert (onnx.numpy_helper.to_array(tensor.indices) == topology.keys()).all()
        assert (onnx.numpy_helper.to_array(tensor.values) == layer.weights).all()
        assert layer.weights.all()


def test_a_layer_of_ten_thousand_million_places_is_a_small_file() -> None:
    model = sparse_to_onnx(_large(100_000, 1_000_000))
    assert model.ByteSize() < 11_000_000
    with pytest.raises(TrainingError, match="dense weights must have 268435456 bytes at most"):
        sparse_to_onnx(_large(100_000, 1_000), dense=True)


def test_files_have_a_largest_size() -> None:
    layer = _large(10, 10).layers[0]
    many = 1 << 28
    huge = Topology(1 << 14, 1 << 14, layer.topology.pointers, np.broadcast_to(np.int32(0), many))
    changed: Any = SparseIntegerLayer(**{**layer.__dict__, "topology": huge})
    with pytest.raises(TrainingError, match="connections need 9 each; prune the network"):
        sparse_to_onnx(SparseIntegers("huge", (1, 1, 1 << 14), (changed,)))


def _large(size: int, connections: int) -> SparseIntegers:
    topology = draw_topology(size, size, connections, np.random.default_rng(1))
    layer = SparseIntegerLayer(
        topology,
        np.ones(connections, np.int8),
        np.ones(size, np.float32),
        np.zeros(size, np.int32),
        np.ones(size, np.float32),
        1.0,
        0,
        ByteGrid(1.0, 0),
        ByteGrid(1.0, 0),
    )
    return SparseIntegers("large", (1, 1, size), (layer,))


def _run(model: Any, images: Any) -> Any:
    session = open_session(model.SerializeToString(), Mode.PLAIN)
    return session.run(None, {"input": images[:, None].astype(np.float32)})[0]
