"""Networks of some of the layers of a network, or of parts of one, with maps as tensors."""

from collections.abc import Sequence
from dataclasses import replace

from trencadis_compiler.ir.network import Layer, Network, TensorInfo, Value

__all__ = ["sub_network"]


def sub_network(name: str, layers: Sequence[Layer], nonzeros: int | None = None) -> Network:
    """A network of consecutive layers.

    Its input and output are the integers of the maps (of sums: real numbers as ever).

    Parameters
    ----------
    name : str
        Name of the network.
    layers : sequence of Layer
        Each reads what the one before it makes.
    nonzeros : int or None
        As for `Value`, of the input.
    """
    first, last = layers[0], layers[-1]
    values = (replace(_source(first), nonzeros=nonzeros), *map(_target, layers))
    return Network(name, values, tuple(layers), (first.source,), (last.target,))


def _source(layer: Layer) -> Value:
    dtype = "int8" if layer.input.signed else "uint8"
    tensor = TensorInfo(layer.source, (None, *layer.in_shape), dtype)
    return Value(layer.source, layer.in_shape, layer.input, tensor, "CHW")


def _target(layer: Layer) -> Value:
    dtype = "float32"
    if layer.output is not None:
        dtype = "int8" if layer.output.signed else "uint8"
    tensor = TensorInfo(layer.target, (None, *layer.out_shape), dtype)
    return Value(layer.target, layer.out_shape, layer.output, tensor, "CHW")
