"""Predicted cycles, never more than those of the exhaustive search that came before.

The figures are of commit 9484beb, which tried every boundary between engines and every packing in
turn.
"""

import pytest
from tests.fixtures.networks import KERNELS, NETWORKS, random_network, random_network_spec

from trencadis_compiler.errors import CompileError
from trencadis_compiler.mapping.place import place
from trencadis_compiler.mapping.schedule import schedule

PERIODS: dict[str, tuple[float | None, ...]] = {
    "exact-winners": (411.0, 609.0, 315.0, 579.0),
    "threshold-winners": (297.0, 537.0, 297.0, 387.0),
    "whole-layer-winners": (109.5, 95.0, 109.0, 132.0),
    "relu-stride-dilation": (1068.0, 955.0, 1075.0, 723.0),
    "dense-weights": (41.5, 41.0, 41.5, 48.0),
    "sparse-map": (224.0, 429.0, 345.0, 364.0),
    "sparse-vector": (79.5, 63.0, 145.0, 93.0),
    "never-zero": (274.0, 283.0, 283.0, 201.5),
    "never-zero-wide": (490.0, 562.0, 490.0, 483.0),
    "short-samples": (98.5, 273.0, 337.0, 260.0),
    "one-beat-samples": (55.5, 59.0, 62.5, 64.0),
    "ties-to-odd-keys": (127.0, 127.0, 127.0, 139.5),
    "table": (127.0, 127.0, 127.0, 139.5),
    "random2": (163.0, 193.0, 169.0, 153.5),
    "random3": (540.0, 538.0, 540.0, 393.0),
    "random4": (237.0, 243.0, 237.0, 327.0),
    "random5": (689.0, 694.0, 692.0, 1299.0),
    "random6": (119.0, 115.0, 119.0, 195.0),
    "random7": (129.0, 131.0, 102, 113.0),
    "random8": (647.0, 743.0, 928.0, 633.0),
}
"""Cycles per inference of each network, by kernel; None where the network did not fit."""

ORDER = ("groups", "trees-lockstep", "split-trees", "cores-chained")


@pytest.mark.parametrize("name", PERIODS)
def test_no_network_is_slower_than_it_was(name: str) -> None:
    if name in NETWORKS:
        network = random_network(NETWORKS[name], 1)
    else:
        seed = int(name.removeprefix("random"))
        network = random_network(random_network_spec(seed), seed)
    for kernel, before in zip(ORDER, PERIODS[name], strict=True):
        try:
            period = schedule(place(network, KERNELS[kernel].core)).period
        except CompileError:
            assert before is None, kernel
            continue
        assert before is None or period <= before, kernel
