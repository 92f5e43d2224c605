"""Fitting: the layers of chains that can be compiled; the others are left to the host."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from trencadis_compiler.cutting.plan_cut import FitsNowhere
from trencadis_compiler.errors import CompileError, Unsupported
from trencadis_compiler.ir.network import Network
from trencadis_compiler.passes.base.state import ActivationMap
from trencadis_compiler.passes.build_network import at_cut, at_end, build_network
from trencadis_compiler.passes.grow_chains import Chain

__all__ = ["Fitted", "fit_chains"]

Maps = tuple[ActivationMap, ...]

Made = TypeVar("Made")


@dataclass(frozen=True)
class Fitted(Generic[Made]):
    """Chains that fit and what was made of them, by the tensor that they make; others' reasons."""

    chains: Mapping[str, Chain]
    made: Mapping[str, Made]
    reasons: Mapping[str, Unsupported]


def fit_chains(
    name: str, chains: Mapping[str, Chain], make: Callable[[Network], Made]
) -> Fitted[Made]:
    """Make something of chains, without the layers that nothing can be made of.

    Parameters
    ----------
    name : str
        Name of the model.
    chains : mapping of str to Chain
        Chains by the tensor that they make.
    make : callable
        Makes it of a network, or raises CompileError: `FitsNowhere` if that names the layer; else
        the chain is halved until it is known.
    """
    fitting: dict[str, Chain] = {}
    made: dict[str, Made] = {}
    reasons: dict[str, Unsupported] = {}

    def fit(maps: Maps) -> None:
        if not maps:
            return
        maps = (*maps[:-1], at_end(maps[-1]))
        network = build_network(name, maps)
        try:
            found = make(network)
        except CompileError as error:
            if len(maps) == 1:
                layer = network.layers[0].name
                reasons[layer] = Unsupported(
                    f"layer {layer!r}", f"the core does not hold it ({error})"
                )
                return
            middle = rest = len(maps) // 2
            if isinstance(error, FitsNowhere):
                names = [layer.name for layer in network.layers]
                middle = names.index(error.layer)
                rest = middle + 1
                reasons[error.layer] = Unsupported(
                    f"layer {error.layer!r}", f"the core does not hold it ({error})"
                )
            fit(_ended(maps[:middle]))
            fit(maps[rest:])
            return
        tensor = maps[-1].tensor
        fitting[tensor], made[tensor] = Chain(maps), found

    for chain in chains.values():
        fit(chain.maps)
    return Fitted(fitting, made, reasons)


def _ended(maps: Maps) -> Maps:
    """Maps of which the last one is handed to another chain."""
    return (*maps[:-1], at_cut(maps[-1])) if maps else maps
