"""Costs of kernels on this machine: measured once, and kept beside the compiled kernels."""

import hashlib
import json
import platform
import time
from pathlib import Path as FilePath

import numpy as np

from trencadis_format.layer_tables import Selection
from trencadis_host.devices.cpu.costs import DEFAULT_COSTS, Costs
from trencadis_host.devices.cpu.network import Network, SampleForm
from trencadis_host.devices.cpu.paths import Path, host_features
from trencadis_host.devices.cpu.programs import LayerProgram, MapLayout
from trencadis_host.devices.cpu.store import CodeStore

__all__ = ["machine_costs", "measure_costs"]

SIZE, KERNELS, WINDOW = 12, 64, 3
CHANNELS = 64, 128
"""Channels of two layers that are measured, whose difference is products alone: sums are treated
alike. Their weights and maps stay in the first two caches."""

WINDOWS = (SIZE - WINDOW + 1) ** 2
"""Windows of a map."""

SUM_BYTES = 4

SAMPLES = 8

REPETITIONS = 15

RANGE = 0.1, 10.0
"""Costs are not believed that are other multiples of `DEFAULT_COSTS`."""


def machine_costs(path: Path, store: CodeStore) -> Costs:
    """The costs on this machine.

    Parameters
    ----------
    path : Path
        Instructions that are used.
    store : CodeStore
        Where figures are kept; what is found there and makes no sense is not used.
    """
    if not path.exact:
        return DEFAULT_COSTS  # there are no dense kernels to choose
    layers = f"{SIZE} {CHANNELS} {KERNELS} {WINDOW}"
    about = "\n".join([_processor(), *sorted(host_features()), path.name, layers])
    name = f"costs-{path.name}-{hashlib.sha256(about.encode()).hexdigest()[:32]}"

    def measured() -> bytes:
        found = measure_costs(path, store)
        return json.dumps({"dense": found.dense, "tile": found.tile}).encode()

    try:
        kept = json.loads(store.code(name, measured))
        found = Costs(dense=float(kept["dense"]), tile=float(kept["tile"]))
    except (ValueError, KeyError, TypeError):
        return DEFAULT_COSTS
    ratios = found.dense / DEFAULT_COSTS.dense, found.tile / DEFAULT_COSTS.tile
    return found if all(RANGE[0] <= ratio <= RANGE[1] for ratio in ratios) else DEFAULT_COSTS


def measure_costs(path: Path, store: CodeStore) -> Costs:
    """Time the kernels on layers whose weights are all other than zero."""
    never = float("inf")
    sparse = _time(path, store, Costs(never, never))
    dense = _time(path, store, Costs(0.0, never)) / sparse
    if not path.tiles:
        return Costs(dense)
    return Costs(dense, _time(path, store, Costs(never, 0.0)) / sparse * WINDOWS)


def _time(path: Path, store: CodeStore, costs: Costs) -> float:
    """Seconds that a unit takes for all windows, or a product of tiles."""
    seconds, units = [], []
    for channels in CHANNELS:
        form = SampleForm(SIZE * SIZE * channels, WINDOWS * KERNELS * SUM_BYTES, KERNELS)
        network = Network([_program(channels)], form, path, 1, store, costs)
        rng = np.random.default_rng(0)
        samples = rng.integers(0, 256, SAMPLES * form.input_bytes).astype(np.uint8)
        results = np.zeros(SAMPLES * form.output_bytes, np.uint8)
        workspace = network.workspace()
        addresses = samples.ctypes.data, results.ctypes.data, SAMPLES, workspace.ctypes.data
        times = []
        for _ in range(REPETITIONS):
            started = time.perf_counter()
            network.run(*addresses)
            times.append(time.perf_counter() - started)
        seconds.append(min(times))
        units.append(network.choices[0].units)
    return (seconds[1] - seconds[0]) / (units[1] - units[0])


def _program(channels: int) -> LayerProgram:
    """A convolution without padding, whose sums are written as they are."""
    side = SIZE - WINDOW + 1
    at = np.arange(side)
    window = np.arange(WINDOW)
    weights = np.random.default_rng(0).integers(1, 128, (KERNELS, WINDOW**2, channels))
    pitch = KERNELS * SUM_BYTES
    return LayerProgram(
        weights=weights.astype(np.int8),
        offsets=(window[:, None] * SIZE + window).ravel(),
        origins=at[:, None] * SIZE + at,
        steps=(0,),
        source=MapLayout(SIZE, SIZE, channels, SIZE, 0, SIZE * SIZE + SIZE, channels, 0),
        target=MapLayout(side, side, KERNELS, side, 0, side * side + side, pitch, 0),
        sum_bits=32,
        parameters={},
        low=0,
        high=255,
        table=None,
        selection=Selection.ALL,
        k=0,
        survivor_zero=0,
    )


def _processor() -> str:
    """Name of the processor."""
    try:
        lines = FilePath("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith("model name")), platform.processor())
