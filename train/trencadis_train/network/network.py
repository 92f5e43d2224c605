"""Networks from recipes."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from torch import nn

from trencadis_train.errors import TrainingError
from trencadis_train.memory import check_memory
from trencadis_train.network.k_winners import KWinners, KWinners2d
from trencadis_train.network.kernels import MaxPool2d
from trencadis_train.network.layers import (
    PooledBatchNorm1d,
    PooledBatchNorm2d,
    SparseConv2d,
    SparseLinear,
)
from trencadis_train.recipe import LayerRecipe
from trencadis_train.sparsity.masks import (
    Mask,
    complementary_mask,
    consecutive_sets,
    n_m_mask,
    random_mask,
)

__all__ = ["build_network", "layer_mask", "parameter_count"]


BYTES_PER_WEIGHT = 9
"""While a network is built: the weight, its mask, and random numbers from which both are drawn."""


def build_network(
    layers: Sequence[LayerRecipe], input_shape: tuple[int, int, int], classes: int, seed: int
) -> nn.Sequential:
    """A network with random masks and weights.

    After every layer but the last come max-pooling, batch-norm, ReLU and k-WTA, as the recipe has
    them. Masks depend on the seed alone, weights on the state of PyTorch's generator.

    Parameters
    ----------
    layers : sequence of LayerRecipe
        Layers from the input on.
    input_shape : (channels, rows, columns)
        Input shape of an example.
    classes : int
        Classes of the data; the last layer may have more units.
    seed : int
        Seed of the masks.

    Raises
    ------
    TrainingError
        Naming the layer that cannot be built.
    """
    check_memory(BYTES_PER_WEIGHT * parameter_count(layers, input_shape), "the network")
    modules: list[nn.Module] = []
    channels, rows, columns = input_shape
    features = 0
    for number, layer in enumerate(layers):
        last = number == len(layers) - 1
        rng = np.random.default_rng([seed, number])
        if layer.kind == "conv":
            made = _named(number, layer, channels * layer.window**2, rng)
            modules.append(
                SparseConv2d(
                    channels,
                    layer.units,
                    layer.window,
                    mask=made[0],
                    sets=made[1],
                    padding=layer.padding,
                    bias=last,
                )
            )
            channels = layer.units
            rows, columns = (
                (size + 2 * layer.padding - layer.window + 1) // layer.pool
                for size in (rows, columns)
            )
            if rows < 1 or columns < 1:
                raise TrainingError(
                    f"layer {number}: its window of {layer.window} and pooling of {layer.pool} "
                    "leave nothing of its input; make them smaller"
                )
            if layer.pool > 1:
                modules.append(MaxPool2d(layer.pool))
        else:
            if not features:
                modules.append(nn.Flatten())
                features = channels * rows * columns
            made = _named(number, layer, features, rng)
            modules.append(
                SparseLinear(features, layer.units, mask=made[0], sets=made[1], bias=last)
            )
            features = layer.units
        if not last:
            modules += _behind(layer)
    if layers[-1].units < classes:
        raise TrainingError(
            f"layer {len(layers) - 1}: the last layer must have a unit for each of the {classes} "
            f"classes, not {layers[-1].units}"
        )
    if layers[-1].kind != "linear":
        raise TrainingError(f"layer {len(layers) - 1}: the last layer must be linear, not conv")
    return nn.Sequential(*modules)


def parameter_count(layers: Sequence[LayerRecipe], input_shape: tuple[int, int, int]) -> int:
    """Weights of a network's layers, those outside masks included; nothing is built."""
    channels, rows, columns = input_shape
    total, features = 0, 0
    for layer in layers:
        if layer.kind == "conv":
            total += layer.units * channels * layer.window**2
            channels = layer.units
            rows, columns = (
                max(0, (size + 2 * layer.padding - layer.window + 1) // layer.pool)
                for size in (rows, columns)
            )
        else:
            features = features or channels * rows * columns
            total += layer.units * features
            features = layer.units
    return total


def layer_mask(
    layer: LayerRecipe, rows: int, rng: np.random.Generator
) -> tuple[Mask, npt.NDArray[np.int64]]:
    """Mask and sets of a layer with so many weights in a dense kernel."""
    nonzeros = layer.nonzeros or None
    alone = consecutive_sets(layer.units, 1)
    if layer.mask == "n:m":
        return n_m_mask(rng.random((layer.units, rows)), layer.n, layer.m), alone
    if layer.mask == "unstructured":
        return random_mask(layer.units, rows, nonzeros or rows, rng=rng), alone
    mask = complementary_mask(layer.units, rows, layer.ways, nonzeros=nonzeros, rng=rng)
    return mask, consecutive_sets(layer.units, layer.ways)


def _named(
    number: int, layer: LayerRecipe, rows: int, rng: np.random.Generator
) -> tuple[Mask, npt.NDArray[np.int64]]:
    try:
        return layer_mask(layer, rows, rng)
    except TrainingError as error:
        raise TrainingError(f"layer {number}: {error}") from error


def _behind(layer: LayerRecipe) -> list[nn.Module]:
    conv = layer.kind == "conv"
    modules: list[nn.Module] = [
        PooledBatchNorm2d(layer.units) if conv else PooledBatchNorm1d(layer.units),
        nn.ReLU(inplace=True),
    ]
    if layer.winners:
        kind = KWinners2d if conv else KWinners
        modules.append(kind(layer.winners, layer.units))
    if layer.dropout:
        modules.append(nn.Dropout2d(layer.dropout) if conv else nn.Dropout(layer.dropout))
    return modules
