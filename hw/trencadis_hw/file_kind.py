"""What a file is by its first bytes: said when it is not what was asked for."""

from pathlib import Path

__all__ = ["ARCHIVE", "ARRAY", "IMAGE", "MODEL", "file_kind"]

ARRAY = "a NumPy array"
ARCHIVE = "a zip archive, as .npz files are"
IMAGE = "an overlay image"
MODEL = "an ONNX model"

MOST_BYTES = 128
"""Bytes that are looked at."""

LATEST_IR = 32
"""Versions of ONNX are below this for long."""

NEXT_ONNX_FIELDS = b"\x12\x1a\x22\x28\x32\x3a\x42"
"""Tags of what may follow the version in an ONNX file."""


def file_kind(path: Path) -> str | None:
    """What a file of one of the kinds of this project begins like; None if like none of them.

    A file that cannot be read is of no kind: whoever reads it says why.
    """
    try:
        with path.open("rb") as file:
            head = file.read(MOST_BYTES)
    except OSError:
        return None
    if head.startswith(b"\x93NUMPY"):
        return ARRAY
    if head.startswith(b"PK\x03\x04"):
        return ARCHIVE
    if head[8:10] == b'{"' and b'"trencadis-overlay"' in head:
        return IMAGE
    begins = len(head) > 2 and head[0] == 8 and head[1] < LATEST_IR
    return MODEL if begins and head[2:3] in NEXT_ONNX_FIELDS else None
