"""A folder of images as calibration data.

Images are read in the order of their names, converted to grey or RGB, scaled until they cover the
input's rows and columns (bilinear), and cut to these in the middle. For inputs of floating point
bytes become numbers from 0 to 1; uint8 inputs take the bytes, int8 inputs the bytes less 128. A
model that wants another normalisation is calibrated with arrays.
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trencadis_compiler.importer.calibration import CalibrationError

__all__ = ["MAX_IMAGES", "SUFFIXES", "image_files", "load_images"]

Array = npt.NDArray[Any]

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".pgm", ".webp")
"""Names of files that are images."""

MAX_IMAGES = 1024
"""Images that are read; more do not change the ranges."""


def image_files(folder: Path) -> list[Path]:
    """The images of a folder that are read, by name."""
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES)[:MAX_IMAGES]


def load_images(
    folder: Path,
    shape: tuple[int, int, int],
    channels_last: bool,
    dtype: np.dtype[Any],
    rows_each: int,
) -> Array:
    """Read the images of a folder.

    Parameters
    ----------
    folder : Path
        The folder; other files in it are passed over.
    shape : tuple of int
        Channels (1 or 3), rows and columns of the input.
    channels_last : bool
        Whether the input has its channels on the last axis.
    dtype : dtype
        The input's type: floating point, uint8 or int8.
    rows_each : int
        The input's size on axis 0: so many images are one input.

    Raises
    ------
    CalibrationError
        If there are too few images, one cannot be read, or Pillow is not installed.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise CalibrationError(
            "reading images needs the package pillow; install it with: "
            "pip install 'trencadis[images]'"
        ) from error
    if dtype.kind != "f" and dtype not in (np.uint8, np.int8):
        raise CalibrationError(
            f"images calibrate inputs of floating point or 8 bits, not {dtype}; give arrays"
        )
    paths = image_files(folder)
    paths = paths[: len(paths) // rows_each * rows_each]
    if not paths:
        raise CalibrationError(
            f"no images ({', '.join(SUFFIXES)}) in the folder, or fewer than the {rows_each} that "
            "the model takes at a time"
        )
    channels, rows, columns = shape
    pictures = []
    for path in paths:
        try:
            with Image.open(path) as image:
                picture = image.convert("RGB" if channels == 3 else "L")
                factor = max(rows / picture.height, columns / picture.width)
                size = (
                    max(columns, round(picture.width * factor)),
                    max(rows, round(picture.height * factor)),
                )
                picture = picture.resize(size, Image.Resampling.BILINEAR)
        except Exception as error:  # Pillow raises whatever it comes across in a damaged file
            reason = " ".join(str(error).split())[:120]
            raise CalibrationError(f"{path}: not an image that can be read ({reason})") from error
        left, top = (size[0] - columns) // 2, (size[1] - rows) // 2
        cut = picture.crop((left, top, left + columns, top + rows))
        pictures.append(np.asarray(cut, np.uint8).reshape(rows, columns, channels))
    stacked = np.stack(pictures)
    if not channels_last:
        stacked = stacked.transpose(0, 3, 1, 2)
    if dtype.kind == "f":
        return np.ascontiguousarray(stacked, dtype) / dtype.type(255)
    return np.ascontiguousarray(stacked.astype(np.int16) - (128 if dtype == np.int8 else 0), dtype)
