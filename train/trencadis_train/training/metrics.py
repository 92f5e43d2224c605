"""Metrics of a training: a line per epoch, and a summary. NumPy and PyTorch are not needed."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from trencadis_format.files import write_atomically

__all__ = ["SUMMARY", "EpochMetrics", "write_curve", "write_summary"]

SUMMARY = "metrics.json"
"""File of a summary."""


@dataclass(frozen=True, kw_only=True)
class EpochMetrics:
    """A line of `metrics.csv`."""

    phase: str
    """`float` or `integers`."""
    epoch: int
    """Counted from 1 in every phase; 0 is the network as the phase found it."""
    learning_rate: float
    """Learning rate at the end of the epoch."""
    winners: str
    """k of every k-WTA, from the input on, with spaces between."""
    boost: float
    """Strength of boosting at the end of the epoch."""
    loss: float
    """Mean training loss, of examples as augmented."""
    accuracy: float
    """Share of training examples, as augmented, that were right."""
    validation_loss: float
    validation_accuracy: float
    best: bool
    """The best of the phase so far."""
    seconds: float
    """Duration of the training, without validation."""


def write_curve(path: Path, rows: Sequence[EpochMetrics]) -> None:
    """Write all lines as CSV; the file appears complete or not at all."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(entry.name for entry in fields(EpochMetrics))
    for row in rows:
        writer.writerow(
            f"{value:.6g}" if isinstance(value, float) else value for value in asdict(row).values()
        )
    write_atomically(path, text.getvalue().encode())


def write_summary(path: Path, summary: Mapping[str, Any]) -> None:
    """Write a summary as JSON; the file appears complete or not at all."""
    write_atomically(path, (json.dumps(summary, indent=2) + "\n").encode())
