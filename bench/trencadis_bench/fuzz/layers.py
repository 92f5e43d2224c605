"""Layers of every operator, attribute, type and pattern that the overlay accepts."""

import math
from dataclasses import replace
from typing import Any

import numpy as np

from trencadis_bench.fuzz.quantisers import Map, Quantisers

__all__ = ["Layers"]


class Layers(Quantisers):
    """Writes layers of one network, one after the other or side by side."""

    def layer(self, map_: Map, *, last: bool) -> Map:
        """Add a layer with all that may follow it; the last one may end in sums."""
        rng = self.rng
        if len(map_.shape) > 1 and rng.random() < 0.25:
            map_ = self.flattened(map_)
        if len(map_.shape) == 1:
            sums = self._product(map_)
        elif rng.random() < 0.2:
            sums = self._average(map_)
        else:
            sums = self._convolution(map_)
        sums = self._on_sums(sums)
        if last and rng.random() < 0.25:
            return sums
        map_ = self.quantised(sums)
        map_ = self._functions(map_)
        if len(map_.shape) > 1 and rng.random() < 0.3:
            map_ = self._max_pool(map_)
        if rng.random() < 0.3 and not last:
            map_ = self._winners(map_)
        return map_

    def like(self, map_: Map, channels: int) -> Map:
        """Add a layer whose map has as many positions; it ends in sums."""
        if len(map_.shape) == 1:
            return self._product(map_, channels)
        channels_in, *sizes = map_.shape
        kernel = [int(self.rng.choice([1, 3])) for _ in sizes]
        name, real = self.weights((channels, channels_in, *kernel), 0)
        operands = [map_.tensor, name]
        if self.rng.random() < 0.5:
            operands.append(self.bias(map_, channels, map_.size * 0.5))
        pads = [k // 2 for k in kernel]
        tensor = self.graph.node("Conv", *operands, kernel_shape=kernel, pads=[*pads, *pads])
        size = map_.size * float(np.sqrt((real**2).sum() / channels)) + 1e-6
        return replace(map_, tensor=tensor, shape=(channels, *sizes), size=size, winners=False)

    def flattened(self, map_: Map) -> Map:
        """Make a vector of a map."""
        size = math.prod(map_.shape)
        if self.rng.random() < 0.5:
            tensor = self.graph.node("Flatten", map_.tensor)
        else:
            shape = [0, -1] if self.rng.random() < 0.5 else [-1, size]
            tensor = self.graph.node("Reshape", map_.tensor, self.graph.constant(shape, np.int64))
        return replace(map_, tensor=tensor, shape=(size,))

    def _product(self, map_: Map, outputs: int | None = None) -> Map:
        rng = self.rng
        inputs = map_.shape[0]
        outputs = outputs or int(rng.integers(1, 12))
        spread = map_.size * 0.5
        if rng.random() < 0.5:
            turned = bool(rng.random() < 0.7)
            shape = (outputs, inputs) if turned else (inputs, outputs)
            name, real = self.weights(shape, 0 if turned else 1)
            operands = [map_.tensor, name]
            attributes: dict[str, Any] = {"transB": int(turned)}
            if rng.random() < 0.6 or self.style.opset < 11:  # before that the bias was required
                bias = self.bias(map_, outputs, spread)
                operands.append(bias)
            for key in ("alpha", "beta"):
                if rng.random() < 0.1:
                    attributes[key] = float(rng.choice([0.5, 2.0, 0.3]))
            tensor = self.graph.node("Gemm", *operands, **attributes)
        else:
            name, real = self.weights((inputs, outputs), 1)
            tensor = self.graph.node("MatMul", map_.tensor, name)
            if rng.random() < 0.5:
                tensor = self.graph.node("Add", tensor, self.bias(map_, outputs, spread))
        size = map_.size * float(np.sqrt((real**2).sum() / outputs)) + 1e-6
        return replace(map_, tensor=tensor, shape=(outputs,), size=size, winners=False)

    def _convolution(self, map_: Map) -> Map:
        rng = self.rng
        channels, *sizes = map_.shape
        groups = int(rng.choice([g for g in range(1, channels + 1) if channels % g == 0]))
        groups = groups if rng.random() < 0.3 else 1
        outputs = groups * int(rng.integers(1, max(2, 10 // groups)))
        kernel = [int(rng.integers(1, 4)) for _ in sizes]
        stride = [int(rng.choice([1, 1, 2])) for _ in sizes]
        dilation = [int(rng.choice([1, 1, 1, 2])) for _ in sizes]
        attributes: dict[str, Any] = {"kernel_shape": kernel, "strides": stride}
        if any(d > 1 for d in dilation):
            attributes["dilations"] = dilation
        if groups > 1:
            attributes["group"] = groups
        spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
        pads = [int(n) for n in rng.integers(0, 3, 2 * len(sizes))]
        if rng.random() < 0.2 and all(d == 1 for d in dilation):
            attributes["auto_pad"] = str(rng.choice(["SAME_UPPER", "SAME_LOWER"]))
            out = [-(-n // s) for n, s in zip(sizes, stride, strict=True)]
        else:
            if rng.random() < 0.3:
                pads = [0] * len(pads)
            pads = _enough(pads, sizes, spans)
            attributes["pads"] = pads
            half = len(sizes)
            out = [
                (n + a + b - span) // s + 1
                for n, a, b, span, s in zip(
                    sizes, pads[:half], pads[half:], spans, stride, strict=True
                )
            ]
        name, real = self.weights((outputs, channels // groups, *kernel), 0)
        operands = [map_.tensor, name]
        if rng.random() < 0.5:
            operands.append(self.bias(map_, outputs, map_.size * 0.5))
        tensor = self.graph.node("Conv", *operands, **attributes)
        size = map_.size * float(np.sqrt((real**2).sum() / outputs)) + 1e-6
        return replace(map_, tensor=tensor, shape=(outputs, *out), size=size, winners=False)

    def _average(self, map_: Map) -> Map:
        rng = self.rng
        channels, *sizes = map_.shape
        kind = str(rng.choice(["AveragePool", "GlobalAveragePool", "ReduceMean"]))
        map_ = replace(map_, winners=False)
        if kind == "GlobalAveragePool":
            tensor = self.graph.node(kind, map_.tensor)
            return replace(map_, tensor=tensor, shape=(channels, *[1] * len(sizes)))
        if kind == "ReduceMean":
            axes, keep = list(range(2, 2 + len(sizes))), int(rng.random() < 0.6)
            if self.style.opset >= 18:
                names = [map_.tensor, self.graph.constant(axes, np.int64)]
                tensor = self.graph.node(kind, *names, keepdims=keep)
            else:
                tensor = self.graph.node(kind, map_.tensor, axes=axes, keepdims=keep)
            shape = (channels, *[1] * len(sizes)) if keep else (channels,)
            return replace(map_, tensor=tensor, shape=shape)
        kernel = [int(rng.integers(1, n + 1)) for n in sizes]
        stride = [int(rng.choice([1, k])) for k in kernel]
        attributes: dict[str, Any] = {"kernel_shape": kernel, "strides": stride}
        pads = [0] * len(sizes)
        if rng.random() < 0.2:
            pads = [int(rng.integers(0, k)) for k in kernel]
            attributes |= {"pads": [*pads, *pads], "count_include_pad": 1}
        tensor = self.graph.node(kind, map_.tensor, **attributes)
        out = [
            (n + 2 * p - k) // s + 1 for n, p, k, s in zip(sizes, pads, kernel, stride, strict=True)
        ]
        return replace(map_, tensor=tensor, shape=(channels, *out))

    def _on_sums(self, map_: Map) -> Map:
        rng = self.rng
        channels, spread = map_.shape[0], [-1, *[1] * (len(map_.shape) - 1)]
        for _ in range(int(rng.choice([0, 0, 1, 2]))):
            kind = str(rng.choice(["BatchNormalization", "Add", "Sub", "Mul", "Div", "MaxPool"]))
            if kind == "BatchNormalization":
                numbers = (
                    rng.uniform(0.5, 1.5, channels) * rng.choice([-1, 1], channels, p=[0.1, 0.9]),
                    rng.normal(0, map_.size, channels),
                    rng.normal(0, map_.size, channels),
                    rng.uniform(0.2, 3, channels),
                )
                names = [self.graph.constant(n, np.float32) for n in numbers]
                tensor = self.graph.node(kind, map_.tensor, *names, epsilon=1e-3)
            elif kind == "MaxPool":
                if len(map_.shape) > 1:
                    map_ = self._max_pool(map_)
                continue
            else:
                numbers = rng.uniform(0.25, 2, channels)
                if rng.random() < 0.5:
                    numbers = 2.0 ** rng.integers(-2, 2, channels)
                numbers = numbers * (map_.size if kind in ("Add", "Sub") else 1.0)
                array = numbers.reshape(spread) if rng.random() < 0.7 else numbers[:1]
                tensor = self.graph.node(kind, map_.tensor, self.graph.constant(array, np.float32))
            map_ = replace(map_, tensor=tensor)
        if rng.random() < 0.5:
            tensor = map_.tensor
            if rng.random() < 0.7 or self.style.opset < 11:
                tensor = self.graph.node("Relu", tensor)
            else:
                low, high = sorted(rng.normal(0, map_.size, 2))
                bounds = [self.graph.constant(n, np.float32) for n in (low, high)]
                tensor = self.graph.node("Clip", tensor, *bounds)
            map_ = replace(map_, tensor=tensor)
        return map_

    def _functions(self, map_: Map) -> Map:
        rng = self.rng
        if rng.random() < 0.7:
            return map_
        kind = str(rng.choice(["Relu", "Sigmoid", "Tanh", "LeakyRelu", "Clip"]))
        if kind == "Clip" and self.style.opset < 11:
            kind = "Relu"
        operands, attributes = [map_.tensor], {}
        if kind == "LeakyRelu":
            attributes["alpha"] = float(rng.choice([0.01, 0.125, 0.3]))
        if kind == "Clip":
            operands += [self.graph.constant(n, np.float32) for n in (0.0, map_.size)]
        tensor = self.graph.node(kind, *operands, **attributes)
        size = 0.7 if kind in ("Sigmoid", "Tanh") else map_.size
        made = replace(map_, tensor=tensor, size=size)
        # What leaves the network quantised as before must have been left so by the function.
        return made if kind == "Relu" and rng.random() < 0.3 else self.quantised(made)

    def _max_pool(self, map_: Map) -> Map:
        rng = self.rng
        channels, *sizes = map_.shape
        if rng.random() < 0.15:
            tensor = self.graph.node("GlobalMaxPool", map_.tensor)
            return replace(map_, tensor=tensor, shape=(channels, *[1] * len(sizes)))
        kernel = [int(rng.integers(1, min(3, n) + 1)) for n in sizes]
        stride = [int(rng.choice([1, k])) for k in kernel]
        tensor = self.graph.node("MaxPool", map_.tensor, kernel_shape=kernel, strides=stride)
        out = [(n - k) // s + 1 for n, k, s in zip(sizes, kernel, stride, strict=True)]
        return replace(map_, tensor=tensor, shape=(channels, *out))

    def _winners(self, map_: Map) -> Map:
        """k-WTA in one of the forms that exporters write."""
        rng, g = self.rng, self.graph
        channels = map_.shape[0]
        k = int(rng.integers(1, channels + 1))
        axis = int(rng.choice([1, 1, -len(map_.shape)]))
        x = map_.tensor
        values, indices = g.nodes("TopK", x, g.constant([k], np.int64), outputs=2, axis=axis)
        form = int(rng.integers(0, 4)) if self.style.opset >= 12 else 0
        zeros = g.node("ConstantOfShape", g.node("Shape", x))
        if form == 0:
            tensor = g.node(
                "ScatterElements" if self.style.opset >= 11 else "Scatter",
                zeros,
                indices,
                values,
                axis=axis,
            )
        elif form == 1:
            gathered = g.node("GatherElements", x, indices, axis=axis)
            tensor = g.node("ScatterElements", zeros, indices, gathered, axis=axis)
        elif form == 2:
            last = g.node("Gather", values, g.constant([k - 1], np.int64), axis=axis)
            mask = g.node("GreaterOrEqual", x, last)
            if rng.random() < 0.5:
                tensor = g.node("Where", mask, x, g.constant(0, np.float32))
            else:
                tensor = g.node("Mul", x, g.node("Cast", mask, to=1))
        else:
            bounds = [g.constant([n], np.int64) for n in (k - 1, k, axis)]
            mask = g.node("GreaterOrEqual", x, g.node("Slice", values, *bounds))
            tensor = g.node("Where", mask, x, g.constant(0, np.float32))
        made = replace(map_, tensor=tensor, winners=True)
        return self.quantised(made, same=True) if rng.random() < 0.7 else made


def _enough(pads: list[int], sizes: list[int], spans: list[int]) -> list[int]:
    """Padding that leaves room for at least one window."""
    half = len(sizes)
    result = list(pads)
    for i, (size, span) in enumerate(zip(sizes, spans, strict=True)):
        result[half + i] += max(0, span - size - pads[i] - pads[half + i])
    return result
