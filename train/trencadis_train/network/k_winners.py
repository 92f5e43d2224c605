"""k-WTA: of every vector exactly k activations stay, the others become zero.

Ties go to the lowest index, as in ONNX TopK and in the hardware. `KWinners2d` chooses among the
channels of a position (local), `KWinners` in a whole layer (global).
"""

import torch
from torch import nn

from trencadis_train.errors import TrainingError

__all__ = ["KWinners", "KWinners2d", "k_winners_mask"]


def k_winners_mask(scores: torch.Tensor, k: int, dim: int = 1) -> torch.Tensor:
    """Places of the k largest along an axis; of equal ones the first.

    Parameters
    ----------
    scores : float tensor
        Numbers. What wins is not defined where there is a NaN.
    k : int
        1 <= k <= size of the axis.
    dim : int
        The axis.

    Returns
    -------
    bool tensor of the shape of `scores`, k true along the axis
    """
    last = scores.movedim(dim, -1)
    threshold = last.topk(k, dim=-1, sorted=True).values[..., -1:]
    above = last > threshold
    level = last == threshold
    # topk says nothing of ties: fill up with those at the threshold, from the lowest index on.
    missing = k - above.sum(dim=-1, keepdim=True, dtype=torch.int32)
    first = level.cumsum(dim=-1, dtype=torch.int32) <= missing
    return (above | (level & first)).movedim(-1, dim)


class _Winners(nn.Module):
    """Base of local and global k-WTA.

    While training, winners may be *boosted*: those that win rarely get a bonus when winners are
    chosen, the activations that are passed on stay as they are. The bonus is
    `exp(boost * (k / units - duty))`, where duty is how often a unit won lately. Set `boost` to 0
    by the end of training; evaluation never boosts.

    Parameters
    ----------
    k : int
        Winners of a vector.
    units : int
        Units, or channels, that compete.
    duty_batches : int
        Batches over which duty cycles are averaged.

    Attributes
    ----------
    k : int
        May be changed between batches, for a warm-up.
    boost : float
        Strength of boosting, 0 for none.
    duty : float tensor, shape (units,)
        How often every unit won lately.

    Raises
    ------
    TrainingError
        If k is not in 1..units.
    """

    duty: torch.Tensor

    def __init__(self, k: int, units: int, *, duty_batches: int = 200) -> None:
        super().__init__()
        if not 1 <= k <= units:
            raise TrainingError(f"k must be in 1..{units}, the number of channels, not {k}")
        self.k = k
        self.units = units
        self.boost = 0.0
        self._duty_batches = duty_batches
        self.register_buffer("duty", torch.full((units,), k / units))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Zero all but the winners among channels (axis 1)."""
        if x.shape[1] != self.units:
            raise TrainingError(f"k-WTA among {self.units} channels got {x.shape[1]}")
        if self.k >= self.units:
            return x
        with torch.no_grad():
            scores = x.detach()
            if self.training and self.boost:
                shape = (1, self.units) + (1,) * (x.ndim - 2)
                # Cast as a whole: half-precision bonuses would tie more often than activations do.
                bonus = torch.exp(self.boost * (self.k / self.units - self.duty)).view(shape)
                scores = scores.float() * bonus
            mask = k_winners_mask(scores, self.k)
            if self.training:
                axes = [axis for axis in range(x.ndim) if axis != 1]
                won = (mask & (x > 0)).float().mean(dim=axes)
                self.duty.lerp_(won, 1 / self._duty_batches)
        return x * mask

    def extra_repr(self) -> str:
        """Text that `print` shows."""
        return f"k={self.k}, units={self.units}"


class KWinners(_Winners):
    """Global k-WTA, for activations of shape (batch, units)."""


class KWinners2d(_Winners):
    """Local k-WTA: at every position among channels, shape (batch, channels, rows, columns)."""
