"""Training for a search: a recipe with some of its fields changed, for some epochs."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import torch

from trencadis_train.data.labelled import Splits
from trencadis_train.network.layers import SparseConv2d, SparseLinear
from trencadis_train.network.network import build_network
from trencadis_train.recipe import Recipe, load_recipe
from trencadis_train.search.space import Value, overrides
from trencadis_train.training.metrics import EpochMetrics
from trencadis_train.training.trainer import Trainer

__all__ = ["RecipeTrials"]


class RecipeTrials:
    """Trains variants of a recipe; the test part of the data is never looked at.

    Parameters
    ----------
    recipe : Path
        The file.
    fixed : sequence of str
        Changes that all variants have, as `load_recipe` takes them.
    splits : Splits
        Data.
    device : torch.device
        Where to compute.
    on_epoch : callable
        Called with the metrics of every epoch.
    """

    def __init__(
        self,
        recipe: Path,
        fixed: tuple[str, ...],
        splits: Splits,
        *,
        device: torch.device | None = None,
        on_epoch: Callable[[EpochMetrics], None] = lambda row: None,
    ) -> None:
        self._path = recipe
        self._fixed = fixed
        self._splits = splits
        self._device = device
        self._on_epoch = on_epoch

    def recipe(self, values: Mapping[str, Value]) -> Recipe:
        """The recipe of a variant."""
        return load_recipe(self._path, [*self._fixed, *overrides(values)])

    def density(self, values: Mapping[str, Value]) -> float:
        """Share of weights that may be other than zero."""
        recipe = self.recipe(values)
        rows, columns = self._splits.train.images.shape[1:]
        network = build_network(
            recipe.layer, (1, rows, columns), len(self._splits.classes), recipe.seed
        )
        layers = [
            module
            for module in network.modules()
            if isinstance(module, (SparseConv2d, SparseLinear))
        ]
        weights = sum(layer.weight.numel() for layer in layers)
        return sum(layer.nonzeros for layer in layers) / weights

    def accuracy(self, values: Mapping[str, Value], epochs: int, *, last: bool) -> float:
        """Best validation accuracy: of real numbers, or of integers if the result is final."""
        recipe = self.recipe(values)
        recipe = replace(recipe, training=replace(recipe.training, epochs=epochs))
        if not last:
            recipe = replace(recipe, quantisation=replace(recipe.quantisation, epochs=0))
        trainer = Trainer(
            recipe, self._splits, device=self._device, test=False, on_epoch=self._on_epoch
        )
        accuracy = trainer.run().summary["accuracy"]
        return float(accuracy["int8" if last else "float"]["validation"])
