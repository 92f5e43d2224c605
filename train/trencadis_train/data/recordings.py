"""Recordings in wav files, checked. NumPy only."""

import struct
import wave
from pathlib import Path

import numpy as np
import numpy.typing as npt

from trencadis_train.errors import TrainingError

__all__ = ["read_recording"]

SAMPLE_BYTES = 2
MAX_LENGTH_S = 3600


def read_recording(path: Path, rate_hz: int) -> npt.NDArray[np.int16]:
    """The samples of a wav file with one channel of 16 bits.

    Parameters
    ----------
    path : Path
        The file.
    rate_hz : int
        Samples per second that it must have.

    Returns
    -------
    int16 array, shape (samples,)
        At least one sample.

    Raises
    ------
    TrainingError
        If the file is missing, damaged, empty, or of another format.
    """
    try:
        with path.open("rb") as raw, wave.open(raw) as file:
            form = file.getnchannels(), 8 * file.getsampwidth(), file.getframerate()
            samples = file.getnframes()
            if form != (1, 8 * SAMPLE_BYTES, rate_hz):
                raise TrainingError(
                    f"{path}: must have 1 channel of 16 bits at {rate_hz} Hz, not {form[0]} of "
                    f"{form[1]} bits at {form[2]} Hz; convert it"
                )
            if not 0 < samples <= MAX_LENGTH_S * rate_hz:
                raise TrainingError(
                    f"{path}: must last more than nothing and at most {MAX_LENGTH_S} s, not "
                    f"{samples} samples"
                )
            data = file.readframes(samples)
    except (wave.Error, EOFError, struct.error, RuntimeError) as error:
        text = str(error) or "it ends too early"
        raise TrainingError(f"{path}: not a wav file, or damaged ({text}); get it again") from error
    except OSError as error:
        raise TrainingError(f"{path}: cannot be read: {error.strerror or error}") from error
    if len(data) != SAMPLE_BYTES * samples:
        raise TrainingError(
            f"{path}: damaged: its header tells of {samples} samples, there are "
            f"{len(data) // SAMPLE_BYTES}; get it again"
        )
    return np.frombuffer(data, "<i2").astype(np.int16)
