"""Model of `feed_lists`: sparse packed inputs, made and read back."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from trencadis_format.layer_tables import INPUT_ENTRY
from trencadis_format.widths import INPUT_INDEX_BITS

__all__ = ["CrowdedError", "pack_entries", "unpack_entries"]

Keys = npt.NDArray[np.uint8]

_SHIFTS = {
    field.name: sum(before.bits for before in INPUT_ENTRY.fields[:number])
    for number, field in enumerate(INPUT_ENTRY.fields)
}


class CrowdedError(ValueError):
    """A position has more activations that are not zero than it may have.

    Attributes
    ----------
    sample, position, count : int
        Where, and how many.
    """

    def __init__(self, sample: int, position: int, count: int) -> None:
        super().__init__(f"position {position} of sample {sample} has {count} that are not zero")
        self.sample, self.position, self.count = sample, position, count


def pack_entries(keys: Keys, zero_key: int, *, most: int, entries: int) -> npt.NDArray[np.uint32]:
    """Sparse packed inputs: indices and keys of all activations that are not zero.

    Parameters
    ----------
    keys : uint8 array, shape (samples, positions, channels)
        Keys of a batch.
    zero_key : int
        Key of the value zero.
    most : int
        Activations of a position that may be other than zero.
    entries : int
        Entries of a sample, at least `most` a position; what is left over is zero.

    Returns
    -------
    uint32 array, shape (samples, entries)
        `INPUT_ENTRY`.

    Raises
    ------
    CrowdedError
        If a position has more than `most`.
    ValueError
        If there are more channels than an entry can name.
    """
    samples, positions, channels = keys.shape
    if channels > 1 << INPUT_INDEX_BITS:
        raise ValueError(f"{channels} channels, of which an entry can only name the first few")
    flat = keys.reshape(-1)
    found = np.flatnonzero(flat != zero_key)
    place, channel = np.divmod(found, channels)
    counts = np.bincount(place, minlength=samples * positions)
    if counts.max() > most:
        first = int(np.argmax(counts > most))
        raise CrowdedError(*divmod(first, positions), int(counts[first]))
    # A position without activations has an entry, too.
    sizes = np.maximum(counts, 1).reshape(samples, positions)
    firsts = np.arange(samples)[:, None] * entries + np.cumsum(sizes, axis=1) - sizes
    packed = np.zeros(samples * entries, np.uint32)
    # After the first of its position as far as it is in the list of all.
    offsets = firsts.ravel() - (np.cumsum(counts) - counts)
    packed[offsets[place] + np.arange(len(found))] = (
        (flat[found].astype(np.uint32) << _SHIFTS["key"])
        | (channel.astype(np.uint32) << _SHIFTS["index"])
        | (1 << _SHIFTS["present"])
    )
    lasts = firsts + sizes - 1
    packed[lasts.ravel()] |= np.uint32(1 << _SHIFTS["last"])
    packed[lasts[:, -1]] |= np.uint32(1 << _SHIFTS["end"])
    return packed.reshape(samples, entries)


def unpack_entries(
    packed: npt.NDArray[np.uint32], shape: Sequence[int], zero_key: int
) -> npt.NDArray[np.int64]:
    """Values of sparse packed inputs.

    Parameters
    ----------
    packed : uint32 array, shape (samples, entries)
        `INPUT_ENTRY`.
    shape : (positions, channels)
        Shape of a sample.
    zero_key : int
        Key of the value zero.

    Returns
    -------
    int64 array, shape (samples, positions, channels)

    Raises
    ------
    ValueError
        If a sample ends too early or too late, or names a channel that is not there.
    """
    positions, channels = shape
    fields = {
        field.name: ((packed >> _SHIFTS[field.name]) & ((1 << field.bits) - 1)).astype(np.int64)
        for field in INPUT_ENTRY.fields
    }
    inside = np.cumsum(fields["end"], axis=1) - fields["end"] == 0
    position = np.cumsum(fields["last"], axis=1) - fields["last"]
    ends = (fields["end"] == 1) & inside
    if not np.all(np.sum(ends & (position == positions - 1) & (fields["last"] == 1), axis=1) == 1):
        raise ValueError(f"a sample does not end with its position {positions - 1}")
    sample, entry = np.nonzero(inside & (fields["present"] == 1))
    index = fields["index"][sample, entry]
    if index.max(initial=0) >= channels:
        raise ValueError(f"a sample names channel {index.max()} of {channels}")
    values = np.zeros((len(packed), positions, channels), np.int64)
    values[sample, position[sample, entry], index] = fields["key"][sample, entry] - zero_key
    return values
