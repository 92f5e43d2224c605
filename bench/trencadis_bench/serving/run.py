"""`make bench-serving`: load on the server beside the bare session: `build/bench/serving.json`."""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from trencadis_bench.serving.loads import Case, Ground, measure, memory
from trencadis_bench.serving.rows import Row
from trencadis_bench.serving.targets import check_targets
from trencadis_boards import load_board
from trencadis_compiler.compile import compile_model
from trencadis_format.command_line import reported
from trencadis_format.errors import FailureError
from trencadis_format.files import write_atomically
from trencadis_host import Session
from trencadis_host.measure.benchmark import random_inputs
from trencadis_serve.limits import Limits

__all__ = ["main"]


NAME = "reference"
MODEL = Path("examples/speech_commands/reference.onnx")

CLIENTS = (1, 8, 64, 512)
SIZES = {"http": (1, 32, 256), "grpc": (1, 32, 64, 128, 256)}
"""Inputs of a request."""

BATCHING = (Case("grpc", 64, 1),)
"""Load on servers that batch, and on servers that do not."""

SLOW_DEVICE = "emulator"
"""A device on which batches gain more than on a fast one."""


def table(rows: Sequence[Row]) -> Table:
    """The rows as a table."""
    shown = Table(title="reference network; clients and server share this machine")
    for heading in (
        "device",
        "",
        "clients",
        "inputs",
        "max batch",
        "requests/s",
        "p50 ms",
        "p99 ms",
        "errors",
        "of session",
        "by CPU",
        "overhead ms",
        "cores",
    ):
        shown.add_column(heading, justify="right")
    for row in rows:
        shown.add_row(
            row.device,
            row.protocol,
            str(row.clients),
            str(row.batch),
            str(row.max_batch),
            f"{row.requests_per_s:,.0f}",
            f"{row.p50_ms:.2f}",
            f"{row.p99_ms:.2f}",
            str(row.errors),
            f"{row.share_of_session:.0%}",
            f"{row.share_by_cpu:.0%}",
            f"{row.overhead_cpu_ms:.2f}",
            f"{row.cores:.2f}",
        )
    return shown


@click.command()
@click.option("--device", default="cpu", show_default=True, help="Device of server and session.")
@click.option("--seconds", default=3.0, show_default=True, help="Of every load.")
@click.option("--clients", multiple=True, type=int, help="Numbers of clients.  [default: 1 to 512]")
@click.option("--requests", default=100_000, show_default=True, help="To watch the memory; or 0.")
@click.option(
    "--output", type=click.Path(path_type=Path), default=Path("build/bench"), show_default=True
)
def main(
    device: str, seconds: float, clients: tuple[int, ...], requests: int, output: Path
) -> None:
    """Measure serving beside the bare session, over HTTP and gRPC; fail if a target is missed."""
    with reported("serving benchmark"):
        console = Console(stderr=True)
        folder = output / "serving"
        folder.mkdir(parents=True, exist_ok=True)
        image = folder / f"{NAME}.tcd"
        compile_model(MODEL, load_board("u250")).save(image)
        batch = Limits().batch
        counts = clients or CLIENTS
        cases = [Case(p, c, size) for p, sizes in SIZES.items() for size in sizes for c in counts]

        def progress(row: Row) -> None:
            console.print(
                f"{row.protocol}, {row.clients} clients, {row.batch} inputs: "
                f"{row.requests_per_s:,.0f} requests/s, {row.errors} errors"
            )

        with Session(image, device, threads=1) as session:
            inputs = random_inputs(session, batch)
            ground = Ground(image, device, session, inputs, folder, seconds)
            rows = measure(ground, batch, cases, progress)
            watched = memory(ground, requests) if requests else None
            rows += measure(ground, 1, BATCHING, progress)
        with Session(image, SLOW_DEVICE, threads=1) as session:
            slow = replace(ground, device=SLOW_DEVICE, session=session)
            for most in (batch, 1):
                rows += measure(slow, most, BATCHING, progress)
        text = json.dumps([asdict(row) for row in rows], indent=1)
        write_atomically(output / "serving.json", text.encode())
        if watched is not None:
            write_atomically(output / "serving-memory.json", json.dumps(watched, indent=1).encode())
            console.print_json(data=watched)
        Console(width=140).print(table(rows))
        targets = check_targets(rows, watched, device, batch)
        for text, met in targets:
            click.echo(f"{'met' if met else 'MISSED'}: {text}")
        if not all(met for _, met in targets):
            raise FailureError("targets are missed; on a machine that is busy, repeat it later")


if __name__ == "__main__":
    main()
