"""Shortcuts, gates, branches, and nodes that the host computes."""

import math
from dataclasses import replace
from typing import Any

import numpy as np

from trencadis_bench.fuzz.layers import Layers
from trencadis_bench.fuzz.quantisers import Map

__all__ = ["Joins"]


class Joins(Layers):
    """Writes what splits and joins maps, and operators that no layer has."""

    def shortcut(self, map_: Map) -> Map:
        """Add to a map what one or two layers make of it, as residual networks do."""
        made = map_
        for _ in range(int(self.rng.integers(1, 3))):
            made = self.like(made, map_.shape[0])
            if self.rng.random() < 0.7:
                made = self.quantised(self._bounded(made))
        other = map_
        if self.rng.random() < 0.2:
            other = self.quantised(self.like(map_, map_.shape[0]))
        return self.joined(made, other)

    def joined(self, first: Map, second: Map) -> Map:
        """Join two maps of one shape, element by element."""
        rng = self.rng
        kind = str(rng.choice(["Add", "Add", "Add", "Add", "Sub", "Mul", "Max", "Min"]))
        operands = [first, second] if rng.random() < 0.5 else [second, first]
        tensor = self.graph.node(kind, *(operand.tensor for operand in operands))
        sizes = (first.size, second.size)
        size = math.prod(sizes) if kind == "Mul" else max(sizes)
        made = replace(first, tensor=tensor, size=size + 1e-6, winners=False)
        return self.quantised(self._bounded(made))

    def gate(self, map_: Map) -> Map:
        """Multiply channels by what a small network makes of their means."""
        rng, means = self.rng, map_
        channels, *sizes = map_.shape
        if sizes:
            tensor = self.graph.node("GlobalAveragePool", map_.tensor)
            shape = (channels, *[1] * len(sizes))
            means = self.quantised(replace(map_, tensor=tensor, shape=shape))
        sums = self.quantised(self.like(means, channels))
        tensor = self.graph.node(str(rng.choice(["Sigmoid", "HardSigmoid"])), sums.tensor)
        factors = self.quantised(replace(sums, tensor=tensor, size=0.7))
        tensor = self.graph.node("Mul", map_.tensor, factors.tensor)
        return self.quantised(replace(map_, tensor=tensor, winners=False))

    def branches(self, map_: Map) -> Map:
        """Put the channels of several branches after one another."""
        rng, parts = self.rng, list[Map]()
        for _ in range(int(rng.integers(2, 4))):
            if rng.random() < 0.25:
                parts.append(map_)
                continue
            part = self._bounded(self.like(map_, int(rng.integers(1, 7))))
            parts.append(self.quantised(part) if rng.random() < 0.8 else part)
        return self.concatenated(parts)

    def concatenated(self, parts: list[Map]) -> Map:
        """Put channels after one another; the maps have as many positions."""
        first = parts[0]
        axis = 1 if self.rng.random() < 0.8 else -len(first.shape)
        tensor = self.graph.node("Concat", *(part.tensor for part in parts), axis=axis)
        channels = sum(part.shape[0] for part in parts)
        size = max(part.size for part in parts)
        made = replace(
            first, tensor=tensor, shape=(channels, *first.shape[1:]), size=size, winners=False
        )
        return self.quantised(made) if self.rng.random() < 0.8 else made

    def parted(self, map_: Map) -> tuple[Map, Map]:
        """Part a map of two channels or more in two."""
        channels = map_.shape[0]
        first = int(self.rng.integers(1, channels))
        bounds = ((0, first), (first, channels))
        if self.rng.random() < 0.5 and self.style.opset >= 13:
            lengths = self.graph.constant([first, channels - first], np.int64)
            tensors = self.graph.nodes("Split", map_.tensor, lengths, outputs=2, axis=1)
        else:
            tensors = [self._slice(map_.tensor, *pair) for pair in bounds]
        return tuple(  # type: ignore[return-value]
            replace(map_, tensor=tensor, shape=(end - start, *map_.shape[1:]), winners=False)
            for tensor, (start, end) in zip(tensors, bounds, strict=True)
        )

    def on_host(self, map_: Map) -> Map:
        """Apply an operator that no layer has, or has only now and then."""
        vectors = {
            "Softmax": self._softmax,
            "Element-wise": self._element_wise,
            "LpNormalization": self._normalised,
            "Reshape": self._turned,
            "Slice": self._some,
        }
        maps = vectors | {
            "Pool": self._padded_pool,
            "Resize": self._resized,
            "Shuffle": self._shuffled,
            "Pad": self._padded,
            "Instance": self._instance,
        }
        choices = maps if len(map_.shape) > 1 else vectors
        made = choices[str(self.rng.choice(list(choices)))](replace(map_, winners=False))
        return self.quantised(made) if self.rng.random() < 0.8 else made

    def _bounded(self, map_: Map) -> Map:
        if self.rng.random() < 0.5:
            return map_
        return replace(map_, tensor=self.graph.node("Relu", map_.tensor))

    def _slice(self, tensor: str, start: int, end: int) -> str:
        bounds = [self.graph.constant([n], np.int64) for n in (start, end, 1)]
        return self.graph.node("Slice", tensor, *bounds)

    def _softmax(self, map_: Map) -> Map:
        tensor = self.graph.node("Softmax", map_.tensor, axis=1)
        return replace(map_, tensor=tensor, size=1.0)

    def _element_wise(self, map_: Map) -> Map:
        kind = str(self.rng.choice(["Abs", "Exp", "Neg", "Sqrt", "Floor", "Softplus", "Elu"]))
        tensor = map_.tensor
        if kind == "Exp":
            tensor = self.graph.node("Tanh", tensor)
        if kind == "Sqrt":
            tensor = self.graph.node("Abs", tensor)
        size = {"Exp": 2.0, "Sqrt": math.sqrt(map_.size) + 1e-6}.get(kind, map_.size)
        return replace(map_, tensor=self.graph.node(kind, tensor), size=size)

    def _normalised(self, map_: Map) -> Map:
        tensor = self.graph.node("LpNormalization", map_.tensor, axis=1, p=2)
        return replace(map_, tensor=tensor, size=1.0)

    def _turned(self, map_: Map) -> Map:
        """Turn two axes, or give them another shape, there and back."""
        shape = (-1, *map_.shape)
        tensor = map_.tensor
        if len(shape) > 2:
            order = [0, *(int(n) + 1 for n in self.rng.permutation(len(shape) - 1))]
            tensor = self.graph.node("Transpose", tensor, perm=order)
        tensor = self.graph.node("Reshape", tensor, self.graph.constant(shape, np.int64))
        return replace(map_, tensor=tensor)

    def _some(self, map_: Map) -> Map:
        """Keep some channels, next to one another or picked out."""
        channels = map_.shape[0]
        start = int(self.rng.integers(channels))
        kept = int(self.rng.integers(1, channels - start + 1))
        if self.rng.random() < 0.5:
            tensor = self._slice(map_.tensor, start, start + kept)
        else:
            picked = self.rng.integers(0, channels, kept)
            numbers = self.graph.constant(picked, np.int64)
            tensor = self.graph.node("Gather", map_.tensor, numbers, axis=1)
        return replace(map_, tensor=tensor, shape=(kept, *map_.shape[1:]))

    def _padded_pool(self, map_: Map) -> Map:
        sizes = map_.shape[1:]
        attributes: dict[str, Any] = {"strides": [1] * len(sizes), "pads": [1] * 2 * len(sizes)}
        kind = str(self.rng.choice(["MaxPool", "AveragePool"]))
        tensor = self.graph.node(kind, map_.tensor, kernel_shape=[3] * len(sizes), **attributes)
        return replace(map_, tensor=tensor)

    def _resized(self, map_: Map) -> Map:
        channels, *sizes = map_.shape
        factors = [int(self.rng.integers(1, 3)) for _ in sizes]
        scales = self.graph.constant([1, 1, *factors], np.float32)
        attributes = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric"}
        if self.style.opset < 11:
            tensor = self.graph.node("Resize", map_.tensor, scales, mode="nearest")
        else:
            region = self.graph.constant([], np.float32)
            tensor = self.graph.node(
                "Resize", map_.tensor, region, scales, nearest_mode="floor", **attributes
            )
        shape = (channels, *(n * f for n, f in zip(sizes, factors, strict=True)))
        return replace(map_, tensor=tensor, shape=shape)

    def _shuffled(self, map_: Map) -> Map:
        """Shuffle channels between groups."""
        channels, *sizes = map_.shape
        groups = next((n for n in (2, 3) if channels % n == 0), 1)
        apart = self.graph.constant([-1, groups, channels // groups, *sizes], np.int64)
        tensor = self.graph.node("Reshape", map_.tensor, apart)
        order = [0, 2, 1, *range(3, len(sizes) + 3)]
        tensor = self.graph.node("Transpose", tensor, perm=order)
        together = self.graph.constant([-1, channels, *sizes], np.int64)
        return replace(map_, tensor=self.graph.node("Reshape", tensor, together))

    def _padded(self, map_: Map) -> Map:
        channels, *sizes = map_.shape
        pads = [int(n) for n in self.rng.integers(0, 2, 2 * len(sizes))]
        half = len(sizes)
        everything = [0, 0, *pads[:half], 0, 0, *pads[half:]]
        mode = str(self.rng.choice(["constant", "edge", "reflect"]))
        if self.style.opset >= 11:
            numbers = self.graph.constant(everything, np.int64)
            tensor = self.graph.node("Pad", map_.tensor, numbers, mode=mode)
        else:
            tensor = self.graph.node("Pad", map_.tensor, pads=everything, mode=mode)
        shape = (
            channels,
            *(n + a + b for n, a, b in zip(sizes, pads[:half], pads[half:], strict=True)),
        )
        return replace(map_, tensor=tensor, shape=shape)

    def _instance(self, map_: Map) -> Map:
        numbers = [
            self.graph.constant(self.rng.uniform(0.5, 1.5, map_.shape[0]), np.float32)
            for _ in range(2)
        ]
        tensor = self.graph.node("InstanceNormalization", map_.tensor, *numbers)
        return replace(map_, tensor=tensor, size=1.0)
