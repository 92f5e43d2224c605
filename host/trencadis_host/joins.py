"""Stages that are computed in pieces: what pieces are given, and how results are joined.

All in integers, and equal to what one piece would have computed that holds the whole layer.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from trencadis_format.layer_tables import Selection
from trencadis_format.models.select import winners
from trencadis_format.pieces import Finish, Piece, Region, Requantisers, Span, Stage

__all__ = ["finished", "piece_input", "run_stage"]

Maps = npt.NDArray[Any]
"""Maps of a batch, shape (samples, rows, columns, channels)."""

RunImage = Callable[[int, Maps], Maps]
"""Computes the results of a device image: its number and input maps to keys or sums."""


def run_stage(stage: Stage, keys: Maps, run: RunImage) -> Maps:
    """Compute a stage.

    Parameters
    ----------
    stage : Stage
        What to compute.
    keys : uint8 array, shape (samples, rows, columns, channels)
        Input maps.
    run : callable
        Computes the maps of all pieces of an image at once, so that it is loaded once.

    Returns
    -------
    array, shape (samples, rows, columns, channels)
        Keys, uint8; or sums, int64, if nothing requantises them.
    """
    channels, rows, columns = stage.join.shape
    shape = (len(keys), rows, columns, channels)
    if stage.join.sums:
        result: Maps = np.zeros(shape, np.int64)
    else:
        result = np.empty(shape, np.uint8)
    for image in stage.images:
        pieces = [piece for piece in stage.pieces if piece.image == image]
        inputs = np.concatenate([piece_input(stage, piece, keys) for piece in pieces])
        outputs = run(image, inputs).reshape(len(pieces), len(keys), *_sizes(pieces[0].writes))
        for piece, output in zip(pieces, outputs, strict=True):
            inside, part = _inside(piece.writes, rows, columns)
            if stage.join.sums:
                result[inside] += output[part]
            else:
                result[inside] = output[part]
    return result if stage.join.finish is None else finished(result, stage.join.finish)


def piece_input(stage: Stage, piece: Piece, keys: Maps) -> Maps:
    """The region that a piece reads of input maps; outside of them, the value zero."""
    _, rows, columns = stage.in_shape
    region = piece.reads
    result = np.full((len(keys), *_sizes(region)), stage.zero_key, np.uint8)
    inside, part = _inside(region, rows, columns)
    result[part] = keys[inside]
    return result


def finished(result: Maps, finish: Finish) -> Maps:
    """The map that joined results become."""
    maps = _pooled(result, finish.pool_kernel, finish.pool_stride)
    if finish.requantisers is None and result.dtype != np.uint8:
        return maps
    if finish.requantisers is not None:
        maps = _requantised(maps, finish.requantisers)
        if finish.table is not None:
            maps = np.array(finish.table, np.uint8)[maps]
    if finish.selection is not Selection.ALL:
        maps = np.where(_winners(maps, finish), maps, finish.zero_key)
    return maps.astype(np.uint8)


def _sizes(region: Region) -> tuple[int, int, int]:
    """Rows, columns and channels."""
    channels, rows, columns = region.shape
    return rows, columns, channels


def _inside(region: Region, rows: int, columns: int) -> tuple[Any, Any]:
    """Part of a region inside a map: as an index of maps, and as one of the region."""
    down, down_part = _clipped(region.rows, rows)
    right, right_part = _clipped(region.columns, columns)
    channels = slice(*region.channels)
    return (slice(None), down, right, channels), (slice(None), down_part, right_part)


def _clipped(span: Span, size: int) -> tuple[slice, slice]:
    start = min(max(span[0], 0), size)
    stop = max(min(span[1], size), start)
    return slice(start, stop), slice(start - span[0], stop - span[0])


def _pooled(sums: Maps, kernel: tuple[int, int], stride: tuple[int, int]) -> Maps:
    if kernel == (1, 1) and stride == (1, 1):
        return sums
    rows, columns = (
        (size - window) // step + 1
        for size, window, step in zip(sums.shape[1:3], kernel, stride, strict=True)
    )
    steps = [
        sums[
            :,
            i : i + (rows - 1) * stride[0] + 1 : stride[0],
            j : j + (columns - 1) * stride[1] + 1 : stride[1],
        ]
        for i in range(kernel[0])
        for j in range(kernel[1])
    ]
    return np.maximum.reduce(steps)


def _requantised(sums: Maps, requantisers: Requantisers) -> Maps:
    keys = np.empty(sums.shape, np.uint8)
    for channel, steps in enumerate(requantisers.steps):
        found = np.searchsorted(steps, sums[..., channel], side="right")
        keys[..., channel] = requantisers.low + found
    return keys


def _winners(keys: Maps, finish: Finish) -> npt.NDArray[np.bool_]:
    if not finish.whole:
        return winners(keys, finish.k, finish.selection)
    # In the order of channels, rows, columns: ties go to the first.
    moved = np.moveaxis(keys, -1, 1)
    kept = winners(moved.reshape(len(keys), -1), finish.k, finish.selection)
    return np.moveaxis(kept.reshape(moved.shape), 1, -1)
