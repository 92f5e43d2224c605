import pytest

from trencadis_host import faults
from trencadis_host.device import raise_for_status
from trencadis_hw import abi


@pytest.mark.parametrize(
    ("status", "error", "text"),
    [
        (abi.Status.READ_ERROR, faults.DeviceError, "reading device memory failed"),
        (abi.Status.WRITE_ERROR, faults.DeviceError, "writing device memory failed"),
        (abi.Status.BAD_IMAGE, faults.WrongImageError, "refused the image"),
        (abi.Status.OVERFLOW, faults.DeviceError, "overflowed"),
        (abi.Status.ABORTED, faults.DeviceAbortedError, "the run was aborted"),
        (abi.Status.NO_IMAGE, faults.DeviceError, "no image was loaded"),
    ],
)
def test_every_status_has_an_error(
    status: abi.Status, error: type[faults.DeviceError], text: str
) -> None:
    with pytest.raises(faults.DeviceError, match=f"^device some: .*{text}") as caught:
        raise_for_status("some", status)
    assert type(caught.value) is error


def test_there_is_an_error_for_every_status() -> None:
    for status in abi.Status:
        with pytest.raises(faults.DeviceError):
            raise_for_status("some", status)
    raise_for_status("some", abi.Status(0))
