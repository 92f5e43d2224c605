"""Gains of structures of sparse weights: one layer with different masks, for one board.

`python -m trencadis_bench.measure.structures` compiles a layer of random weights at three densities
with masks of every structure that the literature has, and writes the cycles that the compiler
computes, which those of the RTL equal, to `build/bench/structures.json`.
"""

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from trencadis_boards import load_board
from trencadis_compiler.compile import compile_model
from trencadis_format.command_line import reported
from trencadis_format.files import write_atomically
from trencadis_train.sparse.integer.export import export_sparse_onnx
from trencadis_train.sparse.integer.integers import SparseIntegerLayer, SparseIntegers
from trencadis_train.sparse.integer.quantise import ByteGrid
from trencadis_train.sparse.topologies.topology import Topology
from trencadis_train.sparsity.masks import (
    Mask,
    block_mask,
    complementary_mask,
    n_m_mask,
    random_mask,
)

__all__ = ["KERNELS", "ROWS", "STRUCTURES", "main", "measure_structure"]

KERNELS, ROWS = 256, 512
"""Size of the layer."""

BLOCK = 8

Draw = Callable[[int, np.random.Generator], Mask]

STRUCTURES: dict[str, Draw] = {
    "complementary": lambda m, rng: complementary_mask(KERNELS, ROWS, m, rng=rng),
    "n:m": lambda m, rng: n_m_mask(rng.random((KERNELS, ROWS)), max(1, 4 // m), max(4, m)),
    f"blocks of {BLOCK} x {BLOCK}": lambda m, rng: block_mask(
        KERNELS, ROWS, (BLOCK, BLOCK), ROWS // BLOCK // m, rng=rng
    ),
    "constant fan-in": lambda m, rng: random_mask(KERNELS, ROWS, ROWS // m, rng=rng),
    "unstructured": lambda m, rng: (
        np.argsort(np.argsort(rng.random(KERNELS * ROWS))) < KERNELS * ROWS // m
    ).reshape(KERNELS, ROWS),
}
"""Masks of one weight in m; `n:m` is 2:4, 1:4 and 1:8."""


def measure_structure(mask: Mask, rng: np.random.Generator) -> dict[str, Any]:
    """Cycles of a layer with a mask, its input at hand, and how well it packs.

    Parameters
    ----------
    mask : bool array, shape (kernels, rows)
        Weights that are not zero.
    rng : Generator
        Random source of the weights.
    """
    kernels, rows = mask.shape
    topology = Topology.from_keys(rows, kernels, np.flatnonzero(mask).astype(np.int64))
    # Small ones, so that sums fit the accumulators of the board.
    weights = rng.integers(1, 16, topology.connections) * rng.choice([-1, 1], topology.connections)
    scale = np.full(kernels, 1 / 64, np.float32)
    layer = SparseIntegerLayer(
        topology,
        weights.astype(np.int8),
        scale,
        np.zeros(kernels, np.int32),
        scale,
        1.0,
        0,
        ByteGrid(1.0, 0),
        ByteGrid(64.0, 128),
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "layer.onnx")
        export_sparse_onnx(SparseIntegers("layer", (1, 1, rows), (layer,)), path)
        report = compile_model(path, load_board("sim"), input_nonzeros=rows).overlay.report
    (found,) = report["layers"]
    return {
        "nonzeros": int(mask.sum()),
        "cycles": found["cycles"],
        "tiles": found["tiles"],
        "packing_efficiency": found["packing_efficiency"],
    }


def main(arguments: list[str] | None = None) -> None:
    """Measure all structures and print a table."""
    parser = argparse.ArgumentParser(prog="structures", description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("build/bench/structures.json"))
    given = parser.parse_args(arguments)
    table: dict[str, Any] = {}
    with reported("structures"):
        rng = np.random.default_rng(1)
        table["dense"] = {"1": measure_structure(np.ones((KERNELS, ROWS), bool), rng)}
        for name, draw in STRUCTURES.items():
            table[name] = {str(m): measure_structure(draw(m, rng), rng) for m in (2, 4, 8)}
        given.output.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(given.output, (json.dumps(table, indent=2) + "\n").encode())
    dense = table["dense"]["1"]["cycles"]
    print("| structure | one weight in | cycles | times fewer | packed |\n|---|---|---|---|---|")
    for name, rows in table.items():
        for m, row in rows.items():
            gain = f"{dense / row['cycles']:.1f}"
            packed = f"{100 * row['packing_efficiency']:.0f} %"
            print(f"| {name} | {m} | {row['cycles']:,.0f} | {gain} | {packed} |")


if __name__ == "__main__":
    main()
