"""Log-mel features of one-second recordings, as bytes. NumPy only.

32 frames of 1024 samples, 512 apart, and 32 triangular mel bands from 60 to 7,800 Hz; a step of a
byte is 90/255 dB, 0 is -75 dB.
"""

from functools import cache

import numpy as np
import numpy.typing as npt

from trencadis_train.errors import TrainingError

__all__ = [
    "CLIP_SAMPLES",
    "DECIBELS_PER_STEP",
    "SAMPLE_RATE_HZ",
    "SIZE",
    "log_mel",
    "mel_bands",
    "quantise_power",
]

SAMPLE_RATE_HZ = 16_000
CLIP_SAMPLES = 16_000
SIZE = 32
"""Frames, and bands."""
WINDOW_SAMPLES = 1024
HOP_SAMPLES = 512
LOWEST_HZ, HIGHEST_HZ = 60.0, 7_800.0
LOWEST_DB, RANGE_DB = -75.0, 90.0
MIN_POWER = 1e-10

CLIPS_AT_ONCE = 64
"""Spectra of more do not fit caches: a clip takes eight times as long."""

DECIBELS_PER_STEP = RANGE_DB / 255
"""Meaning of a step of a feature."""


def log_mel(samples: npt.NDArray[np.int16]) -> npt.NDArray[np.uint8]:
    """Features of recordings.

    Parameters
    ----------
    samples : int16 array, shape (clips, n)
        Sound at 16 kHz; shorter than a second is filled up with silence, longer is cut.

    Returns
    -------
    uint8 array, shape (clips, 32, 32)
        Axes are clip, frame, band.
    """
    if samples.dtype != np.int16 or samples.ndim != 2:
        raise TrainingError(
            f"recordings must be int16 of shape (clips, samples), not {samples.dtype} of shape "
            f"{list(samples.shape)}"
        )
    starts = range(0, max(1, len(samples)), CLIPS_AT_ONCE)
    return np.concatenate([_log_mel(samples[i : i + CLIPS_AT_ONCE]) for i in starts])


def _log_mel(samples: npt.NDArray[np.int16]) -> npt.NDArray[np.uint8]:
    sound = samples[:, :CLIP_SAMPLES].astype(np.float64) / 32768
    length = (SIZE - 1) * HOP_SAMPLES + WINDOW_SAMPLES
    sound = np.pad(sound, ((0, 0), (0, length - sound.shape[1])))
    frames = np.lib.stride_tricks.sliding_window_view(sound, WINDOW_SAMPLES, axis=1)[
        :, ::HOP_SAMPLES
    ]
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW_SAMPLES) / WINDOW_SAMPLES)
    power = np.abs(np.fft.rfft(frames * window, axis=2)) ** 2 / np.sum(window**2)
    return quantise_power(power @ mel_bands().T)


def quantise_power(power: npt.NDArray[np.floating]) -> npt.NDArray[np.uint8]:
    """Powers of bands as bytes."""
    decibels = 10 * np.log10(power + MIN_POWER)
    steps = np.round((decibels - LOWEST_DB) / DECIBELS_PER_STEP)
    return np.clip(steps, 0, 255).astype(np.uint8)


@cache
def mel_bands() -> npt.NDArray[np.float64]:
    """Weights of frequencies in bands, shape (bands, frequencies): triangles of height 1."""
    frequencies = np.arange(WINDOW_SAMPLES // 2 + 1) * SAMPLE_RATE_HZ / WINDOW_SAMPLES
    edges = _hertz(np.linspace(_mel(LOWEST_HZ), _mel(HIGHEST_HZ), SIZE + 2))
    low, middle, high = (edges[i : i + SIZE, None] for i in range(3))
    rising = (frequencies - low) / (middle - low)
    falling = (high - frequencies) / (high - middle)
    return np.clip(np.minimum(rising, falling), 0, None)


def _mel(hertz: float) -> float:
    return float(2595 * np.log10(1 + hertz / 700))


def _hertz(mel: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return 700 * (10 ** (mel / 2595) - 1)
