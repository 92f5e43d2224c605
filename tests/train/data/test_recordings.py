import struct
import wave

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trencadis_train.data.recordings import read_recording
from trencadis_train.errors import TrainingError

RATE = 16_000


def write(path, samples, *, channels=1, width=2, rate=RATE):
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(samples.tobytes())


@pytest.fixture
def path(tmp_path):
    return tmp_path / "word.wav"


def test_samples_come_back(path):
    samples = np.array([0, 1, -1, 32767, -32768], np.int16)
    write(path, samples)
    found = read_recording(path, RATE)
    assert found.dtype == np.int16
    assert found.tolist() == samples.tolist()


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ({"rate": 8000}, "not 1 of 16 bits at 8000 Hz; convert it"),
        ({"channels": 2}, "must have 1 channel of 16 bits at 16000 Hz, not 2 of 16 bits"),
        ({"width": 1}, "not 1 of 8 bits at 16000 Hz"),
    ],
)
def test_other_formats_are_refused(path, form, message):
    write(path, np.zeros(8, np.int16), **form)
    with pytest.raises(TrainingError, match=rf"word\.wav: .*{message}"):
        read_recording(path, RATE)


def test_a_recording_without_samples_is_refused(path):
    write(path, np.zeros(0, np.int16))
    with pytest.raises(TrainingError, match=r"must last more than nothing .* not 0 samples"):
        read_recording(path, RATE)


def test_missing_and_cut_off_recordings_are_refused(path):
    with pytest.raises(TrainingError, match=r"word\.wav: cannot be read: No such file"):
        read_recording(path, RATE)
    write(path, np.arange(100, dtype=np.int16))
    whole = path.read_bytes()
    path.write_bytes(whole[:-60])
    with pytest.raises(TrainingError, match="its header tells of 100 samples, there are 70"):
        read_recording(path, RATE)
    path.write_bytes(whole[:20])
    with pytest.raises(TrainingError, match="not a wav file, or damaged"):
        read_recording(path, RATE)
    path.write_bytes(b"")
    with pytest.raises(TrainingError, match=r"damaged .it ends too early."):
        read_recording(path, RATE)


def outcome(path):
    try:
        return read_recording(path, RATE)
    except TrainingError as error:
        return str(error)


@settings(deadline=None, max_examples=300)
@given(data=st.data())
def test_any_bytes_give_samples_or_one_clear_line(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "fuzz.wav"
    write(path, np.arange(20, dtype=np.int16))
    raw = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        place = data.draw(st.integers(0, len(raw) - 4))
        raw[place : place + 4] = struct.pack("<I", data.draw(st.integers(0, 2**32 - 1)))
    for _ in range(data.draw(st.integers(0, 5))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(raw[: data.draw(st.integers(0, len(raw)) | st.just(len(raw)))])
    found = outcome(path)
    if isinstance(found, str):
        assert found.startswith(f"{path}: ")
        assert "\n" not in found
    else:
        assert found.dtype == np.int16
        assert len(found)
