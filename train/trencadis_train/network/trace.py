"""Trace of a model: the chain of modules that its `forward` computes.

A module's children tell nothing of what its `forward` does with them: functions between them,
another order, two branches. So the model is traced (torch.fx), functions become the modules that do
the same, and what is no chain is refused.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional

from trencadis_train.errors import TrainingError

__all__ = ["traced_chain"]

OWN = "trencadis_train."


def traced_chain(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """Modules that a model applies one after the other, by name.

    Raises
    ------
    TrainingError
        If it cannot be traced, is no chain, or calls what no module stands for.
    """
    try:
        graph = _Tracer().trace(model)
    except Exception as error:  # whatever the model's own code raises
        text = " ".join(str(error).split())[:200]
        raise TrainingError(
            f"{type(model).__name__} cannot be traced ({text}); write its forward without branches "
            "on values, or use nn.Sequential"
        ) from error
    chain: list[tuple[str, nn.Module]] = []
    seen: set[str] = set()
    value: fx.Node | None = None
    for node in graph.nodes:
        subject = f"{node.name!r} in the forward of {type(model).__name__}"
        if node.op == "get_attr" and not node.users:
            continue
        if node.op == "placeholder":
            if value is not None:
                raise TrainingError(f"{subject} must not be a second input; give the model one")
            value = node
            continue
        if len(node.all_input_nodes) != 1 or node.all_input_nodes[0] is not value:
            raise TrainingError(
                f"{subject} must read the result before it, and nothing else; a quantised network "
                "is a chain"
            )
        assert value is not None
        if len(value.users) != 1:
            raise TrainingError(f"{value.name!r} must be read once, not {len(value.users)} times")
        if node.op == "output":
            if not isinstance(node.args[0], fx.Node):
                raise TrainingError(f"{type(model).__name__} must give one tensor")
            continue
        if node.op == "call_module":
            name = str(node.target)
            if name in seen:
                raise TrainingError(f"module {name!r} must be used once; make a copy of it")
            seen.add(name)
            chain.append((name, model.get_submodule(name)))
        else:
            chain.append((node.name, _module_of(subject, node)))
        value = node
    return chain


class _Tracer(fx.Tracer):
    """Takes PyTorch's layers and this package's as they are, and looks into all others."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Tell whether a module is not looked into."""
        if isinstance(m, nn.Sequential):
            return False
        return type(m).__module__.startswith(OWN) or super().is_leaf_module(
            m, module_qualified_name
        )


def _module_of(subject: str, node: fx.Node) -> nn.Module:
    """The module that does what a function or method does."""
    target = node.target
    make = _METHODS.get(str(target)) if node.op == "call_method" else _FUNCTIONS.get(target)
    name = target if isinstance(target, str) else getattr(target, "__name__", str(target))
    if make is None:
        raise TrainingError(
            f"{subject} calls {name}, which no layer of the hardware does; there are relu, "
            "max_pool2d, flatten and dropout"
        )
    try:
        return make(*node.args[1:], **dict(node.kwargs))
    except (TypeError, ValueError) as error:
        raise TrainingError(
            f"{subject} calls {name} with arguments that none has: {error}"
        ) from error


def _relu(inplace: bool = False) -> nn.Module:
    return nn.ReLU()


def _flatten(start_dim: int = 0, end_dim: int = -1) -> nn.Module:
    return nn.Flatten(start_dim, end_dim)


def _dropout(p: float = 0.5, training: bool = True, inplace: bool = False) -> nn.Module:
    return nn.Dropout(p)


_FUNCTIONS: Mapping[Any, Callable[..., nn.Module]] = {
    torch.relu: _relu,
    functional.relu: _relu,
    functional.relu_: _relu,
    torch.flatten: _flatten,
    functional.max_pool2d: nn.MaxPool2d,
    torch.max_pool2d: nn.MaxPool2d,
    functional.dropout: _dropout,
}

_METHODS: Mapping[str, Callable[..., nn.Module]] = {
    "relu": _relu,
    "relu_": _relu,
    "flatten": _flatten,
}
