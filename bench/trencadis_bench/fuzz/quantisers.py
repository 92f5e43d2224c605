"""Surroundings of layers: inputs, quantisers, weights, biases and outputs."""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from trencadis_bench.fuzz.builder import GraphBuilder

__all__ = ["Array", "Input", "Map", "Quantisers", "Style"]

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Style:
    """Style in which a network is written.

    Attributes
    ----------
    opset : int
        Opset of the standard operators.
    per_channel : bool
        Whether weights have a scale per kernel.
    clips : float
        Share of the quantisers with a Clip of integers after them, as QCDQ has.
    real : bool
        Whether nothing is quantised.
    """

    opset: int
    per_channel: bool
    clips: float
    real: bool


@dataclass(frozen=True)
class Map:
    """A map under way: its tensor, sizes after the batch, and quantisation.

    `size` is about how large its numbers are; `winners`: k-WTA was applied.
    """

    tensor: str
    shape: tuple[int, ...]
    scale: float
    zero: int
    dtype: str
    size: float
    winners: bool = False


@dataclass(frozen=True)
class Input:
    """An input of the network: its sizes after the batch, type, and what its samples are like.

    `step` is that of its quantisation; numbers are within about 127 steps.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    step: float

    def samples(self, count: int, rng: np.random.Generator) -> Array:
        """Random samples."""
        shape = (count, *self.shape)
        if self.dtype != "float32":
            bounds = (0, 256) if self.dtype == "uint8" else (-128, 128)
            return rng.integers(*bounds, shape).astype(self.dtype)
        array = rng.normal(0, self.step * 127 / 2, shape)
        if rng.random() < 0.3:  # ties of the input's own quantisation
            array = np.round(array / self.step * 2) * self.step / 2
        return array.astype(np.float32)


class Quantisers:
    """Writes quantisers, weights and biases of one network.

    Parameters
    ----------
    rng : Generator
        Decides on everything.
    style : Style
        How they are written.
    """

    def __init__(self, rng: np.random.Generator, style: Style) -> None:
        self.rng = rng
        self.style = style
        self.graph = GraphBuilder(rng)

    def input(self, name: str, shape: tuple[int, ...], dtype: str) -> tuple[Map, Input]:
        """Start from an input of the network; `shape` is that of the map, not of a turned input."""
        rng = self.rng
        step = self._scale(float(rng.choice([0.01, 0.05, 1.0])))
        kind = dtype if dtype != "float32" else str(rng.choice(["int8", "uint8"]))
        zero = self._zero(kind)
        tensor, declared = name, shape
        order = list(range(1, len(shape) + 1))
        turned = len(shape) > 1 and rng.random() < 0.2
        if turned:
            order = [int(n) for n in rng.permutation(order)]
            inverse = [order.index(i) for i in range(1, len(shape) + 1)]
            declared = tuple(shape[i] for i in inverse)
        before = rng.random() < 0.5
        if turned and before:
            tensor = self.graph.node("Transpose", tensor, perm=[0, *order])
        if not self.style.real:
            numbers = self._numbers(step, zero, kind)
            if dtype == "float32":
                tensor = self.graph.node("QuantizeLinear", tensor, *numbers)
            tensor = self.graph.node("DequantizeLinear", tensor, *numbers)
        if turned and not before:
            tensor = self.graph.node("Transpose", tensor, perm=[0, *order])
        made = Map(tensor, shape, step, zero, kind, step * 127 / 2)
        return made, Input(name, declared, dtype, step)

    def quantised(self, map_: Map, *, same: bool = False) -> Map:
        """Quantise and dequantise; `same`: with the numbers that the map has."""
        if self.style.real:
            return map_
        rng = self.rng
        dtype = str(rng.choice(["int8", "uint8"]))
        scale, zero = self._scale(map_.size / float(rng.choice([20, 60, 120]))), self._zero(dtype)
        if same:
            dtype, scale, zero = map_.dtype, map_.scale, map_.zero
        numbers = self._numbers(scale, zero, dtype)
        tensor = self.graph.node("QuantizeLinear", map_.tensor, *numbers)
        if self.style.opset >= 12 and rng.random() < self.style.clips:
            tensor = self._clip(tensor, dtype, zero)
        tensor = self.graph.node("DequantizeLinear", tensor, *numbers)
        return replace(map_, tensor=tensor, scale=scale, zero=zero, dtype=dtype)

    def _clip(self, tensor: str, dtype: str, zero: int) -> str:
        """Bounds of fewer bits, or narrow ones, around a zero point."""
        low, high = (0, 255) if dtype == "uint8" else (-128, 127)
        reach = int(self.rng.choice([7, 31, 127]))
        bounds = max(low, zero - reach), min(high, zero + reach)
        return self.graph.node("Clip", tensor, *(self.graph.constant(n, dtype) for n in bounds))

    def weights(self, shape: tuple[int, ...], axis: int) -> tuple[str, Array]:
        """Integer weights with a DequantizeLinear, and the real numbers they stand for."""
        rng = self.rng
        largest = int(rng.choice([3, 40, 127]))
        array = rng.integers(-largest, largest + 1, shape) * (
            rng.random(shape) < rng.uniform(0.1, 1)
        )
        if not array.any():
            array.flat[0] = 1
        if self.style.per_channel:
            scale: Any = np.array([self._scale(0.02) for _ in range(shape[axis])], np.float32)
            zero: Any = np.zeros(shape[axis])
            attributes: dict[str, Any] = {"axis": axis}
            spread = [1] * len(shape)
            spread[axis] = -1
            real = array * scale.reshape(spread)
        else:
            scale, zero, attributes = np.float32(self._scale(0.02)), 0, {}
            real = array * scale
        if self.style.real:
            return self.graph.constant(real, np.float32), real
        numbers = [self.graph.constant(scale, np.float32)]
        if rng.random() < 0.8:
            numbers.append(self.graph.constant(zero, np.int8))
        name = self.graph.constant(array, np.int8)
        return self.graph.node("DequantizeLinear", name, *numbers, **attributes), real

    def bias(self, map_: Map, count: int, spread: float) -> str:
        """A bias, real or as integers."""
        rng = self.rng
        numbers = rng.normal(0, spread, count)
        if self.style.real or rng.random() < 0.5:
            return self.graph.constant(numbers.astype(np.float32), np.float32)
        scale = np.float32(map_.scale * 0.02)
        integers = np.clip(np.round(numbers / scale), -(2**30), 2**30)
        name = self.graph.constant(integers, np.int32)
        return self.graph.node("DequantizeLinear", name, self.graph.constant(scale, np.float32))

    def output(self, map_: Map) -> tuple[str, str]:
        """End in an output, real or at times of integers; its tensor and type."""
        if self.rng.random() < 0.2 and not self.style.real:
            dtype = str(self.rng.choice(["int8", "uint8"]))
            scale, zero = self._scale(map_.size / 60), self._zero(dtype)
            if map_.winners:
                dtype, scale, zero = map_.dtype, map_.scale, map_.zero
            numbers = [self.graph.constant(scale, np.float32), self.graph.constant(zero, dtype)]
            return self.graph.node("QuantizeLinear", map_.tensor, *numbers), dtype
        if self.rng.random() < 0.3:
            return self.graph.node("Identity", map_.tensor), "float32"
        return map_.tensor, "float32"

    def _scale(self, about: float) -> float:
        """A scale near a number: a power of two, or anything."""
        if self.rng.random() < 0.5:
            return 2.0 ** round(math.log2(about))
        return float(np.float32(about * self.rng.uniform(0.6, 1.6)))

    def _zero(self, dtype: str) -> int:
        low, high = (0, 255) if dtype == "uint8" else (-128, 127)
        choices = [low, 0 if dtype == "int8" else 128, int(self.rng.integers(low, high + 1))]
        return int(self.rng.choice(choices))

    def _numbers(self, scale: float, zero: int, dtype: str) -> tuple[str, ...]:
        scale_name = self.graph.constant(scale, np.float32)
        if zero == 0 and dtype == "uint8" and self.rng.random() < 0.2:
            return (scale_name,)
        return scale_name, self.graph.constant(zero, dtype)
