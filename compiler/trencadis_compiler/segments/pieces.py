"""The report of a segment in pieces: what each layer takes, and what cutting costs."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from trencadis_boards import Board
from trencadis_compiler.cutting.image_size import image_bytes
from trencadis_compiler.cutting.plan_cut import Cut, CutStage
from trencadis_compiler.ir.network import Layer
from trencadis_compiler.mapping.place import PlacedLayer
from trencadis_compiler.segments.summary import hints_of, layer_row

__all__ = ["cut_report"]


def cut_report(cut: Cut, board: Board) -> dict[str, Any]:
    """The report as JSON-ready data. Cycles are for one sample of one core, loading included.

    A layer has one row, however many images compute pieces of it.
    """
    core = board.kernel.core
    rounds = _rounds(cut, core.batch_lanes)
    layers: list[dict[str, Any]] = []
    hints: list[str] = []
    for stage, runs in zip(cut.stages, rounds, strict=True):
        for name in stage.stage.layers:
            planned = _planned(stage, runs, name)
            layers.append(_row(_layer(cut, name), planned, stage, core.batch_lanes))
            hints += dict.fromkeys(hint for placed, _ in planned for hint in hints_of(placed))
    cycles, loading = float(cut.cycles), float(sum(stage.load_cycles for stage in cut.stages))
    useful = sum(layer["useful_products"] for layer in layers)
    layer_cycles = sum(layer["cycles"] for layer in layers)
    return {
        "board": board.name,
        "layers": layers,
        "engines": [],
        "other_cycles": [
            {"what": "loading images", "engine": None, "cycles": loading},
            {
                "what": "moving maps",
                "engine": None,
                "cycles": cycles - loading - layer_cycles,
            },
        ],
        "cycles_per_word": cycles,
        "cycles_are": "those of loading every image and running its pieces for one sample",
        "limited_by": "pieces that run one after the other",
        "hints": hints,
        "nonzero_weights": sum(layer["nonzeros"] for layer in layers),
        "weights": sum(layer["weights"] for layer in layers),
        "dense_products": sum(layer["dense_products"] for layer in layers),
        "useful_products": useful,
        "image_bytes": sum(image_bytes(program.placement) for program in cut.programs),
        "multiplier_use": useful / (cycles * core.multipliers),
        "multipliers_per_core": core.multipliers,
        "clock_mhz": board.clock_mhz,
        "pieces": [
            {
                "layers": list(stage.stage.layers),
                "images": len(stage.programs),
                "pieces": len(stage.stage.pieces),
                "sums_on_host": stage.stage.join.sums,
                "cycles": stage.cycles,
                "load_cycles": stage.load_cycles,
            }
            for stage in cut.stages
        ],
    }


def _rounds(cut: Cut, batch_lanes: int) -> list[list[int]]:
    """Number of runs of each image of each stage, for one sample."""
    counts = Counter(piece.image for stage in cut.stages for piece in stage.stage.pieces)
    return [
        [math.ceil(counts[image] / batch_lanes) for image in stage.stage.images]
        for stage in cut.stages
    ]


def _planned(stage: CutStage, rounds: Sequence[int], name: str) -> list[tuple[PlacedLayer, int]]:
    """A layer in every image of a stage, and how often it is run there."""
    return [
        (placed, runs)
        for program, runs in zip(stage.programs, rounds, strict=True)
        for placed in program.placement.layers
        if placed.plan.layer.name == name
    ]


def _layer(cut: Cut, name: str) -> Layer:
    return next(layer for layer in cut.network.layers if layer.name == name)


def _row(
    layer: Layer,
    planned: Sequence[tuple[PlacedLayer, int]],
    stage: CutStage,
    batch_lanes: int,
) -> dict[str, Any]:
    """The row of a layer: its own products and weights, and what its pieces take together.

    A sample's pieces share a run: each is computed in a batch lane of its own.
    """
    plans = [placed.plan for placed, _ in planned]
    density = sum(plan.feed.expected / plan.feed.channels for plan in plans) / len(plans)
    places = sum(p.packing.count * p.packing.depth * p.layer.weights.length for p in plans)
    cycles = float(sum(placed.plan.cycles * runs for placed, runs in planned))
    rows, columns = layer.conv_shape
    useful = rows * columns * layer.nonzeros * density
    return {
        **layer_row(planned[0][0], 1),
        "name": layer.name,
        "input_shape": list(layer.in_shape),
        "output_shape": list(layer.out_shape),
        "kernel_shape": list(layer.weights.shape),
        "weights": layer.weights.size,
        "nonzeros": layer.nonzeros,
        "input_entries": density * layer.in_shape[0],
        "input_channels": layer.in_shape[0],
        "tiles": sum(plan.packing.count for plan in plans),
        "rows_per_input": max(plan.packing.depth for plan in plans),
        "packing_efficiency": layer.nonzeros / places,
        "steps": sum(placed.plan.steps * runs for placed, runs in planned),
        "cycles": cycles,
        "limits": {
            name: float(sum(placed.plan.limits[name] * runs for placed, runs in planned))
            for name in plans[0].limits
        },
        "static": all(plan.static for plan in plans),
        "dense_products": layer.dense_products,
        "useful_products": useful,
        "multiplier_use": useful / (cycles * batch_lanes * plans[0].config.multipliers),
        "weight_rows": sum(plan.weight_rows for plan in plans),
        "images": len(stage.programs),
        "pieces": len(stage.stage.pieces),
    }
