"""Networks of map engines: steps between maps that several may read."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from trencadis_compiler.ir.network import Layer, Quantisation, TensorInfo

__all__ = ["MapNetwork", "MapStep", "MapValue", "Window"]


@dataclass(frozen=True)
class MapValue:
    """A map.

    Attributes
    ----------
    name : str
        The tensor of the model that it equals.
    shape : (channels, rows, columns)
        Shape of the map.
    quantisation : Quantisation or None
        How keys are read; None for sums.
    tensor : TensorInfo
        The tensor as the model has it.
    axes : str
        The map's axes in the tensor's order, after the batch.
    parts : tuple of str
        Maps that are its channels, one after the other, if it is a concatenation.
    """

    name: str
    shape: tuple[int, int, int]
    quantisation: Quantisation | None
    tensor: TensorInfo
    axes: str
    parts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Window:
    """The window of a layer that takes the largest keys, rows then columns."""

    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)


@dataclass(frozen=True)
class MapStep:
    """A layer of a map engine.

    Attributes
    ----------
    name : str
        Name of the node it came from.
    source, target : str
        Names of the maps that it reads and makes.
    layer : Layer or None
        What is multiplied; None for a step that takes largest keys.
    window : Window
        Window of such a step.
    second : str
        A map that is added; empty if there is none.
    add : mapping of str to int
        Fields of `ADD` for that.
    table : uint8 array, shape (256,), or None
        Looked up at the end.
    """

    name: str
    source: str
    target: str
    layer: Layer | None = None
    window: Window = Window()
    second: str = ""
    add: Mapping[str, int] | None = None
    table: npt.NDArray[np.uint8] | None = None

    @property
    def raw(self) -> bool:
        """True if it gives sums."""
        return self.layer is not None and self.layer.requantised is None


@dataclass(frozen=True)
class MapNetwork:
    """Steps in an order in which they can run.

    Attributes
    ----------
    name : str
        Name of the model.
    values : mapping of str to MapValue
        All maps by name.
    steps : tuple of MapStep
        Each after those whose maps it reads.
    source, target : str
        The maps that come from outside and that go there.
    """

    name: str
    values: Mapping[str, MapValue]
    steps: tuple[MapStep, ...]
    source: str
    target: str

    @property
    def input(self) -> MapValue:
        """The map that comes from outside."""
        return self.values[self.source]

    @property
    def output(self) -> MapValue:
        """The map that goes outside."""
        return self.values[self.target]

    @cached_property
    def containers(self) -> Mapping[str, str]:
        """The concatenation that a map is a part of, by its name."""
        return {part: value.name for value in self.values.values() for part in value.parts}
