"""The judge: held tensors of a device against the model's own file.

Its unit is the nodes between two tensors that the device holds, with the device's values fed in:
one tie that falls the other way would otherwise flip everything after it. Those nodes are evaluated
in float64 from the file's own tensors, ties decided by rational arithmetic, and run in onnxruntime
as well. What is compared:

- integers, and real numbers that are exact: equal, always;
- real numbers that are sums: the exact number rounded to the file's type, always;
- what the host's runtime makes: within the error bound of its operators in the file's types; where
  integers follow, one step off if the bound reaches a tie;
- onnxruntime: within that same bound of the exact number.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from trencadis_judge.chunks import Chunks
from trencadis_judge.errors import JudgeError
from trencadis_judge.graph import JudgedModel, load_model
from trencadis_judge.runtime import MAX_RUNTIME_BYTES, WholeRuntime, constant_bytes
from trencadis_judge.unit import UnitJudge
from trencadis_judge.verdict import Judgement, Outcome

__all__ = ["judge"]

Array = npt.NDArray[Any]


def judge(
    source: Path | str | bytes | onnx.ModelProto | JudgedModel,
    values: Mapping[str, Array],
    *,
    host: Collection[str] = (),
    aside: Mapping[str, Collection[str]] | None = None,
    run_runtime: bool = True,
    max_runtime_bytes: int = MAX_RUNTIME_BYTES,
) -> Judgement:
    """Judge the tensors that a device, and the host around it, hold.

    Parameters
    ----------
    source : path, bytes, ModelProto or JudgedModel
        The model's file: of a float model its quantised copy.
    values : mapping of str to array
        Values by name in the file: the model's inputs and outputs, and every tensor between that is
        held. Quantised tensors as their integers, or as real numbers, scale * (q - zero point).
        Samples along axis 0, any multiple of the model's own first size.
    host : collection of str
        Held tensors that the host's runtime makes.
    aside : mapping of str to collection of str, optional
        By held tensor those of the host that its device makes for itself as well: the tensor is not
        judged by them.
    run_runtime : bool
        Whether onnxruntime is asked as well.
    max_runtime_bytes : int
        Constants, in bytes, above which it is not.

    Raises
    ------
    JudgeError
        If the file or the values cannot be judged at all: names that are not in the file, shapes
        that do not fit.
    """
    model = source if isinstance(source, JudgedModel) else load_model(source)
    _check_names(model, values, host)
    chunks = Chunks(model, values)
    limit = max_runtime_bytes if run_runtime else -1
    types = {info.name: info.dtype for info in model.inputs if info.dtype is not None}
    fed, aside = set(values), aside or {}
    units = []
    for name in [name for node in model.nodes for name in node.outputs if name in values]:
        unit = UnitJudge(
            model,
            name,
            fed - {*aside.get(name, ())},
            types,
            host=name in host,
            max_runtime_bytes=limit,
        )
        for number in range(chunks.count):
            part = chunks.part(number, {*unit.boundary, name})
            unit.add(part.pop(name), part)
        units.append(unit.verdict())
        if unit.misshapen:
            break
    outcomes, reason = _end_to_end(model, values, chunks, limit)
    return Judgement(tuple(units), outcomes, reason)


def _check_names(model: JudgedModel, values: Mapping[str, Array], host: Collection[str]) -> None:
    known = {*model.producers, *(info.name for info in model.inputs)}
    strange = [name for name in (*values, *host) if name not in known]
    if strange:
        raise JudgeError(f"the model has no tensor {strange[0]!r}; give names of the file")
    for info in model.inputs:
        if info.name not in values:
            raise JudgeError(f"the values of input {info.name!r} are missing; give them")


def _end_to_end(
    model: JudgedModel, values: Mapping[str, Array], chunks: Chunks, max_runtime_bytes: int
) -> tuple[tuple[Outcome, ...], str]:
    """Count what differs at the model's outputs from onnxruntime on the whole file."""
    wanted = [info.name for info in model.outputs if info.name in values]
    if max_runtime_bytes < 0 or not wanted:
        return (), "onnxruntime was not asked"
    size = constant_bytes(model, range(len(model.nodes)))
    if size > max_runtime_bytes:
        return (), f"{size:,} bytes of constants, more than {max_runtime_bytes:,}"
    inputs = [info.name for info in model.inputs]
    differing = dict.fromkeys(wanted, 0)
    largest = dict.fromkeys(wanted, 0.0)
    try:
        runtime = WholeRuntime(model)
        for number in range(chunks.count):
            part = chunks.part(number, {*inputs, *wanted})
            found = runtime.run({name: part[name] for name in inputs})
            for name in wanted:
                ours = part[name].astype(found[name].dtype)
                different = ours != found[name]
                differing[name] += int(np.count_nonzero(different))
                if different.any():
                    gap = np.abs(ours.astype(np.float64) - found[name].astype(np.float64))
                    largest[name] = max(largest[name], float(np.nanmax(gap)))
    except Exception as error:
        # onnxruntime raises kinds of its own for what it cannot run.
        return (), " ".join(str(error).split())[:160]
    return tuple(
        Outcome(name, values[name].size, differing[name], largest[name]) for name in wanted
    ), ""
