"""Verifier of networks: names, shapes and quantisations along their edges."""

from collections import Counter

from trencadis_compiler.ir.network import Layer, Network, Value

__all__ = ["NetworkError", "verify"]


class NetworkError(AssertionError):
    """A pass left a network that is none: a bug, never a user's mistake."""


def verify(network: Network) -> Network:
    """Check a network between two stages.

    Every value is made once or comes from outside, is made before it is read, and is read the way
    it is made; nothing is made that nobody reads.

    Returns
    -------
    Network
        The network itself.

    Raises
    ------
    NetworkError
        Naming the first layer or value that does not fit.
    """
    names = Counter(value.name for value in network.values)
    _require(all(count == 1 for count in names.values()), f"values of one name: {names}")
    layers = Counter(layer.name for layer in network.layers)
    _require(all(count == 1 for count in layers.values()), f"layers of one name: {layers}")
    _require(bool(network.layers), "no layers")
    for name in (*network.inputs, *network.outputs):
        _require(name in names, f"{name!r} is no value")
    made = set(network.inputs)
    for layer in network.layers:
        _require(layer.source in made, f"{layer.name!r} reads {layer.source!r} before it is made")
        _require(layer.target in names, f"{layer.name!r} makes {layer.target!r}, no value")
        _require(layer.target not in made, f"{layer.target!r} is made twice")
        made.add(layer.target)
        _check_edges(layer, network.value(layer.source), network.value(layer.target))
    for value in network.values:
        _require(value.name in made, f"nothing makes {value.name!r}")
        used = network.readers(value.name) or value.name in network.outputs
        _require(bool(used), f"nobody reads {value.name!r}")
        _check_value(value)
    return network


def _check_edges(layer: Layer, source: Value, target: Value) -> None:
    name = layer.name
    _require(layer.in_shape == source.shape, f"{name!r} reads another shape than its input's")
    _require(layer.input == source.quantisation, f"{name!r} reads other keys than its input's")
    _require(layer.out_shape == target.shape, f"{name!r} makes another shape than its output's")
    _require(layer.output == target.quantisation, f"{name!r} makes other keys than its output's")
    _require(
        (layer.requantised is None) == (layer.output is None), f"{name!r} gives keys of no kind"
    )
    raw = layer.requantised is None
    _require(
        not raw or (layer.table is None and layer.winners is None), f"{name!r} selects from sums"
    )
    _require(0 <= layer.low <= layer.high <= 255, f"{name!r} has no keys")
    kernels = len(layer.weights)
    _require(
        len(layer.bias) == len(layer.weight_scale) == kernels,
        f"{name!r} has other numbers of kernels, scales and biases",
    )
    _require(layer.weights.shape[1] == layer.in_shape[0], f"{name!r} has other channels")
    _require(min(layer.out_shape) > 0, f"{name!r} has no output")
    _require(min(layer.weight_scale) > 0, f"{name!r} has a scale that is not positive")


def _check_value(value: Value) -> None:
    sizes = dict(zip("CHW", value.shape, strict=True))
    _require(
        set(value.axes) <= set("CHW") and len(set(value.axes)) == len(value.axes),
        f"{value.name!r} has axes {value.axes!r}",
    )
    left_out = [size for axis, size in sizes.items() if axis not in value.axes]
    _require(all(size == 1 for size in left_out), f"{value.name!r} leaves out axes")


def _require(condition: bool, what: str) -> None:
    if not condition:
        raise NetworkError(f"a pass is wrong: {what}")
