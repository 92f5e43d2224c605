from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trencadis_train.errors import TrainingError
from trencadis_train.recipe import DynamicMasks, LayerRecipe
from trencadis_train.sparsity.masks import (
    complementary_mask,
    consecutive_sets,
    count_collisions,
    n_m_mask,
    random_mask,
)

torch = pytest.importorskip("torch")
dynamic = pytest.importorskip("trencadis_train.training.dynamic")
network = pytest.importorskip("trencadis_train.network.network")

LAYERS = (
    LayerRecipe(kind="conv", units=8, window=3, ways=2, pool=2, winners=3),
    LayerRecipe(kind="conv", units=8, window=3, mask="n:m", n=2, m=9),
    LayerRecipe(kind="linear", units=12, ways=4, nonzeros=6, winners=4),
    LayerRecipe(kind="linear", units=6, mask="unstructured", nonzeros=5),
    LayerRecipe(kind="linear", units=3),
)


@settings(deadline=None, max_examples=80)
@given(ways=st.integers(1, 6), sets=st.integers(1, 4), extra=st.integers(0, 30), data=st.data())
def test_sets_stay_complementary_and_counts_exact_at_every_step(ways, sets, extra, data):
    rows = ways + extra
    nonzeros = data.draw(st.none() | st.integers(1, rows // ways))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    numbers = consecutive_sets(ways * sets, ways)
    mask = complementary_mask(ways * sets, rows, ways, nonzeros=nonzeros, rng=rng)
    counts = mask.sum(axis=1)
    for _ in range(3):
        scores = rng.random(mask.shape) * (rng.random(mask.shape) < 0.7)
        fraction = data.draw(st.sampled_from([0.0, 0.2, 0.5, 1.0]))
        weights = rng.normal(size=mask.shape)
        after = dynamic.changed_mask(weights, scores, mask, numbers, fraction)
        assert count_collisions(after, numbers) == 0
        assert (after.sum(axis=1) == counts).all()
        # The strongest weights of every kernel stay.
        keep = counts - np.rint(fraction * counts)
        ranks = np.argsort(np.argsort(np.where(mask, -abs(weights), np.inf), axis=1), axis=1)
        assert after[ranks < keep[:, None]].all()
        mask = after


def test_a_set_that_covers_all_rows_swaps_them():
    mask = np.array([[1, 1, 0, 0], [0, 0, 1, 1]], bool)
    weights = np.array([[1, 9, 0, 0], [0, 0, 9, 1]], float)
    after = dynamic.changed_mask(weights, np.ones((2, 4)), mask, np.zeros(2, int), 0.5)
    assert after.tolist() == [[False, True, False, True], [True, False, True, False]]


def test_free_rows_go_where_scores_are_high():
    mask = np.zeros((2, 8), bool)
    mask[0, :2] = mask[1, 2:4] = True
    scores = np.zeros((2, 8))
    scores[0, 6], scores[1, 6], scores[1, 7] = 5, 9, 6
    weights = np.tile([3.0, 1.0], 4) * np.ones((2, 1))
    after = dynamic.changed_mask(weights, scores, mask, np.zeros(2, int), 0.5)
    # 5 + 6 is more than 9 + 0.
    assert np.flatnonzero(after[0]).tolist() == [0, 6]
    assert np.flatnonzero(after[1]).tolist() == [2, 7]


@pytest.mark.parametrize("sets", [np.zeros(2, int), np.arange(2)])
def test_what_was_dropped_comes_back_only_if_nothing_else_is_left(sets):
    mask = np.zeros((2, 6), bool)
    mask[0, :2] = mask[1, 2:4] = True
    scores = np.where(mask, 9.0, 0.0)
    after = dynamic.changed_mask(np.ones((2, 6)), scores, mask, sets, 1.0)
    assert not (after & mask).any()
    few = dynamic.changed_mask(np.ones((1, 2)), scores[:1, :2], mask[:1, :2], sets[:1], 1.0)
    assert few.all()


def test_unstructured_masks_grow_anywhere():
    rng = np.random.default_rng(0)
    mask = random_mask(20, 30, 6, rng=rng)
    alone = consecutive_sets(20, 1)
    scores = rng.random(mask.shape)
    after = dynamic.changed_mask(rng.normal(size=mask.shape), scores, mask, alone, 0.5)
    assert (after.sum(axis=1) == 6).all()
    assert ((after & ~mask).sum(axis=1) == 3).all()
    grown = np.where(after & ~mask, scores, np.inf).min(axis=1)
    assert (grown > np.where(after | mask, 0, scores).max(axis=1)).all()


@settings(deadline=None, max_examples=40)
@given(m=st.integers(1, 6), groups=st.integers(1, 5), data=st.data())
def test_n_m_masks_stay_so(m, groups, data):
    n = data.draw(st.integers(1, m))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    mask = n_m_mask(rng.random((4, m * groups)), n, m)
    for fraction in (0.5, 1.0):
        weights, scores = rng.normal(size=mask.shape), rng.random(mask.shape)
        mask = dynamic.changed_n_m_mask(weights, scores, mask, m, fraction)
        assert (mask.reshape(-1, m).sum(axis=1) == n).all()


def steps(recipe, batches=20, seed=1, start=0, stop=None, model=None, optimizer=None):
    """Train on noise; yield what is there after every batch."""
    torch.manual_seed(0)
    if model is None or optimizer is None:
        model = network.build_network(LAYERS, (1, 12, 12), 3, seed=0)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    evolution = dynamic.MaskEvolution(model, LAYERS, recipe, batches=batches, seed=seed)
    for batch in range(start, batches if stop is None else stop):
        generator = torch.Generator().manual_seed(batch)
        inputs = torch.rand(8, 1, 12, 12, generator=generator)
        labels = torch.randint(0, 3, (8,), generator=generator)
        evolution.before_step(batch)
        loss = nn_loss(model(inputs), labels)
        optimizer.zero_grad()
        loss.backward()
        before = [layer.mask_array().copy() for layer in masked(model)]
        moved = evolution.after_backward(batch, optimizer)
        yield batch, moved, model, optimizer, before
        optimizer.step()


nn_loss = torch.nn.functional.cross_entropy


def masked(model):
    return [module for module in model.modules() if hasattr(module, "masked_weight")]


@pytest.mark.parametrize("regrow", ["gradient", "random"])
def test_a_network_keeps_its_structure_while_it_trains(regrow):
    recipe = DynamicMasks(every=4, fraction=0.5, until=0.8, regrow=regrow)
    changes = {}
    for batch, moved, model, optimizer, before in steps(recipe):
        layers = masked(model)
        after = [layer.mask_array() for layer in layers]
        if moved:
            changes[batch] = moved
        assert moved == sum(int((a & ~b).sum()) for a, b in zip(after, before, strict=True))
        for layer, old, new in zip(layers, before, after, strict=True):
            assert count_collisions(new, layer.sets_array()) == 0
            assert (new.sum(axis=1) == old.sum(axis=1)).all()
            fresh = torch.from_numpy((old != new).reshape(layer.weight.shape))
            assert not layer.weight[fresh].any()
            assert not layer.weight.grad[fresh].any()
            memory = optimizer.state[layer.weight].get("momentum_buffer")
            assert memory is None or not memory[fresh].any()
        assert (after[1].reshape(-1, 9).sum(axis=1) == 2).all()
        assert after[-1].all()
    assert list(changes) == [4, 8, 12]
    assert changes[4] > changes[8] > changes[12]


def test_other_weights_stay_as_they_are():
    recipe = DynamicMasks(every=2, fraction=0.5, regrow="random")
    for _, moved, model, _, before in steps(recipe, batches=8):
        if moved:
            for layer, old in zip(masked(model), before, strict=True):
                kept = torch.from_numpy((old & layer.mask_array()).reshape(layer.weight.shape))
                assert layer.weight[kept].abs().min() > 0
            return
    pytest.fail("masks never changed")


def test_gradients_of_all_weights_are_those_of_a_dense_layer():
    recipe = DynamicMasks(every=1, fraction=0.5)
    model = network.build_network(LAYERS, (1, 12, 12), 3, seed=0)
    evolution = dynamic.MaskEvolution(model, LAYERS, recipe, batches=10, seed=1)
    inputs, labels = torch.rand(8, 1, 12, 12), torch.arange(8) % 3
    evolution.before_step(1)
    nn_loss(model(inputs), labels).backward()
    layers = masked(model)
    found = [probe.scores() for probe in evolution._probes]
    evolution.before_step(0)
    assert not evolution._probes
    assert not any(layer._forward_hooks for layer in layers)
    # With masks that let everything through, but weights that are zero outside the old ones.
    for layer in layers:
        weight = layer.masked_weight().detach().clone()
        layer.set_mask(np.ones((layer.kernels, layer.rows), bool))
        layer.weight.data.copy_(weight)
        layer.weight.grad = None
    nn_loss(model(inputs), labels).backward()
    for layer, scores in zip(layers, found, strict=False):
        expected = layer.weight.grad.abs().flatten(1).double().numpy()
        assert scores == pytest.approx(expected, abs=1e-6)
        assert (scores > 0).mean() > 0.2


def test_a_resumed_training_changes_the_same_masks():
    recipe = DynamicMasks(every=3, fraction=0.4, regrow="random")
    once = [
        [layer.mask_array().copy() for layer in masked(model)]
        for _, _, model, _, _ in steps(recipe)
    ][-1]
    *_, (_, _, half, optimizer, _) = steps(recipe, stop=10)
    *_, (_, _, whole, _, _) = steps(recipe, start=10, model=half, optimizer=optimizer)
    again = [layer.mask_array() for layer in masked(whole)]
    assert all((a == b).all() for a, b in zip(once, again, strict=True))
    other = [
        [layer.mask_array().copy() for layer in masked(model)]
        for _, _, model, _, _ in steps(recipe, seed=2)
    ][-1]
    assert any((a != b).any() for a, b in zip(once, other, strict=True))


def test_random_growth_is_another_one_every_time(monkeypatch):
    seen = []

    def change(module, m, fraction, scores, optimizer):
        seen.append(scores.flat[:5].tolist())
        return 0

    monkeypatch.setattr(dynamic, "_change", change)
    list(steps(DynamicMasks(every=4, regrow="random"), batches=12))
    assert len(seen) == 8
    assert len({tuple(numbers) for numbers in seen}) == 8


@pytest.mark.parametrize("changes", [{"every": 0}, {"every": 2, "fraction": 0.0}])
def test_nothing_changes_without_a_recipe_for_it(changes):
    assert not any(moved for _, moved, *_ in steps(DynamicMasks(**changes), batches=8))


def test_weights_that_are_not_finite_change_nothing():
    recipe = DynamicMasks(every=2, fraction=0.5)
    for batch, moved, model, _, _ in steps(recipe, batches=8):
        if batch == 1:
            with torch.no_grad():
                masked(model)[0].weight.fill_(float("nan"))
        assert not moved


def test_another_network_is_refused():
    model = network.build_network(LAYERS, (1, 12, 12), 3, seed=0)
    make = partial(dynamic.MaskEvolution, model, recipe=DynamicMasks(), batches=10, seed=1)
    with pytest.raises(TrainingError, match="the network has 5 masked layers, the recipe 4"):
        make(LAYERS[1:])
