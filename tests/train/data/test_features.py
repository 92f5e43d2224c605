import numpy as np
import pytest

from trencadis_train.data.features import DECIBELS_PER_STEP, log_mel, mel_bands, quantise_power
from trencadis_train.errors import TrainingError


def tone(hertz, amplitude=8000, samples=16_000):
    return np.rint(amplitude * np.sin(2 * np.pi * hertz * np.arange(samples) / 16_000)).astype(
        np.int16
    )


def test_bands_are_triangles_of_height_one_at_most():
    bands = mel_bands()
    assert bands.shape == (32, 513)
    assert bands.min() == 0
    assert bands.max() <= 1
    centres = bands.argmax(axis=1)
    assert (np.diff(centres) > 0).all()
    assert not bands[:, :4].any()
    assert not bands[:, 500:].any()
    # Inside, a frequency's weights in the two bands it belongs to add up to 1.
    assert bands[:, centres[0] : centres[-1]].sum(axis=0) == pytest.approx(1)


@pytest.mark.parametrize("band", [3, 12, 28])
def test_a_tone_is_loudest_in_its_band(band):
    hertz = mel_bands()[band].argmax() * 16_000 / 1024
    features = log_mel(tone(hertz)[None])[0]
    assert features.dtype == np.uint8
    assert (features[2:-2].argmax(axis=1) == band).all()


def test_half_the_amplitude_is_six_decibels_less():
    loud, soft = (log_mel(tone(1000, amplitude)[None])[0] for amplitude in (8000, 4000))
    peak = np.unravel_index(loud.argmax(), loud.shape)
    assert abs((int(loud[peak]) - int(soft[peak])) * DECIBELS_PER_STEP - 6.02) < DECIBELS_PER_STEP


def test_silence_is_zero_and_short_recordings_are_filled_up():
    assert not log_mel(np.zeros((1, 16_000), np.int16)).any()
    short, filled = tone(500, samples=7000), np.zeros(16_000, np.int16)
    filled[:7000] = short
    assert (log_mel(short[None]) == log_mel(filled[None])).all()
    longer = np.concatenate([tone(500), tone(900)])
    assert (log_mel(longer[None]) == log_mel(tone(500)[None])).all()


def test_many_recordings_are_each_on_their_own():
    samples = np.random.default_rng(0).integers(-9000, 9000, (67, 8000)).astype(np.int16)
    one_by_one = np.concatenate([log_mel(clip[None]) for clip in samples])
    assert (log_mel(samples) == one_by_one).all()
    assert log_mel(samples[:0]).shape == (0, 32, 32)


def test_the_grid_of_bytes():
    power = 10 ** (np.array([-75, -75 + 90 / 255, 15, 40, -200]) / 10)
    assert quantise_power(power - 1e-10).tolist() == [0, 1, 255, 255, 0]


@pytest.mark.parametrize("samples", [np.zeros((1, 9)), np.zeros(9, np.int16)])
def test_other_arrays_are_refused(samples):
    with pytest.raises(
        TrainingError, match=r"recordings must be int16 of shape \(clips, samples\)"
    ):
        log_mel(samples)
