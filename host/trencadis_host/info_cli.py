"""`sparse-info`: what is in a compiled network."""

import json
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from trencadis_format.command_line import reported
from trencadis_format.compiled import (
    FORMAT_VERSION,
    MAX_FILE_BYTES,
    CompiledNetwork,
    HostSegment,
    OverlaySegment,
    Segment,
)
from trencadis_format.image import ABI_VERSION
from trencadis_format.tensor_formats import TensorFormat

__all__ = ["describe", "info"]


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@click.version_option(package_name="trencadis")
@reported("sparse-info")
def info(model: Path, as_json: bool) -> None:
    """Show inputs, outputs, segments, cycles, versions and limits of a compiled MODEL (.tcd)."""
    found = describe(CompiledNetwork.load(model))
    if as_json:
        print(json.dumps(found, indent=2))
        return
    console = Console(highlight=False)
    console.print(Text(f"{model}: {_printable(found['name'])}"))
    for what in ("inputs", "outputs"):
        for form in found[what]:
            shape = "x".join("N" if size is None else str(size) for size in form["shape"])
            line = f"  {what[:-1]} {_printable(form['name'])}: {form['dtype']} {shape or 'scalar'}"
            console.print(Text(line))
    for number, segment in enumerate(found["segments"]):
        line = f"  segment {number}: {segment['nodes']} nodes on the {segment['place']}"
        line += f", {segment['bytes']:,} bytes"
        if segment["cycles"] is not None:
            line += f", {segment['cycles']:,.0f} cycles per inference"
        if segment["reason"]:
            line += f": {segment['reason'][:200]}"
        console.print(Text(_printable(line)))
    console.print(
        Text(
            f"  {found['cycles']:,.0f} cycles per inference ({found['cycles_are']}); file format "
            f"{found['format_version']}, device images {found['abi']}, kernel "
            f"{found['configuration']}; files to {found['largest_file'] >> 30} GiB"
        )
    )


def describe(network: CompiledNetwork) -> dict[str, Any]:
    """Report of `sparse-info`, JSON-ready."""
    return {
        "name": network.name,
        "inputs": [_form(form) for form in network.inputs],
        "outputs": [_form(form) for form in network.outputs],
        "segments": [_segment(segment) for segment in network.segments],
        "cycles": network.report["cycles_per_word"],
        "cycles_are": network.report["cycles_are"],
        "overlay_share": network.report.get("overlay_share"),
        "format_version": FORMAT_VERSION,
        "abi": ABI_VERSION,
        "configuration": f"{network.kernel.digest:016x}",
        "model_sha256": network.source.sha256,
        "options": dict(network.source.options),
        "largest_file": MAX_FILE_BYTES,
    }


def _segment(segment: Segment) -> dict[str, Any]:
    found = {"place": "overlay", "nodes": len(segment.nodes), "cycles": None, "reason": ""}
    if isinstance(segment, OverlaySegment):
        report = segment.overlay.report
        found |= {"bytes": len(segment.overlay.image), "cycles": report["cycles_per_word"]}
    elif isinstance(segment, HostSegment):
        found |= {"place": "host", "bytes": len(segment.model), "reason": segment.reason}
    else:
        images = sum(len(overlay.image) for overlay in segment.overlays)
        found |= {"bytes": images, "cycles": segment.report["cycles_per_word"]}
    return found


def _form(form: TensorFormat) -> dict[str, Any]:
    return {"name": form.name, "dtype": form.dtype, "shape": list(form.shape)}


def _printable(name: str) -> str:
    """A name without what a terminal would obey."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in name)
