"""Advice for networks on map engines, predicted by trying it.

A map engine multiplies as many weight rows for an activation as weights of a tile meet it, and a
tile has kernels that are `tiles` apart; so what helps is other than on list engines.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from trencadis_compiler.errors import CompileError
from trencadis_compiler.ir.kernels import Kernels
from trencadis_compiler.maps.compile_maps import CompiledMaps, map_kernel
from trencadis_compiler.maps.cycles import arrival_cycles, layer_cycles
from trencadis_compiler.maps.network import MapNetwork
from trencadis_compiler.maps.place import LayerShape, place_maps
from trencadis_compiler.report.advice import MAX_LAYERS, MIN_GAIN, PRUNED, Advice
from trencadis_format.config import KernelConfig
from trencadis_format.map_config import MAP_LIMITS, MapConfig

__all__ = ["MapChange", "advise_maps", "dense_maps", "map_changes", "predict_maps", "wider"]


@dataclass(frozen=True)
class MapChange:
    """A change of one layer: what a person would do, and the network after it."""

    layer: str
    why: str
    change: str
    network: MapNetwork


def advise_maps(
    segments: Sequence[CompiledMaps],
    *,
    budget_s: float,
    progress: Callable[[str], None] = lambda text: None,
) -> list[dict[str, Any]]:
    """Try changes, and tell those that gain, the best first, JSON-ready.

    Parameters
    ----------
    segments : sequence of CompiledMaps
        The overlay's share of the network.
    budget_s : float
        Seconds after which no more changes are tried.
    progress : callable
        Called with a short message before each try.
    """
    total = sum(segment.cycles for segment in segments)
    until = time.monotonic() + budget_s
    found = []
    if segments and time.monotonic() < until:
        progress("trying a wider map engine")
        found += _on_wider(segments, total)
    for segment, change in _changes(segments):
        if time.monotonic() > until:
            break
        progress(f"trying: {change.layer}: {change.change}")
        after = predict_maps(segment, change.network)
        gain = total / (total - segment.cycles + after)
        found.append(Advice(change.layer, change.why, change.change, gain))
    gains = [asdict(advice) for advice in found if advice.gain >= MIN_GAIN]
    return sorted(gains, key=lambda advice: -advice["gain"])


def predict_maps(
    segment: CompiledMaps, network: MapNetwork, kernel: KernelConfig | None = None
) -> float:
    """Cycles per inference of a segment with another network, or on another kernel.

    Where cycles were those of given data, they are scaled by what is expected without it.

    Parameters
    ----------
    segment : CompiledMaps
        The segment as it was compiled.
    network : MapNetwork
        The changed network.
    kernel : KernelConfig, optional
        Another kernel with a map engine.
    """
    today = segment.overlay.kernel
    density = _densities(segment)
    before = _cycles(segment.network, today, density)
    return segment.cycles * _cycles(network, kernel or today, density) / before


def dense_maps(segment: CompiledMaps) -> float:
    """Cycles per inference of a segment if neither weights nor activations were zero."""
    network = segment.network
    for step in network.steps:
        if step.layer is not None:
            network = _with_weights(network, step.name, _filled(step.layer.weights))
    return _cycles(network, segment.overlay.kernel, {})


def map_changes(segment: CompiledMaps, name: str) -> Iterator[MapChange]:
    """Changes worth a try for a layer.

    Parameters
    ----------
    segment : CompiledMaps
        The segment.
    name : str
        Name of the layer's step.
    """
    network, tiles = segment.network, segment.placement.config.tiles
    shape = next(
        shape
        for step, shape in zip(network.steps, segment.placement.shapes, strict=True)
        if step.name == name
    )
    if shape is None or shape.depth < 2 or shape.weights.groups > 1:
        return
    share = shape.weights.nonzeros / shape.weights.size
    why = (
        f"{share:.0%} of its weights are not zero, and in a tile up to {shape.depth} of them "
        "meet the same activation"
    )
    yield MapChange(
        name,
        why,
        f"masks by which kernels {tiles} apart share no position ({shape.beats} share a tile)",
        _with_weights(network, name, _apart(shape)),
    )
    if share > PRUNED:
        yield MapChange(
            name,
            why,
            f"prune to {PRUNED:.1%} by magnitude",
            _with_weights(network, name, _pruned(shape.weights)),
        )


def wider(config: MapConfig) -> MapConfig | None:
    """The engine with twice as many lanes and tiles; None if it is as wide as engines get."""
    lanes, tiles = 2 * config.lanes, 2 * config.tiles
    row = max(config.row_values, lanes, tiles)
    if any(
        size > MAP_LIMITS[name].high
        for name, size in (("lanes", lanes), ("tiles", tiles), ("row_values", row))
    ):
        return None
    try:
        return replace(config, lanes=lanes, tiles=tiles, row_values=row)
    except ValueError:  # of fields that do not fit each other
        return None


def _changes(segments: Sequence[CompiledMaps]) -> Iterator[tuple[CompiledMaps, MapChange]]:
    """Changes of the layers that take the most cycles, those first."""
    ranked = sorted(
        ((segment, row) for segment in segments for row in segment.report["layers"]),
        key=lambda pair: -pair[1]["cycles"],
    )
    for segment, row in ranked[:MAX_LAYERS]:
        for change in map_changes(segment, row["name"]):
            yield segment, change


def _on_wider(segments: Sequence[CompiledMaps], total: float) -> list[Advice]:
    """The gain of a map engine with more multipliers, at the same clock."""
    config = segments[0].placement.config
    wide = wider(config)
    if wide is None:
        return []
    after = 0.0
    try:
        for segment in segments:
            kernel = map_kernel(segment.overlay.kernel, place_maps(segment.network, wide))
            after += predict_maps(segment, segment.network, kernel)
    except CompileError:
        return []
    return [
        Advice(
            "",
            f"{config.lanes} lanes and {config.tiles} tiles now",
            f"a map engine with {wide.lanes} lanes and {wide.tiles} tiles "
            "(`kernel.core.map` of a board file)",
            total / after,
        )
    ]


def _densities(segment: CompiledMaps) -> dict[str, float]:
    """The share of each map that is not zero, as the segment was compiled for."""
    rows = {row["name"]: row for row in segment.report["layers"]}
    return {
        step.source: rows[step.name]["input_entries"] / rows[step.name]["input_channels"]
        for step in segment.network.steps
        if step.name in rows
    }


def _cycles(network: MapNetwork, kernel: KernelConfig, density: Mapping[str, float]) -> float:
    config = kernel.core.map
    assert config is not None, "the segment is one of a map engine"
    placement = place_maps(network, config)
    edges = arrival_cycles(placement, kernel.bus_bytes)
    return sum(layer.cycles for layer in layer_cycles(placement, density)) + edges


def _with_weights(network: MapNetwork, name: str, weights: Kernels) -> MapNetwork:
    steps = tuple(
        replace(step, layer=replace(step.layer, weights=weights))
        if step.name == name and step.layer is not None
        else step
        for step in network.steps
    )
    return replace(network, steps=steps)


def _filled(weights: Kernels) -> Kernels:
    """The weights with ones for zeros, but for those between groups."""
    dense = weights.dense()
    group_of_kernel = np.arange(dense.shape[0]) * weights.groups // dense.shape[0]
    group_of_channel = np.arange(dense.shape[1]) * weights.groups // dense.shape[1]
    own = (group_of_kernel[:, None] == group_of_channel)[:, :, None, None]
    filled = Kernels.of(np.where((dense == 0) & own, np.int8(1), dense))
    return replace(filled, groups=weights.groups)


def _pruned(weights: Kernels) -> Kernels:
    """The weights with the largest magnitudes; of equal ones those that come first."""
    dense = weights.dense()
    magnitudes = np.abs(dense.astype(np.int16)).ravel()
    kept = np.argsort(-magnitudes, kind="stable")[: round(PRUNED * magnitudes.size)]
    mask = np.zeros(magnitudes.size, bool)
    mask[kept] = True
    return Kernels.of(np.where(mask.reshape(dense.shape), dense, np.int8(0)))


def _apart(shape: LayerShape) -> Kernels:
    """Weights re-masked so that kernels of a tile share no position.

    Each kernel keeps its own weights where its mask allows; where it had none, it gets a 1, which
    stands for what training would put there. Deterministic.
    """
    rng = np.random.default_rng(0)
    dense = shape.weights.dense()
    flat = dense.reshape(len(shape.weights), -1)
    mask = np.zeros(flat.shape, bool)
    kernels = np.arange(len(flat))
    sets = kernels // shape.pass_places * shape.config.tiles + kernels % shape.config.tiles
    for number in np.unique(sets):
        order = rng.permutation(flat.shape[1])
        for place, kernel in enumerate(np.flatnonzero(sets == number)):
            mask[kernel, order[place :: shape.beats]] = True
    values = np.where(mask, np.where(flat == 0, np.int8(1), flat), np.int8(0))
    return Kernels.of(values.reshape(dense.shape))
