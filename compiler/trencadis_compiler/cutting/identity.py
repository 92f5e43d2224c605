"""Layers that hand a map on unchanged, so that every engine of a chain has one."""

from collections.abc import Mapping
from fractions import Fraction

from trencadis_compiler.ir.kernels import Kernels
from trencadis_compiler.ir.network import Layer, Network, Pool

__all__ = ["handed_on_densities", "identity_before"]


def identity_before(layer: Layer, number: int) -> Layer:
    """A layer that makes the input of another one out of the same map.

    Every channel has one weight, so kernels are overlaid as densely as an engine can.

    Parameters
    ----------
    layer : Layer
        What reads the map.
    number : int
        For names: several may follow each other.
    """
    channels = layer.in_shape[0]
    source = f"{layer.source}/handed on {number}"
    return Layer(
        name=_name(layer.name, number),
        source=source,
        target=layer.source,
        weights=Kernels.diagonal(channels, (1, 1)),
        weight_scale=(Fraction(1),) * channels,
        bias=(Fraction(0),) * channels,
        stride=(1, 1),
        dilation=(1, 1),
        padding=(0, 0, 0, 0),
        in_shape=layer.in_shape,
        input=layer.input,
        low=0,
        high=255,
        requantised=layer.input,
        table=None,
        output=layer.input,
        pool=Pool(),
        winners=None,
    )


def handed_on_densities(
    network: Network, density: Mapping[str, float], engines: int
) -> dict[str, float]:
    """The parts that are not zero of maps that are handed on: those of the maps themselves."""
    found: dict[str, float] = {}
    for layer in network.layers:
        producer = network.producer(layer.source)
        part = 1.0 if producer is None else density.get(producer.name)
        if part is None:
            continue
        name = layer.name
        for number in range(engines):
            name = _name(name, number)
            found[name] = part
    return found


def _name(reader: str, number: int) -> str:
    return f"{reader}/handed on {number}"
