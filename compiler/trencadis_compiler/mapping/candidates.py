"""Ways to run a layer on an engine: packings worth a search, and how lanes share the window."""

import functools
import math
from collections.abc import Iterator, Mapping

from trencadis_compiler.errors import CompileError
from trencadis_compiler.ir.network import Layer
from trencadis_compiler.mapping.deal import Deal, Reading
from trencadis_compiler.mapping.feed import Feed
from trencadis_compiler.mapping.formats import exceeds_formats
from trencadis_compiler.mapping.plan import LayerPlan
from trencadis_compiler.packing.packings import Packings
from trencadis_compiler.packing.tiles import Packing, even_packing
from trencadis_format.config import EngineConfig
from trencadis_format.layer_tables import SEQUENCE
from trencadis_format.widths import INDEX_BITS

__all__ = ["ideal_plans", "plans_for"]

MAX_DEPTH = 8
"""Most weight rows that a tile may be given for an input row."""

HOPE = 0.85
"""Part of the tiles of a first packing that a long search may do with."""

SAMPLE_HOPE = 0.75
"""Part of the tiles that a sample lets expect, which a long search may do with: the more kernels
there are, the better they pack."""


def plans_for(
    layer: Layer,
    config: EngineConfig,
    feed: Feed,
    packings: Packings | None = None,
    *,
    thorough: bool = True,
) -> list[LayerPlan]:
    """Ways to run `layer` on an engine, the fastest first; of equals the one with fewest rows.

    Parameters
    ----------
    layer : Layer
        The layer.
    config : EngineConfig
        The engine.
    feed : Feed
        What the layer reads.
    packings : Packings, optional
        Packings of the layer, where it is planned for several engines: packing takes long.
    thorough : bool
        Search for better packings than those found quickly.

    Raises
    ------
    CompileError
        If there is none.
    """
    packings = packings or Packings(layer.weights.occupancy)
    plans = _found_plans(layer, config, feed, packings, thorough)
    if not plans and feed.dense and feed.channels > 1 << INDEX_BITS:
        raise CompileError(
            f"layer {layer.name!r} has {feed.channels} input channels; of a dense input there may "
            f"be {1 << INDEX_BITS}: send indices and values (--input-nonzeros "
            f"{feed.channels} or fewer, on a board with sparse_input), or choose a narrower layer"
        )
    if not plans and (problem := _format_problem(layer, config, feed)):
        raise CompileError(
            f"layer {layer.name!r}: {problem}, by the hardware's formats; use smaller maps, "
            "windows or strides"
        )
    if not plans:
        raise CompileError(
            f"layer {layer.name!r} has {feed.channels} input channels on "
            f"{layer.weights.shape[2]}x{layer.weights.shape[3]} windows; no way of sharing them "
            f"among {config.lanes} lanes fits {config.weight_rows} weight rows and lists of "
            f"{1 << INDEX_BITS} channels; choose a larger configuration or a narrower layer"
        )
    return sorted(plans, key=lambda plan: (plan.cycles, plan.weight_rows, plan.slots))


def _found_plans(
    layer: Layer, config: EngineConfig, feed: Feed, packings: Packings, thorough: bool
) -> list[LayerPlan]:
    """Plans with the packings that may be the fastest: all are bounded, few are searched."""
    bounds = {
        (limit, depth): packings.fewest_tiles(limit, depth)
        for depth in range(1, MAX_DEPTH + 1)
        for limit in _limits(config)
    }
    ideal = functools.cache(functools.partial(_ideal, layer, config, feed))
    bounds = {key: tiles for key, tiles in bounds.items() if ideal(tiles, key[1]) < math.inf}
    if packings.many:
        # Packing all of them takes long: what looks best in a sample is tried first.
        expected = {key: packings.expected_tiles(*key) for key in bounds}
        order = sorted(bounds, key=lambda key: ideal(expected[key], key[1]))
        likely = {key: max(bounds[key], math.floor(SAMPLE_HOPE * expected[key])) for key in order}
        found = _searched_plans(layer, config, feed, packings, likely, thorough)
        if found:
            return found
    return _searched_plans(layer, config, feed, packings, bounds, thorough)


def _searched_plans(
    layer: Layer,
    config: EngineConfig,
    feed: Feed,
    packings: Packings,
    bounds: Mapping[tuple[int, int], int],
    thorough: bool,
) -> list[LayerPlan]:
    """Plans with the packings that may be the fastest.

    `bounds` has the tiles that a packing needs at least, by kernels per tile and depth.
    """
    ideal = functools.cache(functools.partial(_ideal, layer, config, feed))
    found: dict[tuple[int, int], list[LayerPlan]] = {}
    best = fewest = math.inf
    for (limit, depth), bound in bounds.items():
        # Deeper tiles must save rows. No packing is tried that even at its best is no faster.
        if (depth > 1 and bound * depth >= fewest) or ideal(bound, depth) >= best:
            continue
        packing = packings.first(limit, depth)
        fewest = min(fewest, packing.count * depth)
        found[limit, depth] = _plans(layer, config, feed, packing)
        best = min([best, *(plan.cycles for plan in found[limit, depth])])
    for limit, depth in found if thorough else ():
        tiles = math.floor(HOPE * packings.first(limit, depth).count)
        if ideal(max(tiles, bounds[limit, depth]), depth) < best:
            found[limit, depth] = _plans(layer, config, feed, packings.best(limit, depth))
            best = min([best, *(plan.cycles for plan in found[limit, depth])])
    return [plan for plans in found.values() for plan in plans]


def _format_problem(layer: Layer, config: EngineConfig, feed: Feed) -> str | None:
    """Shortage of the formats for the layer, if that is all that it lacks."""
    kernels = layer.weights.shape[0]
    alone = even_packing(kernels, kernels, 1)
    problems = [
        exceeds_formats(plan)
        for plan in _readings(layer, config, feed, alone, combine=config.groups > 1)
        if plan.weight_rows <= config.weight_rows
    ]
    return problems[0] if problems and all(problems) else None


def _limits(config: EngineConfig) -> list[int]:
    """Kernels a tile worth a try: many save passes, few save time to drain."""
    limits = [config.kernels_per_tile]
    while limits[-1] > 1:
        limits.append(limits[-1] // 2)
    return limits


def ideal_plans(
    layer: Layer, config: EngineConfig, feed: Feed, packings: Packings
) -> Iterator[LayerPlan]:
    """Plans with as few tiles as packings may have, without any search for packings.

    None if no packing can fit.
    """
    seen: set[tuple[int, int]] = set()
    for depth in range(1, MAX_DEPTH + 1):
        for limit in _limits(config):
            tiles = packings.fewest_tiles(limit, depth)
            if (tiles, depth) not in seen:
                seen.add((tiles, depth))
                yield from _even_plans(layer, config, feed, tiles, depth)


def _ideal(layer: Layer, config: EngineConfig, feed: Feed, tiles: int, depth: int) -> float:
    """Cycles with that many tiles, all equally full: no packing into as many is faster.

    Infinite if even that has more weight rows than there are.
    """
    plans = _even_plans(layer, config, feed, tiles, depth)
    return min((plan.cycles for plan in plans), default=math.inf)


def _even_plans(
    layer: Layer, config: EngineConfig, feed: Feed, tiles: int, depth: int
) -> list[LayerPlan]:
    """Plans with that many tiles, all equally full."""
    return _plans(layer, config, feed, even_packing(layer.weights.shape[0], tiles, depth))


def _plans(layer: Layer, config: EngineConfig, feed: Feed, packing: Packing) -> list[LayerPlan]:
    """Ways to run a layer with a packing, as far as its weights fit the engine."""
    return [
        plan
        for combine in ((False, True) if config.groups > 1 else (False,))
        for plan in _readings(layer, config, feed, packing, combine)
        if plan.weight_rows <= config.weight_rows and exceeds_formats(plan) is None
    ]


def _readings(
    layer: Layer, config: EngineConfig, feed: Feed, packing: Packing, combine: bool
) -> Iterator[LayerPlan]:
    positions = layer.weights.window
    lanes = config.lanes if combine else config.group_lanes
    if positions > lanes << SEQUENCE["slots"].bits:
        return  # more than lanes walk in a pass: a mean over a huge map, say
    wide = feed.channels > 1 << INDEX_BITS

    def plan(reading: Reading, parts: int = 1, *, paired: bool = False) -> LayerPlan:
        deal = Deal(reading, positions, packing.depth, parts, lanes, paired)
        return LayerPlan(layer, config, feed, packing, combine, deal)

    if feed.dense:
        # Groups share the dense input, so they must read the same positions.
        if not combine and not wide:
            yield plan(Reading.DENSE)
            # The slot that two windows share must be one cycle long.
            even = layer.pool.kernel[1] % 2 == 0
            if config.routing == "split-trees" and even and feed.channels == 1:
                yield plan(Reading.DENSE, paired=True)
        return
    if not wide:
        yield plan(Reading.LISTS)
        most = lanes // (positions * packing.depth)
        if feed.exact and most > 1:
            yield plan(Reading.LISTS, min(most, feed.entries))
    if positions == 1:
        owned = plan(Reading.OWNED, min(lanes, feed.channels))
        if owned.block <= 1 << INDEX_BITS:
            yield owned
