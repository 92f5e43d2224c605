"""Change what a memory begins with in a configuration of an ECP5 that has been routed.

`python -m trencadis_flows.lattice.fill IN.config PATTERN.hex CONTENTS.hex OUT.config`

The memory was synthesised with a pattern that is found nowhere else, so its bits are found again
wherever synthesis and routing have put them.
"""

import re
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt

__all__ = ["FillError", "fill", "main"]

WORD_BITS = 9
DATA_BITS = 8
SHAPES = ((DATA_BITS, (1, 2, 4)), (WORD_BITS, (9, 18, 36)))
"""Bits of a word of the configuration that are in use, and how wide a block's rows then are."""
_BLOCK = re.compile(r"^(\.bram_init \d+\n)((?:[0-9a-f ]+\n)+)", re.MULTILINE)
Bits = npt.NDArray[np.uint8]


class FillError(ValueError):
    """The pattern is not where it should be. One line."""


def fill(config: str, pattern: Bits, contents: Bits) -> str:
    """A configuration with other contents in a memory.

    Parameters
    ----------
    config : str
        The configuration, as nextpnr writes it.
    pattern, contents : uint8 array of rows x bits
        What the memory was synthesised with, and what it is to begin with: 0 or 1 each.

    Returns
    -------
    str
        The new configuration.

    Raises
    ------
    FillError
        If sizes differ, or some of the pattern is not found, or is found twice.
    """
    if pattern.shape != contents.shape:
        raise FillError(f"contents must be {pattern.shape} rows x bits, not {contents.shape}")
    words = _words_of_a_block(config)
    shapes = [(used, width) for used, widths in SHAPES for width in widths]
    shapes = [(used, width) for used, width in shapes if words * used // width <= len(pattern)]
    places: dict[bytes, tuple[int, int]] = {}
    for length in {words * used // width for used, width in shapes}:
        for row in range(0, len(pattern), length):
            for bit in range(pattern.shape[1]):
                places[_key(pattern[row : row + length, bit])] = (row, bit)
    written = np.zeros(pattern.shape, np.uint8)

    def replace(match: re.Match[str]) -> str:
        values = np.array([int(word, 16) for word in match[2].split()])
        bits = (values[:, None] >> np.arange(WORD_BITS) & 1).astype(np.uint8)
        found = False
        for used, width in shapes if len(values) == words else ():
            rows = bits[:, :used].reshape(-1, width)
            for column in range(width):
                place = places.get(_key(rows[:, column]))
                if place is not None:
                    row, bit = place
                    part = slice(row, row + len(rows))
                    rows[:, column] = contents[part, bit]
                    written[part, bit] += 1
                    found = True
            bits[:, :used] = rows.reshape(-1, used)
        if not found:
            return match[0]
        filled = iter((bits.astype(int) << np.arange(WORD_BITS)).sum(axis=1).tolist())
        return match[1] + re.sub(r"[0-9a-f]+", lambda word: f"{next(filled):03x}", match[2])

    text = _BLOCK.sub(replace, config)
    if not (written == 1).all():
        raise FillError(
            f"of the {pattern.size} bits of the memory's pattern {np.count_nonzero(written == 0)} "
            f"are not found and {np.count_nonzero(written > 1)} are found twice; start again in "
            "an empty folder"
        )
    return text


def _words_of_a_block(config: str) -> int:
    first = _BLOCK.search(config)
    if first is None:
        raise FillError("the configuration has no memory with contents")
    return len(first[2].split())


def _key(bits: Bits) -> bytes:
    return np.packbits(bits).tobytes()


def read_hexadecimal(text: str) -> Bits:
    """Rows x bits of a file of hexadecimal rows, lowest bit first."""
    lines = text.split()
    data = np.frombuffer(bytes.fromhex("".join(lines)), np.uint8).reshape(len(lines), -1)
    return np.unpackbits(data[:, ::-1], axis=1, bitorder="little")


def main(arguments: list[str]) -> None:
    """Run the command."""
    source, pattern, contents, target = map(Path, arguments)
    text = fill(
        source.read_text(),
        read_hexadecimal(pattern.read_text()),
        read_hexadecimal(contents.read_text()),
    )
    target.write_text(text)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (FillError, OSError) as error:
        print(f"Error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
