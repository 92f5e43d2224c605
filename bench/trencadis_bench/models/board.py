"""A board for trying models: the default one's arrays with the largest memories of the formats."""

from pathlib import Path

__all__ = ["write_large_board"]

SIZES = {
    "sum_bits": 32,
    "dense_values": 1 << 16,
    "list_entries": 1 << 14,
    "weight_rows": 1 << 16,
    "slot_rows": 256,
    "requantise_rows": 1 << 16,
    "reorder_rows": 1 << 12,
    "whole_rows": 1 << 12,
    "tables": 16,
    "layers": 16,
}
"""Memories of an engine."""


def write_large_board(source: Path, target: Path) -> Path:
    """Write a copy of a board's file with other memories."""
    lines = []
    for line in source.read_text(encoding="utf-8").splitlines():
        name = line.partition("=")[0].strip()
        lines.append(f"{name} = {SIZES[name]}" if name in SIZES else line)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return target
