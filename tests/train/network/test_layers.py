import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from torch import nn

from trencadis_train.errors import TrainingError
from trencadis_train.network.layers import (
    PooledBatchNorm1d,
    PooledBatchNorm2d,
    SparseConv2d,
    SparseLinear,
)
from trencadis_train.sparsity.masks import complementary_mask, consecutive_sets

RNG = np.random.default_rng(2)


def _linear() -> SparseLinear:
    torch.manual_seed(1)
    mask = complementary_mask(4, 6, 2, rng=np.random.default_rng(2))
    return SparseLinear(6, 4, mask=mask, sets=consecutive_sets(4, 2))


def test_computes_with_masked_weights() -> None:
    layer = _linear()
    x = torch.randn(3, 6)
    with torch.no_grad():
        layer.weight.fill_(2.0)
    expected = x @ (2.0 * layer.mask.float()).T
    assert torch.equal(layer(x), expected)
    assert layer.nonzeros == 12
    assert torch.equal(layer.masked_weight() != 0, layer.mask)


def test_convolves_like_a_dense_layer_of_masked_weights() -> None:
    mask = complementary_mask(4, 2 * 9, 2, rng=RNG)
    layer = SparseConv2d(2, 4, 3, mask=mask, sets=consecutive_sets(4, 2), padding=1, stride=2)
    dense = nn.Conv2d(2, 4, 3, padding=1, stride=2)
    with torch.no_grad():
        dense.weight.copy_(layer.weight * torch.from_numpy(mask.reshape(4, 2, 3, 3)))
        assert dense.bias is not None
        dense.bias.zero_()
    x = torch.randn(2, 2, 7, 7)
    assert torch.equal(layer(x), dense(x))


def test_only_weights_under_the_mask_get_gradients() -> None:
    layer = _linear()
    layer(torch.randn(5, 6)).square().sum().backward()
    assert layer.weight.grad is not None
    assert torch.equal(layer.weight.grad != 0, layer.mask)


def test_weights_start_as_large_as_the_inputs_that_are_left_want() -> None:
    mask = complementary_mask(400, 1000, 10, rng=RNG)
    layer = SparseLinear(1000, 400, mask=mask)
    spread = layer.weight[layer.mask].std().item()
    assert spread == pytest.approx((2 / 100) ** 0.5, rel=0.02)


def test_a_new_mask_forgets_weights_outside_it() -> None:
    layer = _linear()
    mask = np.zeros((4, 6), bool)
    mask[:, 0] = True
    layer.set_mask(mask)
    assert torch.equal(layer.weight != 0, layer.mask & torch.from_numpy(mask))
    assert np.array_equal(layer.mask_array(), mask)
    assert layer.sets_array().tolist() == [0, 1, 2, 3]


def test_refuses_masks_and_sets_of_other_shapes() -> None:
    layer = _linear()
    with pytest.raises(TrainingError, match=r"mask must have shape \[4, 6\], not \[6, 4\]"):
        layer.set_mask(np.ones((6, 4), bool))
    with pytest.raises(TrainingError, match=r"sets must be one per kernel, 4, not \[3\]"):
        layer.set_mask(np.ones((4, 6), bool), np.zeros(3, np.int64))


def test_masks_are_part_of_the_state() -> None:
    layer, other = _linear(), SparseLinear(6, 4)
    other.load_state_dict(layer.state_dict())
    x = torch.randn(2, 6)
    assert torch.equal(layer(x), other(x))
    assert other.sets_array().tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize(
    ("pooled", "plain", "shape"),
    [
        (PooledBatchNorm1d, nn.BatchNorm1d, (16, 3)),
        (PooledBatchNorm2d, nn.BatchNorm2d, (8, 3, 4, 4)),
    ],
)
def test_pooled_batch_norm_never_turns_a_channel_upside_down(
    pooled: type[nn.Module], plain: type[nn.Module], shape: tuple[int, ...]
) -> None:
    ours, theirs = pooled(3), plain(3)
    signed = torch.tensor([1.5, -0.5, 2.0])
    ours.load_state_dict({**ours.state_dict(), "weight": signed})
    theirs.load_state_dict({**theirs.state_dict(), "weight": signed.abs()})
    torch.manual_seed(0)
    for training in (True, False):
        ours.train(training)
        theirs.train(training)
        x = torch.randn(shape) * 3 + 1
        assert torch.equal(ours(x), theirs(x))
    assert ours.state_dict()["num_batches_tracked"] == 1


@pytest.mark.parametrize("momentum", [None, 0.3])
def test_pooled_batch_norm_keeps_the_statistics_of_batch_norm(momentum: float | None) -> None:
    ours, theirs = PooledBatchNorm1d(3, momentum=momentum), nn.BatchNorm1d(3, momentum=momentum)
    x = torch.randn(8, 3) * 2 + 5
    for _ in range(4):
        x = x * 1.5
        assert torch.equal(ours(x), theirs(x))
    assert ours.running_mean is not None
    assert theirs.running_mean is not None
    assert torch.equal(ours.running_mean, theirs.running_mean)
    assert torch.equal(ours.eval()(x), theirs.eval()(x))
