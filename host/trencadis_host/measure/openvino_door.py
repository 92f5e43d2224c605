"""OpenVINO, if it is installed: another runtime to be measured beside."""

import importlib
import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trencadis_format.errors import InputError

__all__ = ["OpenvinoModel", "has_openvino"]

Array = npt.NDArray[Any]


def has_openvino() -> bool:
    """Tell whether OpenVINO is installed."""
    return importlib.util.find_spec("openvino") is not None


class OpenvinoModel:
    """An ONNX file on OpenVINO, on the processor, with its default precision.

    The default may be bfloat16 where the processor has it: results are not exact.

    Parameters
    ----------
    model : Path
        The ONNX file.
    threads : int
        Threads that compute.

    Raises
    ------
    InputError
        If OpenVINO cannot compile it.
    """

    def __init__(self, model: Path, threads: int) -> None:
        openvino: Any = importlib.import_module("openvino")
        try:
            self._compiled = openvino.Core().compile_model(
                str(model), "CPU", {"INFERENCE_NUM_THREADS": threads}
            )
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise InputError(f"{model}: OpenVINO cannot compile it: {reason}") from error
        self._request = self._compiled.create_infer_request()

    def run(self, names: Sequence[str], feed: Mapping[str, Array]) -> list[Array]:
        """Outputs by name, for inputs by name."""
        results = self._request.infer(dict(feed))
        return [np.asarray(results[name]) for name in names]
