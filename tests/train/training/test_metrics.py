from pathlib import Path

import pytest

from trencadis_format.errors import FileError
from trencadis_train.training.metrics import EpochMetrics, write_curve, write_summary


def _row(**changes: object) -> EpochMetrics:
    fields = {
        "phase": "float",
        "epoch": 1,
        "learning_rate": 0.1,
        "winners": "2 4",
        "boost": 0.0,
        "loss": 1.23456789,
        "accuracy": 0.5,
        "validation_loss": 2.0,
        "validation_accuracy": 0.25,
        "best": True,
        "seconds": 3.0,
    }
    return EpochMetrics(**(fields | changes))  # type: ignore[arg-type]


def test_a_line_an_epoch(tmp_path: Path) -> None:
    write_curve(tmp_path / "m.csv", [_row(), _row(epoch=2, best=False)])
    assert (tmp_path / "m.csv").read_text() == (
        "phase,epoch,learning_rate,winners,boost,loss,accuracy,validation_loss,"
        "validation_accuracy,best,seconds\n"
        "float,1,0.1,2 4,0,1.23457,0.5,2,0.25,True,3\n"
        "float,2,0.1,2 4,0,1.23457,0.5,2,0.25,False,3\n"
    )


def test_a_summary_is_json(tmp_path: Path) -> None:
    write_summary(tmp_path / "m.json", {"a": [1, 2.5]})
    assert (tmp_path / "m.json").read_text() == '{\n  "a": [\n    1,\n    2.5\n  ]\n}\n'


def test_a_folder_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="cannot be written"):
        write_summary(tmp_path / "no" / "m.json", {})


@pytest.mark.parametrize("phases", [["float"], ["float", "float", "integers", "integers"]])
def test_curves_are_a_picture(tmp_path: Path, phases: list[str]) -> None:
    pytest.importorskip("matplotlib")
    from trencadis_train.training.plots import draw_curve

    rows = [_row(phase=phase, epoch=number) for number, phase in enumerate(phases)]
    draw_curve(tmp_path / "c.png", rows, "title")
    data = (tmp_path / "c.png").read_bytes()
    assert data.startswith(b"\x89PNG")
    assert data.endswith(b"IEND\xaeB`\x82")
