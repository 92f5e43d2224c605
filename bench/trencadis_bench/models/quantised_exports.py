"""Exported networks as onnxruntime quantises them, in both of its forms."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx

from trencadis_format.onnxruntime_door import load_quantiser

__all__ = ["FORMS", "Form", "quantise_static"]

Form = Literal["qdq", "qoperator"]

FORMS: tuple[Form, ...] = ("qdq", "qoperator")
"""Pairs of QuantizeLinear and DequantizeLinear, with a scale per channel; or operators on integers
(QLinearConv and others), with one per tensor, on uint8."""

SAMPLES = 8


class _Samples:
    """Random inputs, as the quantiser takes them."""

    def __init__(self, model: onnx.ModelProto) -> None:
        rng = np.random.default_rng(2)
        shapes = {
            value.name: [dim.dim_value or 1 for dim in value.type.tensor_type.shape.dim]
            for value in model.graph.input
        }
        self._left = [
            {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
            for _ in range(SAMPLES)
        ]

    def get_next(self) -> Mapping[str, Any] | None:
        """The next inputs by name; None after the last."""
        return self._left.pop() if self._left else None


def quantise_static(source: Path, target: Path, form: Form) -> Path:
    """Quantise a float model as people do it, on random inputs.

    Parameters
    ----------
    source, target : Path
        The float model, and the file that is written.
    form : str
        One of `FORMS`.
    """
    quantiser = load_quantiser()
    prepared = target.with_suffix(".prepared.onnx")
    kind = quantiser.QuantType.QInt8 if form == "qdq" else quantiser.QuantType.QUInt8
    forms = {"qdq": quantiser.QuantFormat.QDQ, "qoperator": quantiser.QuantFormat.QOperator}
    logging.disable(logging.WARNING)
    try:
        quantiser.quant_pre_process(str(source), str(prepared))
        quantiser.quantize_static(
            str(prepared),
            str(target),
            _Samples(onnx.load(prepared)),
            quant_format=forms[form],
            per_channel=form == "qdq",
            activation_type=kind,
            weight_type=kind,
        )
    finally:
        logging.disable(logging.NOTSET)
        prepared.unlink(missing_ok=True)
    return target
