"""The reference network on the RTL of one core: outputs, cycles, and what simulating it takes."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from trencadis_bench.measure.reference_network import Kind, reference_model
from trencadis_boards import Board, load_board
from trencadis_compiler.compile import Compiled, compile_model, import_model
from trencadis_compiler.mapping.size_memories import with_memories_for
from trencadis_format.command_line import reported
from trencadis_format.errors import FailureError
from trencadis_format.files import write_atomically
from trencadis_host.measure.benchmark import random_inputs
from trencadis_host.session import Session
from trencadis_sim.verilated.verilator import design_identity

__all__ = [
    "SAMPLES",
    "CoreRun",
    "compile_reference",
    "load_run",
    "one_core",
    "run_reference",
    "run_samples",
    "run_table",
]

SHORT_RUN = 12
"""Samples of the run that the long one is compared with: enough that a core's pipeline is full."""

SAMPLES = 44
"""Samples of the long run: when a run ends depends on its transfers, to some ten cycles."""

TIMEOUT_S = 3600.0

_KEYS = {"samples": "words", "cycles_per_inference": "cycles_per_word"}
"""Keys in JSON, which stay as they were, by field of `CoreRun`."""


@dataclass(frozen=True)
class CoreRun:
    """Samples on a kernel's RTL, transfers included.

    Attributes
    ----------
    samples : int
        Samples of the long run.
    outputs_equal : bool
        Every output is what the emulator gives.
    cycles_per_inference : float
        Cycles from sample to sample, in steady state.
    latency_cycles : int
        Cycles from the start of a run to its end, for a single sample.
    load_cycles : int
        To load the image.
    simulated_cycles, simulation_s : int, float
        Cycles of all runs, loading included, and the time on this machine.
    """

    samples: int
    outputs_equal: bool
    cycles_per_inference: float
    latency_cycles: int
    load_cycles: int
    simulated_cycles: int
    simulation_s: float

    @property
    def simulated_cycles_per_s(self) -> float:
        """Speed of the simulation."""
        return self.simulated_cycles / self.simulation_s


def run_samples(
    image: Path,
    samples: int,
    *,
    build_dir: Path | None = None,
    progress: Callable[[str], None] = lambda text: None,
    seed: int = 0,
) -> CoreRun:
    """Run random samples on the RTL of an image's kernel, and compare them with the emulator.

    Parameters
    ----------
    image : Path
        An overlay image.
    samples : int
        Samples of the long run, more than `SHORT_RUN`; best a multiple of those that all cores
        compute at once.
    build_dir : Path, optional
        Where simulators are kept.
    progress : callable
        Called with a message at each step.
    seed : int
        Seed of the inputs.
    """
    if samples <= SHORT_RUN:
        raise ValueError(f"samples must be more than {SHORT_RUN}, not {samples}")
    with Session(image, "emulator") as session:
        progress("emulating")
        inputs = random_inputs(session, samples, seed)
        name = session.get_inputs()[0].name
        expected = session.run(None, {name: inputs})[0]
    equal, cycles, simulated, load_cycles = True, [], 0, 0
    with Session(
        image, "sim", build_dir=build_dir, timeout_s=TIMEOUT_S, progress=progress
    ) as session:
        progress("simulating")
        started = time.perf_counter()
        for count in (1, SHORT_RUN, samples):
            outputs = session.run(None, {name: inputs[:count]})[0]
            taken = session.statistics
            assert taken is not None
            assert taken.cycles is not None
            assert taken.load_cycles is not None
            equal = equal and np.array_equal(outputs, expected[:count])
            cycles.append(taken.cycles - taken.load_cycles)
            simulated += taken.cycles
            load_cycles = max(load_cycles, taken.load_cycles)
        simulation_s = time.perf_counter() - started
    return CoreRun(
        samples=samples,
        outputs_equal=equal,
        cycles_per_inference=(cycles[2] - cycles[1]) / (samples - SHORT_RUN),
        latency_cycles=cycles[0],
        load_cycles=load_cycles,
        simulated_cycles=simulated,
        simulation_s=simulation_s,
    )


def compile_reference(board: Board, folder: Path, kind: Kind = Kind.SPARSE_SPARSE) -> Compiled:
    """The reference network, compiled for a board.

    Without both sparsities it fits no board's memories, and is compiled for larger ones.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"reference-{kind.value}.onnx"
    write_atomically(path, reference_model(kind).SerializeToString(deterministic=True))
    if kind is not Kind.SPARSE_SPARSE:
        kernel = board.kernel
        core = with_memories_for(kernel.core, import_model(path))
        board = replace(board, kernel=replace(kernel, core=core))
    return compile_model(path, board)


def one_core(board: Board) -> Board:
    """The board, with one core per kernel, which is simulated."""
    return replace(board, kernel=replace(board.kernel, cores=1))


def run_reference(
    board: Board,
    kind: Kind,
    *,
    samples: int,
    build: Path,
    progress: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """The reference network on a core of a board, JSON-ready, and kept under `build`.

    Parameters
    ----------
    board : Board
        Whose core.
    kind : Kind
        Which sparsities the network has.
    samples, progress
        As in `run_samples`.
    build : Path
        Folder for models, images, simulators and the result.
    """
    progress("compiling")
    compiled = compile_reference(one_core(board), build / "reference", kind)
    image = build / "reference" / f"{kind.value}-{board.name}.tcd"
    compiled.save(image)
    report = compiled.overlay.report
    run = run_samples(image, samples, progress=progress)
    figures = {
        "board": board.name,
        "network": kind.value,
        "design": _design(board),
        "multipliers": compiled.overlay.kernel.multipliers,
        "predicted_cycles_per_word": report["cycles_per_word"],
        "prediction": report["cycles_are"],
        "multiplier_use": report["useful_products"]
        / (run.cycles_per_inference * compiled.overlay.kernel.multipliers),
        **{_KEYS.get(name, name): value for name, value in asdict(run).items()},
        "simulated_cycles_per_s": run.simulated_cycles_per_s,
    }
    path = _kept(board, kind, build)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, (json.dumps(figures, indent=1) + "\n").encode())
    return figures


def load_run(board: Board, kind: Kind, build: Path) -> dict[str, Any] | None:
    """Results that `run_reference` has kept of this kernel, if there are any."""
    path = _kept(board, kind, build)
    if not path.exists():
        return None
    figures = json.loads(path.read_text("utf-8"))
    return figures if figures.get("design") == _design(board) else None


def _design(board: Board) -> list[str]:
    """Sources of the RTL of one core, but for the memories it is given for a network."""
    return list(design_identity(one_core(board).kernel))


def _kept(board: Board, kind: Kind, build: Path) -> Path:
    return build / "bench" / f"core-{board.name}-{kind.value}.json"


def run_table(figures: Mapping[str, Any]) -> Table:
    """Results of `run_reference`, to print."""
    table = Table(
        title=f"{figures['network']} reference network on one core of {figures['board']}",
        title_justify="left",
    )
    table.add_column("figure")
    table.add_column("value", justify="right")
    table.add_column("obtained")
    equal = "equal" if figures["outputs_equal"] else "NOT EQUAL"
    rows = (
        ("outputs", f"{figures['words']} samples {equal}", "simulated RTL against the emulator"),
        ("cycles per inference", f"{figures['predicted_cycles_per_word']:,.1f}", "predicted"),
        (
            "cycles per inference, steady state",
            f"{figures['cycles_per_word']:,.1f}",
            "simulated RTL",
        ),
        ("cycles of a single inference", f"{figures['latency_cycles']:,}", "simulated RTL"),
        ("cycles of loading the image", f"{figures['load_cycles']:,}", "simulated RTL"),
        (
            f"use of {figures['multipliers']} multipliers",
            f"{figures['multiplier_use']:.1%}",
            "useful products / simulated",
        ),
        ("simulation, cycles/s", f"{figures['simulated_cycles_per_s']:,.0f}", "measured"),
    )
    for row in rows:
        table.add_row(*row)
    return table


@click.command()
@click.argument("board")
@click.option(
    "--kind",
    type=click.Choice([kind.value for kind in Kind]),
    default=Kind.SPARSE_SPARSE.value,
    show_default=True,
)
@click.option(
    "--samples", "--words", type=click.IntRange(SHORT_RUN + 1), default=SAMPLES, show_default=True
)
@click.option("--build", type=click.Path(path_type=Path), default=Path("build"), show_default=True)
@reported("reference_run")
def main(board: str, kind: str, samples: int, build: Path) -> None:
    """Simulate the reference network on one core of BOARD.

    Without both sparsities it does not fit the core's memories, and is given larger ones.
    Writes BUILD/bench/core-BOARD-KIND.json. Fails if an output differs from the emulator's.
    """
    messages = Console(stderr=True)
    with messages.status("simulating") as status:
        figures = run_reference(
            load_board(board), Kind(kind), samples=samples, build=build, progress=status.update
        )
    Console(width=110).print(run_table(figures))
    if not figures["outputs_equal"]:
        raise FailureError("outputs differ from the emulator's")


if __name__ == "__main__":
    main()
