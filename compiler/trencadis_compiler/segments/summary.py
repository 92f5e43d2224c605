"""The report of a network on a core, JSON-ready."""

from collections.abc import Mapping, Sequence
from typing import Any

from trencadis_boards import Board
from trencadis_compiler.mapping.place import PlacedLayer, Placement
from trencadis_compiler.mapping.schedule import Schedule
from trencadis_format.config import KernelConfig

__all__ = ["hints_of", "layer_row", "make_report"]

MIN_SHARE = 0.5
"""Minimum for a hint: more than this part of a layer's weights is zero, and of its tiles empty."""


def make_report(
    placement: Placement,
    plan: Schedule,
    kernel: KernelConfig,
    board: Board,
    image_bytes: int,
    *,
    profiled: bool,
) -> dict[str, Any]:
    """The report as JSON-ready data. Cycles are for one sample of one core."""
    samples = kernel.core.batch_lanes
    layers = [layer_row(placed, samples) for placed in placement.layers]
    useful = sum(layer["useful_products"] for layer in layers)
    dense = sum(layer["dense_products"] for layer in layers)
    period = plan.period / samples
    return {
        "board": board.name,
        "layers": layers,
        "engines": [
            {
                "program": [
                    {"layer": turn.placed.layer.name, "word_delay": turn.delay}
                    for turn in engine.turns
                ],
                "cycles": engine.period / samples,
                "waiting_cycles": engine.waiting / samples,
            }
            for engine in plan.engines
        ],
        "other_cycles": [
            {"what": "waiting", "engine": number, "cycles": period - cycles}
            for number, cycles in enumerate(_busy(layers, len(kernel.core.engines)))
        ],
        "cycles_per_word": period,
        "cycles_are": _basis(plan, profiled),
        "limited_by": plan.limit,
        "hints": [hint for placed in placement.layers for hint in hints_of(placed)],
        "nonzero_weights": sum(layer["nonzeros"] for layer in layers),
        "weights": sum(layer["weights"] for layer in layers),
        "dense_products": dense,
        "useful_products": useful,
        "multiplier_use": useful / (period * kernel.core.multipliers),
        "multipliers_per_core": kernel.core.multipliers,
        "image_bytes": image_bytes,
        "clock_mhz": board.clock_mhz,
    }


def _busy(layers: Sequence[Mapping[str, Any]], engines: int) -> list[float]:
    """Cycles per inference in which each engine works on its layers."""
    return [
        sum(layer["cycles"] for layer in layers if layer["engine"] == engine)
        for engine in range(engines)
    ]


def _basis(plan: Schedule, profiled: bool) -> str:
    if plan.static:
        return "static: the same for every sample"
    if all(turn.placed.plan.static for engine in plan.engines for turn in engine.turns):
        return "expected: layers wait for each other, by times of which only bounds are known"
    if profiled:
        return "expected: they depend on the data, and were estimated from the profile given"
    return "expected: they depend on the data, and were estimated without a profile"


def hints_of(placed: PlacedLayer) -> list[str]:
    """Hints for better use of a layer's zeros, if they are many and have little effect."""
    plan = placed.plan
    name, zeros = plan.layer.name, 1 - plan.layer.nonzeros / plan.layer.weights.size
    full, most = plan.packing_efficiency, plan.config.kernels_per_tile
    if zeros < MIN_SHARE:
        return []
    subject = f"layer {name!r}: {zeros:.0%} of its weights are zero, but"
    positions = plan.layer.weights.window
    if plan.feed.dense and positions == 1 and plan.tile_rounds == 1:
        remedy = "inputs that are mostly zero can be sent sparse (--input-nonzeros)"
        return [f"{subject} its dense input takes a cycle per value; {remedy}"]
    if full > 1 - MIN_SHARE or plan.tile_rounds == 1:
        return []
    if plan.packing.kernels_per_tile == 1 and plan.layer.weights.occupancy.all_collide:
        reason = "no two of its kernels fit together; `sparsify` moves models to masks that do"
    elif plan.packing.kernels_per_tile == most:
        reason = f"engine {placed.engine} of the board overlays {most} at most"
    else:
        return []
    return [f"{subject} its tiles are {full:.0%} full: {reason}"]


def layer_row(placed: PlacedLayer, samples: int) -> dict[str, Any]:
    """Figures of a layer, JSON-ready.

    Parameters
    ----------
    placed : PlacedLayer
        The layer.
    samples : int
        Samples that the core computes at the same time: cycles are for one of them.
    """
    plan = placed.plan
    layer = plan.layer
    return {
        "name": layer.name,
        "engine": placed.engine,
        "input_shape": list(layer.in_shape),
        "output_shape": list(layer.out_shape),
        "kernel_shape": list(layer.weights.shape),
        "weights": layer.weights.size,
        "nonzeros": layer.nonzeros,
        "input_entries": plan.feed.expected,
        "input_channels": plan.feed.channels,
        "kernels_per_tile": plan.packing.kernels_per_tile,
        "tiles": len(plan.packing.tiles),
        "rows_per_input": plan.packing.depth,
        "packing_efficiency": plan.packing_efficiency,
        "passes": plan.tile_rounds,
        "reading": plan.reading.value,
        "groups_combined": plan.combine,
        "steps": plan.steps,
        "cycles_per_step": plan.interval,
        "cycles": plan.cycles / samples,
        "limits": {name: cycles / samples for name, cycles in plan.limits.items()},
        "static": plan.static,
        "dense_products": layer.dense_products,
        "useful_products": plan.products,
        "multiplier_use": plan.products / (plan.cycles * plan.config.multipliers),
        "weight_rows": plan.weight_rows,
    }
