"""Cycles that layers take: on the array, in what follows it, and between engines."""

import math
from functools import cached_property

from trencadis_compiler.mapping.place import PlacedLayer, Placement
from trencadis_compiler.mapping.plan import LayerPlan
from trencadis_format.layer_tables import Emission
from trencadis_format.timing import BORDER, LAYER_OVERHEAD, RELEASE_DELAY, EngineTiming

__all__ = ["LOAD_OVERHEAD", "LayerCycles", "selection_cycles"]

LOAD_OVERHEAD = 4
"""Cycles between two packed inputs."""

SUM_BYTES = 4
"""Cycles in which a row of sums is handed to the host: a byte of each at a time."""

WHOLE_OVERHEAD = 22
"""Cycles that the selector of whole layers takes for a vector, besides 4 per row."""


class LayerCycles:
    """Cycles per inference of the layers of a placement.

    Parameters
    ----------
    placement : Placement
        The layers.
    """

    def __init__(self, placement: Placement) -> None:
        self._placement = placement
        self._emitter = {placed.target: self._emitted(placed) for placed in placement.layers}
        self._engine = {placed.target: self._engine_cycles(placed) for placed in placement.layers}

    def engine(self, placed: PlacedLayer) -> float:
        """Cycles for which a layer keeps its engine, about.

        More than those of the array where what follows it cannot keep up, vector by vector: the
        emitter, the selector of whole layers, or the memory that puts vectors in order.
        """
        return self._engine[placed.target]

    def emitter(self, placed: PlacedLayer) -> float:
        """Cycles for which a layer takes its emitter, about.

        It writes an entry a cycle, and the ends of lists; to the host, rows.
        """
        return self._emitter[placed.target]

    @cached_property
    def loading(self) -> float:
        """Cycles in which the input is written, about; of a sparse one, at most."""
        first = self._placement.input_reader
        feed = first.feed
        if feed.dense:
            return feed.rows * feed.columns * feed.channels + LOAD_OVERHEAD
        return _entries(first) + LOAD_OVERHEAD

    @cached_property
    def refilling(self) -> float:
        """Cycles that the input's buffers allow, about: full, read, and filled again."""
        first = self._placement.input_reader
        read = self.engine(first) + first.plan.tail + RELEASE_DELAY + 2 * LAYER_OVERHEAD
        return (self.loading + read) / first.source.buffers

    @cached_property
    def selecting(self) -> float:
        """Cycles for which the busiest selector of whole layers is taken, at most."""
        busy = [0.0] * len(self._placement.core.engines)
        for placed in self._placement.layers:
            if _selected_whole(placed):
                busy[placed.engine] += selection_cycles(placed.plan)
        return max(busy)

    @cached_property
    def writing(self) -> float:
        """Cycles for which the busiest emitter is taken, or the busiest memories, about.

        Memories take an entry a cycle, whoever writes it. The selector of whole layers has an
        emitter of its own, counted with it.
        """
        engines = len(self._placement.core.engines)
        emitters, memories = [0.0] * engines, [0.0] * engines
        for placed in self._placement.layers:
            memories[placed.engine] += _entries(placed)
            if not _selected_whole(placed):
                emitters[placed.engine] += self.emitter(placed)
        return max(*emitters, *memories)

    @cached_property
    def handover(self) -> float:
        """Cycles that a map between two engines allows, at most.

        A buffer is taken from the first work of its producer until its reader has read it.
        """
        slowest = 0.0
        for after in self._placement.layers:
            before = self._placement.producer(after)
            if before is not None and before.engine != after.engine:
                taken = (
                    self.engine(before)
                    + before.plan.tail
                    + self.completion(before)
                    + BORDER
                    + self.engine(after)
                    + RELEASE_DELAY
                    + 2 * LAYER_OVERHEAD
                )
                slowest = max(slowest, taken / after.source.buffers)
        return slowest

    @cached_property
    def first_sample(self) -> float:
        """Cycles from the first value of a sample to its last output, of a sample alone, about."""
        layers = (
            self.engine(placed) + self.completion(placed) + LAYER_OVERHEAD
            for placed in self._placement.layers
        )
        return sum(layers, start=self.loading)

    def completion(self, placed: PlacedLayer) -> float:
        """Cycles from a layer's last issue until its output map is complete, at most."""
        plan, rows = placed.plan, placed.vector_rows
        timing = EngineTiming.of(placed.config)
        summed = timing.array + plan.beats + plan.beats * plan.groups
        cycles = summed + timing.requantise + timing.reorder
        winners = placed.layer.winners
        if _selected_whole(placed):
            cycles += 5 * rows + WHOLE_OVERHEAD
        elif winners:
            cycles += 4 * (rows + 6)
        else:
            cycles += rows
        kept = winners.k if winners else placed.layer.weights.shape[0]
        return cycles + kept + placed.config.lanes + timing.write

    def _engine_cycles(self, placed: PlacedLayer) -> float:
        plan, vectors = placed.plan, _vectors(placed)
        if vectors == 1:
            return plan.cycles
        after = self.emitter(placed)
        if _selected_whole(placed):
            after = selection_cycles(plan)
        timing = EngineTiming.of(placed.config)
        waiting = timing.requantise + timing.reorder + placed.vector_rows
        held = (plan.cycles + vectors * waiting) * placed.vector_rows / placed.config.reorder_rows
        return max(plan.cycles, after, held)

    def _emitted(self, placed: PlacedLayer) -> float:
        readers = self._placement.readers(placed)
        # Of rows for lists, one without survivors takes a cycle, too, unless it was left out when
        # winners were selected.
        silent = 1.0
        for reader in readers:
            feed, width = reader.feed, placed.config.requantisers
            selected = placed.layer.winners is not None
            silent = 0.0 if selected else (1 - feed.expected / feed.channels) ** width
        rows = _vectors(placed) * placed.vector_rows
        if placed.layer.requantised is None:
            rows = _vectors(placed) * placed.requantise_rows * SUM_BYTES
        return sum(map(_entries, readers)) + rows * silent


def selection_cycles(plan: LayerPlan) -> float:
    """Cycles per inference for which a layer takes the selector of whole layers, at most."""
    assert plan.layer.winners is not None
    _, rows, columns = plan.layer.out_shape
    vector_rows = math.ceil(plan.layer.weights.shape[0] / plan.config.requantisers)
    emitting = plan.layer.winners.k + plan.config.lanes
    return rows * columns * (4 * vector_rows + WHOLE_OVERHEAD + emitting)


def _vectors(placed: PlacedLayer) -> int:
    """Vectors of a sample: positions of the output map."""
    _, rows, columns = placed.layer.out_shape
    return rows * columns


def _entries(placed: PlacedLayer) -> float:
    """Entries that are written into a layer's map for a sample, ends included."""
    feed, plan = placed.feed, placed.plan
    if placed.source.emission is None:
        return 0.0
    ends = {
        Emission.LISTS: plan.pitch - feed.expected,
        Emission.TERMINATED: 1.0,
        Emission.OWNED: float(plan.parts),
    }[placed.source.emission]
    return feed.rows * feed.columns * (feed.expected + ends) + 1


def _selected_whole(placed: PlacedLayer) -> bool:
    """Tell whether the layer's winners are found by the selector for long vectors."""
    return placed.layer.winners is not None and placed.vector_rows > placed.config.select_rows
