import subprocess
import sys
from pathlib import Path

import pytest

from trencadis_host.devices.xrt.setup import check_setup, variable
from trencadis_host.errors import XrtMissingError


def test_a_variable_that_is_not_set_is_named() -> None:
    with pytest.raises(XrtMissingError, match="XILINX_XRT is not set"):
        check_setup(lambda name: "")


@pytest.mark.parametrize(
    ("mode", "driver"),
    [("", "xrt_core"), ("hw_emu", "xrt_hwemu"), ("sw_emu", "xrt_swemu"), ("noop", "xrt_noop")],
)
def test_the_modes_driver_must_be_there(tmp_path: Path, mode: str, driver: str) -> None:
    values = {"XILINX_XRT": str(tmp_path), "XCL_EMULATION_MODE": mode}
    with pytest.raises(XrtMissingError, match=f"no lib/lib{driver}.so in"):
        check_setup(values.__getitem__)
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / f"lib{driver}.so.2").touch()
    check_setup(values.__getitem__)


def test_variables_are_those_that_xrt_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XILINX_XRT", "somewhere")
    assert variable("XILINX_XRT") == "somewhere"
    monkeypatch.delenv("XILINX_XRT")
    assert variable("XILINX_XRT") == ""


def test_listing_cards_without_xrt_is_one_line() -> None:
    command = ["env", "-u", "XILINX_XRT", sys.executable, "-m", "trencadis_host.devices.xrt.device"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("device xrt: XILINX_XRT is not set")
    assert done.stderr.count("\n") == 1
