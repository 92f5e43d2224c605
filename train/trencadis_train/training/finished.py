"""Finished trainings: what they gave, and reading them back."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from trencadis_train.data.labelled import Splits
from trencadis_train.errors import TrainingError
from trencadis_train.network.integers import IntegerNetwork
from trencadis_train.network.network import build_network, parameter_count
from trencadis_train.recipe import Recipe, parse_recipe
from trencadis_train.training.checkpoint import Checkpoint

__all__ = ["FLOAT_MODEL", "Finished", "check_fits", "load_finished", "model_digest"]

FLOAT_MODEL = "float.safetensors"


@dataclass(frozen=True)
class Finished:
    """Result of a training.

    Attributes
    ----------
    model : nn.Sequential
        The best network of real numbers, in evaluation mode.
    network : IntegerNetwork
        The best network of integers; its inputs are bytes as they are.
    summary : mapping
        JSON-ready: recipe, accuracies, sizes, what it was made with.
    """

    model: nn.Sequential
    network: IntegerNetwork
    summary: Mapping[str, Any]


def load_finished(folder: Path) -> tuple[nn.Sequential, Recipe]:
    """The best network of real numbers of a finished training, and its recipe.

    Returns
    -------
    nn.Sequential
        In evaluation mode, on the CPU.
    Recipe
        That it was trained with.

    Raises
    ------
    TrainingError
        If the folder holds no finished training.
    """
    path = folder / FLOAT_MODEL
    if not path.exists():
        raise TrainingError(
            f"{folder}: holds no finished training (there is no {FLOAT_MODEL}); finish it, or name "
            "another folder"
        )
    checkpoint = Checkpoint.load(path)
    try:
        recipe = parse_recipe(checkpoint.data["recipe"])
        channels, rows, columns = (int(size) for size in checkpoint.data["shape"])
        # Before anything of that size is made: the file is of anyone.
        wanted = parameter_count(recipe.layer, (channels, rows, columns))
        held = sum(tensor.numel() for tensor in checkpoint.tensors.values())
        if wanted > held:
            raise ValueError(f"its recipe has {wanted} weights, and the file {held} numbers")
        model = build_network(recipe.layer, (channels, rows, columns), 1, recipe.seed)
        model.load_state_dict(dict(checkpoint.tensors))
    except (KeyError, TypeError, ValueError, RuntimeError, OverflowError) as error:
        text = " ".join(str(error).split())
        raise TrainingError(
            f"{path}: not a trained network ({text}); train it again, or name another folder"
        ) from error
    return model.eval(), recipe


def check_fits(folder: Path, model: nn.Sequential, splits: Splits) -> None:
    """Refuse data that the network of a finished training was not made for.

    Parameters
    ----------
    folder : Path
        Folder of the training.
    model : nn.Sequential
        Model from `load_finished`.
    splits : Splits
        The data.

    Raises
    ------
    TrainingError
        Naming the folder.
    """
    shape = (1, *splits.train.images.shape[1:])
    with torch.no_grad():
        try:
            model(torch.zeros(1, *shape))
        except (RuntimeError, TrainingError) as error:
            raise TrainingError(
                f"{folder}: its network takes no inputs of {list(shape)}; choose one trained on "
                "the same data"
            ) from error
    classes = Checkpoint.load(folder / FLOAT_MODEL).data.get("classes")
    if classes is not None and tuple(classes) != splits.classes:
        raise TrainingError(
            f"{folder}: its network tells {', '.join(classes)}, the data have "
            f"{', '.join(splits.classes)}; choose one trained on the same classes in the same order"
        )


def model_digest(folder: Path) -> str:
    """SHA-256 of the network of a finished training."""
    return hashlib.sha256((folder / FLOAT_MODEL).read_bytes()).hexdigest()
