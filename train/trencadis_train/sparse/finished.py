"""Finished trainings of the engine `sparse`: what they gave, and reading them back."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trencadis_train.errors import TrainingError
from trencadis_train.recipe import Recipe, parse_recipe
from trencadis_train.sparse.integer.integers import SparseIntegers
from trencadis_train.sparse.network import CsrNetwork
from trencadis_train.sparse.structure import hidden_of
from trencadis_train.training.checkpoint import Checkpoint

__all__ = ["FLOAT_NETWORK", "SparseFinished", "load_sparse"]

FLOAT_NETWORK = "sparse.safetensors"


@dataclass(frozen=True)
class SparseFinished:
    """Result of a training.

    Attributes
    ----------
    model : CsrNetwork
        The best network of real numbers; its inputs are standardised.
    network : SparseIntegers
        The best network of integers; its inputs are bytes as they are.
    summary : mapping
        JSON-ready: recipe, accuracies, sizes, what it was made with.
    """

    model: CsrNetwork
    network: SparseIntegers
    summary: Mapping[str, Any]


def load_sparse(folder: Path) -> tuple[CsrNetwork, Recipe]:
    """The best network of real numbers of a finished training, and its recipe.

    Raises
    ------
    TrainingError
        If the folder holds no finished training of this engine.
    """
    path = folder / FLOAT_NETWORK
    checkpoint = Checkpoint.load(path, "numpy")
    try:
        recipe = parse_recipe(checkpoint.data["recipe"])
        return CsrNetwork.from_state(dict(checkpoint.tensors), hidden_of(recipe)), recipe
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        text = " ".join(str(error).split())
        raise TrainingError(
            f"{path}: not a trained network ({text}); train it again, or name another folder"
        ) from error
