"""Model of `pack`."""

from collections.abc import Sequence

__all__ = ["sample_beats"]


def sample_beats(pieces: Sequence[int], *, piece_bits: int, bus_bits: int) -> list[int]:
    """Beats of a packed output, the first piece in the lowest bits of the first."""
    per_beat = bus_bits // piece_bits
    return [
        sum(piece << (place * piece_bits) for place, piece in enumerate(pieces[i : i + per_beat]))
        for i in range(0, len(pieces), per_beat)
    ]
