"""Errors as one line and an exit status."""

import pytest

from trencadis_boards import BoardError
from trencadis_compiler.errors import CompileError
from trencadis_host import DeviceError, InputError, MissingToolError
from trencadis_sim.reported import reported


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (BoardError("no such board"), 2),
        (CompileError("no such operator"), 2),
        (InputError("no such input"), 2),
        (MissingToolError("no such tool"), 2),
        (DeviceError("no such luck"), 1),
    ],
)
def test_errors_become_one_line(
    error: Exception, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end, reported("program"):
        raise error
    assert end.value.code == status
    assert capsys.readouterr().err == f"program: {error}\n"


def test_other_errors_are_not_hidden() -> None:
    with pytest.raises(KeyError), reported("program"):
        raise KeyError("a fault of ours")
