import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from torch import nn

from trencadis_train.errors import TrainingError
from trencadis_train.network.k_winners import KWinners, KWinners2d
from trencadis_train.network.kernels import MaxPool2d
from trencadis_train.network.layers import PooledBatchNorm2d, SparseConv2d, SparseLinear
from trencadis_train.network.network import build_network
from trencadis_train.recipe import LayerRecipe
from trencadis_train.sparsity.masks import count_collisions

CONV = LayerRecipe(kind="conv", units=8, window=3, ways=4, pool=2, winners=2, padding=1)
LINEAR = LayerRecipe(kind="linear", units=16, ways=8, winners=3, dropout=0.2)
LAST = LayerRecipe(kind="linear", units=4)


def test_builds_what_the_recipe_says() -> None:
    network = build_network([CONV, LINEAR, LAST], (2, 8, 8), 4, seed=1)
    assert [type(module) for module in network] == [
        SparseConv2d,
        MaxPool2d,
        PooledBatchNorm2d,
        nn.ReLU,
        KWinners2d,
        nn.Flatten,
        SparseLinear,
        type(network[7]),
        nn.ReLU,
        KWinners,
        nn.Dropout,
        SparseLinear,
    ]
    assert network(torch.rand(3, 2, 8, 8)).shape == (3, 4)
    winners = network[4]
    assert isinstance(winners, KWinners2d)
    assert (winners.k, winners.units) == (2, 8)


def test_masks_are_complementary_full_and_of_the_seed() -> None:
    first, again, other = (
        build_network([CONV, LINEAR, LAST], (2, 8, 8), 4, seed=seed) for seed in (1, 1, 2)
    )
    for index in (0, 6):
        layer = first[index]
        assert isinstance(layer, (SparseConv2d, SparseLinear))
        mask = layer.mask_array()
        assert count_collisions(mask, layer.sets_array()) == 0
        assert mask.sum() == mask.size // (4 if index == 0 else 8)
        assert torch.equal(layer.mask, again[index].get_buffer("mask"))
        assert not torch.equal(layer.mask, other[index].get_buffer("mask"))


def test_other_masks() -> None:
    layers = [
        LayerRecipe(kind="conv", units=8, window=3, mask="n:m", n=1, m=9),
        LayerRecipe(kind="linear", units=6, mask="unstructured", nonzeros=5),
        LayerRecipe(kind="linear", units=6, mask="unstructured"),
    ]
    network = build_network(layers, (2, 5, 5), 6, seed=1)
    masked = [module for module in network if isinstance(module, (SparseConv2d, SparseLinear))]
    groups = masked[0].mask_array().reshape(8, 2, 9).sum(axis=2)
    assert np.array_equal(groups, np.ones((8, 2)))
    assert masked[1].mask_array().sum(axis=1).tolist() == [5] * 6
    assert masked[2].nonzeros == 36


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (
            [CONV, LayerRecipe(kind="linear", units=8, ways=8, nonzeros=40), LAST],
            r"layer 1: nonzeros must be in 1..16",
        ),
        (
            [LayerRecipe(kind="conv", units=8, window=5, pool=8), LAST],
            "layer 0: its window of 5 and pooling of 8 leave nothing of its input",
        ),
        ([LayerRecipe(kind="conv", units=8, mask="n:m", n=2, m=7), LAST], "layer 0: m must divide"),
        (
            [CONV, LayerRecipe(kind="linear", units=3)],
            "layer 1: the last layer must have a unit for each of the 4 classes, not 3",
        ),
        (
            [LayerRecipe(kind="conv", units=4, window=3)],
            "layer 0: the last layer must be linear, not conv",
        ),
    ],
)
def test_names_the_layer_that_cannot_be_built(layers: list[LayerRecipe], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        build_network(layers, (2, 8, 8), 4, seed=1)
