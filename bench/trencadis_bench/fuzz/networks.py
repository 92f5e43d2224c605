"""Random networks: chains, and graphs with shortcuts, branches, several inputs and outputs."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx

from trencadis_bench.fuzz.joins import Joins
from trencadis_bench.fuzz.quantisers import Array, Input, Map, Style
from trencadis_bench.fuzz.variants import to_integer_operators, to_qonnx

__all__ = ["FuzzedNetwork", "random_network"]

GRAPHS = 0.55
"""Share of the networks that are more than a chain."""

REAL = 0.08
"""Share of the networks that are float models with calibration data."""

CALIBRATION_SAMPLES = 16


@dataclass(frozen=True)
class FuzzedNetwork:
    """A model, and inputs for it.

    Attributes
    ----------
    model : ModelProto
        The model.
    inputs : mapping of str to array, shape (samples, ...)
        Inputs by name, as many samples of each.
    calibration : mapping of str to array, optional
        Calibration data of a float model.
    """

    model: onnx.ModelProto
    inputs: Mapping[str, Array]
    calibration: Mapping[str, Array] | None = None


def random_network(rng: np.random.Generator) -> FuzzedNetwork:
    """Make a network from a random generator."""
    return _Maker(rng).make()


class _Maker:
    def __init__(self, rng: np.random.Generator) -> None:
        opset = int(rng.choice([10, 11, 12, 13, 13, 14, 16, 17, 18, 19, 21]))
        style = Style(
            opset=opset,
            per_channel=opset >= 13 and bool(rng.random() < 0.5),
            clips=0.8 if rng.random() < 0.1 else 0.05,
            real=bool(rng.random() < REAL),
        )
        self._rng = rng
        self._style = style
        self._parts = Joins(rng, style)
        self._inputs: list[Input] = []
        self._ends: list[Map] = []

    def make(self) -> FuzzedNetwork:
        """Make the network."""
        rng = self._rng
        if rng.random() < GRAPHS:
            self._graph()
        else:
            self._chain()
        batch: int | str = "N" if rng.random() < 0.7 else int(rng.integers(1, 4))
        ends = []
        for map_ in self._ends:
            tensor, dtype = self._parts.output(map_)
            if tensor in {name for name, _, _ in ends}:
                tensor = self._parts.graph.node("Identity", tensor)
            ends.append((tensor, (batch, *map_.shape), dtype))
        starts = [(start.name, (batch, *start.shape), start.dtype) for start in self._inputs]
        model = self._parts.graph.model(starts, ends, self._style.opset)
        if not self._style.real:
            self._rewrite(model)
        samples = int(rng.integers(1, 4)) * (batch if isinstance(batch, int) else 1)
        calibration = None
        if self._style.real:
            step = batch if isinstance(batch, int) else 1
            calibration = self._samples(CALIBRATION_SAMPLES // step * step)
        return FuzzedNetwork(model, self._samples(samples), calibration)

    def _rewrite(self, model: onnx.ModelProto) -> None:
        """Write it as other tools would, at times."""
        form = self._rng.random()
        if form < 0.1 and self._style.opset >= 11:
            to_qonnx(model)
        elif form < 0.25:
            to_integer_operators(model)

    def _samples(self, count: int) -> dict[str, Array]:
        return {start.name: start.samples(count, self._rng) for start in self._inputs}

    def _start(self, shape: tuple[int, ...]) -> Map:
        dtypes = ["float32", "float32", "float32", "uint8", "int8"]
        dtype = "float32" if self._style.real else str(self._rng.choice(dtypes))
        name = f"x{len(self._inputs)}" if self._inputs else "x"
        map_, made = self._parts.input(name, shape, dtype)
        self._inputs.append(made)
        return map_

    def _shape(self) -> tuple[int, ...]:
        rng = self._rng
        rank = int(rng.choice([1, 2, 3, 3, 3]))
        if rank == 1:
            return (int(rng.integers(1, 40)),)
        return (int(rng.integers(1, 9)), *(int(n) for n in rng.integers(2, 9, rank - 1)))

    def _chain(self) -> None:
        map_ = self._start(self._shape())
        layers = int(self._rng.integers(1, 4))
        for number in range(layers):
            map_ = self._parts.layer(map_, last=number + 1 == layers)
        self._ends = [map_]

    def _graph(self) -> None:
        """Steps on one of the maps that are open, which are joined or left as outputs."""
        rng, parts = self._rng, self._parts
        maps = [self._start(self._shape())]
        if rng.random() < 0.3:
            maps.append(self._start(maps[0].shape if rng.random() < 0.6 else self._shape()))
        for _ in range(int(rng.integers(2, 6))):
            maps = self._step(maps)
            if len(maps) > 1 and rng.random() < 0.5:
                maps = self._joined(maps)
        while len(maps) > 1 and rng.random() < 0.7:
            maps = self._joined(maps)
        if rng.random() < 0.4:
            maps[0] = parts.layer(maps[0], last=True)
        self._ends = [*self._ends, *maps]

    def _step(self, maps: list[Map]) -> list[Map]:
        rng, parts = self._rng, self._parts
        number = int(rng.integers(len(maps)))
        map_ = maps.pop(number)
        kind = str(
            rng.choice(
                ["layer", "shortcut", "branches", "gate", "host", "fork", "parted", "output"],
                p=[0.25, 0.25, 0.12, 0.08, 0.12, 0.08, 0.06, 0.04],
            )
        )
        match kind:
            case "shortcut":
                return [*maps, parts.shortcut(map_)]
            case "branches":
                return [*maps, parts.branches(map_)]
            case "gate":
                return [*maps, parts.gate(map_)]
            case "host":
                return [*maps, parts.on_host(map_)]
            case "fork":
                return [*maps, parts.layer(map_, last=False), map_]
            case "parted" if map_.shape[0] > 1:
                return [*maps, *parts.parted(map_)]
            case "output":
                self._ends.append(map_)
                return [*maps, map_]
            case _:
                return [*maps, parts.layer(map_, last=False)]

    def _joined(self, maps: list[Map]) -> list[Map]:
        """Join the first two maps, in whatever way their shapes allow."""
        parts = self._parts
        first, second, *rest = maps
        if first.shape == second.shape and self._rng.random() < 0.5:
            return [parts.joined(first, second), *rest]
        if first.shape[1:] == second.shape[1:]:
            return [parts.concatenated([first, second]), *rest]
        vectors = [
            parts.flattened(map_) if len(map_.shape) > 1 else map_ for map_ in (first, second)
        ]
        if self._rng.random() < 0.5:
            first, second = (parts.quantised(parts.like(map_, 5)) for map_ in vectors)
            return [parts.joined(first, second), *rest]
        return [parts.concatenated(vectors), *rest]
