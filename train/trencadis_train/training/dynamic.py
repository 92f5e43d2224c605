"""Masks that change while training: weak weights are dropped, and as many grow elsewhere.

After every change a kernel has as many weights as before, and masks have the structure they had:
kernels of a set never collide, and of every m rows n stay.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle

from trencadis_train.errors import TrainingError
from trencadis_train.network.layers import SparseConv2d, SparseLinear
from trencadis_train.recipe import DynamicMasks, LayerRecipe
from trencadis_train.sparsity.assign import assign_rows
from trencadis_train.sparsity.masks import Mask
from trencadis_train.training.schedule import drop_fraction

__all__ = ["MaskEvolution", "changed_mask", "changed_n_m_mask"]

Floats = npt.NDArray[np.floating]
Masked = SparseConv2d | SparseLinear


class MaskEvolution:
    """Changes the masks of a network while it is trained.

    The loop calls `before_step` ahead of the forward pass of every batch, and `after_backward` when
    there are gradients. Which weights change depends on the network, the seed and the number of the
    batch alone, so a training that is resumed goes the same way.

    Parameters
    ----------
    network : nn.Module
        Its masked layers are those of `layers`, in order.
    layers : sequence of LayerRecipe
        Structure of the masks.
    recipe : DynamicMasks
        When and how much to change.
    batches : int
        Batches of the whole training.
    seed : int
        Seed of random regrowth.

    Raises
    ------
    TrainingError
        If the network has other layers.
    """

    def __init__(
        self,
        network: nn.Module,
        layers: Sequence[LayerRecipe],
        recipe: DynamicMasks,
        *,
        batches: int,
        seed: int,
    ) -> None:
        masked = [module for module in network.modules() if isinstance(module, Masked)]
        if len(masked) != len(layers):
            raise TrainingError(
                f"the network has {len(masked)} masked layers, the recipe {len(layers)}; give the "
                "recipe it was built from"
            )
        # A layer in which every weight counts has nothing to change.
        self._layers = [
            (number, module, layer.m if layer.mask == "n:m" else 0)
            for number, (module, layer) in enumerate(zip(masked, layers, strict=True))
            if module.nonzeros < module.weight.numel()
        ]
        self._recipe = recipe
        self._batches = batches
        self._seed = seed
        self._probes: list[_Probe] = []

    def due(self, batch: int) -> bool:
        """Tell whether masks change in a batch, counted from 0 over the whole training."""
        every = self._recipe.every
        if not every or not batch or batch % every:
            return False
        return drop_fraction(self._recipe, batch / self._batches) > 0

    def before_step(self, batch: int) -> None:
        """Get ready for a batch: when masks will change by gradients, take them down."""
        self._release()
        if self._recipe.regrow == "gradient" and self.due(batch):
            self._probes = [_Probe(module) for _, module, _ in self._layers]

    def after_backward(self, batch: int, optimizer: torch.optim.Optimizer) -> int:
        """Change the masks, if it is time.

        Weights that grow begin at zero. What the optimiser remembers of changed places is
        forgotten, and their gradients with it.

        Parameters
        ----------
        batch : int
            Counted from 0 over the whole training.
        optimizer : torch.optim.Optimizer
            Optimiser of the network's weights.

        Returns
        -------
        int
            Weights that have moved.
        """
        moved = 0
        if self.due(batch):
            fraction = drop_fraction(self._recipe, batch / self._batches)
            probes = self._probes or [None] * len(self._layers)
            for (number, module, m), probe in zip(self._layers, probes, strict=True):
                if probe is None:
                    rng = np.random.default_rng([self._seed, batch, number])
                    scores = rng.random((module.kernels, module.rows))
                else:
                    scores = probe.scores()
                moved += _change(module, m, fraction, scores, optimizer)
        self._release()
        return moved

    def _release(self) -> None:
        for probe in self._probes:
            probe.remove()
        self._probes = []


def changed_mask(
    weights: Floats, scores: Floats, mask: Mask, sets: npt.NDArray[np.integer], fraction: float
) -> Mask:
    """Masks after dropping the smallest weights of every kernel, and growing as many.

    Rows that are free for a set are those that nobody had and those that were dropped. They are
    dealt out such that the sum of scores is the largest; a kernel gets back what it dropped only if
    nothing else is left for it.

    Parameters
    ----------
    weights : float array, shape (kernels, rows)
        Weights; of those under the mask, the smallest magnitudes are dropped.
    scores : float array, shape (kernels, rows)
        What a new weight is worth; at least 0.
    mask : bool array, shape (kernels, rows)
        Complementary within sets.
    sets : int array, shape (kernels,)
        Set of every kernel.
    fraction : float
        Part of every kernel's weights that is dropped.

    Returns
    -------
    bool array, shape (kernels, rows)
        With as many weights in every kernel as before.
    """
    kept = _kept(weights, mask, fraction)
    dropped = mask & ~kept
    quotas = dropped.sum(axis=1)
    scores = _preferring_new(scores, dropped)
    result = kept.copy()
    members_of = [np.flatnonzero(sets == number) for number in np.unique(sets)]
    alone = np.array([members[0] for members in members_of if len(members) == 1], np.int64)
    if len(alone):
        candidates = np.where(kept[alone], -np.inf, scores[alone])
        result[alone] |= _best(candidates, quotas[alone])
    for members in members_of:
        if len(members) > 1 and quotas[members].any():
            free = np.flatnonzero(~kept[members].any(axis=0))
            owners = assign_rows(scores[np.ix_(members, free)], quotas[members])
            result[np.ix_(members, free)] |= owners == np.arange(len(members))[:, None]
    return result


def changed_n_m_mask(weights: Floats, scores: Floats, mask: Mask, m: int, fraction: float) -> Mask:
    """Like `changed_mask`, but new weights grow among the same m rows in which others were dropped.

    Parameters
    ----------
    weights, scores, mask, fraction
        As in `changed_mask`.
    m : int
        Rows of a group; divides the rows.
    """
    kept = _kept(weights, mask, fraction)
    dropped = mask & ~kept
    candidates = np.where(kept, -np.inf, _preferring_new(scores, dropped)).reshape(-1, m)
    grown = _best(candidates, dropped.reshape(-1, m).sum(axis=1))
    return kept | grown.reshape(mask.shape)


def _kept(weights: Floats, mask: Mask, fraction: float) -> Mask:
    """Masks without the smallest weights of every kernel; of equal ones the first stay."""
    quotas = mask.sum(axis=1)
    keep = quotas - np.rint(fraction * quotas).astype(np.int64)
    return _best(np.where(mask, np.abs(weights), -np.inf), keep)


def _preferring_new(scores: Floats, dropped: Mask) -> npt.NDArray[np.float64]:
    """Scores in 0..1, but where a weight was just dropped: less than anything can make up for."""
    largest = float(scores.max(initial=0.0)) or 1.0
    return np.where(dropped, -float(scores.shape[1]), scores / largest)


def _best(values: Floats, counts: npt.NDArray[np.integer]) -> Mask:
    """Places of the largest values of every line, so many of each; of equal ones the first."""
    order = np.argsort(-values, axis=1, kind="stable")
    chosen = np.zeros(values.shape, bool)
    np.put_along_axis(chosen, order, np.arange(values.shape[1]) < counts[:, None], axis=1)
    return chosen


def _change(
    module: Masked, m: int, fraction: float, scores: Floats, optimizer: torch.optim.Optimizer
) -> int:
    weights = module.weight.detach().flatten(1).double().cpu().numpy()
    if not (np.isfinite(weights).all() and np.isfinite(scores).all()):
        return 0  # the loop finds out that the loss is not finite, and says so
    before = module.mask_array().copy()  # it shares the memory of what changes below
    if m:
        after = changed_n_m_mask(weights, scores, before, m, fraction)
    else:
        after = changed_mask(weights, scores, before, module.sets_array(), fraction)
    with torch.no_grad():
        fresh = torch.from_numpy((before != after).reshape(module.weight.shape))
        fresh = fresh.to(module.weight.device)
        module.weight.masked_fill_(fresh, 0)
        if module.weight.grad is not None:
            module.weight.grad.masked_fill_(fresh, 0)
        for entry in optimizer.state.get(module.weight, {}).values():
            if isinstance(entry, torch.Tensor) and entry.shape == fresh.shape:
                entry.masked_fill_(fresh, 0)
    module.set_mask(after, module.sets_array())
    return int((after & ~before).sum())


class _Probe:
    """Takes down what a layer gets and gives back, for the gradient of weights outside its mask."""

    def __init__(self, module: Masked) -> None:
        self._module = module
        self._input: torch.Tensor | None = None
        self._gradient: torch.Tensor | None = None
        self._handles: list[RemovableHandle] = [module.register_forward_hook(self._forward)]

    def _forward(
        self, module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor
    ) -> None:
        if output.requires_grad:
            self._input = inputs[0].detach()
            self._handles.append(output.register_hook(self._backward))

    def _backward(self, gradient: torch.Tensor) -> None:
        self._gradient = gradient.detach()

    def remove(self) -> None:
        """Take the hooks out."""
        for handle in self._handles:
            handle.remove()
        self._input = self._gradient = None

    def scores(self) -> npt.NDArray[np.float64]:
        """Magnitude of the gradient of every weight, under the mask or not."""
        module = self._module
        if self._input is None or self._gradient is None:
            raise TrainingError("masks change by gradients only when the network has been through")
        x, gradient = self._input.float(), self._gradient.float()
        # As if the layer were dense: a forward pass whose weights are not masked.
        weight = module.weight.detach().clone().requires_grad_()
        with torch.enable_grad():
            if isinstance(module, SparseConv2d):
                output = functional.conv2d(
                    x, weight, None, _pair(module.stride), _pair(module.padding)
                )
            else:
                output = functional.linear(x, weight)
            (dense,) = torch.autograd.grad(output, weight, gradient)
        return dense.abs().flatten(1).double().cpu().numpy()


def _pair(numbers: str | tuple[int, ...]) -> tuple[int, int]:
    rows, columns = numbers
    return int(rows), int(columns)
