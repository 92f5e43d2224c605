"""History of topologies in a training: a line for every epoch and layer."""

import csv
import io
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from trencadis_format.files import write_atomically
from trencadis_train.sparse.network import CsrNetwork

__all__ = ["LayerMetrics", "from_array", "to_array", "write_history"]


@dataclass(frozen=True)
class LayerMetrics:
    """A line of `topology.csv`."""

    epoch: int
    """Counted from 1."""
    layer: int
    """Counted from 0."""
    neurons: int
    connections: int
    changed: int
    """Connections that were dropped and regrown before the epoch."""
    gradient_norm: float
    """Norm of the gradient of the layer's weights, in the last batch of the epoch."""

    @classmethod
    def of(cls, network: CsrNetwork, epoch: int, changed: list[int]) -> list[Self]:
        """Lines of an epoch."""
        norms = network.gradient_norms()
        return [
            cls(
                epoch,
                number,
                layer.topology.outputs,
                layer.topology.connections,
                changed[number] if changed else 0,
                norms[number],
            )
            for number, layer in enumerate(network.layers)
        ]


def to_array(lines: list[LayerMetrics]) -> npt.NDArray[np.float64]:
    """Lines as numbers, shape (lines, columns), for checkpoints."""
    columns = len(fields(LayerMetrics))
    return np.array([list(asdict(line).values()) for line in lines], np.float64).reshape(
        -1, columns
    )


def from_array(numbers: npt.NDArray[np.float64]) -> list[LayerMetrics]:
    """Lines that `to_array` gave."""
    return [
        LayerMetrics(int(row[0]), int(row[1]), int(row[2]), int(row[3]), int(row[4]), float(row[5]))
        for row in numbers
    ]


def write_history(path: Path, lines: list[LayerMetrics]) -> None:
    """Write all lines as CSV; the file appears complete or not at all."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(entry.name for entry in fields(LayerMetrics))
    for line in lines:
        values = asdict(line).values()
        writer.writerow(f"{value:.6g}" if isinstance(value, float) else value for value in values)
    write_atomically(path, text.getvalue().encode())
