"""Makes a network of the maps of a chain.

Requires: a chain of `grow_chains`.
Ensures: a network that `ir.verify` accepts, its values named by the tensors they equal, its layers
by the nodes that begin them.
"""

from collections.abc import Sequence

import numpy as np

from trencadis_compiler.ir.network import Layer, Network, Pool, TensorInfo, Value
from trencadis_compiler.passes.base.functions import MAX_KEY
from trencadis_compiler.passes.base.state import ActivationMap

__all__ = ["at_cut", "at_end", "build_network", "source_tensor", "tensor_of"]


def build_network(name: str, maps: Sequence[ActivationMap]) -> Network:
    """The network of a chain's maps, each of which reads the one before.

    Parameters
    ----------
    name : str
        Name of the model.
    maps : sequence of ActivationMap
        One per layer, as a device holds them.
    """
    first = maps[0].draft
    assert first is not None
    values = [_source_value(first.reads), *map(_value, maps)]
    layers = tuple(
        _layer(made, source.name, value.name)
        for made, source, value in zip(maps, values, values[1:], strict=False)
    )
    return Network(
        name=name,
        values=tuple(values),
        layers=layers,
        inputs=(values[0].name,),
        outputs=(values[-1].name,),
    )


def tensor_of(held: ActivationMap) -> TensorInfo:
    """The tensor that a held map equals."""
    dtype = "float32"
    if held.integer and held.quantisation is not None:
        dtype = "int8" if held.quantisation.signed else "uint8"
    return TensorInfo(held.tensor, (held.source.tensor.shape[0], *held.shape), dtype)


def source_tensor(maps: Sequence[ActivationMap]) -> str:
    """The name of the tensor that a chain reads."""
    first = maps[0].draft
    assert first is not None
    return _source_value(first.reads).name


def at_cut(held: ActivationMap) -> ActivationMap:
    """A map as it is handed from one chain to the next: as integers, if the model has them."""
    return held.integers or held


def at_end(held: ActivationMap) -> ActivationMap:
    """The map that a chain can end with: winners are lists on the device, whole maps leave it."""
    draft = held.draft
    if draft is not None and draft.winners is not None and held.unselected is not None:
        return at_cut(held.unselected)
    return held


def _source_value(source: ActivationMap) -> Value:
    if source.draft is not None:
        return _value(at_cut(source))
    tensor = source.source.tensor
    return Value(tensor.name, source.map_shape, source.quantisation, tensor, source.source.axes)


def _value(held: ActivationMap) -> Value:
    tensor = tensor_of(held)
    return Value(tensor.name, held.map_shape, held.quantisation, tensor, "".join(held.axes))


def _layer(made: ActivationMap, source: str, target: str) -> Layer:
    draft = made.draft
    assert draft is not None
    low, high, table = 0, MAX_KEY, draft.table
    clipped = tuple(min(max(key, table[0]), table[-1]) for key in range(MAX_KEY + 1))
    if table == clipped:
        low, high = table[0], table[-1]
    return Layer(
        name=draft.name,
        source=source,
        target=target,
        weights=draft.weights,
        weight_scale=draft.weight_scale,
        bias=draft.bias,
        stride=draft.stride,
        dilation=draft.dilation,
        padding=draft.padding,
        in_shape=draft.in_shape,
        input=draft.input,
        low=low,
        high=high,
        requantised=draft.requantised,
        table=None if table == clipped else np.array(table, np.uint8),
        output=made.quantisation,
        pool=draft.pool or Pool(),
        winners=draft.winners,
    )
