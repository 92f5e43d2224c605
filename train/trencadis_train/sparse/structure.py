"""Networks of the engine `sparse` from recipes, with everything refused that it cannot do."""

import math

import numpy as np

from trencadis_train.errors import TrainingError
from trencadis_train.memory import check_memory
from trencadis_train.recipe import Distillation, DynamicMasks, LayerRecipe, Recipe, Training
from trencadis_train.sparse.loops.activations import negative_slope
from trencadis_train.sparse.network import CsrNetwork, Hidden
from trencadis_train.sparse.topologies.complementary import draw_complementary
from trencadis_train.sparse.topologies.topology import (
    Topology,
    connections_of_density,
    draw_topology,
)

__all__ = ["build_sparse", "check_recipe", "hidden_of", "ways_of"]

BYTES_PER_CONNECTION = 24 + 36
"""Weights, momenta, gradients, rows and columns; and, while a topology is drawn, keys."""

BYTES_PER_ACTIVATION = 12
"""An activation, its factor and its gradient."""


def check_recipe(recipe: Recipe) -> None:
    """Refuse what this engine does not do.

    Raises
    ------
    TrainingError
        Naming the field.
    """
    for number, layer in enumerate(recipe.layer):
        for name, wanted in (("kind", "linear"), ("n", 0), ("m", 0)):
            _refuse(f"layer.{number}.{name}", getattr(layer, name), wanted)
    plain = Training()
    for name in ("start", "optimizer", "winners_warm_up", "boost", "precision"):
        _refuse(f"training.{name}", getattr(recipe.training, name), getattr(plain, name))
    _refuse("augment.mixup", recipe.augment.mixup, 0.0)
    if recipe.dynamic != DynamicMasks():
        raise TrainingError('dynamic must be left out with engine = "sparse"; use sparse.evolution')
    if recipe.distillation != Distillation():
        raise TrainingError('distillation must be left out with engine = "sparse"')


def hidden_of(recipe: Recipe) -> list[Hidden]:
    """Activation, winners and dropout of every hidden layer."""
    sparse = recipe.sparse
    return [
        Hidden(
            negative_slope(sparse.activation, sparse.slope, number),
            layer.winners,
            layer.dropout,
        )
        for number, layer in enumerate(recipe.layer[:-1])
    ]


def ways_of(recipe: Recipe) -> tuple[int, ...]:
    """Outputs of a complementary set, of every layer."""
    return tuple(layer.ways for layer in recipe.layer)


def build_sparse(recipe: Recipe, inputs: int, classes: int) -> CsrNetwork:
    """A network with random topologies and weights, both of the seed alone.

    Raises
    ------
    TrainingError
        If a layer is impossible, or memory does not suffice.
    """
    if recipe.layer[-1].units < classes:
        raise TrainingError(
            f"layer {len(recipe.layer) - 1}: the last layer must have a unit for each of the "
            f"{classes} classes, not {recipe.layer[-1].units}"
        )
    widths = [inputs, *(layer.units for layer in recipe.layer)]
    counts = [
        _connections(number, layer, widths[number], recipe.sparse.epsilon)
        for number, layer in enumerate(recipe.layer)
    ]
    needed = BYTES_PER_CONNECTION * sum(counts)
    needed += BYTES_PER_ACTIVATION * recipe.training.batch * sum(widths)
    check_memory(needed, f"training {sum(counts)} connections of {sum(widths)} neurons")
    topologies = []
    for number, (layer, count) in enumerate(zip(recipe.layer, counts, strict=True)):
        rng = np.random.default_rng([recipe.seed, number])
        topologies.append(_draw(layer, widths[number], count, rng))
    rng = np.random.default_rng([recipe.seed, len(recipe.layer)])
    return CsrNetwork.begin(topologies, hidden_of(recipe), rng)


def _connections(number: int, layer: LayerRecipe, inputs: int, epsilon: float) -> int:
    most = inputs // layer.ways
    if layer.nonzeros > most:
        raise TrainingError(
            f"layer {number}: nonzeros (the fan-in) must be at most {most} of {inputs} inputs, not "
            f"{layer.nonzeros}"
        )
    if layer.nonzeros:
        return layer.nonzeros * layer.units
    if layer.ways > 1:
        return most * layer.units
    try:
        return connections_of_density(inputs, layer.units, epsilon)
    except TrainingError as error:
        raise TrainingError(f"layer {number}: {error}") from error


def _draw(layer: LayerRecipe, inputs: int, count: int, rng: np.random.Generator) -> Topology:
    if layer.ways > 1:
        return draw_complementary(inputs, layer.units, layer.ways, count // layer.units, rng)
    if layer.nonzeros:
        return draw_complementary(inputs, layer.units, 1, layer.nonzeros, rng)
    return draw_topology(inputs, layer.units, count, rng)


def _refuse(name: str, value: object, wanted: object) -> None:
    same = value == wanted
    if isinstance(value, float) and isinstance(wanted, float):
        same = math.isclose(value, wanted)
    if not same:
        raise TrainingError(f'{name} must be {wanted!r} with engine = "sparse", not {value!r}')
