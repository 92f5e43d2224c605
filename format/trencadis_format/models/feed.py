"""Model of `feed`."""

from collections.abc import Mapping, Sequence

__all__ = ["stored_values"]


def stored_values(
    feed: Mapping[str, int], keys: Sequence[int], *, second: bool = False
) -> list[tuple[int, int]]:
    """Address and value of everything that a sample writes into the dense input, in order.

    Parameters
    ----------
    feed : fields of `FEED`
        The format.
    keys : sequence of int
        The sample's keys; what fills up its last beat may follow.
    second : bool
        The sample goes to the second buffer.
    """
    width = feed["row_values"] + 1
    base = feed["address"] + feed["buffer_step"] * second
    return [
        (
            base + row * (width + feed["row_skip"]) + column,
            keys[row * width + column] - feed["zero"],
        )
        for row in range(feed["rows"] + 1)
        for column in range(width)
    ]
