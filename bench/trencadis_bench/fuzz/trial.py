"""One network from its file to the judge."""

import traceback
from collections import Counter
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import numpy as np
import onnx

from trencadis_bench.fuzz.mutations import mutate
from trencadis_bench.fuzz.networks import FuzzedNetwork, random_network
from trencadis_bench.fuzz.quantisers import Array
from trencadis_boards import Board
from trencadis_compiler.compile import compile_model
from trencadis_compiler.options import Options
from trencadis_format.compiled import CompiledNetwork
from trencadis_format.errors import FailureError, UserError
from trencadis_format.onnxruntime_door import Mode, open_session
from trencadis_host.held import held_tensors, host_tensors, twice_made
from trencadis_judge import JudgeError, judge, load_model

__all__ = ["Class", "Trial", "try_network"]

MAX_BATCH = 64
"""Larger batches, which a change declares, are judged as open."""


class Class(Enum):
    """Outcome of an input."""

    EQUAL = "accepted, equal"
    REFUSED = "refused, one line"
    UNJUDGED = "accepted, not judged"
    WRONG = "accepted, WRONG"
    FAILED = "accepted, a device refuses"
    LINES = "refused, NOT one line"
    CRASH = "TRACEBACK"
    HANG = "HANG"
    MEMORY = "OUT OF MEMORY"

    @property
    def good(self) -> bool:
        """True if it is what should happen."""
        return self in (Class.EQUAL, Class.REFUSED)


@dataclass(frozen=True)
class Trial:
    """A network that was tried.

    Attributes
    ----------
    kind : Class
        What became of it.
    detail : str
        The message, the first node that differs, or the traceback.
    numbers : int
        Numbers that the judge compared.
    changes : tuple of str
        What makes it slightly wrong.
    """

    kind: Class
    detail: str
    numbers: int
    changes: tuple[str, ...]


def try_network(seed: int, board: Board, folder: Path) -> Trial:
    """Make the network of a seed, compile it, run it, judge it.

    Parameters
    ----------
    seed : int
        Seed of the network; odd ones are slightly wrong.
    board : Board
        To compile for.
    folder : Path
        Where the file is written, as `network.onnx`.
    """
    rng = np.random.default_rng(seed)
    network = random_network(rng)
    changes = tuple(mutate(network.model, rng) for _ in range(seed % 2 * int(rng.integers(1, 3))))
    path = folder / "network.onnx"
    path.write_bytes(network.model.SerializeToString())
    try:
        # Sized kernels have map engines for networks with branches.
        options = Options(sized=bool(seed // 2 % 2))
        compiled = compile_model(path, board, calibration=network.calibration, options=options)
        size = min(compiled.compiled.fixed_batch or 1, MAX_BATCH)
        inputs = {name: _filled(array, size) for name, array in network.inputs.items()}
        held = held_tensors(compiled.compiled, inputs)
    except UserError as error:
        one_line = bool(str(error)) and "\n" not in str(error)
        return Trial(Class.REFUSED if one_line else Class.LINES, str(error), 0, changes)
    except FailureError as error:
        kind = Class.REFUSED if _refused_by_runtime(network) else Class.FAILED
        return Trial(kind, str(error), 0, changes)
    except MemoryError:
        return Trial(Class.MEMORY, "", 0, changes)
    except Exception:
        return Trial(Class.CRASH, traceback.format_exc(), 0, changes)
    judged = compiled.judged if isinstance(compiled.judged, onnx.ModelProto) else network.model
    return _judged(judged, compiled.compiled, held, changes)


def _filled(inputs: Array, size: int) -> Array:
    """A whole number of batches, the last sample repeated."""
    return np.concatenate([inputs, np.repeat(inputs[-1:], -len(inputs) % size, axis=0)])


def _refused_by_runtime(network: FuzzedNetwork) -> bool:
    """Tell whether onnxruntime cannot run the file itself on these inputs."""
    try:
        session = open_session(network.model.SerializeToString(), Mode.PLAIN, threads=1)
        session.run(None, dict(network.inputs))
    except Exception:  # onnxruntime raises kinds of its own
        return True
    return False


def _judged(
    model: onnx.ModelProto,
    network: CompiledNetwork,
    held: dict[str, np.ndarray],
    changes: tuple[str, ...],
) -> Trial:
    for info in model.graph.input:
        dims = info.type.tensor_type.shape.dim
        if dims and dims[0].dim_value > MAX_BATCH:
            dims[0].dim_param = "N"
    try:
        judged = load_model(model)
        held = judged.known(held)
        aside = twice_made(network, held)
        found = judge(judged, held, host=host_tensors(network, held), aside=aside)
    except JudgeError as error:
        return Trial(Class.UNJUDGED, str(error), 0, changes)
    except Exception:
        return Trial(Class.CRASH, f"the judge: {traceback.format_exc()}", 0, changes)
    numbers = sum(unit.elements for unit in found.units)
    first = found.first_difference
    if first is not None:
        return Trial(Class.WRONG, str(first), numbers, changes)
    reasons = Counter(unit.reason for unit in found.units if unit.reason and not unit.elements)
    if reasons:
        return Trial(Class.UNJUDGED, str(reasons), numbers, changes)
    return Trial(Class.EQUAL, "", numbers, changes)
