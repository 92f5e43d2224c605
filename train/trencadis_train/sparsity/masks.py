"""Masks: the weights of a layer that may be other than zero. NumPy only.

A *mask* has a row of booleans for every kernel: `mask[kernel, row]` tells whether the kernel has a
weight for that row of its window (input channel x window row x window column, flattened). A *set*
is a group of kernels whose weights never collide; `sets[kernel]` is its number. Kernels of a set
can be overlaid in one tile, so S of them cost as much as one dense kernel.
"""

import numpy as np
import numpy.typing as npt

from trencadis_train.errors import TrainingError

__all__ = [
    "Mask",
    "block_mask",
    "complementary_mask",
    "consecutive_sets",
    "count_collisions",
    "largest_mask",
    "n_m_mask",
    "random_mask",
]

Mask = npt.NDArray[np.bool_]


def consecutive_sets(kernels: int, ways: int) -> npt.NDArray[np.int64]:
    """Set number of every kernel, `ways` neighbours a set.

    Raises
    ------
    TrainingError
        If the kernels do not fall into whole sets.
    """
    if ways < 1 or kernels % ways:
        raise TrainingError(
            f"ways must divide the {kernels} kernels of the layer, not {ways}; "
            f"choose one of {', '.join(str(n) for n in range(1, kernels + 1) if kernels % n == 0)}"
        )
    return np.arange(kernels) // ways


def complementary_mask(
    kernels: int,
    rows: int,
    ways: int,
    *,
    nonzeros: int | None = None,
    rng: np.random.Generator,
) -> Mask:
    """Random masks of which `ways` neighbours never collide.

    Parameters
    ----------
    kernels, rows : int
        Kernels of the layer, and weights of a dense kernel.
    ways : int
        Kernels of a set; divides `kernels`.
    nonzeros : int, optional
        Weights of every kernel, at most `rows // ways`. Without it all rows are dealt out: every
        row of a set belongs to exactly one kernel, and kernels differ by one weight at most.
    rng : Generator
        Deals the rows.

    Returns
    -------
    bool array, shape (kernels, rows)

    Raises
    ------
    TrainingError
        If there are no such masks.
    """
    sets = consecutive_sets(kernels, ways)
    if ways > rows:
        raise TrainingError(f"ways must be at most the {rows} weights of a kernel, not {ways}")
    if nonzeros is not None and not 1 <= nonzeros <= rows // ways:
        raise TrainingError(
            f"nonzeros must be in 1..{rows // ways}, so that {ways} kernels share {rows} rows, "
            f"not {nonzeros}"
        )
    mask = np.zeros((kernels, rows), bool)
    for number in range(int(sets[-1]) + 1):
        order = rng.permutation(rows)
        for place, kernel in enumerate(np.flatnonzero(sets == number)):
            mask[kernel, order[place::ways][:nonzeros]] = True
    return mask


def random_mask(kernels: int, rows: int, nonzeros: int, *, rng: np.random.Generator) -> Mask:
    """Unstructured masks: `nonzeros` weights of every kernel, anywhere.

    Raises
    ------
    TrainingError
        If a kernel has fewer weights than that.
    """
    _check_count(nonzeros, rows)
    return largest_mask(rng.random((kernels, rows)), nonzeros)


def largest_mask(weights: npt.NDArray[np.floating], nonzeros: int) -> Mask:
    """Unstructured masks of the `nonzeros` largest magnitudes of every kernel.

    Parameters
    ----------
    weights : float array, shape (kernels, rows)
        Weights; of equal magnitudes the first are kept.
    nonzeros : int
        Weights of a kernel.
    """
    rows = weights.shape[1]
    _check_count(nonzeros, rows)
    order = np.argsort(-np.abs(weights), axis=1, kind="stable")[:, :nonzeros]
    mask = np.zeros(weights.shape, bool)
    np.put_along_axis(mask, order, True, axis=1)
    return mask


def n_m_mask(weights: npt.NDArray[np.floating], n: int, m: int) -> Mask:
    """N:M masks: of every `m` neighbouring rows the `n` largest magnitudes.

    Parameters
    ----------
    weights : float array, shape (kernels, rows)
        Weights, or random numbers for a random mask.
    n, m : int
        1 <= n <= m; `m` divides the rows.

    Raises
    ------
    TrainingError
        If the rows do not fall into whole groups.
    """
    kernels, rows = weights.shape
    if m < 1 or rows % m:
        raise TrainingError(f"m must divide the {rows} weights of a kernel, not {m}")
    if not 1 <= n <= m:
        raise TrainingError(f"n must be in 1..{m}, not {n}")
    groups = weights.reshape(kernels * rows // m, m)
    return largest_mask(groups, n).reshape(kernels, rows)


def block_mask(
    kernels: int, rows: int, size: tuple[int, int], kept: int, *, rng: np.random.Generator
) -> Mask:
    """Block-sparse masks: kernels and rows are cut into blocks, of which some are kept whole.

    Parameters
    ----------
    kernels, rows : int
        Kernels of the layer, and weights of a dense kernel.
    size : tuple of int
        Kernels and rows of a block; each divides its number.
    kept : int
        Blocks of every stripe of kernels that are kept.
    rng : Generator
        Chooses them.

    Raises
    ------
    TrainingError
        If blocks do not fit, or there are not so many.
    """
    if min(size) < 1 or kernels % size[0] or rows % size[1]:
        raise TrainingError(f"blocks of {size} must divide a layer of {kernels} x {rows} weights")
    blocks = random_mask(kernels // size[0], rows // size[1], kept, rng=rng)
    return np.repeat(np.repeat(blocks, size[0], axis=0), size[1], axis=1)


def count_collisions(mask: Mask, sets: npt.NDArray[np.integer]) -> int:
    """Weights that share a row of their set with an earlier one; 0 if sets are complementary."""
    collisions = 0
    for number in np.unique(sets):
        owners = mask[sets == number].sum(axis=0)
        collisions += int(np.maximum(owners - 1, 0).sum())
    return collisions


def _check_count(nonzeros: int, rows: int) -> None:
    if not 1 <= nonzeros <= rows:
        raise TrainingError(
            f"nonzeros must be in 1..{rows}, the weights of a kernel, not {nonzeros}"
        )
