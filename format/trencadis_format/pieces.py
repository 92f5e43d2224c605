"""Stages of a network that is computed in pieces, and how their results are joined.

What a core cannot hold is cut by the compiler: a stage is one layer, or a section of a chain, whose
map is put together from pieces. Every piece reads a region of the stage's input map and writes one
of its result; pieces of equal shape and weights share a device image. What a piece reads outside
the map is the value zero, and what it gives outside the result is dropped: so strips at the edges
are computed by the same image as those in the middle.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from functools import cached_property
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from trencadis_format.layer_tables import Selection
from trencadis_format.models.thresholds import thresholds

__all__ = ["Finish", "Join", "Piece", "Region", "Requantisers", "Span", "Stage"]

MAX_DIGITS = 400
"""Characters of a fraction: scales are float32, so theirs have far fewer."""

Span = tuple[int, int]
"""First and last plus one."""


@dataclass(frozen=True)
class Region:
    """A part of a map: spans of its channels, rows and columns."""

    channels: Span
    rows: Span
    columns: Span

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, rows and columns."""
        spans = (self.channels, self.rows, self.columns)
        return tuple(stop - start for start, stop in spans)  # type: ignore[return-value]


@dataclass(frozen=True)
class Piece:
    """A part of a stage's work.

    Attributes
    ----------
    image : int
        Number of the device image that computes it.
    reads : Region
        Region of the stage's input map; rows and columns may lie outside it.
    writes : Region
        Region of the result; rows and columns may lie outside it.
    """

    image: int
    reads: Region
    writes: Region


@dataclass(frozen=True)
class Requantisers:
    """Exact lines from sums to keys, one per channel, rounded half to even from the key of zero.

    Attributes
    ----------
    slopes, intercepts : tuple of str
        The real key of a sum is slope * sum + intercept; written as fractions.
    low, high : int
        Bounds of keys.
    zero_key : int
        Key of zero.

    Raises
    ------
    ValueError
        If a slope is not positive, or a number not a fraction of moderate length.
    """

    slopes: tuple[str, ...]
    intercepts: tuple[str, ...]
    low: int
    high: int
    zero_key: int

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.high <= 255 or not 0 <= self.zero_key <= 255:
            raise ValueError(f"keys must be in 0..255, not {self.low}..{self.high}")
        if len(self.slopes) != len(self.intercepts):
            raise ValueError("a stage must have as many slopes as intercepts")
        if max(map(len, (*self.slopes, *self.intercepts)), default=0) > MAX_DIGITS:
            raise ValueError(f"a requantiser's fraction must have at most {MAX_DIGITS} digits")
        if any(Fraction(slope) <= 0 for slope in self.slopes):
            raise ValueError("slopes of requantisers must be positive")

    @cached_property
    def steps(self) -> npt.NDArray[np.int64]:
        """Smallest sums that reach each key above `low`, shape (channels, high - low)."""
        most = 1 << 62
        return np.array(
            [
                [
                    min(max(step, -most), most)
                    for step in thresholds(
                        Fraction(slope), Fraction(intercept), self.low, self.high, self.zero_key
                    )
                ]
                for slope, intercept in zip(self.slopes, self.intercepts, strict=True)
            ],
            np.int64,
        ).reshape(len(self.slopes), self.high - self.low)


@dataclass(frozen=True)
class Finish:
    """Work on the joined result that is left to the host, because no piece has all that it takes.

    Sums that nothing requantises are pooled at most.

    Attributes
    ----------
    pool_kernel, pool_stride : (rows, columns)
        Max-pooling of sums.
    requantisers : Requantisers or None
        Requantisers from sums to keys; None if the pieces give keys.
    table : tuple of 256 int, or None
        Activation table.
    selection : Selection
        Which keys survive.
    k : int
        Winners.
    whole : bool
        Winners of the whole map, not of the channels of a position.
    zero_key : int
        What losers become.
    """

    pool_kernel: tuple[int, int] = (1, 1)
    pool_stride: tuple[int, int] = (1, 1)
    requantisers: Requantisers | None = None
    table: tuple[int, ...] | None = None
    selection: Selection = Selection.ALL
    k: int = 0
    whole: bool = False
    zero_key: int = 0


@dataclass(frozen=True)
class Join:
    """Rule by which the results of pieces become a map.

    Attributes
    ----------
    shape : (channels, rows, columns)
        Shape of the result that the pieces write.
    sums : bool
        The pieces give sums, which are added where they overlap; else keys, the later one counts.
    finish : Finish or None
        What is left to do.
    """

    shape: tuple[int, int, int]
    sums: bool
    finish: Finish | None = None


@dataclass(frozen=True)
class Stage:
    """Consecutive layers of a network, computed by pieces.

    Attributes
    ----------
    layers : tuple of str
        Names of the layers; several only if one piece computes them all.
    in_shape : (channels, rows, columns)
        Input map.
    zero_key : int
        Key of the value zero in the input map.
    pieces : tuple of Piece
        Pieces, in the order in which they are run.
    join : Join
        What becomes of their results.

    Raises
    ------
    ValueError
        If regions lie outside their maps, or fields do not fit each other.
    """

    layers: tuple[str, ...]
    in_shape: tuple[int, int, int]
    zero_key: int
    pieces: tuple[Piece, ...]
    join: Join

    def __post_init__(self) -> None:
        if not self.pieces:
            raise ValueError("a stage must have a piece")
        for piece in self.pieces:
            _check_region("reads", piece.reads, self.in_shape)
            _check_region("writes", piece.writes, self.join.shape)
        finish = self.join.finish
        if finish is None:
            return
        if min(*finish.pool_kernel, *finish.pool_stride, *self.out_shape) < 1:
            raise ValueError("a stage pools more than there is")
        requantisers = finish.requantisers
        if requantisers is not None and not self.join.sums:
            raise ValueError("a stage must requantise sums, not keys")
        channels = self.join.shape[0]
        if requantisers is not None and len(requantisers.slopes) != channels:
            raise ValueError(f"a stage must have {channels} requantisers, one per channel")
        if finish.table is not None and len(finish.table) != 256:
            raise ValueError(f"an activation table must have 256 keys, not {len(finish.table)}")

    @property
    def gives_sums(self) -> bool:
        """The stage's result is sums, not keys."""
        finish = self.join.finish
        return self.join.sums and (finish is None or finish.requantisers is None)

    @property
    def out_shape(self) -> tuple[int, int, int]:
        """Channels, rows and columns of the stage's result."""
        channels, rows, columns = self.join.shape
        if self.join.finish is None:
            return channels, rows, columns
        (down, right), (below, across) = self.join.finish.pool_kernel, self.join.finish.pool_stride
        return channels, (rows - down) // below + 1, (columns - right) // across + 1

    @property
    def whole(self) -> bool:
        """One piece computes all, and nothing is left to the host."""
        join = self.join
        return len(self.pieces) == 1 and join.finish is None

    @property
    def images(self) -> tuple[int, ...]:
        """Numbers of the device images, in the order in which they are run."""
        return tuple(dict.fromkeys(piece.image for piece in self.pieces))

    def from_image(self, first: int) -> Self:
        """The same stage with its images numbered from another first one."""
        offset = first - min(piece.image for piece in self.pieces)
        pieces = tuple(replace(piece, image=piece.image + offset) for piece in self.pieces)
        return replace(self, pieces=pieces)

    def to_dict(self) -> dict[str, Any]:
        """The stage as JSON-ready data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Inverse of `to_dict`, also after a way through JSON.

        Raises
        ------
        ValueError
            If anything is missing or impossible.
        """
        try:
            join = data["join"]
            return cls(
                layers=tuple(str(name) for name in data["layers"]),
                in_shape=_triple(data["in_shape"]),
                zero_key=int(data["zero_key"]),
                pieces=tuple(
                    Piece(int(piece["image"]), _region(piece["reads"]), _region(piece["writes"]))
                    for piece in data["pieces"]
                ),
                join=Join(_triple(join["shape"]), bool(join["sums"]), _finish(join["finish"])),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a stage: {error!r}") from error


def _check_region(what: str, region: Region, shape: Sequence[int]) -> None:
    spans = (region.channels, region.rows, region.columns)
    for axis, (start, stop), size in zip(
        ("channels", "rows", "columns"), spans, shape, strict=True
    ):
        inside = 0 <= start < stop <= size
        if axis != "channels":
            inside = start < stop
        if not inside or stop - start > 1 << 16:
            raise ValueError(
                f"a piece {what} {axis} {start}..{stop - 1} of a map that has {size}: compile again"
            )


def _triple(values: Sequence[Any]) -> tuple[int, int, int]:
    channels, rows, columns = (int(value) for value in values)
    if min(channels, rows, columns) < 1:
        raise ValueError(f"a map must not be empty, like one of {channels}x{rows}x{columns}")
    return channels, rows, columns


def _span(values: Sequence[Any]) -> Span:
    start, stop = (int(value) for value in values)
    return start, stop


def _region(data: Mapping[str, Any]) -> Region:
    return Region(*(_span(data[axis]) for axis in ("channels", "rows", "columns")))


def _finish(data: Mapping[str, Any] | None) -> Finish | None:
    if data is None:
        return None
    requantisers, table = data["requantisers"], data["table"]
    return Finish(
        pool_kernel=_span(data["pool_kernel"]),
        pool_stride=_span(data["pool_stride"]),
        requantisers=None
        if requantisers is None
        else Requantisers(
            slopes=tuple(str(value) for value in requantisers["slopes"]),
            intercepts=tuple(str(value) for value in requantisers["intercepts"]),
            low=int(requantisers["low"]),
            high=int(requantisers["high"]),
            zero_key=int(requantisers["zero_key"]),
        ),
        table=None if table is None else tuple(int(key) for key in table),
        selection=Selection(data["selection"]),
        k=int(data["k"]),
        whole=bool(data["whole"]),
        zero_key=int(data["zero_key"]),
    )
