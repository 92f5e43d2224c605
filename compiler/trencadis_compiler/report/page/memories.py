"""Used share of the memories of a kernel's engines, as rows for the page."""

from collections.abc import Sequence
from typing import Any

from trencadis_compiler.mapping.place import Placement
from trencadis_compiler.maps.place import MapPlacement

__all__ = ["memories_of"]


def memories_of(placements: Sequence[Placement | MapPlacement]) -> list[dict[str, Any]]:
    """Used share of each engine's memories; of several images, that of the fullest."""
    fullest: dict[tuple[int, str], tuple[int, int]] = {}
    for placement in placements:
        if isinstance(placement, MapPlacement):
            engines = [_of_maps(placement)]
        else:
            engines = [_of_lists(placement, i) for i in range(len(placement.core.engines))]
        for engine, used in enumerate(engines):
            for name, sizes in used.items():
                fullest[engine, name] = max(fullest.get((engine, name), (0, 0)), sizes)
    return [
        {
            "where": f"engine {engine}",
            "memory": name,
            "used": taken,
            "capacity": capacity,
            "share": taken / capacity if capacity else 0.0,
        }
        for (engine, name), (taken, capacity) in fullest.items()
    ]


def _of_lists(placement: Placement, engine: int) -> dict[str, tuple[int, int]]:
    """Used and present size of a list engine's memories."""
    config, on = placement.core.engines[engine], placement.on_engine(engine)
    return {
        "weight rows": (sum(p.plan.weight_rows for p in on), config.weight_rows),
        "slot rows": (sum(p.plan.slots for p in on), config.slot_rows),
        "list entries and dense values": (
            sum(p.source.buffers * p.source.size for p in on),
            config.list_entries + config.dense_values,
        ),
        "layers": (len(on), config.layers),
    }


def _of_maps(placement: MapPlacement) -> dict[str, tuple[int, int]]:
    """Used and present size of a map engine's memories."""
    return {
        name.replace("_", " "): (used, getattr(placement.config, name))
        for name, used in placement.needs.items()
    }
