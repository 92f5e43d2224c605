"""Tensors inside a model, on samples: by onnxruntime, exact or float32, a few samples at a time."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy.typing as npt
import onnx

from trencadis_compiler.errors import CompileError
from trencadis_compiler.importer.samples import Samples
from trencadis_format.onnxruntime_door import Mode, open_session

__all__ = ["TensorRuns", "float_names"]

Array = npt.NDArray[Any]

MAX_PROTO = (1 << 31) - 1


class TensorRuns:
    """A model that is run for some of its tensors.

    Parameters
    ----------
    model : ModelProto
        The model, with shapes inferred.
    names : sequence of str
        Tensors, which need not be outputs; those that are not float are left out.
    label : str
        What the model is, for messages.

    Raises
    ------
    CompileError
        If onnxruntime cannot run the model, or it is larger than onnxruntime can be given.
    """

    def __init__(self, model: onnx.ModelProto, names: Sequence[str], label: str) -> None:
        types = {
            value.name: value.type.tensor_type.elem_type
            for value in (*model.graph.input, *model.graph.value_info, *model.graph.output)
        }
        inputs = {value.name for value in model.graph.input}
        self.names = tuple(dict.fromkeys(names))
        self._given = tuple(name for name in self.names if name in inputs)
        self._made = tuple(name for name in self.names if name not in inputs)
        shown = onnx.ModelProto()
        shown.CopyFrom(model)
        del shown.graph.output[:]
        for name in self._made or [model.graph.output[0].name]:
            value = shown.graph.output.add()
            value.name = name
            value.type.tensor_type.elem_type = types.get(name, onnx.TensorProto.FLOAT)
        self._label = label
        size = shown.ByteSize()
        if size > MAX_PROTO:
            raise CompileError(
                f"{label}: {size} bytes, more than the {MAX_PROTO} of a model that can be "
                "quantised here; quantise it with another tool and compile the result"
            )
        try:
            self._session = open_session(shown.SerializeToString(), Mode.PLAIN)
        except CompileError:
            raise
        except Exception as error:  # onnxruntime's errors have no common base
            raise CompileError(
                f"{label}: onnxruntime cannot run the model ({_one_line(error)})"
            ) from error

    def __call__(self, samples: Samples) -> Iterator[dict[str, Array]]:
        """The tensors for each sample.

        Raises
        ------
        CompileError
            If onnxruntime fails.
        """
        for feed in samples:
            yield self.one(feed)

    def one(self, feed: dict[str, Array]) -> dict[str, Array]:
        """The tensors for one set of inputs."""
        try:
            made = self._session.run(list(self._made), feed) if self._made else []
        except Exception as error:  # onnxruntime's errors have no common base
            raise CompileError(
                f"{self._label}: onnxruntime cannot run the model ({_one_line(error)})"
            ) from error
        found = dict(zip(self._made, made, strict=True))
        return {name: feed[name] if name in self._given else found[name] for name in self.names}


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:160]


def float_names(model: onnx.ModelProto, names: Iterable[str]) -> list[str]:
    """Those of some tensors that are float32."""
    floats = {
        value.name
        for value in (*model.graph.input, *model.graph.value_info, *model.graph.output)
        if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    }
    return [name for name in names if name in floats]
