"""The reports that Vivado is to write of a routed design."""

from trencadis_flows.amd.tcl import command

__all__ = ["REPORTS", "REPORT_SCRIPT", "report_script"]

REPORT_SCRIPT = "reports.tcl"
REPORTS = {
    "timing": "reports/timing.rpt",
    "utilisation": "reports/utilisation.rpt",
    "power": "reports/power.rpt",
}


def report_script(*, own_run: bool) -> str:
    """Report on the design that is open, into the folder that this script is in.

    Parameters
    ----------
    own_run : bool
        The script is sourced by one of ours, and not by a run of Vivado's own.
    """
    lines = [
        "# Reports on a routed design. Made by trencadis.",
        "set folder [file dirname [file normalize [info script]]]",
        "file mkdir [file join $folder reports]",
    ]
    for kind, name in (
        ("timing", "report_timing_summary"),
        ("utilisation", "report_utilization"),
        ("power", "report_power"),
    ):
        report = command(name, "-file") + f" [file join $folder {REPORTS[kind]}]"
        # A report that fails must not cost a bitstream that took hours.
        lines.append(report if own_run else f"if {{[catch {{{report}}} text]}} {{ puts $text }}")
    return "\n".join(lines) + "\n"
