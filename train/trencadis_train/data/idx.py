"""The files of MNIST and Fashion-MNIST. NumPy only.

An idx file has a type, a number of axes and their sizes, then bytes. A data set is a folder with
four of them, packed with gzip or not.
"""

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import numpy.typing as npt

from trencadis_train.data.labelled import Labelled, Splits
from trencadis_train.errors import TrainingError

__all__ = ["load_idx", "read_idx"]

BYTES = 0x08
"""The type of unsigned bytes, the only one that these data sets have."""

MAX_AXES = 4
MAX_SIZE = 1 << 30
"""Bytes of a file's array; MNIST has 47 million."""

FASHION = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
FASHION_BEGINS = (9, 2, 1, 1, 6, 1, 4, 6, 5, 7)
"""The first test labels of Fashion-MNIST, whose files are named as those of MNIST are."""


def load_idx(folder: Path, *, validation: float = 0.1) -> Splits:
    """Read a data set of four idx files, with the test set that it has.

    Parameters
    ----------
    folder : Path
        Has `train-images-idx3-ubyte`, `train-labels-idx1-ubyte`, `t10k-images-idx3-ubyte` and
        `t10k-labels-idx1-ubyte`, each perhaps with `.gz`.
    validation : float
        Share of the training examples, of every class alike, that validate.

    Returns
    -------
    Splits
        Classes are called by their numbers; those of Fashion-MNIST by their names.

    Raises
    ------
    TrainingError
        Naming the file that is missing or damaged.
    """
    train, test = (_part(folder, name) for name in ("train", "t10k"))
    largest = max(int(part.labels.max(initial=0)) for part in (train, test))
    classes = tuple(str(number) for number in range(largest + 1))
    if largest + 1 == len(FASHION) and tuple(test.labels[:10]) == FASHION_BEGINS:
        classes = FASHION
    halves = _halved(train, len(classes), validation)
    try:
        return Splits(train.where(~halves), train.where(halves), test, classes)
    except TrainingError as error:
        raise TrainingError(f"{folder}: {error}") from error


def read_idx(path: Path) -> npt.NDArray[np.uint8]:
    """The array of an idx file of unsigned bytes; a name with `.gz` is unpacked.

    Raises
    ------
    TrainingError
        If the file is missing, damaged, or has another type.
    """
    try:
        with path.open("rb") as raw:
            if path.suffix != ".gz":
                return _read(path, raw)
            with gzip.GzipFile(fileobj=raw) as unpacked:
                return _read(path, cast(BinaryIO, unpacked))
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise TrainingError(f"{path}: damaged ({error}); get it again") from error
    except OSError as error:
        raise TrainingError(f"{path}: cannot be read: {error.strerror or error}") from error


def _read(path: Path, file: BinaryIO) -> npt.NDArray[np.uint8]:
    start = file.read(4)
    if len(start) < 4 or start[:2] != b"\0\0":
        raise TrainingError(f"{path}: not an idx file, it begins with {start!r}; get it again")
    kind, axes = start[2:]
    if kind != BYTES:
        raise TrainingError(f"{path}: an idx file of unsigned bytes has type 8, this has {kind}")
    if not 1 <= axes <= MAX_AXES:
        raise TrainingError(f"{path}: an idx file has 1 to {MAX_AXES} axes, this has {axes}")
    sizes = file.read(4 * axes)
    if len(sizes) < 4 * axes:
        raise TrainingError(f"{path}: cut off in its header; get it again")
    shape = struct.unpack(f">{axes}I", sizes)
    size = math.prod(shape)
    if math.prod(max(1, length) for length in shape) > MAX_SIZE:  # nothing has sizes, too
        raise TrainingError(
            f"{path}: at most {MAX_SIZE} bytes are read, it claims shape {list(shape)}"
        )
    # One byte more than there should be tells whether the file is longer.
    data = file.read(size + 1)
    if len(data) != size:
        more = "more" if len(data) > size else f"{len(data)}"
        raise TrainingError(
            f"{path}: damaged: its header tells of {size} bytes, there are {more}; get it again"
        )
    return np.frombuffer(data, np.uint8).reshape(shape)


def _part(folder: Path, name: str) -> Labelled:
    images = read_idx(_found(folder, f"{name}-images-idx3-ubyte"))
    labels = read_idx(_found(folder, f"{name}-labels-idx1-ubyte"))
    try:
        if labels.ndim != 1:
            raise TrainingError(f"labels must have one axis, not {labels.ndim}")
        return Labelled(images, labels.astype(np.int64))
    except TrainingError as error:
        raise TrainingError(f"{folder}: the {name} files: {error}") from error


def _found(folder: Path, name: str) -> Path:
    for file in (folder / name, folder / f"{name}.gz"):
        if file.is_file():
            return file
    raise TrainingError(f"{folder}: there is no {name}, nor {name}.gz; give the folder of the four")


def _halved(train: Labelled, classes: int, validation: float) -> npt.NDArray[np.bool_]:
    """Choose the training examples that validate: the same share of every class, seeded."""
    rng = np.random.default_rng(0)
    chosen = np.zeros(len(train), bool)
    for number in range(classes):
        members = rng.permutation(np.flatnonzero(train.labels == number))
        chosen[members[: round(validation * len(members))]] = True
    return chosen
