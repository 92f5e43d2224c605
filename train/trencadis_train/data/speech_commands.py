"""The folder of Google Speech Commands as its makers ship it. NumPy only.

A folder a word, with recordings of at most a second; `_background_noise_` with long ones; the lists
`validation_list.txt` and `testing_list.txt` of recordings that are not for training. Without the
lists the rule decides by which they were made: a hash of the speaker's name.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from trencadis_format.errors import FileError
from trencadis_train.data.features import CLIP_SAMPLES, SAMPLE_RATE_HZ, SIZE, log_mel
from trencadis_train.data.labelled import Labelled, Splits
from trencadis_train.data.npz import read_arrays, write_arrays
from trencadis_train.data.recordings import read_recording
from trencadis_train.errors import TrainingError

__all__ = ["CREDIT", "Progress", "load_speech_commands", "official_part"]

CREDIT = (
    'Recordings: Pete Warden, "Speech Commands: A Dataset for Limited-Vocabulary Speech '
    'Recognition", 2018; CC BY 4.0'
)

Progress = Callable[[int, int], None]
"""Called with the number of recordings that are done, and of all."""

NOISE = "_background_noise_"
LISTS = {"validation_list.txt": 1, "testing_list.txt": 2}
"""Files that name recordings, and their part: 0 train, 1 validation, 2 test."""

HASHES = 1 << 27
"""Hashes are counted modulo this number by the official rule."""
VALIDATION_SHARE = TEST_SHARE = 0.1

BATCH = 256
"""Recordings whose features are computed at once."""

FEATURES_VERSION = 1
"""Changes when features do, so that cached ones are computed again."""


def load_speech_commands(
    folder: Path,
    *,
    words: Sequence[str] = (),
    cache: Path | None = None,
    progress: Progress | None = None,
) -> Splits:
    """Features of recordings, with the official split.

    Parameters
    ----------
    folder : Path
        The data set, extracted.
    words : sequence of str
        Folders that become classes, in this order; all without it, in alphabetical order.
    cache : Path, optional
        A folder in which features are kept, one file a word; made if there is none. A word whose
        recordings have changed is computed again.
    progress : callable, optional
        Told how far it is, after every batch of recordings.

    Returns
    -------
    Splits
        Its noise is the background recordings cut into seconds, or None if there are none.

    Raises
    ------
    TrainingError
        Naming the folder, and the first of the recordings that are missing or damaged.
    """
    if folder.is_file():
        raise TrainingError(
            f"{folder}: is a file; give the folder of the data set, extracted, or read an .npz "
            "with data.set = npz"
        )
    if not folder.exists():
        raise TrainingError(f"{folder}: there is no such folder; give that of the data set")
    classes = tuple(words) or _words(folder)
    files = {word: _recordings(folder, word) for word in classes}
    parts = {word: _parts(folder, word, files[word]) for word in classes}
    noise = sorted((folder / NOISE).glob("*.wav"))
    total = sum(len(some) for some in files.values()) + len(noise)
    reader = _Reader(cache, total, progress)
    features, split, labels = [], [], []
    for number, word in enumerate(classes):
        features.append(reader.read(word, files[word], whole=False))
        split.append(parts[word])
        labels.append(np.full(len(files[word]), number, np.int64))
    clips = reader.read(NOISE, noise, whole=True) if noise else None
    reader.check()
    whole = Labelled(np.concatenate(features), np.concatenate(labels))
    of = np.concatenate(split)
    train, validation, test = (whole.where(of == part) for part in range(3))
    try:
        return Splits(train, validation, test, classes, clips, CREDIT)
    except TrainingError as error:
        raise TrainingError(f"{folder}: {error}") from error


def official_part(name: str) -> int:
    """Part of a recording by the official rule: 0 train, 1 validation, 2 test.

    All recordings of a speaker are in one part, and a part never changes when others are added: it
    depends on the beginning of the file's name alone.

    Parameters
    ----------
    name : str
        Name of the file, like `0a7c2a8d_nohash_0.wav`.
    """
    speaker = name.split("_nohash_", maxsplit=1)[0]
    place = int(hashlib.sha1(speaker.encode(), usedforsecurity=False).hexdigest(), 16) % HASHES
    share = place / (HASHES - 1)
    if share < VALIDATION_SHARE:
        return 1
    return 2 if share < VALIDATION_SHARE + TEST_SHARE else 0


def _words(folder: Path) -> tuple[str, ...]:
    try:
        names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
    except OSError as error:
        raise TrainingError(f"{folder}: cannot be read: {error.strerror or error}") from error
    words = tuple(name for name in names if not name.startswith(("_", ".")))
    if not words:
        raise TrainingError(f"{folder}: has no folders of words; give the extracted data set")
    return words


def _recordings(folder: Path, word: str) -> list[Path]:
    """Recordings of a word, by name."""
    if not word or Path(word).name != word or word.startswith("."):
        raise TrainingError(f"{folder}: a word must be the name of a folder, not {word!r}")
    files = sorted((folder / word).glob("*.wav"))
    if not files:
        raise TrainingError(
            f"{folder / word}: there are no recordings (*.wav); extract the data set again, or "
            "leave the word out"
        )
    return files


def _parts(folder: Path, word: str, files: Sequence[Path]) -> npt.NDArray[np.int64]:
    """Part of every recording of a word."""
    listed: dict[str, int] = {}
    lists = [name for name in LISTS if (folder / name).is_file()]
    if not lists:
        return np.array([official_part(file.name) for file in files], np.int64)
    if len(lists) < len(LISTS):
        (missing,) = set(LISTS) - set(lists)
        raise TrainingError(
            f"{folder}: there is {lists[0]} but no {missing}; extract the data set again, or "
            "delete both, and the split is made by the official rule"
        )
    for name in lists:
        for line in _lines(folder / name):
            of, _, recording = line.partition("/")
            if of == word:
                listed[recording] = LISTS[name]
    there = {file.name for file in files}
    missing = sorted(listed.keys() - there)
    if missing:
        raise TrainingError(
            f"{folder}: {len(missing)} recordings of the lists are missing, the first is "
            f"{word}/{missing[0]}; extract the data set again"
        )
    return np.array([listed.get(file.name, 0) for file in files], np.int64)


def _lines(path: Path) -> list[str]:
    try:
        return [line.strip() for line in path.read_text().splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise TrainingError(f"{path}: cannot be read ({error}); get it again") from error


@dataclass
class _Reader:
    """Turns recordings into features, a folder at a time, and keeps count."""

    cache: Path | None
    total: int
    progress: Progress | None
    done: int = 0
    bad: int = 0
    first: TrainingError | None = None

    def read(self, word: str, files: Sequence[Path], *, whole: bool) -> npt.NDArray[np.uint8]:
        """Features of recordings, from the cache if they are there.

        Parameters
        ----------
        word : str
            Name of the folder: the word.
        files : sequence of Path
            Recordings.
        whole : bool
            Cut them into seconds instead of taking the first of each.
        """
        key = _key(files)
        kept = self._cached(word, key)
        if kept is None:
            before = self.bad
            kept = self._compute(files, whole)
            if self.bad == before:
                self._keep(word, key, kept)
        else:
            self._advance(len(files))
        return kept

    def check(self) -> None:
        """Refuse what could not be read."""
        if self.first is None:
            return
        if self.bad == 1:
            raise self.first
        raise TrainingError(
            f"{self.first} (the first of {self.bad} that cannot be used, of {self.total} in all)"
        )

    def _compute(self, files: Sequence[Path], whole: bool) -> npt.NDArray[np.uint8]:
        pieces: list[npt.NDArray[np.uint8]] = []
        for start in range(0, len(files), BATCH):
            batch = files[start : start + BATCH]
            clips = [clip for file in batch for clip in self._clips(file, whole)]
            if clips:
                pieces.append(log_mel(np.stack(clips)))
            self._advance(len(batch))
        return np.concatenate(pieces) if pieces else np.zeros((0, SIZE, SIZE), np.uint8)

    def _clips(self, file: Path, whole: bool) -> list[npt.NDArray[np.int16]]:
        try:
            samples = read_recording(file, SAMPLE_RATE_HZ)
        except TrainingError as error:
            self.bad += 1
            self.first = self.first or error
            return []
        if whole and len(samples) >= CLIP_SAMPLES:
            seconds = len(samples) // CLIP_SAMPLES
            return list(samples[: seconds * CLIP_SAMPLES].reshape(seconds, CLIP_SAMPLES))
        clip = np.zeros(CLIP_SAMPLES, np.int16)
        clip[: len(samples)] = samples[:CLIP_SAMPLES]
        return [clip]

    def _advance(self, recordings: int) -> None:
        self.done += recordings
        if self.progress is not None:
            self.progress(self.done, self.total)

    def _cached(self, word: str, key: str) -> npt.NDArray[np.uint8] | None:
        if self.cache is None:
            return None
        try:
            arrays = read_arrays(self.cache / f"{word}.npz")
        except TrainingError:  # none, or one that was damaged: it is made again
            return None
        features = arrays.get("features")
        if str(arrays.get("key", "")) != key or features is None or features.dtype != np.uint8:
            return None
        return features if features.shape[1:] == (SIZE, SIZE) else None

    def _keep(self, word: str, key: str, features: npt.NDArray[np.uint8]) -> None:
        if self.cache is None:
            return
        try:
            self.cache.mkdir(parents=True, exist_ok=True)
            write_arrays(self.cache / f"{word}.npz", {"features": features, "key": np.array(key)})
        except OSError as error:
            raise TrainingError(f"{self.cache}: cannot be made: {error.strerror}") from error
        except FileError as error:
            raise TrainingError(str(error)) from error


def _key(files: Sequence[Path]) -> str:
    """Digest of names, sizes and times of files, and of the version of features."""
    digest = hashlib.sha256(str(FEATURES_VERSION).encode())
    for file in files:
        try:
            found = file.stat()
        except OSError as error:
            raise TrainingError(f"{file}: cannot be read: {error.strerror}") from error
        digest.update(f"\n{file.name} {found.st_size} {found.st_mtime_ns}".encode())
    return digest.hexdigest()
