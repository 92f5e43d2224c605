"""The summary of a training of the engine `sparse`, as `metrics.json` has it."""

import importlib.metadata
from typing import Any

import numpy as np

from trencadis_train.data.labelled import Splits
from trencadis_train.recipe import Recipe
from trencadis_train.sparse.integer.integers import SparseIntegers
from trencadis_train.sparse.network import CsrNetwork
from trencadis_train.training.trainable import FLOAT, PHASES, Trained

__all__ = ["summarise"]


def summarise(
    recipe: Recipe,
    splits: Splits,
    model: CsrNetwork,
    network: SparseIntegers,
    trained: Trained,
    accuracy: dict[str, dict[str, float]],
) -> dict[str, Any]:
    """JSON-ready: accuracies, sizes, recipe, versions; the keys are those of the other engine."""
    layers = [
        {
            "kind": "linear",
            "units": layer.topology.outputs,
            "ways": given.ways,
            "winners": given.winners,
            "weights": layer.topology.inputs * layer.topology.outputs,
            "in_mask": layer.topology.connections,
            "nonzeros": integers.topology.connections,
        }
        for given, layer, integers in zip(recipe.layer, model.layers, network.layers, strict=True)
    ]
    weights = sum(layer["weights"] for layer in layers)
    seconds = [row.seconds for row in trained.rows if row.phase == FLOAT]
    return {
        "name": recipe.name,
        "seed": recipe.seed,
        "accuracy": accuracy,
        "examples": {name: len(part) for name, part in splits.parts},
        "classes": list(splits.classes),
        "weights": weights,
        "in_mask": model.connections,
        "nonzeros": network.nonzeros,
        "sparsity": round(1 - network.nonzeros / weights, 5),
        "layers": layers,
        "epochs": {
            phase: sum(row.phase == phase and row.epoch > 0 for row in trained.rows)
            for phase in PHASES
        },
        "seconds_per_epoch": round(float(np.median(seconds)), 3),
        "data_credit": splits.credit,
        "versions": {
            name: importlib.metadata.version(name) for name in ("trencadis", "numba", "numpy")
        },
        "recipe": recipe.to_dict(),
    }
