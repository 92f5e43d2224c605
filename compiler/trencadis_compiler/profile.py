"""Densities of activations on real inputs."""

from typing import Any

import numpy as np
import numpy.typing as npt

from trencadis_compiler.emit.formats import input_format
from trencadis_compiler.exact.reference import evaluate_all
from trencadis_compiler.importer.calibration import CalibrationError
from trencadis_compiler.ir.network import Network
from trencadis_format.errors import InputError

__all__ = ["densities"]

Array = npt.NDArray[Any]

PROFILE_SAMPLES = 64
"""Samples that are enough to measure densities."""


def densities(network: Network, inputs: Array) -> dict[str, float]:
    """The part of each layer's activations that is not zero, over (at most some) inputs."""
    try:
        keys = input_format(network.input).keys(inputs[:PROFILE_SAMPLES] if inputs.ndim else inputs)
    except InputError as error:
        raise CalibrationError(str(error)) from error
    _check_nonzeros(network, keys)
    values = evaluate_all(network, {network.input.name: keys.transpose(0, 3, 1, 2)})
    densities = {}
    for layer in network.layers:
        if layer.output is not None and layer.target not in network.outputs:
            densities[layer.name] = float(np.mean(values[layer.target] != layer.output.zero_key))
    return densities


def _check_nonzeros(network: Network, keys: Array) -> None:
    """Refuse data that cannot be usual: `keys` has shape (samples, rows, columns, channels)."""
    source = network.input
    assert source.quantisation is not None
    nonzeros = (keys != source.quantisation.zero_key).sum(axis=3)
    if not nonzeros.any():
        raise CalibrationError(
            f"input {source.tensor.name!r} is zero in the first {len(keys)} samples; give usual "
            "ones"
        )
    most, allowed = nonzeros.max(), source.nonzeros
    if allowed is not None and most > allowed:
        sample = int(np.argmax(nonzeros.max(axis=(1, 2))))
        raise CalibrationError(
            f"input {source.tensor.name!r} has {most} values that are not zero at a position of "
            f"sample {sample}, more than the {allowed} of --input-nonzeros; allow {most}"
        )
