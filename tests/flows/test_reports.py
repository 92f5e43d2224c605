import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from trencadis_flows.plan import BuildPlan
from trencadis_flows.reports import (
    ReportError,
    collect,
    read_nextpnr,
    read_power,
    read_timing,
    read_utilisation,
    render,
)

REPORTS = Path(__file__).parent / "reports"
NEXTPNR = {
    "fmax": {"$glbnet$clk": {"achieved": 31.25, "constraint": 25.0}},
    "utilization": {
        "TRELLIS_COMB": {"used": 30000, "available": 83640},
        "DP16KD": {"used": 146, "available": 208},
        "DCCA": {"used": 1, "available": 56},
    },
}


def text(name: str) -> str:
    return (REPORTS / name).read_text()


def test_timing() -> None:
    assert read_timing(text("timing.rpt")) == {
        "setup_slack_ns": 0.412,
        "setup_failing": 0,
        "hold_slack_ns": 0.010,
        "hold_failing": 0,
        "clocks_mhz": {"clk_pl_0": 200.0},
        "met": True,
    }


def test_timing_that_is_not_met() -> None:
    failing = text("timing.rpt").replace(
        "      0.412        0.000                      0",
        "     -0.120       -3.400                     57",
    )
    summary = read_timing(failing)
    assert (summary["setup_slack_ns"], summary["setup_failing"]) == (-0.120, 57)
    assert not summary["met"]


def test_utilisation() -> None:
    assert read_utilisation(text("utilisation.rpt")) == {
        "lut": {"used": 24012, "available": 70560},
        "ff": {"used": 39021, "available": 141120},
        "bram36": {"used": 110.5, "available": 216},
        "dsp": {"used": 124, "available": 360},
    }


def test_utilisation_without_the_column_of_prohibited_sites() -> None:
    """As older versions write it."""
    row = "| CLB LUTs                   | 24012 |     0 |     70560 | 34.03 |"
    assert read_utilisation(row) == {"lut": {"used": 24012, "available": 70560}}


def test_power() -> None:
    assert read_power(text("power.rpt")) == {
        "total_w": 3.412,
        "dynamic_w": 3.095,
        "static_w": 0.317,
        "junction_c": 33.2,
    }


def test_nextpnr() -> None:
    summary = read_nextpnr(json.dumps(NEXTPNR))
    assert summary["met"]
    assert summary["clocks"] == {"$glbnet$clk": {"achieved_mhz": 31.25, "asked_mhz": 25.0}}
    assert summary["utilisation"]["bram18"] == {"used": 146, "available": 208}
    assert "DCCA" not in summary["utilisation"]
    slow = {**NEXTPNR, "fmax": {"clk": {"achieved": 24.9, "constraint": 25.0}}}
    assert not read_nextpnr(json.dumps(slow))["met"]
    with pytest.raises(ReportError, match="no clock constrains the design"):
        read_nextpnr(json.dumps({**NEXTPNR, "fmax": {}}))


@pytest.mark.parametrize("reader", [read_timing, read_utilisation, read_power, read_nextpnr])
@pytest.mark.parametrize("content", ["", "something else", "[]", "{}"])
def test_what_is_no_report(reader: object, content: str) -> None:
    assert callable(reader)
    with pytest.raises(ReportError):
        reader(content)


def test_collected_reports(tmp_path: Path) -> None:
    plan = BuildPlan(
        files={"a.bit": ""},
        reports={"timing": "timing.rpt", "power": "power.rpt", "nextpnr": "none.json"},
        results=("a.bit",),
    )
    for name in ("timing.rpt", "power.rpt"):
        (tmp_path / name).write_text(text(name))
    (tmp_path / "a.bit").write_text("12345")
    summary = collect(plan, tmp_path)
    assert json.loads(json.dumps(summary)) == summary
    assert set(summary) == {"digest", "results", "timing", "power"}
    assert summary["results"] == {"a.bit": 5}
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(render(summary, "a board"))
    shown = console.export_text()
    assert "+0.412 ns" in shown
    assert "3.41 W" in shown
    (tmp_path / "power.rpt").write_text("cut")
    with pytest.raises(ReportError, match=r"power\.rpt: there is no row of Total On-Chip Power"):
        collect(plan, tmp_path)
