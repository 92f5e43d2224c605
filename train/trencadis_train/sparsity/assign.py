"""Complementary masks that fit given weights. NumPy only.

A set of kernels shares the rows of a window among its members, each row going to one kernel.
Two questions decide how much of the weights is kept: which kernels make a set, and which kernel of
a set gets which row. The second is answered exactly (`assign_rows`), the first by a search
(`group_kernels`).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trencadis_train.errors import TrainingError
from trencadis_train.sparsity.masks import Mask, consecutive_sets, largest_mask

__all__ = ["Assignment", "assign_kernels", "assign_rows", "group_kernels"]

STEPS = 1 << 40
"""Scores are rounded to this part of the largest, so that sums and comparisons are exact."""

PRICE_SWEEPS = 4
MANY = 0.05
"""Share of the rows that a kernel may have too many of before prices are looked for."""

SWEEPS = 50
"""Most times that every kernel is offered another set."""

FAR = 1 << 60
"""Longer than any chain; twice as much still fits 64 bits."""

Floats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Assignment:
    """Complementary masks for given weights.

    Attributes
    ----------
    mask : bool array, shape (kernels, rows)
        Weights that are kept.
    sets : int64 array, shape (kernels,)
        Complementary set of every kernel.
    kept : float
        Share of the sum of magnitudes that is under the mask.
    """

    mask: Mask
    sets: Ints
    kept: float


def assign_kernels(
    weights: Floats, ways: int, *, nonzeros: int | None = None, group: bool = True
) -> Assignment:
    """Complementary masks that keep much of the magnitude of weights.

    Every kernel gets the same number of rows (one more for some, where a full set does not come
    out even). The same weights give the same masks.

    Parameters
    ----------
    weights : float array, shape (kernels, rows)
        Weights of a dense or pruned layer.
    ways : int
        Kernels of a set; divides the kernels.
    nonzeros : int, optional
        Weights of a kernel, at most `rows // ways`; without it all rows are dealt out.
    group : bool
        Search for kernels that fit together; otherwise sets are neighbours.

    Raises
    ------
    TrainingError
        If there are no such masks, or weights are not finite.
    """
    kernels, rows = weights.shape
    magnitudes = np.abs(weights.astype(np.float64))
    if not np.isfinite(magnitudes).all():
        raise TrainingError("weights must be finite; train with a lower learning_rate")
    consecutive = consecutive_sets(kernels, ways)
    quotas = _quotas(rows, ways, nonzeros)
    sets = group_kernels(magnitudes, ways, int(quotas.max())) if group else consecutive
    mask = _set_mask(magnitudes, sets, quotas)
    total = float(magnitudes.sum())
    return Assignment(mask, sets, float(magnitudes[mask].sum()) / total if total else 1.0)


def _set_mask(magnitudes: Floats, sets: npt.NDArray[np.integer], quotas: Ints) -> Mask:
    """Masks that keep most magnitude, given sets whose kernels have these quotas in their order."""
    mask = np.zeros(magnitudes.shape, bool)
    for number in np.unique(sets):
        members = np.flatnonzero(sets == number)
        owners = assign_rows(magnitudes[members], quotas)
        mask[members] = owners == np.arange(len(members))[:, None]
    return mask


def assign_rows(scores: Floats, quotas: Ints) -> Ints:
    """Give rows to kernels, each its quota, such that the sum of scores is the largest there is.

    It is a transport problem with few destinations. Every row begins with the kernel that values
    it most; then rows move, along the cheapest chain of kernels, from one that has too many to one
    that has too few, until none has.

    Parameters
    ----------
    scores : float array, shape (kernels, rows)
        What a row is worth to a kernel; finite.
    quotas : int array, shape (kernels,)
        Rows of every kernel; at most `rows` in all.

    Returns
    -------
    int64 array, shape (rows,)
        Kernel of every row, -1 for none.

    Raises
    ------
    TrainingError
        If there are not enough rows.
    """
    kernels, rows = scores.shape
    spare = rows - int(quotas.sum())
    if spare < 0 or (quotas < 0).any():
        raise TrainingError(f"{rows} rows cannot be shared out as {quotas.tolist()}")
    largest = float(np.abs(scores).max(initial=0.0)) or 1.0
    values = np.rint(scores / largest * STEPS).astype(np.int64)
    # Rows that are left over go to one kernel more, to which all are worth nothing.
    values = np.vstack([values, np.zeros(rows, np.int64)])
    owners = _Transport(values, np.append(quotas, spare)).solve()
    return np.where(owners == kernels, -1, owners)


def group_kernels(magnitudes: Floats, ways: int, nonzeros: int) -> Ints:
    """Sets of kernels whose large weights collide little.

    What two kernels cost in one set is taken to be the smaller of their two magnitudes, summed over
    rows. Kernels change places between sets as long as that lowers the sum over all pairs.

    Parameters
    ----------
    magnitudes : float array, shape (kernels, rows)
        Magnitudes of weights.
    ways : int
        Kernels of a set; divides the kernels.
    nonzeros : int
        Rows that a kernel will have; only as many of its largest weights count.

    Returns
    -------
    int64 array, shape (kernels,)
        Sets are numbered by their first kernel.
    """
    kernels = len(magnitudes)
    sets = consecutive_sets(kernels, ways)
    if ways in (1, kernels):
        return sets
    counted = np.where(largest_mask(magnitudes, nonzeros), magnitudes, 0).astype(np.float32)
    cost = _collisions(counted)
    shared = np.stack([cost[:, sets == number].sum(axis=1) for number in range(sets[-1] + 1)], 1)
    everyone = np.arange(kernels)
    for _ in range(SWEEPS):
        swapped = False
        for kernel in range(kernels):
            own = sets[kernel]
            # What is won when this kernel and another change places.
            now = shared[kernel, own] + shared[everyone, sets]
            then = shared[kernel, sets] + shared[:, own] - 2 * cost[kernel]
            won = np.where(sets == own, 0, now - then)
            other = int(won.argmax())
            if won[other] <= 1e-6 * abs(float(now[other])):
                continue
            change = cost[:, other] - cost[:, kernel]
            shared[:, own] += change
            shared[:, sets[other]] -= change
            sets[kernel], sets[other] = sets[other], own
            swapped = True
        if not swapped:
            break
    _, first, numbers = np.unique(sets, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[numbers].astype(np.int64)


def _quotas(rows: int, ways: int, nonzeros: int | None) -> Ints:
    if ways > rows:
        raise TrainingError(f"ways must be at most the {rows} weights of a kernel, not {ways}")
    if nonzeros is None:
        return rows // ways + (np.arange(ways) < rows % ways).astype(np.int64)
    if not 1 <= nonzeros <= rows // ways:
        raise TrainingError(
            f"nonzeros must be in 1..{rows // ways}, so that {ways} kernels share {rows} rows, "
            f"not {nonzeros}"
        )
    return np.full(ways, nonzeros, np.int64)


def _collisions(magnitudes: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Smaller magnitudes of all pairs of kernels, summed over rows; 0 on the diagonal."""
    kernels = len(magnitudes)
    cost = np.zeros((kernels, kernels))
    for kernel in range(kernels - 1):
        rows = np.flatnonzero(magnitudes[kernel])
        smaller = np.minimum(magnitudes[kernel + 1 :, rows], magnitudes[kernel, rows])
        cost[kernel, kernel + 1 :] = smaller.sum(axis=1)
    return cost + cost.T


def _prices(values: Ints, quotas: Ints) -> Ints:
    """Price of a row for kernels, so that about as many rows as they may have are worth it.

    Prices change no solution, since a kernel pays for a fixed number of rows whatever they are.
    Each kernel in turn takes the price at which it gets its quota if the others keep theirs.
    """
    kernels, rows = values.shape
    prices = np.zeros(kernels, np.int64)
    for _ in range(PRICE_SWEEPS):
        for kernel in range(kernels):
            worth = values - prices[:, None]
            worth[kernel] = -FAR
            margins = np.sort(values[kernel] - worth.max(axis=0))[::-1]
            last = margins[max(0, min(quotas[kernel], rows) - 1)]
            following = margins[min(quotas[kernel], rows - 1)]
            prices[kernel] = (last + following) // 2
    return prices


class _Transport:
    """Successive shortest chains between the kernels that have too many rows and too few."""

    def __init__(self, values: Ints, quotas: Ints) -> None:
        self._kernels = len(values)
        self._begin(values, quotas)
        if self._over.max() > MANY * values.shape[1]:
            self._begin(values - _prices(values, quotas)[:, None], quotas)
        # Moving a row from kernel a to b costs at least cost[a, b], which moves row[a, b].
        self._cost = np.full((self._kernels, self._kernels), FAR)
        self._row = np.zeros((self._kernels, self._kernels), np.int64)
        for kernel in range(self._kernels):
            self._price(kernel)

    def _begin(self, values: Ints, quotas: Ints) -> None:
        """Every row to the kernel that values it most."""
        self._values = values
        self._owners = values.argmax(axis=0)
        # Rows of equal worth to all begin where rows are missing.
        equal = np.flatnonzero(values.max(axis=0) == values.min(axis=0))
        settled = np.delete(self._owners, equal)
        self._over = np.bincount(settled, minlength=self._kernels) - quotas
        missing = np.repeat(np.arange(self._kernels), np.maximum(-self._over, 0))[: len(equal)]
        places = np.append(missing, np.zeros(len(equal) - len(missing), np.int64))
        self._owners[equal] = places
        self._over += np.bincount(places, minlength=self._kernels)

    def solve(self) -> Ints:
        """Owner of every row."""
        while (self._over > 0).any():
            chain = self._shortest()
            rows = [int(self._row[a, b]) for a, b in zip(chain, chain[1:], strict=False)]
            for row, kernel in zip(rows, chain[1:], strict=True):
                self._owners[row] = kernel
            self._over[chain[0]] -= 1
            self._over[chain[-1]] += 1
            for kernel in chain:
                self._price(kernel)
        return self._owners.astype(np.int64)

    def _price(self, kernel: int) -> None:
        """Cheapest rows that a kernel can give to others."""
        rows = np.flatnonzero(self._owners == kernel)
        if not len(rows):
            self._cost[kernel] = FAR
            return
        values = self._values[:, rows]
        losses = values[kernel] - values
        cheapest = losses.argmin(axis=1)
        self._cost[kernel] = losses[np.arange(self._kernels), cheapest]
        self._row[kernel] = rows[cheapest]
        self._cost[kernel, kernel] = FAR

    def _shortest(self) -> list[int]:
        """The cheapest chain of kernels from one with too many rows to one with too few."""
        length = np.where(self._over > 0, 0, FAR)
        before = np.full(self._kernels, -1)
        for _ in range(self._kernels):
            through = length[:, None] + self._cost
            nearest = through.argmin(axis=0)
            reached = through[nearest, np.arange(self._kernels)]
            better = reached < np.minimum(length, FAR // 2)
            if not better.any():
                break
            length = np.where(better, reached, length)
            before = np.where(better, nearest, before)
        end = int(np.where(self._over < 0, length, FAR).argmin())
        chain = [end]
        while before[chain[-1]] >= 0:
            chain.append(int(before[chain[-1]]))
        return chain[::-1]
