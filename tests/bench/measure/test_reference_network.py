"""The reference network: parameters of the published size, and kernels that do not collide."""

import numpy as np
import onnx
import pytest

from trencadis_bench.measure.reference_network import (
    LAYERS,
    Kind,
    ReferenceLayer,
    reference_model,
    reference_weights,
)
from trencadis_format.onnxruntime_door import Mode, open_session

DENSE_PARAMETERS = 2_522_128
NONZERO_PARAMETERS = 127_696


@pytest.mark.parametrize(
    ("kind", "parameters"),
    [
        (Kind.DENSE, DENSE_PARAMETERS),
        (Kind.SPARSE_DENSE, NONZERO_PARAMETERS),
        (Kind.SPARSE_SPARSE, NONZERO_PARAMETERS),
    ],
)
def test_parameters_are_as_many_as_published(kind: Kind, parameters: int) -> None:
    rng = np.random.default_rng(3)
    weights = sum(np.count_nonzero(reference_weights(layer, kind, rng)) for layer in LAYERS)
    biases = sum(layer.shape[0] for layer in LAYERS if len(layer.shape) == 4)
    assert weights + biases == parameters


@pytest.mark.parametrize("layer", LAYERS[:3], ids=lambda layer: layer.name)
def test_kernels_fall_into_sets_that_do_not_collide(layer: ReferenceLayer) -> None:
    weights = reference_weights(layer, Kind.SPARSE_DENSE, np.random.default_rng(3))
    occupied = (weights != 0).reshape(len(weights), -1)
    assert (occupied.sum(axis=1) == layer.nonzeros).all()
    collide = occupied.astype(int) @ occupied.T.astype(int) > 0
    # Kernels collide with no other kernel of their set, and sets are random: no neighbours.
    assert not collide.all(axis=1).any()
    assert collide[np.arange(0, len(weights), 2), np.arange(1, len(weights), 2)].any()


@pytest.mark.parametrize("kind", list(Kind), ids=lambda kind: kind.value)
def test_model_has_winners_only_with_both_sparsities(kind: Kind) -> None:
    model = reference_model(kind, seed=1)
    operators = [node.op_type for node in model.graph.node]
    assert operators.count("TopK") == (3 if kind is Kind.SPARSE_SPARSE else 0)
    assert operators.count("Conv") == operators.count("Gemm") == 2


@pytest.mark.parametrize("kind", [Kind.DENSE, Kind.SPARSE_DENSE], ids=lambda kind: kind.value)
def test_no_activation_is_zero_without_winners(kind: Kind) -> None:
    model = reference_model(kind, seed=1)
    hidden = [node.output[0] for node in model.graph.node if node.name.endswith(".bytes")][1:]
    assert len(hidden) == 3
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in hidden)
    session = open_session(model.SerializeToString(), Mode.PLAIN)
    images = np.random.default_rng(1).integers(0, 256, (2, 1, 32, 32)).astype(np.float32)
    for activations in map(np.asarray, session.run(hidden, {"input": images})):
        assert (activations > 0).all()
        assert len(np.unique(activations)) > 50


def test_the_seed_decides_the_weights() -> None:
    def weights(seed: int) -> bytes:
        rng = np.random.default_rng(seed)
        return reference_weights(LAYERS[0], Kind.SPARSE_SPARSE, rng).tobytes()

    assert weights(1) == weights(1)
    assert weights(1) != weights(2)
