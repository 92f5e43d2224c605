"""The report of a network on a map engine."""

from collections.abc import Mapping, Sequence
from typing import Any

from trencadis_boards import Board
from trencadis_compiler.maps.cycles import LayerCycles
from trencadis_compiler.maps.network import MapStep
from trencadis_compiler.maps.place import LayerShape, MapPlacement

__all__ = ["map_report"]


def map_report(
    placement: MapPlacement,
    layers: Sequence[LayerCycles],
    edges: float,
    board: Board,
    image_bytes: int,
    density: Mapping[str, float],
    *,
    played: bool,
) -> dict[str, Any]:
    """The report as JSON-ready data, with the fields of that of list engines."""
    multipliers = placement.config.multipliers
    cycles = sum(taken.cycles for taken in layers) + edges
    steps = placement.network.steps
    entries = [
        _layer(placement, step, shape, taken, density)
        for step, shape, taken in zip(steps, placement.shapes, layers, strict=True)
        if shape is not None
    ]
    moved = sum(
        taken.cycles for taken, shape in zip(layers, placement.shapes, strict=True) if shape is None
    )
    slowest = max(layers, key=lambda taken: taken.cycles)
    useful = sum(entry["useful_products"] for entry in entries)
    static = all(density.get(step.source, 1.0) == 1.0 for step in steps)
    return {
        "board": board.name,
        "layers": entries,
        "engines": [
            {
                "program": [{"layer": step.name, "word_delay": 0} for step in steps],
                "cycles": cycles,
                "waiting_cycles": 0.0,
            }
        ],
        "other_cycles": [
            {"what": "steps that only move", "engine": 0, "cycles": moved},
            {"what": "arriving and leaving", "engine": 0, "cycles": edges},
        ],
        "cycles_per_word": cycles,
        "cycles_are": _basis(static=static, played=played),
        "limited_by": f"{slowest.limit} in layer {steps[layers.index(slowest)].name!r}",
        "hints": [],
        "nonzero_weights": sum(entry["nonzeros"] for entry in entries),
        "weights": sum(entry["weights"] for entry in entries),
        "dense_products": sum(entry["dense_products"] for entry in entries),
        "useful_products": useful,
        "multiplier_use": useful / (cycles * multipliers),
        "multipliers_per_core": multipliers,
        "image_bytes": image_bytes,
        "clock_mhz": board.clock_mhz,
    }


def _basis(*, static: bool, played: bool) -> str:
    if played:
        return "expected: they depend on the data, and were played on some of those given"
    if static:
        return "expected: of dense maps"
    return "expected: they depend on the data, and half of what ReLU leaves was taken to be zero"


def _layer(
    placement: MapPlacement,
    step: MapStep,
    shape: LayerShape,
    taken: LayerCycles,
    density: Mapping[str, float],
) -> dict[str, Any]:
    layer = step.layer
    assert layer is not None
    config = placement.config
    share = density.get(step.source, 1.0)
    _, rows, columns = layer.out_shape
    steps = rows * columns * shape.passes
    room = shape.passes * config.tiles * shape.depth * layer.weights.length
    return {
        "name": step.name,
        "engine": 0,
        "input_shape": list(layer.in_shape),
        "output_shape": list(layer.out_shape),
        "kernel_shape": list(layer.weights.shape),
        "weights": layer.weights.size,
        "nonzeros": layer.nonzeros,
        "input_entries": layer.in_shape[0] * share,
        "input_channels": layer.in_shape[0],
        "kernels_per_tile": shape.beats,
        "tiles": shape.passes * config.tiles,
        "rows_per_input": shape.depth,
        "packing_efficiency": layer.nonzeros / max(1, room),
        "passes": shape.passes,
        "reading": "maps",
        "groups_combined": False,
        "steps": steps,
        "cycles_per_step": taken.cycles / steps,
        "cycles": taken.cycles,
        "limits": taken.limits,
        "static": share == 1.0,
        "dense_products": layer.dense_products,
        "useful_products": taken.useful,
        "multiplier_use": taken.useful / (taken.cycles * config.multipliers),
        "weight_rows": shape.weight_rows,
    }
