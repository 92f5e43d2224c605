"""Beginning a training with a network that is trained already, sparser perhaps than that one."""

from collections.abc import Sequence

from torch import nn

from trencadis_train.errors import TrainingError
from trencadis_train.network.layers import SparseConv2d, SparseLinear
from trencadis_train.network.sparsify import LayerBudget, budget_mask
from trencadis_train.recipe import LayerRecipe

__all__ = ["begin_with"]

Masked = SparseConv2d | SparseLinear


def begin_with(
    model: nn.Sequential,
    layers: Sequence[LayerRecipe],
    source: nn.Sequential,
    source_layers: Sequence[LayerRecipe],
) -> None:
    """Give a network weights, masks and batch-norm of a trained one.

    A layer whose mask has the structure of the trained layer's takes that mask. For another
    structure, masks are chosen that keep most of the magnitude of the trained weights.

    Parameters
    ----------
    model : nn.Sequential
        Model from `build_network`; changed in place.
    layers : sequence of LayerRecipe
        It was built from.
    source : nn.Sequential
        The trained network; left as it is.
    source_layers : sequence of LayerRecipe
        It was built from.

    Raises
    ------
    TrainingError
        If layers are not of the same kinds and sizes, or masks cannot be made.
    """
    ours, theirs = _shapes(model), _shapes(source)
    if ours != theirs:
        raise TrainingError(
            f"its layers have weights {theirs}, those of the recipe {ours}; they must be equal"
        )
    # After equal layers there are equal batch-norms.
    for one, other in zip(_parts(model), _parts(source), strict=True):
        one.load_state_dict(other.state_dict())
    masked = _masked(model)
    for number, (module, new, old) in enumerate(zip(masked, layers, source_layers, strict=True)):
        if _budget(new) != _budget(old):
            weights = module.masked_weight().detach().double().flatten(1).cpu().numpy()
            try:
                mask, sets = budget_mask(weights, _budget(new))
            except TrainingError as error:
                raise TrainingError(f"layer {number}: {error}") from error
            module.set_mask(mask, sets)


def _budget(layer: LayerRecipe) -> LayerBudget:
    return LayerBudget(
        mask=layer.mask, ways=layer.ways, nonzeros=layer.nonzeros, n=layer.n, m=layer.m
    )


def _parts(model: nn.Sequential) -> list[nn.Module]:
    """Modules with weights, in order."""
    return [module for module in model if any(True for _ in module.parameters(recurse=False))]


def _masked(model: nn.Sequential) -> list[Masked]:
    return [module for module in model if isinstance(module, Masked)]


def _shapes(model: nn.Sequential) -> list[list[int]]:
    return [list(module.weight.shape) for module in _masked(model)]
