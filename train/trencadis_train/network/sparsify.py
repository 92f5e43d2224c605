"""Making a trained model sparse: layer by layer, to a budget.

A dense layer is pruned to the masks that keep most of its magnitude. A layer that has been pruned
without structure is moved to complementary masks in the same way: what is zero is worth nothing,
so rows go to the kernels that have weights there.
"""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from trencadis_train.errors import TrainingError
from trencadis_train.network.layers import SparseConv2d, SparseLayer, SparseLinear
from trencadis_train.sparsity.assign import assign_kernels
from trencadis_train.sparsity.masks import (
    Mask,
    consecutive_sets,
    count_collisions,
    largest_mask,
    n_m_mask,
)

__all__ = ["LayerBudget", "SparsifiedLayer", "budget_mask", "choose_ways", "sparsify"]

Weighted = nn.Conv2d | nn.Linear

_Model = TypeVar("_Model", bound=nn.Module)


@dataclass(frozen=True, kw_only=True)
class LayerBudget:
    """Number of weights of a layer that stay, and their structure.

    Attributes
    ----------
    mask : str
        `complementary`, `n:m` or `unstructured`.
    ways : int
        `complementary`: kernels of a set.
    nonzeros : int
        Weights of a kernel; 0: as many as `ways` leaves. `unstructured` needs it.
    n, m : int
        `n:m`: n weights of every m neighbouring rows.
    """

    mask: Literal["complementary", "n:m", "unstructured"] = "complementary"
    ways: int = 1
    nonzeros: int = 0
    n: int = 0
    m: int = 0


@dataclass(frozen=True, kw_only=True)
class SparsifiedLayer:
    """Change of a layer.

    Attributes
    ----------
    name : str
        Name of the module.
    weights, nonzeros : int
        Weights of the dense layer, and non-zeros under the mask.
    kept : float
        Share of the sum of magnitudes that is under the mask.
    collisions : int
        Weights that share a row of their set; 0 but for masks that are not complementary.
    """

    name: str
    weights: int
    nonzeros: int
    kept: float
    collisions: int


def sparsify(
    model: _Model,
    budgets: Mapping[str, LayerBudget],
    *,
    tune: Callable[[nn.Module, str], None] | None = None,
) -> tuple[_Model, list[SparsifiedLayer]]:
    """A copy of a model with masked layers in place of some of its convolutions and linear layers.

    Weights under the masks, biases and everything else stay as they are. A layer is masked only
    when those before it in the model have been, and tuned.

    Parameters
    ----------
    model : nn.Module
        Trained; left as it is.
    budgets : mapping of str to LayerBudget
        Budgets by name of the module, as `named_modules` has it. Other layers stay dense.
    tune : callable, optional
        Called with the copy and the layer's name when the layer has been masked, to train on.

    Returns
    -------
    model : nn.Module
        The copy.
    layers : list of SparsifiedLayer
        Layers, in the order of the model.

    Raises
    ------
    TrainingError
        Naming a layer that is not there, or whose budget is impossible.
    """
    names = _layer_names(model)
    for name in budgets:
        _check_name(name, names)
    result = copy.deepcopy(model)
    report = []
    for name in (name for name in names if name in budgets):
        layer = cast(Weighted, result.get_submodule(name))
        weights = _effective(layer)
        try:
            mask, sets = budget_mask(weights, budgets[name])
            masked = _masked_layer(layer)
        except TrainingError as error:
            raise TrainingError(f"layer {name!r}: {error}") from error
        masked.set_mask(mask, sets)
        masked.train(layer.training)
        result = cast(_Model, _replaced(result, layer, masked))
        total = float(np.abs(weights).sum())
        report.append(
            SparsifiedLayer(
                name=name,
                weights=weights.size,
                nonzeros=int(mask.sum()),
                kept=float(np.abs(weights[mask]).sum()) / total if total else 1.0,
                collisions=count_collisions(mask, sets),
            )
        )
        if tune is not None:
            tune(result, name)
    return result, report


def choose_ways(
    model: nn.Module, density: float, *, keep: tuple[str, ...] = ()
) -> dict[str, LayerBudget]:
    """Complementary budgets of all layers that bring a whole model to a density.

    Beginning with a dense model, the layer goes to its next number of ways that loses the least
    magnitude, as a share of its own, for a weight that is saved.

    Parameters
    ----------
    model : nn.Module
        Trained.
    density : float
        Largest share of weights that stays, in all layers together; over 0, at most 1.
    keep : tuple of str
        Names of layers that stay dense.

    Raises
    ------
    TrainingError
        If the density cannot be reached, or a layer to keep is not there.
    """
    if not 0 < density <= 1:
        raise TrainingError(f"density must be over 0 and at most 1, not {density}")
    weights = {
        name: _effective(module)
        for name, module in model.named_modules()
        if isinstance(module, Weighted)
    }
    for name in keep:
        _check_name(name, list(weights))
    total = left = sum(array.size for array in weights.values())
    chains = {name: _steps(array) for name, array in weights.items() if name not in keep}
    chosen = {name: chain[0] for name, chain in chains.items()}
    while left > density * total:
        best, best_loss = "", math.inf
        for name, (step, *_) in chains.items():
            following = chains[name][1:]
            if following:
                saved = step.nonzeros - following[0].nonzeros
                loss = (following[0].lost - step.lost) / saved
                if loss < best_loss:
                    best, best_loss = name, loss
        if not best:
            raise TrainingError(
                f"density must be at least {left / total:.4g}, which sets of all kernels of "
                f"every layer leave, not {density}"
            )
        chains[best] = chains[best][1:]
        left -= chosen[best].nonzeros - chains[best][0].nonzeros
        chosen[best] = chains[best][0]
    return {name: LayerBudget(ways=step.ways) for name, step in chosen.items() if step.ways > 1}


@dataclass(frozen=True)
class _Step:
    ways: int
    nonzeros: int
    lost: float


def _steps(weights: npt.NDArray[np.float64]) -> list[_Step]:
    """Weights that every possible number of ways leaves of a layer, ever fewer."""
    kernels, rows = weights.shape
    ordered = -np.sort(-np.abs(weights), axis=1)
    total = float(ordered.sum()) or 1.0
    steps = []
    for ways in range(1, min(kernels, rows) + 1):
        if kernels % ways:
            continue
        kept = float(ordered[:, : rows // ways].sum()) / total
        steps.append(_Step(ways, kernels // ways * rows, 1 - kept))
    return steps


def _layer_names(model: nn.Module) -> list[str]:
    return [name for name, module in model.named_modules() if isinstance(module, Weighted)]


def _check_name(name: str, names: Sequence[str]) -> None:
    if name not in names:
        raise TrainingError(
            f"the model has no convolution or linear layer {name!r}; it has {', '.join(names)}"
        )


def _replaced(model: nn.Module, old: nn.Module, new: nn.Module) -> nn.Module:
    """The model with a module in place of another, wherever that is used."""
    if model is old:
        return new
    for name, module in list(model.named_modules(remove_duplicate=False)):
        if module is old:
            parent, _, own = name.rpartition(".")
            setattr(model.get_submodule(parent), own, new)
    return model


def _effective(layer: Weighted) -> npt.NDArray[np.float64]:
    """Weights that count, shape (kernels, rows)."""
    weight = layer.masked_weight() if isinstance(layer, SparseLayer) else layer.weight
    return weight.detach().double().flatten(1).cpu().numpy()


def budget_mask(
    weights: npt.NDArray[np.float64], budget: LayerBudget
) -> tuple[Mask, npt.NDArray[np.int64]]:
    """Mask and sets of a budget that keep most of the magnitude of weights.

    Parameters
    ----------
    weights : float64 array, shape (kernels, rows)
        Trained weights.
    budget : LayerBudget
        What may stay.

    Returns
    -------
    mask : bool array, shape (kernels, rows)
    sets : int64 array, shape (kernels,)

    Raises
    ------
    TrainingError
        If the budget is impossible.
    """
    alone = consecutive_sets(len(weights), 1)
    if budget.mask == "unstructured":
        return largest_mask(weights, budget.nonzeros), alone
    if budget.mask == "n:m":
        return n_m_mask(weights, budget.n, budget.m), alone
    found = assign_kernels(weights, budget.ways, nonzeros=budget.nonzeros or None)
    return found.mask, found.sets


def _masked_layer(layer: Weighted) -> SparseLayer:
    """A masked layer with the weights of another."""
    if isinstance(layer, SparseLayer):
        return layer
    if isinstance(layer, nn.Conv2d):
        if layer.groups != 1 or layer.dilation != (1, 1) or layer.padding_mode != "zeros":
            raise TrainingError("a masked convolution has one group, no dilation, zeros as padding")
        if isinstance(layer.padding, str):
            raise TrainingError(f"padding must be numbers, not {layer.padding!r}")
        masked = SparseConv2d(
            layer.in_channels,
            layer.out_channels,
            cast(tuple[int, int], layer.kernel_size),
            stride=cast(tuple[int, int], layer.stride),
            padding=cast(tuple[int, int], layer.padding),
            bias=layer.bias is not None,
        )
    else:
        masked = SparseLinear(layer.in_features, layer.out_features, bias=layer.bias is not None)
    with torch.no_grad():
        masked.to(layer.weight)
        masked.weight.copy_(layer.weight)
        masked.weight.requires_grad_(layer.weight.requires_grad)
        if masked.bias is not None and layer.bias is not None:
            masked.bias.copy_(layer.bias)
            masked.bias.requires_grad_(layer.bias.requires_grad)
    return masked
