"""Examples with their classes: what every loader returns. NumPy only."""

import hashlib
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from trencadis_train.data.tables import Scaling
from trencadis_train.errors import TrainingError

__all__ = ["Labelled", "Splits", "stratified_parts"]


@dataclass(frozen=True)
class Labelled:
    """Examples and their classes.

    Attributes
    ----------
    images : uint8 array, shape (examples, rows, columns)
        Pixels, or log-mel features (rows are time, columns are bands).
    labels : int64 array, shape (examples,)
        Class of every example.

    Raises
    ------
    TrainingError
        If shapes or types are others.
    """

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]

    def __post_init__(self) -> None:
        if self.images.dtype != np.uint8 or self.images.ndim != 3:
            raise TrainingError(
                "images must be bytes of shape (examples, rows, columns), not "
                f"{self.images.dtype} of shape {list(self.images.shape)}"
            )
        if self.labels.shape != self.images.shape[:1]:
            raise TrainingError(
                f"labels must be one per image, not {list(self.labels.shape)} for "
                f"{len(self.images)} images"
            )

    def __len__(self) -> int:
        return len(self.images)

    def where(self, chosen: npt.NDArray[np.integer] | npt.NDArray[np.bool_]) -> Self:
        """The examples that an index or a mask chooses, in its order."""
        return type(self)(self.images[chosen], self.labels[chosen])


@dataclass(frozen=True)
class Splits:
    """A data set: three disjoint parts, and what its classes are called.

    Attributes
    ----------
    train, validation, test : Labelled
        To learn from; to choose by; to report, once.
    classes : tuple of str
        Name of every class.
    noise : uint8 array, shape (clips, rows, columns), or None
        Recordings without a word, to add to others.
    credit : str
        Who made the recordings, and the licence, where one must be named.
    scaling : Scaling, optional
        How real numbers became the bytes of the images, if they did.
    """

    train: Labelled
    validation: Labelled
    test: Labelled
    classes: tuple[str, ...]
    noise: npt.NDArray[np.uint8] | None = None
    credit: str = ""
    scaling: Scaling | None = None

    def __post_init__(self) -> None:
        for name, part in self.parts:
            if not len(part):
                raise TrainingError(f"the {name} part of the data set is empty")
            if part.labels.min() < 0 or part.labels.max() >= len(self.classes):
                raise TrainingError(
                    f"labels of the {name} part are in {part.labels.min()}..{part.labels.max()}, "
                    f"but there are {len(self.classes)} classes"
                )
            if part.images.shape[1:] != self.train.images.shape[1:]:
                raise TrainingError(
                    f"images of the {name} part are {list(part.images.shape[1:])}, those of the "
                    f"train part {list(self.train.images.shape[1:])}"
                )
        shape = self.train.images.shape[1:]
        if self.noise is not None and (
            self.noise.dtype != np.uint8 or self.noise.ndim != 3 or self.noise.shape[1:] != shape
        ):
            raise TrainingError(
                f"noise must be bytes of shape {['clips', *shape]}, not {self.noise.dtype} of "
                f"shape {list(self.noise.shape)}"
            )

    @property
    def parts(self) -> tuple[tuple[str, Labelled], ...]:
        """The three parts with their names."""
        return ("train", self.train), ("validation", self.validation), ("test", self.test)

    def fingerprint(self) -> str:
        """Digest of all examples, classes and noise: the same wherever they are stored."""
        digest = hashlib.sha256(repr(self.classes).encode())
        arrays = [array for _, part in self.parts for array in (part.images, part.labels)]
        for array in arrays if self.noise is None else [*arrays, self.noise]:
            digest.update(f"{array.dtype} {array.shape}".encode())
            digest.update(array.tobytes())
        return digest.hexdigest()

    @classmethod
    def stratified(
        cls,
        images: npt.NDArray[np.uint8],
        labels: npt.NDArray[np.int64],
        classes: tuple[str, ...],
        *,
        validation: float,
        test: float,
        seed: int = 0,
    ) -> Self:
        """Split at random such that every class has the same share in every part.

        Parameters
        ----------
        images, labels
            As in `Labelled`.
        classes : tuple of str
            Name of every class.
        validation, test : float
            Shares of the two parts; what is left is for training.
        seed : int
            The same seed gives the same split.

        Raises
        ------
        TrainingError
            If labels are no classes, or a part is left empty.
        """
        whole = Labelled(images, labels)
        if len(labels) and not 0 <= labels.min() <= labels.max() < len(classes):
            raise TrainingError(
                f"labels must be in 0..{len(classes) - 1}, not {labels.min()}..{labels.max()}"
            )
        part = stratified_parts(labels, len(classes), validation=validation, test=test, seed=seed)
        train, validating, testing = (whole.where(part == number) for number in range(3))
        return cls(train, validating, testing, classes)


def stratified_parts(
    labels: npt.NDArray[np.int64], classes: int, *, validation: float, test: float, seed: int = 0
) -> npt.NDArray[np.int8]:
    """Part of every example, as `Splits.stratified` has it: 0 train, 1 validation, 2 test."""
    rng = np.random.default_rng(seed)
    part = np.zeros(len(labels), np.int8)
    for number in range(classes):
        members = rng.permutation(np.flatnonzero(labels == number))
        first = round(test * len(members))
        second = first + round(validation * len(members))
        part[members[:first]], part[members[first:second]] = 2, 1
    return part
