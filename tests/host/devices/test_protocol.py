import pytest

from trencadis_format.registers import Status
from trencadis_host import errors as faults
from trencadis_host.devices.protocol import raise_for_status


@pytest.mark.parametrize(
    ("status", "error", "text"),
    [
        (Status.READ_ERROR, faults.DeviceError, "reading device memory failed"),
        (Status.WRITE_ERROR, faults.DeviceError, "writing device memory failed"),
        (Status.BAD_IMAGE, faults.WrongImageError, "refused the image"),
        (Status.OVERFLOW, faults.DeviceError, "overflowed"),
        (Status.ABORTED, faults.DeviceAbortedError, "the run was aborted"),
        (Status.NO_IMAGE, faults.DeviceError, "no image was loaded"),
    ],
)
def test_every_status_has_an_error(
    status: Status, error: type[faults.DeviceError], text: str
) -> None:
    with pytest.raises(faults.DeviceError, match=f"^device some: .*{text}") as caught:
        raise_for_status("some", status)
    assert type(caught.value) is error


def test_there_is_an_error_for_every_status() -> None:
    for status in Status:
        with pytest.raises(faults.DeviceError):
            raise_for_status("some", status)
    raise_for_status("some", Status(0))
