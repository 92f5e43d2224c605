from pathlib import Path

import pytest

pytest.importorskip("torch")

import safetensors.torch
import torch

from trencadis_train.errors import TrainingError
from trencadis_train.training.checkpoint import Checkpoint


def _checkpoint() -> Checkpoint:
    tensors = {"a.x": torch.arange(3), "a.y": torch.tensor(2.5), "b.x": torch.ones(2, 2).bool()}
    return Checkpoint(tensors, {"epoch": 3, "rows": [1.5, None]})


def test_comes_back_as_it_was(tmp_path: Path) -> None:
    _checkpoint().save(tmp_path / "c")
    loaded = Checkpoint.load(tmp_path / "c")
    assert loaded.data == {"epoch": 3, "rows": [1.5, None]}
    assert loaded.tensors.keys() == {"a.x", "a.y", "b.x"}
    for name, tensor in _checkpoint().tensors.items():
        assert torch.equal(loaded.tensors[name], tensor)
        assert loaded.tensors[name].dtype == tensor.dtype


def test_part_takes_a_prefix_off(tmp_path: Path) -> None:
    assert _checkpoint().part("a").keys() == {"x", "y"}
    assert _checkpoint().part("") == {}


def test_a_file_that_cannot_be_replaced_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "c"
    _checkpoint().save(path)
    before = path.read_bytes()

    def fail(*paths: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(KeyboardInterrupt):
        Checkpoint({}, {}).save(path)
    assert path.read_bytes() == before


def test_names_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="c: there is no such file"):
        Checkpoint.load(tmp_path / "c")


@pytest.mark.parametrize("size", [0, 7, 50, 300])
def test_refuses_a_truncated_file(tmp_path: Path, size: int) -> None:
    path = tmp_path / "c"
    _checkpoint().save(path)
    assert path.stat().st_size > size
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(
        TrainingError, match=r"c: not a usable checkpoint \(.*\); delete it"
    ) as error:
        Checkpoint.load(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (None, "its format is None"),
        ({"format": "other"}, "its format is 'other'"),
        ({"format": "trencadis-training-1"}, "Expecting value"),
        ({"format": "trencadis-training-1", "data": "[]"}, "it has no data"),
    ],
)
def test_refuses_files_of_others(
    tmp_path: Path, metadata: dict[str, str] | None, message: str
) -> None:
    path = tmp_path / "c"
    path.write_bytes(safetensors.torch.save({"x": torch.ones(1)}, metadata))
    with pytest.raises(TrainingError, match=message):
        Checkpoint.load(path)
