"""The report as tables for people, legible in 80 columns."""

from collections.abc import Iterator, Mapping
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from trencadis_compiler.report.shown_names import last_name, with_last_names

__all__ = ["render_report"]

Report = Mapping[str, Any]

MAX_NAME = 24
"""Characters of a layer's name that are shown."""

MAX_REASON = 300
"""Characters of a reason that are shown."""

MIN_ZEROS = 0.05
"""Share of weights that are zero of which a sentence is worth it."""

MAX_LAYERS = 40
"""Layers that are shown; of more, those with the most cycles."""

RIGHT, LEFT = "right", "left"


def render_report(report: Report, path: str, output: str) -> RenderableType:
    """The report: speed and what the zeros buy, advice, layers, and what runs where.

    Parameters
    ----------
    report : mapping
        The report, with the figures of `truth` or without them.
    path, output : str
        The model's file, and the compiled network's.
    """
    parts: list[RenderableType] = [Text(f"{_printable(path)} on {_printable(report['board'])}\n")]
    if "cycles_dense" in report:
        parts += _truth(report)
    parts.append(_layers(report))
    parts.append(Text(f"{_summary(report)}{output}: {report['image_bytes']:,} bytes of images."))
    parts += _segments(report)
    parts += [Text(_printable(hint)) for hint in report["hints"]]
    return Group(*parts, *_notes(report), *_advice(report))


def _table(*headings: tuple[str, str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for heading, justify in headings:
        table.add_column(heading, justify=justify, overflow="fold")  # type: ignore[arg-type]
    return table


def _truth(report: Report) -> Iterator[RenderableType]:
    """Speed end to end, onnxruntime beside it, and the gain of each sparsity."""
    table = _table(("", LEFT), ("latency", RIGHT), ("inferences/s", RIGHT), ("", LEFT))
    ours, native = report["inferences_per_s"], report["onnxruntime_inferences_per_s"]
    if report["cycles"]:
        table.add_row(
            "overlay, end to end",
            _seconds(report["latency_s"]),
            _count(ours),
            "modelled",
        )
    table.add_row(
        "onnxruntime, whole model",
        _seconds(1 / native if native else None),
        _count(native),
        "measured here, one at a time",
    )
    yield table
    if report["cycles"]:
        transfers, host = _seconds(report["transfer_s"]), _seconds(report["host_s"])
        yield Text(f"Of the latency, transfers take {transfers} and the host {host}.")
    if report["verdict"]:
        yield Text(_printable(report["verdict"]))
    yield Text("")
    if report["cycles"]:
        yield _cycles(report)
        yield Text("")


def _cycles(report: Report) -> RenderableType:
    dense, sparse, both = (
        report["cycles_dense"],
        report["cycles_sparse_weights"],
        report["cycles"],
    )
    table = _table(("", LEFT), ("dense", RIGHT), ("sparse weights", RIGHT), ("as compiled", RIGHT))
    table.add_row("cycles per inference", *map(_count, (dense, sparse, both)))
    if dense:
        table.add_row("times as fast as dense", "", f"{dense / sparse:.2f}", f"{dense / both:.2f}")
    note = "Dense, sparse weights: predicted for memories that hold all."
    if any("pieces" in layer for layer in report["layers"]):
        note = (
            "Dense, sparse weights: predicted. What was cut into pieces is cut likewise, the "
            "rest is in memories that hold all."
        )
    zeros = 1 - report["nonzero_weights"] / report["weights"] if report["weights"] else 0.0
    if dense and zeros >= MIN_ZEROS:
        bought = f"makes the array {dense / sparse:.2f} times as fast"
        note += f"\n{zeros:.0%} of the weights are zero, which {bought}."
    return Group(table, Text(note))


def _layers(report: Report) -> RenderableType:
    """A row for each layer, and rows for the cycles that no layer takes."""
    table = _table(
        ("layer", LEFT),
        ("output", RIGHT),
        ("weights", RIGHT),
        ("inputs", RIGHT),
        ("tiles", RIGHT),
        ("full", RIGHT),
        ("cycles", RIGHT),
        ("use", RIGHT),
    )
    layers = report["layers"]
    shown = _longest(layers)
    for number, (group, rows) in enumerate(_groups(report).items()):
        if number:
            table.add_section()
        for index in rows["layers"]:
            if index in shown:
                _add_layer(table, layers[index])
        hidden = [layers[i]["cycles"] for i in rows["layers"] if i not in shown]
        if hidden:
            table.add_row(f"{len(hidden)} other layers", *[""] * 5, _count(sum(hidden)), "")
        engine = f"engine {group[1]}: " if group[1] is not None and _chain(report) else ""
        for other in rows["others"]:
            if other["cycles"] >= 1:
                table.add_row(engine + other["what"], *[""] * 5, _count(other["cycles"]), "")
    legend = (
        "weights, inputs: the part that is not zero. tiles: number x kernels per tile,\n"
        "/rows where kernels collide. use: of the multipliers. ~: depends on the data.\n"
    )
    return Group(table, Text(legend))


def _add_layer(table: Table, layer: Mapping[str, Any]) -> None:
    rows = layer["rows_per_input"]
    table.add_row(
        Text(_short_name(_printable(layer["name"]))),
        "x".join(map(str, layer["output_shape"])),
        f"{layer['nonzeros'] / layer['weights']:.0%}",
        f"{layer['input_entries'] / layer['input_channels']:.0%}",
        f"{layer['tiles']}x{layer['kernels_per_tile']}" + (f"/{rows}" if rows > 1 else ""),
        f"{layer['packing_efficiency']:.0%}",
        _count(layer["cycles"]) + ("" if layer["static"] else "~"),
        f"{layer['multiplier_use']:.0%}",
    )


def _longest(layers: list[Any]) -> set[int]:
    """Numbers of the layers that are shown."""
    ranked = sorted(range(len(layers)), key=lambda i: -layers[i]["cycles"])
    return set(ranked[:MAX_LAYERS])


def _groups(report: Report) -> dict[tuple[int, int | None], dict[str, list[Any]]]:
    """Layers by number, and other rows, of each segment's engines; of pieces by segment."""
    found: dict[tuple[int, int | None], dict[str, list[Any]]] = {}
    for index, layer in enumerate(report["layers"]):
        engine = None if "pieces" in layer else layer["engine"]
        group = found.setdefault((layer.get("segment", 0), engine), {"layers": [], "others": []})
        group["layers"].append(index)
    for row in report["other_cycles"]:
        key = row.get("segment", 0), row["engine"]
        found.setdefault(key, {"layers": [], "others": []})["others"].append(row)
    return dict(sorted(found.items(), key=lambda item: (item[0][0], item[0][1] or 0)))


def _chain(report: Report) -> bool:
    return any(row["engine"] for row in report["other_cycles"])


def _summary(report: Report) -> str:
    """Products, and the limit of the speed."""
    period = report["cycles_per_word"]
    if not period:
        return "Nothing runs on the overlay.\n"
    dense, useful = report["dense_products"], report["useful_products"]
    return (
        f"{report['nonzero_weights']:,} of {report['weights']:,} weights are not zero; "
        f"{useful:,.0f} of {dense:,} multiplications are useful {_fewer(dense, useful)}.\n"
        f"{period:,.0f} cycles per inference ({report['cycles_are']}), "
        f"limited by {_printable(_short(report['limited_by']))}; "
        f"{report['multiplier_use']:.0%} of {report['multipliers_per_core']} multipliers in use, "
        f"at {report['clock_mhz']:g} MHz.\n"
    )


def _advice(report: Report) -> Iterator[RenderableType]:
    """Advice: the layer, why its zeros are lost, the change and its gain."""
    if "advice" not in report or not report["cycles"]:
        return
    if not report["advice"]:
        yield Text("\nNo change that was tried gains 3 % or more.")
        return
    yield Text("\nWhat would buy more, tried on this model, not retrained (gain in cycles):")
    layers = dict.fromkeys(advice["layer"] for advice in report["advice"])
    for layer in layers:
        mine = [advice for advice in report["advice"] if advice["layer"] == layer]
        where = _short_name(_printable(layer), 30) if layer else "the whole network"
        table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, show_header=False)
        table.add_column(justify=RIGHT, min_width=12)
        table.add_column(overflow="fold")
        for advice in mine:
            table.add_row(f"{advice['gain']:.2f} times", Text(_printable(advice["change"])))
        yield Group(Text(f"{where}: {_printable(mine[0]['why'])}"), table)


def _segments(report: Report) -> list[RenderableType]:
    """Places of the segments, if not all of them run on the overlay."""
    segments = report.get("segments", [])
    if all(segment["place"] == "overlay" for segment in segments) and len(segments) < 2:
        return []
    share = report["overlay_share"]
    lines = [Text(f"{share:.1%} of the multiplications are on the overlay." if share else "")]
    for number, segment in enumerate(segments):
        nodes = len(segment["nodes"])
        line = f"segment {number}: {nodes} nodes on the {segment['place']}"
        if segment["reason"]:
            line += f": {_short(segment['reason'])}"
        lines.append(Text(_printable(line)))
    return [line for line in lines if line.plain]


def _notes(report: Report) -> list[RenderableType]:
    """Notes to read before trusting the result."""
    notes = list(report.get("quantised", {}).get("notes", ()))
    if unverified := report.get("verified", {}).get("reason"):
        notes.append(f"not verified: {unverified}")
    return [Text(_printable(note)) for note in notes]


def _count(number: float | None) -> str:
    return "-" if number is None else f"{number:,.0f}"


def _seconds(seconds: float | None) -> str:
    """A time with a unit that leaves few digits."""
    if seconds is None:
        return "-"
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:,.3g} {unit}"
    return f"{seconds * 1e6:.3g} us" if seconds else "0"


def _short(reason: str) -> str:
    """A reason with the names in it as `_short_name` has them, shortened at its end."""
    reason = with_last_names(reason)
    return reason if len(reason) <= MAX_REASON else reason[: MAX_REASON - 3] + "..."


def _short_name(name: str, most: int = MAX_NAME) -> str:
    """The end of a long name, which tells more than its beginning."""
    name = last_name(name)
    return name if len(name) <= most else f"..{name[2 - most :]}"


def _fewer(dense: float, useful: float) -> str:
    return f"({dense / useful:.1f} times fewer)" if useful else "(none at all)"


def _printable(name: str) -> str:
    """A name without what a terminal would obey."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in name)
