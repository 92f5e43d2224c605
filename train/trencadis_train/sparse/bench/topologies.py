"""Pictures of topologies, gradients and accuracy while training and pruning.

Distances between topologies after their neurons are matched, degrees of neurons, gradient norms by
activation, and accuracy against connections with both schedules of importance pruning.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from trencadis_train.data.datasets import open_data
from trencadis_train.data.labelled import Splits
from trencadis_train.recipe import Recipe, load_recipe
from trencadis_train.sparse.importance import prune_neurons
from trencadis_train.sparse.inputs import Batches
from trencadis_train.sparse.network import CsrNetwork
from trencadis_train.sparse.plots import save_figure
from trencadis_train.sparse.topologies.distance import topology_distance
from trencadis_train.sparse.topologies.topology import Topology
from trencadis_train.sparse.training import SparseTraining
from trencadis_train.training.trainable import FLOAT

__all__ = ["measure_activations", "measure_pruning", "measure_topologies"]

RECIPE = Path("examples/fashion/published.toml")

PERCENTILES = (5.0, 10.0, 20.0, 40.0, 60.0, 80.0)

ACTIVATIONS: tuple[tuple[str, dict[str, Any], int], ...] = (
    ("all-relu 0.6", {"activation": "all-relu", "slope": 0.6}, 0),
    ("all-relu 0.75", {"activation": "all-relu", "slope": 0.75}, 0),
    ("relu", {"activation": "relu"}, 0),
    ("leaky-relu 0.6", {"activation": "leaky-relu", "slope": 0.6}, 0),
    ("relu, 100 winners", {"activation": "relu"}, 100),
)
"""Name, fields of `[sparse]`, k of k-WTA."""


def measure_topologies(folder: Path, seed: int = 1) -> dict[str, Any]:
    """Distance of the topology to where it began, epoch by epoch, and degrees before and after.

    Two networks that were drawn apart stand beside as the distance of topologies that have nothing
    in common but their sizes. Draws `train-topology.png`.
    """
    recipe = replace(load_recipe(RECIPE), seed=seed)
    splits = open_data(recipe.data)
    other = SparseTraining(replace(recipe, seed=seed + 1), splits)
    other.begin()
    kept: list[list[Topology]] = []
    _train(recipe, splits, lambda network: kept.append(_topologies(network)))
    distances = [topology_distance(kept[0], later) for later in kept]
    apart = topology_distance(kept[0], _topologies(other.model))
    figure = Figure(figsize=(13, 3.8), layout="constrained")
    panels = figure.subplots(1, 3)
    for number in range(len(kept[0])):
        panels[0].plot([found.layers[number] for found in distances], label=f"layer {number}")
    panels[0].axhline(apart.mean, color="gray", linestyle=":", label="drawn apart")
    panels[0].set(xlabel="epoch", ylabel="distance to the beginning")
    panels[0].legend()
    degrees = {}
    for axes, name, degree in (
        (panels[1], "fan-in of hidden neurons", lambda t: t[1].fan_in()),
        (panels[2], "fan-out of inputs", lambda t: t[0].fan_out()),
    ):
        for when, topologies in (("beginning", kept[0]), ("end", kept[-1])):
            values = degree(topologies)
            axes.hist(values, bins=40, histtype="step", label=when)
            degrees[f"{name}, {when}"] = {
                "mean": float(values.mean()),
                "deviation": float(values.std()),
                "largest": int(values.max()),
            }
        axes.set(xlabel=name, ylabel="neurons")
        axes.legend()
    save_figure(folder / "train-topology.png", figure)
    return {
        "distance_by_epoch": [found.mean for found in distances],
        "distance_drawn_apart": apart.mean,
        "degrees": degrees,
    }


def measure_activations(folder: Path, epochs: int = 3, seed: int = 1) -> dict[str, Any]:
    """Gradient norms by layer of networks with different activations, after every epoch.

    Draws `train-gradients.png`.
    """
    recipe = load_recipe(RECIPE)
    splits = open_data(recipe.data)
    figure = Figure(figsize=(3.2 * len(ACTIVATIONS), 3.4), layout="constrained")
    panels = figure.subplots(1, len(ACTIVATIONS), sharey=True)
    found = {}
    for axes, (name, changes, winners) in zip(panels, ACTIVATIONS, strict=True):
        norms: list[list[float]] = []
        layers = [replace(layer, winners=winners) for layer in recipe.layer[:-1]]
        training = _train(
            replace(
                recipe,
                seed=seed,
                layer=(*layers, recipe.layer[-1]),
                training=replace(recipe.training, epochs=epochs),
                sparse=replace(recipe.sparse, **changes),
            ),
            splits,
            lambda network, norms=norms: norms.append(network.gradient_norms()),
        )
        for number in range(len(norms[0])):
            axes.plot(range(1, epochs + 1), [row[number] for row in norms[1:]], label=f"{number}")
        axes.set(title=name, xlabel="epoch", yscale="log")
        found[name] = {"gradient_norms": norms[1:], "validation": training.validate().accuracy}
    panels[0].set_ylabel("norm of the gradient")
    panels[0].legend(title="layer")
    save_figure(folder / "train-gradients.png", figure)
    return found


def measure_pruning(folder: Path, seed: int = 1) -> dict[str, Any]:
    """Test accuracy against connections, pruned after training and while training.

    Draws `train-pruning.png`.
    """
    recipe = replace(load_recipe(RECIPE), seed=seed)
    splits = open_data(recipe.data)
    training = _train(recipe, splits)
    state = training.network()
    hidden = training.model.hidden
    after = [_point(training.model, training, splits)]
    for percentile in PERCENTILES:
        network = CsrNetwork.from_state(dict(state), hidden)
        prune_neurons(network, percentile)
        after.append(_point(network, training, splits))
    during = []
    for percentile in PERCENTILES[1::2]:
        sparse = replace(
            recipe.sparse,
            prune="during",
            prune_from=0.3,
            prune_every=2,
            prune_percentile=percentile,
        )
        shrunk = _train(replace(recipe, sparse=sparse), splits)
        during.append(_point(shrunk.model, shrunk, splits))
    figure = Figure(figsize=(5.5, 3.8), layout="constrained")
    axes = figure.subplots()
    for label, points in (("after training", after), ("while training", during)):
        places = [point["connections"] for point in points]
        axes.plot(places, [point["test"] for point in points], marker="o", label=label)
    axes.set(xlabel="connections", ylabel="accuracy on test", xscale="log")
    axes.legend()
    axes.grid(alpha=0.3)
    save_figure(folder / "train-pruning.png", figure)
    return {"after": after, "during": during}


def _train(
    recipe: Recipe,
    splits: Splits,
    look: Callable[[CsrNetwork], object] = lambda network: None,
) -> SparseTraining:
    """Train in real numbers; `look` sees the network before the first and after every epoch."""
    training = SparseTraining(recipe, splits)
    training.begin()
    look(training.model)
    for epoch in range(training.epochs(FLOAT)):
        training.step(FLOAT, epoch, lambda part: None)
        look(training.model)
    return training


def _topologies(network: CsrNetwork) -> list[Topology]:
    return [layer.topology for layer in network.layers]


def _point(network: CsrNetwork, training: SparseTraining, splits: Splits) -> dict[str, Any]:
    test = Batches.of(splits.test, training.standard)
    right = sum(
        int((network.outputs(x).argmax(axis=0) == labels).sum()) for x, labels in test.in_order()
    )
    return {
        "neurons": _hidden(network.widths),
        "connections": network.connections,
        "test": right / len(test),
    }


def _hidden(widths: Sequence[int]) -> int:
    return int(np.sum(widths[1:-1]))
