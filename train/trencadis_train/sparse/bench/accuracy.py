"""Accuracy: Fashion-MNIST with the published settings and with ours, and Madelon."""

import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.neural_network import MLPClassifier

from trencadis_train.data.datasets import open_data
from trencadis_train.data.labelled import Splits
from trencadis_train.recipe import Recipe, load_recipe
from trencadis_train.sparse.bench.masked import MaskedNetwork, masked_epoch
from trencadis_train.sparse.evolve import EvolutionName
from trencadis_train.sparse.inputs import Batches, Standard
from trencadis_train.sparse.rates import rate_at
from trencadis_train.sparse.trainer import SparseTrainer

__all__ = ["dense_accuracy", "measure_dense", "measure_madelon", "measure_own", "measure_published"]

EXAMPLES = Path("examples/fashion")

EVOLUTIONS: tuple[EvolutionName, ...] = ("set", "fixed")


def measure_published(seeds: Sequence[int]) -> dict[str, Any]:
    """Test accuracy with the published settings: SET, and the fixed topology beside it."""
    recipe = load_recipe(EXAMPLES / "published.toml")
    splits = open_data(recipe.data)
    found = {how: _accuracies(_evolving(recipe, how), splits, seeds) for how in EVOLUTIONS}
    return {"accuracy_published_settings": statistics.mean(found["set"]), "test": found}


def measure_dense(seed: int) -> dict[str, Any]:
    """Test accuracy of the dense network with our settings."""
    recipe = load_recipe(EXAMPLES / "own.toml")
    splits = open_data(recipe.data)
    return {"test": {"dense": dense_accuracy(recipe, splits, seed)}}


def measure_own(seed: int, how: EvolutionName) -> dict[str, Any]:
    """Test accuracy with our settings."""
    recipe = load_recipe(EXAMPLES / "own.toml")
    splits = open_data(recipe.data)
    return {"test": {how: _accuracies(_evolving(recipe, how), splits, [seed])[0]}}


def measure_madelon(seeds: Sequence[int]) -> dict[str, Any]:
    """Test accuracy on Madelon: SET, fixed topology, and two dense networks.

    `dense` is trained like the sparse one, dropout and decay included; `dense, plain` is
    scikit-learn's MLP of the same widths as it comes.
    """
    recipe = load_recipe(EXAMPLES / "madelon.toml")
    splits = open_data(recipe.data)
    found = {how: _accuracies(_evolving(recipe, how), splits, seeds) for how in EVOLUTIONS}
    found["dense"] = [dense_accuracy(recipe, splits, seed) for seed in seeds]
    found["dense, plain"] = [_plain_mlp(recipe, splits, seed) for seed in seeds]
    means = {name: statistics.mean(values) for name, values in found.items()}
    return {
        "accuracy_madelon": means["set"],
        "accuracy_madelon_dense": means["dense"],
        "accuracy_madelon_plain": means["dense, plain"],
        "test": found,
    }


def dense_accuracy(recipe: Recipe, splits: Splits, seed: int) -> float:
    """Test accuracy of the dense network of a recipe, trained likewise by PyTorch."""
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    flat = splits.train.images.reshape(len(splits.train), -1)
    standard = Standard.of(flat, recipe.sparse.standardise)
    train, test = Batches.of(splits.train, standard), Batches.of(splits.test, standard)
    widths = [flat.shape[1], *(layer.units for layer in recipe.layer)]
    network = MaskedNetwork(None, widths, [0.0] * (len(widths) - 2), recipe.layer[0].dropout)
    training = recipe.training
    optimiser = torch.optim.SGD(
        network.parameters(), lr=training.learning_rate, momentum=training.momentum
    )
    labels = torch.from_numpy(train.labels)
    rng = np.random.default_rng(seed)
    for epoch in range(training.epochs):
        for group in optimiser.param_groups:
            group["lr"] = rate_at(recipe, epoch / training.epochs)
            # PyTorch multiplies the decay with the rate.
            group["weight_decay"] = training.weight_decay / max(group["lr"], 1e-9)
        order = rng.permutation(len(train))
        count = len(train) // training.batch
        batches = np.split(order[: count * training.batch], count)
        masked_epoch(
            network, optimiser, lambda c: torch.from_numpy(train.load(c).T), labels, batches
        )
    network.eval()
    right = 0
    with torch.no_grad():
        for x, wanted in test.in_order():
            outputs = network(torch.from_numpy(np.ascontiguousarray(x.T)))
            right += int((outputs.argmax(1).numpy() == wanted).sum())
    return right / len(test)


def _plain_mlp(recipe: Recipe, splits: Splits, seed: int) -> float:
    standard = Standard.of(splits.train.images.reshape(len(splits.train), -1), "features")
    train, test = Batches.of(splits.train, standard), Batches.of(splits.test, standard)
    model = MLPClassifier(tuple(layer.units for layer in recipe.layer[:-1]), random_state=seed)
    model.fit(train.load(np.arange(len(train))).T, train.labels)
    return float(model.score(test.load(np.arange(len(test))).T, test.labels))


def _evolving(recipe: Recipe, how: EvolutionName) -> Recipe:
    return replace(recipe, sparse=replace(recipe.sparse, evolution=how))


def _accuracies(recipe: Recipe, splits: Splits, seeds: Sequence[int]) -> list[float]:
    return [
        SparseTrainer(replace(recipe, seed=seed), splits).run().summary["accuracy"]["float"]["test"]
        for seed in seeds
    ]
