import numpy as np
import pytest

from trencadis_train.errors import TrainingError
from trencadis_train.sparsity.masks import count_collisions, largest_mask

pytest.importorskip("torch")

import torch
from torch import nn

from trencadis_train.network.fuse import split_stages
from trencadis_train.network.layers import SparseConv2d, SparseLayer, SparseLinear
from trencadis_train.network.sparsify import LayerBudget, choose_ways, sparsify


@pytest.fixture
def dense():
    torch.manual_seed(4)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 12, (3, 2), stride=2, bias=False),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(48, 20),
        nn.ReLU(),
        nn.Linear(20, 5),
    ).eval()


BUDGETS = {
    "0": LayerBudget(ways=2),
    "4": LayerBudget(mask="n:m", n=1, m=4),
    "7": LayerBudget(ways=5, nonzeros=9),
    "9": LayerBudget(mask="unstructured", nonzeros=6),
}


def test_layers_become_sparse_to_their_budgets(dense):
    before = {name: tensor.clone() for name, tensor in dense.state_dict().items()}
    model, report = sparsify(dense, BUDGETS)
    assert [(layer.name, layer.weights, layer.nonzeros) for layer in report] == [
        ("0", 72, 36),
        ("4", 576, 144),
        ("7", 960, 180),
        ("9", 100, 30),
    ]
    layers = {name: module for name, module in model.named_modules() if name in BUDGETS}
    for line in report:
        layer = layers[line.name]
        assert isinstance(layer, SparseLayer)
        old = before[f"{line.name}.weight"]
        assert (layer.masked_weight() == old * layer.mask).all()
        assert layer.nonzeros == line.nonzeros
        assert line.kept == pytest.approx(float((old * layer.mask).abs().sum() / old.abs().sum()))
        assert count_collisions(layer.mask_array(), layer.sets_array()) == line.collisions == 0
    assert (layers["0"].bias == before["0.bias"]).all()
    assert layers["4"].bias is None
    assert all((dense.state_dict()[name] == tensor).all() for name, tensor in before.items())
    assert not model[0].training
    assert len(split_stages(model)) == 4


def test_a_sparse_model_computes_with_the_weights_that_are_left(dense):
    model, _ = sparsify(dense, BUDGETS)
    with torch.no_grad():
        for name in BUDGETS:
            dense.get_submodule(name).weight.mul_(model.get_submodule(name).mask)
        x = torch.rand(3, 1, 10, 10)
        # A convolution of one channel adds up in another order.
        assert torch.allclose(model(x), dense(x), rtol=0, atol=1e-6)


def test_layers_are_tuned_in_order_once_they_are_masked(dense):
    seen = []

    def tune(model, name):
        kinds = [isinstance(model.get_submodule(name), SparseLayer) for name in BUDGETS]
        seen.append((name, sum(kinds)))
        with torch.no_grad():
            model.get_submodule("9").weight.fill_(float(name))

    model, _ = sparsify(dense, dict(reversed(BUDGETS.items())), tune=tune)
    assert seen == [("0", 1), ("4", 2), ("7", 3), ("9", 4)]
    assert set(model[9].weight.unique().tolist()) == {9.0}


def test_a_pruned_layer_moves_to_complementary_masks(dense):
    pruned, _ = sparsify(dense, {"7": LayerBudget(mask="unstructured", nonzeros=12)})
    moved, (line,) = sparsify(pruned, {"7": LayerBudget(ways=4)})
    layer = moved.get_submodule("7")
    assert isinstance(layer, SparseLinear)
    assert count_collisions(layer.mask_array(), layer.sets_array()) == 0
    assert layer.nonzeros == 240
    # What was pruned is worth nothing, so that what is kept is mostly what was left.
    assert line.kept > 0.7
    old = pruned.get_submodule("7")
    assert isinstance(old, SparseLinear)
    assert (layer.masked_weight() == old.masked_weight() * layer.mask).all()


def test_a_layer_on_its_own_becomes_sparse():
    layer = nn.Linear(8, 4).double()
    model, _ = sparsify(layer, {"": LayerBudget(ways=2)})
    assert isinstance(model, SparseLinear)
    assert model.weight.dtype == torch.float64
    assert model.mask.dtype == torch.bool
    assert isinstance(layer, nn.Linear)


def test_convolutions_keep_their_shape():
    layer = nn.Conv2d(2, 4, (3, 2), stride=(2, 1), padding=(1, 0))
    model, _ = sparsify(nn.Sequential(layer), {"0": LayerBudget(ways=1)})
    assert isinstance(model[0], SparseConv2d)
    x = torch.rand(2, 2, 9, 9)
    assert torch.equal(model(x), layer(x))


@pytest.mark.parametrize(
    ("budgets", "message"),
    [
        ({"3": LayerBudget()}, "no convolution or linear layer '3'; it has 0, 4, 7, 9"),
        ({"0": LayerBudget(ways=3)}, "layer '0': ways must divide the 8 kernels"),
        ({"9": LayerBudget(mask="n:m", n=1, m=3)}, "layer '9': m must divide the 20 weights"),
        ({"9": LayerBudget(mask="unstructured")}, r"layer '9': nonzeros must be in 1\.\.20"),
    ],
)
def test_impossible_budgets_are_refused(dense, budgets, message):
    with pytest.raises(TrainingError, match=message):
        sparsify(dense, budgets)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (nn.Conv2d(4, 4, 3, groups=2), "a masked convolution has one group"),
        (nn.Conv2d(4, 4, 3, dilation=2), "a masked convolution has one group, no dilation"),
        (nn.Conv2d(4, 4, 3, padding="same"), "padding must be numbers, not 'same'"),
        (nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"), "zeros as padding"),
    ],
)
def test_other_convolutions_are_refused(layer, message):
    with pytest.raises(TrainingError, match=f"layer '0': .*{message}"):
        sparsify(nn.Sequential(layer), {"0": LayerBudget(ways=2)})


@pytest.mark.parametrize("density", [1.0, 0.5, 0.2, 0.1])
def test_ways_bring_a_model_to_a_density(dense, density):
    budgets = choose_ways(dense, density)
    _, report = sparsify(dense, budgets)
    sizes = {n: m.weight.numel() for n, m in dense.named_modules() if n in BUDGETS}
    left = sum(sizes.values()) - sum(line.weights - line.nonzeros for line in report)
    assert left <= density * sum(sizes.values())
    assert bool(budgets) == (density < 1)


def test_layers_can_stay_dense_and_the_least_needed_go_first(dense):
    with torch.no_grad():
        dense[7].weight[:, 10:] = 0  # most of it is worth nothing
    assert "9" not in choose_ways(dense, 0.2, keep=("9",))
    assert list(choose_ways(dense, 0.8)) == ["7"]


def test_impossible_densities_are_refused(dense):
    with pytest.raises(TrainingError, match="density must be over 0 and at most 1, not 0"):
        choose_ways(dense, 0)
    with pytest.raises(TrainingError, match=r"density must be at least 0\.\d+, which sets of all"):
        choose_ways(dense, 0.01)


def test_masks_depend_on_the_largest_magnitudes(dense):
    model, _ = sparsify(dense, {"9": LayerBudget(mask="unstructured", nonzeros=3)})
    weights = dense[9].weight.detach().numpy()
    layer = model.get_submodule("9")
    assert isinstance(layer, SparseLinear)
    assert np.array_equal(layer.mask_array(), largest_mask(weights, 3))


def test_frozen_weights_stay_frozen(dense):
    for parameter in dense[7].parameters():
        parameter.requires_grad_(False)
    model, _ = sparsify(dense, {"7": LayerBudget(ways=5), "9": LayerBudget(ways=5)})
    assert [parameter.requires_grad for parameter in model[7].parameters()] == [False, False]
    assert [parameter.requires_grad for parameter in model[9].parameters()] == [True, True]


def test_a_layer_that_is_used_twice_stays_one():
    shared = nn.Linear(6, 6)
    model, report = sparsify(
        nn.Sequential(shared, nn.ReLU(), nn.Sequential(shared)), {"0": LayerBudget(ways=2)}
    )
    assert isinstance(model[0], SparseLinear)
    assert model.get_submodule("2.0") is model[0]
    assert len(report) == 1


def test_layers_to_keep_must_be_there(dense):
    with pytest.raises(TrainingError, match="no convolution or linear layer 'head'; it has 0, 4"):
        choose_ways(dense, 0.5, keep=("head",))
