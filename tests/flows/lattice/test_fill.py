import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from trencadis_flows.lattice.fill import FillError, fill, read_hexadecimal

Bits = npt.NDArray[np.uint8]
Config = Callable[[Bits], str]
SHAPE = (4096, 64)


def some_bits(seed: int, shape: tuple[int, int] = SHAPE) -> Bits:
    return np.random.default_rng(seed).integers(0, 2, shape, np.uint8)


def wide(config: str) -> str:
    """The same memory, in blocks of 36 bits: four words of 8 per row, of which there are 512."""
    blocks = [block.split() for block in config.split(".bram_init ")[1:]]
    parts = []
    for i in range(1, len(blocks), 8):
        for half in (0, 4):
            columns = [block[1:] for block in blocks[i + half : i + half + 4]]
            rows = [word for row in zip(*columns, strict=True) for word in row]
            parts += [rows[j : j + 2048] for j in range(0, len(rows), 2048)]
    return "\n\n".join(f".bram_init {n}\n{' '.join(part)}\n" for n, part in enumerate(parts))


def deep(config: str) -> str:
    """The same memory of 16384 bytes, in blocks of a bit: eight rows per word."""
    blocks = [block.split()[1:] for block in config.split(".bram_init ")[2:]]
    values = np.array([int(word, 16) for block in blocks for word in block])
    parts = []
    for bit in range(8):
        rows = (values >> bit & 1).reshape(-1, 8)
        parts.append([f"{word:03x}" for word in (rows << np.arange(8)).sum(axis=1)])
    return "\n\n".join(f".bram_init {n}\n{' '.join(part)}\n" for n, part in enumerate(parts))


@pytest.mark.parametrize(
    ("form", "shape"), [(str, SHAPE), (wide, SHAPE), (deep, (16384, 8)), (str, (16384, 8))]
)
def test_pattern_is_replaced_wherever_it_is(
    memory_config: Config, form: Callable[[str], str], shape: tuple[int, int]
) -> None:
    old, new = some_bits(1, shape), some_bits(2, shape)
    assert fill(form(memory_config(old)), old, new) == form(memory_config(new))


def test_what_is_not_the_memory_stays(memory_config: Config) -> None:
    old = some_bits(1)
    other = memory_config(some_bits(3)).replace(".bram_init ", ".bram_init 9")
    text = memory_config(old) + other + "\n.tile R1C1:PLC2\narc: A1 F0\n"
    new = np.zeros(SHAPE, np.uint8)
    assert fill(text, old, new) == memory_config(new) + other + "\n.tile R1C1:PLC2\narc: A1 F0\n"


def test_pattern_that_is_not_whole_is_refused(memory_config: Config) -> None:
    old, new = some_bits(1), some_bits(2)
    harmed = old.copy()
    harmed[5, 7] ^= 1
    with pytest.raises(FillError, match=r"262144 bits .* 2048 are not found and 0 are found twice"):
        fill(memory_config(harmed), old, new)
    twice = memory_config(old) + memory_config(old)
    with pytest.raises(FillError, match="0 are not found and 262144 are found twice"):
        fill(twice, old, new)
    with pytest.raises(FillError, match=r"contents must be \(4096, 64\) rows x bits"):
        fill(memory_config(old), old, new[:8])
    with pytest.raises(FillError, match="no memory with contents"):
        fill(".device x\n", old, new)


def test_hexadecimal_rows() -> None:
    bits = read_hexadecimal("0080\n0101\n")
    assert [np.flatnonzero(row).tolist() for row in bits] == [[7], [0, 8]]


def test_command(memory_config: Config, tmp_path: Path) -> None:
    def text(bits: Bits) -> str:
        rows = np.packbits(bits, axis=1, bitorder="little")[:, ::-1]
        return "".join(row.tobytes().hex() + "\n" for row in rows)

    old, new = some_bits(1), some_bits(2)
    for name, content in {
        "in": memory_config(old),
        "pattern": text(old),
        "contents": text(new),
    }.items():
        (tmp_path / name).write_text(content)
    command = [sys.executable, "-m", "trencadis_flows.lattice.fill"]
    subprocess.run([*command, "in", "pattern", "contents", "out"], cwd=tmp_path, check=True)
    assert (tmp_path / "out").read_text() == memory_config(new)
    done = subprocess.run(
        [*command, "in", "contents", "pattern", "other"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("Error: of the 262144 bits")
    assert not (tmp_path / "other").exists()
