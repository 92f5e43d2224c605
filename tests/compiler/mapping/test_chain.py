"""Splits of a chain among engines, against every split there is."""

import itertools
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from trencadis_compiler.compile import import_model
from trencadis_compiler.errors import CompileError
from trencadis_compiler.mapping.chain import chain_of, split_chain

DIGITS = Path(__file__).parents[3] / "examples/digits/digits.onnx"


def test_a_chain_follows_the_edges_whatever_the_order() -> None:
    network = import_model(DIGITS)
    assert chain_of(network) == network.layers
    assert chain_of(replace(network, layers=network.layers[::-1])) == network.layers


def test_branches_are_named() -> None:
    network = import_model(DIGITS)
    first, second, *rest = network.layers
    branch = replace(second, name="other", target="elsewhere")
    with pytest.raises(CompileError, match=rf"^{first.target!r} is read by several layers \("):
        chain_of(replace(network, layers=(first, second, branch, *rest)))


def every_split(layers: int, engines: int) -> list[tuple[int, ...]]:
    """The first layer of every engine, in all splits, in lexicographic order."""
    return [(0, *starts) for starts in itertools.combinations(range(1, layers), engines - 1)]


@pytest.mark.parametrize("seed", range(30))
def test_the_split_is_the_first_of_the_best(seed: int) -> None:
    rng = np.random.default_rng(seed)
    layers, engines = int(rng.integers(1, 9)), int(rng.integers(1, 5))
    cycles = rng.integers(1, 6, (engines, layers))
    most = int(rng.integers(1, 6))
    impossible = rng.random((engines, layers)) < 0.1

    def load(engine: int, start: int, stop: int) -> float:
        if stop - start > most or impossible[engine, start:stop].any():
            return math.inf
        return float(cycles[engine, start:stop].sum())

    def busiest(starts: tuple[int, ...]) -> float:
        pairs = itertools.pairwise([*starts, layers])
        return max(load(engine, *pair) for engine, pair in enumerate(pairs))

    best = min(every_split(layers, engines), key=busiest, default=None)
    expected = None if best is None or busiest(best) == math.inf else list(best)
    assert split_chain(layers, engines, load) == expected


def test_a_long_chain_asks_for_few_loads() -> None:
    asked: set[tuple[int, int, int]] = set()

    def load(engine: int, start: int, stop: int) -> float:
        asked.add((engine, start, stop))
        return math.inf if stop - start > 8 else float(stop - start)

    assert split_chain(29, 4, load) == [0, 5, 13, 21]
    assert len(asked) <= 4 * 29 * 9
