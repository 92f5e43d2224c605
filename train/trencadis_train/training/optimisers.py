"""Optimisers from recipes, and their state as named tensors."""

from collections.abc import Mapping

import torch
from torch import nn

from trencadis_train.recipe import Training

__all__ = ["load_optimizer", "make_optimizer", "optimizer_tensors"]


def make_optimizer(model: nn.Module, training: Training) -> torch.optim.Optimizer:
    """SGD with momentum, or AdamW; only weights decay, not biases and batch-norm."""
    weights = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    groups = [
        {"params": weights, "weight_decay": training.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    if training.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=training.learning_rate)
    return torch.optim.SGD(
        groups,
        lr=training.learning_rate,
        momentum=training.momentum,
        nesterov=training.momentum > 0,
    )


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """The state of an optimiser: tensors named `NUMBER.KIND`, parameters counted in order."""
    state = optimizer.state_dict()["state"]
    return {
        f"{number}.{kind}": torch.as_tensor(tensor)
        for number, entries in state.items()
        for kind, tensor in entries.items()
        if tensor is not None
    }


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, torch.Tensor]) -> None:
    """Give an optimiser the state that `optimizer_tensors` returned."""
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        number, kind = name.split(".", 1)
        # A copy: optimisers change their state in place.
        state.setdefault(int(number), {})[kind] = tensor.clone()
    whole = optimizer.state_dict()
    optimizer.load_state_dict({"state": state, "param_groups": whole["param_groups"]})
