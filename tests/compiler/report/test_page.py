"""The page of a report: whole, safe, and small."""

import base64
import math
import re
import zlib
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixtures.map_graphs import write_graph

from trencadis_boards import load_board
from trencadis_compiler.compile import compile_model
from trencadis_compiler.maps.place import MapPlacement
from trencadis_compiler.options import Options
from trencadis_compiler.report.boards import compare_boards
from trencadis_compiler.report.page.mosaic import HOLE, mosaic_of
from trencadis_compiler.report.page.tiling import Tiling, tilings_of
from trencadis_compiler.report.page.write import MAX_NAME, MAX_TEXT, html_page, shown_name

DIGITS = Path(__file__).parents[3] / "examples/digits/digits.onnx"

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "\u202eright to left\u202c",
    "x" * 10_000,
    "{{ 7 * 7 }}",
    "a\x00b\x1b[31m\n",
]


@pytest.fixture(scope="module")
def compiled() -> Any:
    return compile_model(DIGITS, load_board("sim"))


class Checked(HTMLParser):
    """Counts tags, and the scripts and addresses among them."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.scripts = 0
        self.addresses: list[str] = []
        self.handlers: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "br", "img", "link"):
            self.open.append(tag)
        self.scripts += tag == "script"
        for name, value in attrs:
            if name in ("src", "href"):
                self.addresses.append(value or "")
            if name.startswith("on"):
                self.handlers.append(name)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def checked(page: str) -> Checked:
    parser = Checked()
    parser.feed(page)
    assert parser.open == []
    assert parser.scripts == 1
    assert parser.addresses == []
    assert parser.handlers == []
    return parser


def page_of(compiled: Any, **changes: Any) -> str:
    report = {**compiled.compiled.report, **changes}
    placements = [segment.placement for segment in compiled.segments]
    return html_page(report, placements, title=changes.get("title", "digits.onnx"))


def test_the_page_is_whole_and_names_every_layer(compiled: Any) -> None:
    page = page_of(compiled)
    checked(page)
    for layer in compiled.compiled.report["layers"]:
        assert layer["name"] in page


@pytest.mark.parametrize("name", HOSTILE)
def test_names_are_text_and_no_more(compiled: Any, name: str) -> None:
    layers = [{**layer, "name": name} for layer in compiled.compiled.report["layers"]]
    advice = [{"layer": name, "why": name, "change": name, "gain": 2.0}]
    page = page_of(compiled, layers=layers, advice=advice, title=name, hints=[name])
    checked(page)
    assert "\u202e" not in page
    assert "x" * (MAX_TEXT + 1) not in page
    assert ">49<" not in page


def test_figures_that_are_not_known_are_dashes(compiled: Any) -> None:
    layers = [
        {**layer, "cycles": math.nan, "multiplier_use": math.nan}
        for layer in compiled.compiled.report["layers"]
    ]
    page = page_of(compiled, layers=layers, inferences_per_s=None, cycles=math.inf)
    checked(page)
    assert "nan" not in re.sub(r'data-\w+="[^"]*"', "", page).lower()


def test_a_network_of_a_thousand_layers(compiled: Any) -> None:
    layers = compiled.compiled.report["layers"] * 250
    placement = compiled.segments[0].placement
    many = replace(placement, layers=placement.layers * 250)
    page = html_page({**compiled.compiled.report, "layers": layers}, [many], title="deep")
    checked(page)
    assert len(page) < 10_000_000


def test_a_network_of_one_layer_and_of_none(compiled: Any) -> None:
    placement = compiled.segments[0].placement
    report = compiled.compiled.report
    one = replace(placement, layers=placement.layers[:1])
    checked(html_page({**report, "layers": report["layers"][:1]}, [one], title="one"))
    empty = {
        **report,
        "layers": [],
        "graph": [],
        "other_cycles": [],
        "cycles": 0,
        "segments": [],
        "inferences_per_s": None,
    }
    checked(html_page(empty, [], title="none"))


@pytest.mark.parametrize("name", HOSTILE)
def test_boards_are_a_picture_and_a_table(compiled: Any, name: str) -> None:
    boards = [
        {"board": name, "cycles": 100.0, "inferences_per_s": 1e6, "cores": 2, "note": ""},
        {"board": "b", "cycles": 50.0, "inferences_per_s": 2e6, "cores": 1, "note": name},
        {"board": "c", "cycles": None, "inferences_per_s": None, "cores": None, "note": name},
    ]
    boards = [{"multipliers": i * 100 or None, **row} for i, row in enumerate(boards)]
    boards[0]["multipliers"] = 50
    placements = [segment.placement for segment in compiled.segments]
    page = html_page(compiled.compiled.report, placements, title="m", boards=boards)
    checked(page)
    plot = page[page.index('<svg class="plot"') :]
    assert plot.count("<circle") == 2
    assert "\u202e" not in page


def test_mosaics_hold_every_weight(compiled: Any) -> None:
    for tiling in tilings_of(compiled.placement)[:2]:
        check_mosaic(tiling)


def check_mosaic(tiling: Tiling) -> None:
    mosaic = mosaic_of(tiling, 10**9)
    shape = (mosaic.rows, mosaic.columns)
    owners = np.frombuffer(zlib.decompress(base64.b64decode(mosaic.owners)), np.uint8)
    weights = np.frombuffer(zlib.decompress(base64.b64decode(mosaic.weights)), np.int8)
    kernels = tiling.weights.dense().reshape(len(tiling.weights), -1)
    again = np.zeros_like(kernels)
    for tile, members in enumerate(tiling.tiles):
        for level in range(tiling.depth):
            column = tile * tiling.depth + level
            for place, kernel in enumerate(members):
                mine = owners.reshape(shape)[:, column] == place
                again[kernel, mine] = weights.reshape(shape)[mine, column]
    assert np.array_equal(again, kernels)
    assert np.count_nonzero(owners != HOLE) == np.count_nonzero(kernels)


@pytest.mark.parametrize("kind", ["residual", "depthwise"])
def test_a_network_on_a_map_engine_has_mosaics_and_memories(kind: str, tmp_path: Path) -> None:
    options = Options(sized=True, strict=True)
    compiled = compile_model(write_graph(kind, tmp_path), load_board("sim"), options=options)
    (placement,) = compiled.placements
    assert isinstance(placement, MapPlacement)
    tilings = tilings_of(placement)
    for tiling, row in zip(tilings, compiled.compiled.report["layers"], strict=True):
        check_mosaic(tiling)
        assert tiling.name == row["name"]
        assert tiling.rows == row["tiles"] * row["rows_per_input"]
    boards = compare_boards(compiled.parts, compiled.planner)
    assert all(row["cycles"] is None and "list engines" in row["note"] for row in boards)
    page = html_page(compiled.compiled.report, [placement], title="branches", boards=boards)
    checked(page)
    assert page.count("data-owners=") == len(tilings)
    assert "map rows" in page


def test_large_layers_are_shown_in_part(compiled: Any) -> None:
    tiling = tilings_of(compiled.placement)[2]
    mosaic = mosaic_of(tiling, 1000)
    assert mosaic.rows * mosaic.columns <= 1024
    assert mosaic.rows_all * mosaic.columns_all > 10_000
    assert mosaic.filled == tiling.weights.nonzeros


def test_names_are_shortened() -> None:
    assert shown_name("abc") == "abc"
    assert len(shown_name("y" * 500)) == MAX_NAME
