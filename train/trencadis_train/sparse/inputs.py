"""Examples as the network takes them: standardised, feature-major, in batches."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
import numpy.typing as npt

from trencadis_train.data.labelled import Labelled
from trencadis_train.memory import aligned_empty
from trencadis_train.sparse.loops import kernels

__all__ = ["Batches", "Standard"]

Floats = npt.NDArray[np.float32]

Change = Callable[[npt.NDArray[np.uint8], int], npt.NDArray[np.float32]]

INPUT_STEPS = 255

EVALUATION_BATCH = 512


@dataclass(frozen=True)
class Standard:
    """Affine map of input bytes: what is subtracted, and what the rest is multiplied with.

    Attributes
    ----------
    mean, inverse : float32 array, shape (features,)
        Mean and inverse of every feature.
    """

    mean: Floats
    inverse: Floats

    @classmethod
    def of(cls, examples: npt.NDArray[np.uint8], how: Literal["none", "all", "features"]) -> Self:
        """Mean and deviation of examples, shape (examples, features).

        `none` divides by 255. A feature that never changes becomes zero.
        """
        features = examples.shape[1]
        if how == "none":
            numbers = 0.0, 1 / INPUT_STEPS
        elif how == "all":
            numbers = examples.mean(dtype=np.float64), 1 / (examples.std(dtype=np.float64) or 1.0)
        else:
            deviation = examples.std(axis=0, dtype=np.float64)
            mean = examples.mean(axis=0, dtype=np.float64)
            return cls(
                mean.astype(np.float32),
                (1 / np.where(deviation == 0, 1, deviation)).astype(np.float32),
            )
        mean, inverse = (np.full(features, number, np.float32) for number in numbers)
        return cls(mean, inverse)


@dataclass(frozen=True)
class Batches:
    """A part of a data set.

    Attributes
    ----------
    examples : uint8 array, shape (examples, features)
        Bytes.
    labels : int64 array, shape (examples,)
        Classes.
    standard : Standard
        Standardisation of the training part.
    change : callable, optional
        Augmentation: examples and a seed to real numbers of the same shape, 0..255.
    """

    examples: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
    standard: Standard
    change: Change | None = None

    @classmethod
    def of(cls, part: Labelled, standard: Standard, change: Change | None = None) -> Self:
        """A part, its pictures flattened."""
        flat = np.ascontiguousarray(part.images.reshape(len(part), -1))
        return cls(flat, part.labels, standard, change)

    def __len__(self) -> int:
        return len(self.labels)

    def load(self, chosen: npt.NDArray[np.int64]) -> Floats:
        """Inputs of the chosen examples, shape (features, chosen)."""
        x = aligned_empty((self.examples.shape[1], len(chosen)))
        kernels.load_batch(self.examples, chosen, self.standard.mean, self.standard.inverse, x)
        return x

    def shuffled(
        self, batch: int, rng: np.random.Generator
    ) -> Iterator[tuple[Floats, npt.NDArray[np.int64]]]:
        """Inputs and labels of full batches in random order; the rest is left out.

        If there is no full batch, all examples are one.
        """
        order = rng.permutation(len(self))
        batch = min(batch, len(self))
        for start in range(0, len(self) - batch + 1, batch):
            chosen = order[start : start + batch]
            if self.change is None:
                yield self.load(chosen), self.labels[chosen]
            else:
                changed = self.change(self.examples[chosen], int(rng.integers(1 << 62)))
                x = aligned_empty(changed.shape[::-1])
                x[...] = ((changed - self.standard.mean) * self.standard.inverse).T
                yield x, self.labels[chosen]

    def in_order(self) -> Iterator[tuple[Floats, npt.NDArray[np.int64]]]:
        """Inputs and labels of all examples, as many at a time as are evaluated together."""
        for start in range(0, len(self), EVALUATION_BATCH):
            chosen = np.arange(start, min(start + EVALUATION_BATCH, len(self)))
            yield self.load(chosen), self.labels[chosen]
