import re
import wave

import numpy as np
import pytest

from trencadis_train.data import speech_commands
from trencadis_train.data.features import log_mel
from trencadis_train.data.speech_commands import CREDIT, load_speech_commands, official_part
from trencadis_train.errors import TrainingError

WORDS = ("no", "yes", "up")


def write(path, samples):
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(samples.astype("<i2").tobytes())


def sound(seed, samples=16_000):
    return np.random.default_rng(seed).integers(-3000, 3000, samples).astype(np.int16)


@pytest.fixture
def folder(tmp_path):
    """Six recordings per word, of three speakers; one validates, one tests."""
    root = tmp_path / "speech"
    seed = 0
    for word in WORDS:
        for speaker in ("aa", "bb", "cc"):
            for take in range(2):
                write(root / word / f"{speaker}_nohash_{take}.wav", sound(seed, 9000 + 1000 * seed))
                seed += 1
    for name, speaker in (("validation_list.txt", "bb"), ("testing_list.txt", "cc")):
        lines = [f"{word}/{speaker}_nohash_{take}.wav" for word in WORDS for take in range(2)]
        (root / name).write_text("\n".join(lines) + "\n")
    write(root / "_background_noise_" / "hum.wav", sound(99, 40_000))
    write(root / "_background_noise_" / "short.wav", sound(98, 10_000))
    (root / "LICENSE").write_text("not a word")
    return root


def test_words_are_split_by_the_lists(folder):
    splits = load_speech_commands(folder)
    assert splits.classes == ("no", "up", "yes")
    assert [len(part) for _, part in splits.parts] == [6, 6, 6]
    assert splits.train.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert splits.credit == CREDIT
    assert "Pete Warden" in CREDIT
    assert "CC BY 4.0" in CREDIT


def test_features_are_those_of_the_sound(folder):
    splits = load_speech_commands(folder, words=("yes", "no"))
    assert splits.classes == ("yes", "no")
    # The first recording of "yes" is the seventh that was made, the first tested of "no" the fifth.
    assert (splits.train.images[0] == log_mel(sound(6, 15_000)[None])[0]).all()
    assert (splits.test.images[2] == log_mel(sound(4, 13_000)[None])[0]).all()


def test_background_noise_is_cut_into_seconds(folder):
    noise = load_speech_commands(folder, words=("no",)).noise
    assert noise is not None
    assert noise.shape == (3, 32, 32)
    hum = sound(99, 40_000)
    assert (noise[:2] == log_mel(hum[:32_000].reshape(2, 16_000))).all()
    assert (noise[2] == log_mel(sound(98, 10_000)[None])[0]).all()


def test_long_recordings_are_cut(folder):
    write(folder / "no" / "aa_nohash_0.wav", sound(0, 20_000))
    splits = load_speech_commands(folder, words=("no",))
    assert (splits.train.images[0] == log_mel(sound(0, 20_000)[None, :16_000])[0]).all()


def test_without_noise_there_is_none(folder):
    for file in (folder / "_background_noise_").iterdir():
        file.unlink()
    assert load_speech_commands(folder).noise is None


@pytest.mark.parametrize(
    ("name", "part"),
    [
        # As the lists of the data set have them.
        ("004ae714_nohash_0.wav", 0),
        ("004ae714_nohash_1.wav", 0),
        ("00176480_nohash_0.wav", 0),
        ("060cd039_nohash_1.wav", 1),
        ("026290a7_nohash_0.wav", 1),
        ("099d52ad_nohash_0.wav", 1),
        ("022cd682_nohash_0.wav", 2),
        ("096456f9_nohash_0.wav", 2),
        ("0487ba9b_nohash_0.wav", 2),
    ],
)
def test_the_official_rule(name, part):
    assert official_part(name) == part


def test_without_lists_the_official_rule_splits(folder):
    (folder / "validation_list.txt").unlink()
    with pytest.raises(
        TrainingError, match=r"there is testing_list.txt but no validation_list.txt"
    ):
        load_speech_commands(folder)
    (folder / "testing_list.txt").unlink()
    for number, speaker in enumerate(("004ae714", "060cd039", "022cd682", "0487ba9b")):
        write(folder / "go" / f"{speaker}_nohash_0.wav", sound(number))
    splits = load_speech_commands(folder, words=("go",))
    assert [len(part) for _, part in splits.parts] == [1, 1, 2]
    assert (splits.validation.images[0] == log_mel(sound(1)[None])[0]).all()


def test_progress_counts_recordings_to_the_end(folder, monkeypatch):
    monkeypatch.setattr(speech_commands, "BATCH", 4)
    seen = []
    load_speech_commands(folder, progress=lambda *counts: seen.append(counts))
    assert seen == [(n, 20) for n in (4, 6, 10, 12, 16, 18, 20)]


def test_features_are_cached_until_recordings_change(folder, tmp_path, monkeypatch):
    cache = tmp_path / "new" / "cache"
    first = load_speech_commands(folder, cache=cache)
    names = [f"{name}.npz" for name in ("_background_noise_", "no", "up", "yes")]
    assert sorted(path.name for path in cache.iterdir()) == names
    computed = []

    def counted(samples):
        computed.append(len(samples))
        return log_mel(samples)

    monkeypatch.setattr(speech_commands, "log_mel", counted)
    seen = []
    again = load_speech_commands(folder, cache=cache, progress=lambda *counts: seen.append(counts))
    assert computed == []
    assert seen[-1] == (20, 20)
    assert again.noise is not None
    assert (again.noise == first.noise).all()
    for (_, a), (_, b) in zip(first.parts, again.parts, strict=True):
        assert (a.images == b.images).all()
    write(folder / "yes" / "aa_nohash_0.wav", sound(77, 12_345))
    changed = load_speech_commands(folder, cache=cache)
    assert computed == [6]
    assert (changed.train.images[4] == log_mel(sound(77, 12_345)[None])[0]).all()


def test_a_damaged_cache_is_made_again(folder, tmp_path):
    cache = tmp_path / "cache"
    first = load_speech_commands(folder, cache=cache)
    (cache / "no.npz").write_bytes((cache / "no.npz").read_bytes()[:-40])
    again = load_speech_commands(folder, cache=cache)
    assert (again.train.images == first.train.images).all()


def test_a_cache_that_cannot_be_made_is_refused(folder):
    with pytest.raises(TrainingError, match="LICENSE: cannot be made"):
        load_speech_commands(folder, cache=folder / "LICENSE")


def test_one_damaged_recording_is_named(folder, tmp_path):
    bad = folder / "no" / "bb_nohash_1.wav"
    bad.write_bytes(bad.read_bytes()[:1000])
    with pytest.raises(TrainingError, match=r"^\S*no/bb_nohash_1\.wav: damaged: its header tells"):
        load_speech_commands(folder, cache=tmp_path / "cache")
    assert not (tmp_path / "cache" / "no.npz").exists()


def test_of_many_damaged_recordings_the_first_is_named(folder):
    for name in ("up/cc_nohash_0.wav", "yes/aa_nohash_0.wav", "yes/aa_nohash_1.wav"):
        (folder / name).write_bytes(b"RIFF")
    message = r"up/cc_nohash_0\.wav: .* \(the first of 3 that cannot be used, of 20 in all\)"
    with pytest.raises(TrainingError, match=message):
        load_speech_commands(folder)


def test_missing_recordings_are_named(folder):
    (folder / "no" / "bb_nohash_0.wav").unlink()
    (folder / "no" / "cc_nohash_0.wav").unlink()
    message = r"speech: 2 recordings of the lists are missing, the first is no/bb_nohash_0\.wav"
    with pytest.raises(TrainingError, match=message):
        load_speech_commands(folder)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("no", "maybe"), r"maybe: there are no recordings \(\*\.wav\)"),
        (("../speech/no",), "a word must be the name of a folder, not '../speech/no'"),
        (("",), "a word must be the name of a folder, not ''"),
        (("..",), "a word must be the name of a folder, not '..'"),
    ],
)
def test_other_words_are_refused(folder, words, message):
    with pytest.raises(TrainingError, match=message):
        load_speech_commands(folder, words=words)


def test_a_file_is_refused(tmp_path):
    (tmp_path / "data.npz").write_bytes(b"")
    with pytest.raises(TrainingError, match=r"data\.npz: is a file; give the folder .* npz"):
        load_speech_commands(tmp_path / "data.npz", words=("no",))


def test_other_folders_are_refused(tmp_path):
    with pytest.raises(TrainingError, match="has no folders of words"):
        load_speech_commands(tmp_path)
    with pytest.raises(TrainingError, match=r"none: there is no such folder"):
        load_speech_commands(tmp_path / "none")


def test_a_list_that_is_no_text_is_refused(folder):
    (folder / "testing_list.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(TrainingError, match=re.escape("testing_list.txt: cannot be read")):
        load_speech_commands(folder)


def test_a_part_without_recordings_is_refused(folder):
    (folder / "testing_list.txt").write_text("")
    with pytest.raises(TrainingError, match="speech: the test part of the data set is empty"):
        load_speech_commands(folder)
