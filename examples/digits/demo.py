"""The whole way: a trained sparse network, compiled, emulated and run on simulated hardware.

What is shown is measured in this run: on handwritten digits that training has not seen, with the
RTL of the whole kernel simulated cycle by cycle, transfers included.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from trencadis_bench.verify.verify import onnxruntime_outputs, reference_outputs
from trencadis_boards import load_board
from trencadis_compiler.compile import compile_model
from trencadis_compiler.cutting.baselines import predict_baselines
from trencadis_compiler.report.table import render_report
from trencadis_format.command_line import reported
from trencadis_format.files import make_folder, save_array
from trencadis_host import Session
from trencadis_host.measure.benchmark import cycles_per_inference
from trencadis_train.data.digits import load_digits

MODEL = Path(__file__).parent / "digits.onnx"

console = Console(width=None if sys.stdout.isatty() else 110)


@contextmanager
def step(text: str) -> Iterator[None]:
    """Say what goes on, and afterwards how long it took."""
    started = time.perf_counter()
    with console.status(text):
        yield
    console.print(f"[green]✓[/green] {text} [dim]{time.perf_counter() - started:.1f} s[/dim]")


@click.command()
@click.option("--build", type=click.Path(path_type=Path), default=Path("build"), show_default=True)
@click.option(
    "--samples",
    "--words",
    type=click.IntRange(8),
    default=100,
    show_default=True,
    help="On the RTL.",
)
@reported("demo")
def main(build: Path, samples: int) -> None:
    """Run the demo; what it makes goes into the folder BUILD, its simulator into the cache."""
    make_folder(build)
    image = build / "digits.tcd"

    with step(f"compile {MODEL.name} for simulated hardware"):
        compiled = compile_model(MODEL, load_board("sim"))
        compiled.save(image)
    report = compiled.overlay.report
    console.print(render_report(report, MODEL.name, str(image)))

    digits = load_digits().test
    name = compiled.overlay.input.name
    inputs = digits.images[:, None].astype(np.float32)
    save_array(build / "digits.npy", inputs[:samples])

    with step(f"exact arithmetic on {len(inputs):,} digits not used in training"):
        expected = reference_outputs(MODEL, compiled.overlay, inputs)
    with step("the same with onnxruntime, in float32"):
        ties = int(np.count_nonzero(onnxruntime_outputs(MODEL, inputs) != expected))
    with step("the same on the emulator"), Session(image, "emulator") as session:
        (emulated,) = session.run(None, {name: inputs})
    with step("build the simulator of the kernel's RTL (kept for the next time)"):
        simulator = Session(image, "sim", progress=_tell)
    with simulator as session, step(f"simulate the RTL on {samples} of the digits"):
        cycles = cycles_per_inference(session, inputs[:samples])
        (simulated,) = session.run(None, {name: inputs[:samples]})
    with step("predict the same network without its sparsities"):
        baselines = predict_baselines(compiled.network, compiled.overlay.kernel.core)

    assert cycles is not None
    equal = np.array_equal(emulated, expected) and np.array_equal(simulated, expected[:samples])
    accuracy = np.mean(expected.argmax(axis=1) == digits.labels)
    predicted = report["cycles_per_word"]
    dense, useful = report["dense_products"], report["useful_products"]

    table = Table(show_header=False, title="Result", title_justify="left")
    table.add_column()
    table.add_column(justify="right")
    table.add_row("accuracy on held-out digits", f"{accuracy:.1%}")
    table.add_row(
        f"exact = emulator ({len(inputs):,} samples) = RTL ({samples} samples), bit for bit",
        "[green]yes[/green]" if equal else "[red]NO[/red]",
    )
    table.add_row("outputs that float32 rounds the other way", f"{ties} of {expected.size:,}")
    table.add_row("cycles per inference, predicted", f"{predicted:,.0f}")
    table.add_row("cycles per inference, simulated in steady state", f"{cycles:,.1f}")
    table.add_row(
        "multiplications per inference, useful of dense",
        f"{useful:,.0f} of {dense:,} (1/{dense / useful:.0f})",
    )
    table.add_section()
    table.add_row(
        "cycles per inference of the dense network on this array, predicted",
        f"{baselines.dense:,.0f}",
    )
    table.add_row("speed-up by sparse weights", f"{baselines.dense / baselines.sparse_weights:.1f}")
    table.add_row("speed-up by both sparsities", f"[bold]{baselines.dense / cycles:.1f}[/bold]")
    console.print(table)
    if not equal:
        console.print("[red]emulator, RTL and exact arithmetic differ[/red]")
        raise SystemExit(1)


def _tell(text: str) -> None:
    if not console.is_terminal:
        print(f"  {text}", flush=True)


if __name__ == "__main__":
    main()
