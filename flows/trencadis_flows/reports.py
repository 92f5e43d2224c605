"""Reports of the tools on a finished build, as numbers."""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rich.console import RenderableType
from rich.table import Table

from trencadis_flows.plan import BuildPlan
from trencadis_format.errors import FailureError

__all__ = [
    "ReportError",
    "collect",
    "read_nextpnr",
    "read_power",
    "read_timing",
    "read_utilisation",
    "render",
]

NUMBER = r"(-?\d+(?:\.\d+)?)"


class ReportError(FailureError):
    """A report cannot be understood. One line: file, what is missing."""


def collect(plan: BuildPlan, out: Path) -> dict[str, Any]:
    """All reports of a build that are there.

    Returns
    -------
    dict
        By kind; `digest` is that of the plan, `results` has sizes and names of what was built.

    Raises
    ------
    ReportError
        If a report is there but cannot be understood.
    """
    summary: dict[str, Any] = {"digest": plan.digest, "results": {}}
    for kind, name in plan.reports.items():
        path = out / name
        if path.is_file():
            try:
                summary[kind] = READERS[kind](path.read_text(errors="replace"))
            except ReportError as error:
                raise ReportError(f"{path}: {error}") from error
    for name in plan.results:
        path = out / name
        if path.is_file():
            summary["results"][name] = path.stat().st_size
    return summary


def read_timing(text: str) -> dict[str, Any]:
    """Vivado's `report_timing_summary`: worst slacks in ns, failing end points, clocks in MHz."""
    row = _row_after(text, r"WNS\(ns\)\s+TNS\(ns\).*")
    if row is None or len(row) < 8:
        raise ReportError("there is no table of WNS(ns) and TNS(ns)")
    if row[0] == "NA":
        raise ReportError("no clock constrains the design")
    summary: dict[str, Any] = {
        "setup_slack_ns": float(row[0]),
        "setup_failing": int(row[2]),
        "hold_slack_ns": float(row[4]) if row[4] != "NA" else None,
        "hold_failing": int(row[6]) if row[6] != "NA" else 0,
        "clocks_mhz": {},
    }
    clocks = re.search(r"^\| Clock Summary.*?^Clock .*?\n-.*?\n(.*?)\n\s*\n", text, re.M | re.S)
    for line in clocks[1].splitlines() if clocks else []:
        clock = re.match(r"\s*(\S+)\s+\{.*?\}\s+" + NUMBER + r"\s+" + NUMBER, line)
        if clock:
            summary["clocks_mhz"][clock[1]] = float(clock[3])
    summary["met"] = not summary["setup_failing"] and not summary["hold_failing"]
    return summary


def read_utilisation(text: str) -> dict[str, Any]:
    """Vivado's `report_utilization`: used and available, by our names of resources."""
    names = {
        "lut": r"CLB LUTs\*?|Slice LUTs\*?",
        "ff": r"CLB Registers|Slice Registers",
        "bram36": r"Block RAM Tile",
        "uram": r"URAM",
        "dsp": r"DSPs",
    }
    found = {}
    for key, pattern in names.items():
        row = re.search(rf"^\|\s*(?:{pattern})\s*\|(.*)\|\s*$", text, re.M)
        if row:
            cells = [cell.strip() for cell in row[1].split("|")]
            # Used, Fixed, (Prohibited,) Available, Util%
            found[key] = {"used": float(cells[0]), "available": float(cells[-2])}
    if "lut" not in found:
        raise ReportError("there is no row of LUTs")
    return found


def read_power(text: str) -> dict[str, float]:
    """Vivado's `report_power`: estimates in W, and the junction's temperature in Celsius."""
    names = {
        "total_w": r"Total On-Chip Power \(W\)",
        "dynamic_w": r"Dynamic \(W\)",
        "static_w": r"Device Static \(W\)",
        "junction_c": r"Junction Temperature \(C\)",
    }
    found = {}
    for key, pattern in names.items():
        row = re.search(rf"^\|\s*{pattern}\s*\|\s*{NUMBER}", text, re.M)
        if row:
            found[key] = float(row[1])
    if "total_w" not in found:
        raise ReportError("there is no row of Total On-Chip Power (W)")
    return found


def read_nextpnr(text: str) -> dict[str, Any]:
    """Nextpnr's report: clocks in MHz, achieved and asked for; resources, used and available."""
    names = {
        "TRELLIS_COMB": "lut",
        "TRELLIS_FF": "ff",
        "MULT18X18D": "dsp",
        "DP16KD": "bram18",
        "TRELLIS_IO": "pins",
    }
    try:
        data = json.loads(text)
        clocks = {
            name: {"achieved_mhz": clock["achieved"], "asked_mhz": clock["constraint"]}
            for name, clock in data["fmax"].items()
        }
        used = {
            names[name]: {"used": count["used"], "available": count["available"]}
            for name, count in data["utilization"].items()
            if name in names
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ReportError(f"not a report of nextpnr: {error!r}") from error
    if not clocks:
        raise ReportError("no clock constrains the design")
    met = all(clock["achieved_mhz"] >= clock["asked_mhz"] for clock in clocks.values())
    return {"clocks": clocks, "utilisation": used, "met": met}


READERS: Mapping[str, Callable[[str], dict[str, Any]]] = {
    "timing": read_timing,
    "utilisation": read_utilisation,
    "power": read_power,
    "nextpnr": read_nextpnr,
}


def render(summary: Mapping[str, Any], title: str) -> RenderableType:
    """A summary as a table."""
    table = Table(title=title, title_justify="left", show_header=False)
    timing = summary.get("timing")
    if timing:
        table.add_row("worst slack", f"{timing['setup_slack_ns']:+.3f} ns setup")
        table.add_row("timing", "met" if timing["met"] else "NOT MET")
    routed = summary.get("nextpnr")
    if routed:
        for name, clock in routed["clocks"].items():
            figures = f"{clock['achieved_mhz']:.1f} of {clock['asked_mhz']:.1f} MHz"
            table.add_row(f"clock {name}", figures)
        table.add_row("timing", "met" if routed["met"] else "NOT MET")
    used = summary.get("utilisation") or (routed or {}).get("utilisation", {})
    for name, count in used.items():
        share = count["used"] / count["available"] if count["available"] else 0.0
        table.add_row(name, f"{count['used']:,.0f} of {count['available']:,.0f} ({share:.0%})")
    if power := summary.get("power"):
        table.add_row("power", f"{power['total_w']:.2f} W (estimated)")
    for name, size in summary.get("results", {}).items():
        table.add_row("built", f"{name} ({size:,} bytes)")
    return table


def _row_after(text: str, header: str) -> list[str] | None:
    """Cells of the first row below a header and its rule."""
    found = re.search(rf"^\s*{header}\n[\s-]+\n\s*(.+)$", text, re.M)
    return found[1].split() if found else None
