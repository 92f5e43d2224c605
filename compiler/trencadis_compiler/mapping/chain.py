"""Chains: the layers of a network along its edges, and their split among the engines of a core."""

import functools
import math
from collections.abc import Callable

from trencadis_compiler.errors import CompileError
from trencadis_compiler.ir.network import Layer, Network

__all__ = ["chain_of", "split_chain"]


def chain_of(network: Network) -> tuple[Layer, ...]:
    """Order the layers of a network from its input to its output, along the edges.

    Raises
    ------
    CompileError
        If a map has several readers: a core hands every map to one layer.
    """
    chain: list[Layer] = []
    value = network.input.name
    while readers := network.readers(value):
        if len(readers) > 1:
            names = ", ".join(repr(reader.name) for reader in readers)
            raise CompileError(
                f"{value!r} is read by several layers ({names}); a core runs chains of layers: "
                "split the network there"
            )
        chain += readers
        value = chain[-1].target
    return tuple(chain)


def split_chain(
    layers: int, engines: int, load: Callable[[int, int, int], float]
) -> list[int] | None:
    """Find the split of a chain of layers of which the busiest engine has least to do.

    Every engine gets at least one layer.

    Parameters
    ----------
    layers, engines : int
        Their numbers.
    load : callable
        Cycles of an engine with the layers start, ..., stop - 1: load(engine, start, stop).
        Infinite where they do not fit, and then with more layers as well.

    Returns
    -------
    list of int or None
        The first layer of every engine. Of equal splits the one whose engines begin earliest, the
        first engines first; None if no split fits.
    """
    load = functools.cache(load)

    def stops(engine: int, start: int) -> range:
        """Possible ends of the layers of an engine, so that each of the following gets one."""
        after = engines - engine - 1
        return range(layers if after == 0 else start + 1, layers - after + 1)

    @functools.cache
    def busiest(engine: int, start: int) -> float:
        """Cycles of the busiest engine from this one on, which begins with layer `start`."""
        if engine == engines:
            return 0.0
        best = math.inf
        for stop in stops(engine, start):
            mine = load(engine, start, stop)
            if mine == math.inf:
                break
            best = min(best, max(mine, busiest(engine + 1, stop)))
        return best

    if engines > layers or (least := busiest(0, 0)) == math.inf:
        return None
    starts = [0]
    for engine in range(engines - 1):
        start = starts[-1]
        starts.append(
            next(
                stop
                for stop in stops(engine, start)
                if load(engine, start, stop) <= least and busiest(engine + 1, stop) <= least
            )
        )
    return starts
