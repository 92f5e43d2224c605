"""What the compiler has to say about a network: tables for people, JSON for programs."""

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from trencadis_boards import Board
from trencadis_compiler.packing import all_collide
from trencadis_compiler.place import PlacedLayer, Placement
from trencadis_compiler.schedule import Schedule
from trencadis_hw.config import KernelConfig

__all__ = ["make_report", "render_report"]

MOSTLY = 0.5
"""For a hint, more than this part of a layer's weights is zero, and of its tiles empty."""


def make_report(
    placement: Placement,
    plan: Schedule,
    kernel: KernelConfig,
    board: Board,
    image_bytes: int,
    *,
    profiled: bool,
) -> dict[str, Any]:
    """The report as JSON-ready data. Cycles are for one word of one core."""
    words = kernel.core.words
    layers = [_layer(placed) for placed in placement.layers]
    useful = sum(layer["useful_products"] for layer in layers)
    dense = sum(layer["dense_products"] for layer in layers)
    period = plan.period / words
    return {
        "board": board.name,
        "layers": layers,
        "engines": [
            {
                "program": [
                    {"layer": turn.layer.plan.layer.name, "word_delay": turn.delay}
                    for turn in engine.turns
                ],
                "cycles": engine.period,
                "waiting_cycles": engine.waiting,
            }
            for engine in plan.engines
        ],
        "cycles_per_word": period,
        "cycles_are": _basis(plan, profiled),
        "limited_by": plan.limit,
        "hints": [hint for placed in placement.layers for hint in _hints(placed)],
        "nonzero_weights": sum(layer["nonzeros"] for layer in layers),
        "weights": sum(layer["weights"] for layer in layers),
        "dense_products": dense,
        "useful_products": useful,
        "multiplier_use": useful / (period * kernel.core.multipliers),
        "multipliers_per_core": kernel.core.multipliers,
        "image_bytes": image_bytes,
        "clock_mhz": board.clock_mhz,
    }


def _basis(plan: Schedule, profiled: bool) -> str:
    if plan.static:
        return "static: the same for every word"
    if all(turn.layer.plan.static for engine in plan.engines for turn in engine.turns):
        return "expected: layers wait for each other, by times of which only bounds are known"
    if profiled:
        return "expected: they depend on the data, and were estimated from the profile given"
    return "expected: they depend on the data, and were estimated without a profile"


def _hints(placed: PlacedLayer) -> list[str]:
    """What would make better use of a layer's zeros, if they are many and have little effect."""
    plan = placed.plan
    name, zeros = plan.layer.name, 1 - plan.layer.nonzeros / plan.layer.weights.size
    full, most = plan.packing_efficiency, plan.config.kernels
    if zeros < MOSTLY:
        return []
    subject = f"layer {name!r}: {zeros:.0%} of its weights are zero, but"
    positions = plan.layer.weights[0, 0].size
    if plan.feed.dense and positions == 1 and plan.passes == 1:
        remedy = "inputs that are mostly zero can be sent sparse (--input-nonzeros)"
        return [f"{subject} its dense input takes a cycle a value; {remedy}"]
    if full > 1 - MOSTLY or plan.passes == 1:
        return []
    if plan.packing.kernels_per_tile == 1 and all_collide(plan.layer.weights):
        reason = "no two of its kernels fit together; `sparsify` moves models to masks that do"
    elif plan.packing.kernels_per_tile == most:
        reason = f"engine {placed.engine} of the board overlays {most} at most"
    else:
        return []
    return [f"{subject} its tiles are {full:.0%} full: {reason}"]


def _layer(placed: PlacedLayer) -> dict[str, Any]:
    plan = placed.plan
    layer = plan.layer
    return {
        "name": layer.name,
        "engine": placed.engine,
        "input_shape": list(layer.in_shape),
        "output_shape": list(layer.out_shape),
        "kernel_shape": list(layer.weights.shape),
        "weights": int(layer.weights.size),
        "nonzeros": layer.nonzeros,
        "input_entries": plan.feed.expected,
        "input_channels": plan.feed.channels,
        "kernels_per_tile": plan.packing.kernels_per_tile,
        "tiles": len(plan.packing.tiles),
        "rows_per_input": plan.packing.depth,
        "packing_efficiency": plan.packing_efficiency,
        "passes": plan.passes,
        "reading": plan.reading.value,
        "groups_combined": plan.combine,
        "steps": plan.steps,
        "cycles_per_step": plan.interval,
        "cycles": plan.cycles,
        "static": plan.static,
        "dense_products": layer.dense_products,
        "useful_products": plan.products,
        "multiplier_use": plan.products / (plan.cycles * plan.config.multipliers),
        "weight_rows": plan.weight_rows,
    }


def render_report(report: Mapping[str, Any], path: str, output: str) -> RenderableType:
    """The report as a table with a summary."""
    # Names come from the model: Text, so that none of it is taken for markup.
    table = Table(title=Text(f"{path} on {report['board']}"), title_justify="left")
    for heading, justify in (
        ("layer", "left"),
        ("input", "right"),
        ("output", "right"),
        ("non-zeros", "right"),
        ("inputs", "right"),
        ("S", "right"),
        ("tiles", "right"),
        ("packing", "right"),
        ("cycles", "right"),
        ("use", "right"),
    ):
        table.add_column(heading, justify=justify)  # type: ignore[arg-type]
    for layer in report["layers"]:
        tiles = str(layer["tiles"])
        if layer["rows_per_input"] > 1:
            tiles += f" x{layer['rows_per_input']}"
        table.add_row(
            Text(_printable(layer["name"])),
            "x".join(map(str, layer["input_shape"])),
            "x".join(map(str, layer["output_shape"])),
            f"{layer['nonzeros']:,} of {layer['weights']:,}",
            f"{layer['input_entries']:.4g} of {layer['input_channels']}",
            str(layer["kernels_per_tile"]),
            tiles,
            f"{layer['packing_efficiency']:.0%}",
            f"{layer['cycles']:,.0f}" + ("" if layer["static"] else " ~"),
            f"{layer['multiplier_use']:.0%}",
        )
    dense, useful = report["dense_products"], report["useful_products"]
    words = report["clock_mhz"] * 1e6 / report["cycles_per_word"]
    summary = Text(
        f"{report['nonzero_weights']:,} of {report['weights']:,} weights are not zero; "
        f"{useful:,.0f} of {dense:,} multiplications are useful "
        f"({dense / useful:.1f} times fewer).\n"
        f"{report['cycles_per_word']:,.0f} cycles a word ({report['cycles_are']}), "
        f"limited by {_printable(report['limited_by'])}; "
        f"{report['multiplier_use']:.0%} of {report['multipliers_per_core']} multipliers in use: "
        f"{words:,.0f} words/s a core at {report['clock_mhz']:g} MHz (modelled).\n"
        f"{output}: {report['image_bytes']:,} bytes of image."
    )
    hints = [Text(_printable(hint)) for hint in report["hints"]]
    return Group(table, summary, *hints)


def _printable(name: str) -> str:
    """A name without what a terminal would obey."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in name)
