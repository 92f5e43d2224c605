"""The report as one HTML page: no scripts, styles or pictures from anywhere else."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from trencadis_compiler.errors import CompileError
from trencadis_compiler.mapping.place import Placement
from trencadis_compiler.maps.place import MapPlacement
from trencadis_compiler.report.page.boards_plot import boards_plot
from trencadis_compiler.report.page.graph_plot import graph_plot
from trencadis_compiler.report.page.memories import memories_of
from trencadis_compiler.report.page.mosaic import mosaic_of
from trencadis_compiler.report.page.tiling import tilings_of
from trencadis_compiler.report.shown_names import last_name, with_last_names

__all__ = ["MAX_PLACES", "html_page"]

MAX_PLACES = 3_000_000
"""Places of all mosaics together: bounds the page, whatever the network."""

MAX_MOSAICS = 200
"""Layers with a mosaic; of more layers, those with the most cycles have one."""

NONE = "\N{EN DASH}"
"""Stands for a figure that is not known."""

UNITS = (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6))

MAX_NAME = 120
MAX_TEXT = 300
"""Characters of a name, and of a sentence, that are shown; the rest is in the JSON."""


def html_page(
    report: Mapping[str, Any],
    placements: Sequence[Placement | MapPlacement],
    *,
    title: str,
    boards: Sequence[Mapping[str, Any]] = (),
) -> str:
    """The page of a report.

    Parameters
    ----------
    report : mapping
        The report, as `--json` prints it.
    placements : sequence of Placement or MapPlacement
        The overlay segments, in order.
    title : str
        Name of the model.
    boards : sequence of mapping
        The same network on other boards: name, cycles, inferences per second, why not.

    Raises
    ------
    CompileError
        If Jinja2 is missing.
    """
    try:
        from jinja2 import Environment, StrictUndefined
    except ImportError as error:
        raise CompileError(
            f"--report: the page needs the package jinja2 ({error}); install it with: "
            "pip install 'trencadis[compiler]'"
        ) from error
    folder = files("trencadis_compiler.report.page")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "count": _count,
        "share": _share,
        "seconds": _seconds,
        "name": shown_name,
        "layer": _layer_name,
        "text": _text,
    }
    template = environment.from_string(folder.joinpath("page.html.jinja").read_text("utf-8"))
    layers = report["layers"]
    longest = _longest(layers)
    return template.render(
        title=shown_name(title),
        report=report,
        layers=[_row(layer, longest) for layer in layers],
        longest=longest,
        others=_others(report["other_cycles"]),
        bars=_bars(report),
        graph=graph_plot(report.get("graph", ()), report["segments"]),
        mosaics=_mosaics(placements, {layer["name"]: layer["cycles"] for layer in layers}),
        memories=memories_of(placements),
        boards=boards,
        plot=boards_plot(boards),
        style=folder.joinpath("page.css").read_text("utf-8"),
        script=folder.joinpath("page.js").read_text("utf-8"),
    )


def shown_name(name: object) -> str:
    """A name without control characters and direction marks, shortened."""
    return _shown(name, MAX_NAME)


def _layer_name(name: object) -> str:
    return shown_name(last_name(str(name)))


def _text(sentence: object) -> str:
    """A sentence with names in it, likewise."""
    return _shown(with_last_names(str(sentence)), MAX_TEXT)


def _shown(value: object, most: int) -> str:
    text = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(value))
    return text if len(text) <= most else text[: most - 1] + "…"


def _count(value: Any) -> str:
    """A number with thousands parted; a dash where there is none."""
    if not isinstance(value, (int, float)) or not math.isfinite(value):
        return NONE
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:,.3g}"


def _share(value: Any) -> str:
    if not isinstance(value, (int, float)) or not math.isfinite(value):
        return NONE
    return f"{value:.1%}"


def _seconds(value: Any) -> str:
    """A time in the unit that leaves few digits."""
    if not isinstance(value, (int, float)) or not math.isfinite(value):
        return NONE
    unit, size = next(((u, s) for u, s in UNITS if value >= s), UNITS[-1])
    return f"{value / size:.3g} {unit}"


def _times(value: Any, of: Any) -> str:
    """Ratio of two figures."""
    known = all(isinstance(x, (int, float)) and math.isfinite(x) and x > 0 for x in (value, of))
    return f"{value / of:.2f}\N{MULTIPLICATION SIGN}" if known else NONE


def _bars(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Cycles of the network dense, with sparse weights, and as compiled, with bars."""
    names = {
        "cycles_dense": "dense",
        "cycles_sparse_weights": "sparse weights only",
        "cycles": "as compiled",
    }
    known = {
        key: report[key]
        for key in names
        if isinstance(report.get(key), (int, float)) and math.isfinite(report[key])
    }
    largest = max(known.values(), default=0)
    return [
        {
            "label": names[key],
            "cycles": cycles,
            "bar": 100 * cycles / largest,
            "times": _times(known.get("cycles_dense"), cycles),
        }
        for key, cycles in known.items()
        if largest
    ]


def _longest(layers: Sequence[Mapping[str, Any]]) -> float:
    return max((layer["cycles"] for layer in layers if math.isfinite(layer["cycles"])), default=1.0)


def _row(layer: Mapping[str, Any], longest: float) -> dict[str, Any]:
    """A layer's row, with bars as percentages of the longest layer.

    `useful` is the bar of the cycles that useful products alone would take; `marks` are those that
    each part of the engine would take.
    """
    cycles = layer["cycles"] if math.isfinite(layer["cycles"]) else 0.0
    scale = 100 / longest if longest else 0.0
    limits = {name: value for name, value in layer["limits"].items() if value > 0}
    return {
        **layer,
        "bar": scale * cycles,
        "useful": scale * cycles * min(1.0, layer["multiplier_use"]),
        "limited_by": max(limits, key=lambda name: limits[name], default=NONE),
        "limit_text": ", ".join(f"{name} {_count(value)}" for name, value in limits.items()),
        "marks": [min(100.0, scale * value) for value in limits.values()],
    }


def _others(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Cycles that no layer takes, of all segments together."""
    sums: Counter[str] = Counter()
    for row in rows:
        where = "" if row["engine"] is None else f", engine {row['engine']}"
        sums[row["what"] + where] += row["cycles"]
    return [{"what": what, "cycles": cycles} for what, cycles in sums.items() if cycles >= 1]


def _mosaics(
    placements: Sequence[Placement | MapPlacement], cycles: Mapping[str, float]
) -> list[dict[str, Any]]:
    """Mosaics in the network's order, of the layers with the most cycles where there are many."""
    tilings = [
        tiling
        for placement in placements
        for tiling in tilings_of(placement)
        if tiling.name in cycles
    ]
    images = Counter(tiling.name for tiling in tilings)
    ranked = sorted(range(len(tilings)), key=lambda i: -cycles[tilings[i].name])
    chosen = [tilings[i] for i in sorted(ranked[:MAX_MOSAICS])]
    total = sum(tiling.places for tiling in chosen)
    found, seen = [], Counter[str]()
    for tiling in chosen:
        share = max(1000, int(MAX_PLACES * tiling.places / total)) if total else 1
        mosaic = mosaic_of(tiling, min(tiling.places, share))
        name = tiling.name
        seen[name] += 1
        found.append(
            {
                "name": name,
                "image": f"image {seen[name]} of {images[name]}" if images[name] > 1 else "",
                "kernels": len(tiling.weights),
                "kernels_per_tile": tiling.kernels_per_tile,
                "tiles": len(tiling.tiles),
                "full": mosaic.filled / tiling.places if tiling.places else 0.0,
                "channels": tiling.weights.shape[1],
                "data": mosaic,
            }
        )
    return found
