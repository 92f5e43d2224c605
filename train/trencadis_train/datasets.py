"""Data sets by the names that recipes have for them."""

from pathlib import Path

from trencadis_train.archive import load_archive
from trencadis_train.digits import load_digits
from trencadis_train.errors import TrainingError
from trencadis_train.labelled import Splits
from trencadis_train.recipe import DataSource

__all__ = ["open_data"]


def open_data(source: DataSource, path: str = "") -> Splits:
    """Read the data of a recipe.

    Parameters
    ----------
    source : DataSource
        What to read.
    path : str
        Folder or file, in place of the recipe's.

    Raises
    ------
    TrainingError
        If there is none, or it cannot be used.
    """
    if source.set == "digits":
        return load_digits()
    where = path or source.path
    if not where:
        raise TrainingError(
            f"data set {source.set!r} needs a path; give it with --data, or as path in [data]"
        )
    return load_archive(Path(where), words=source.words, keep=source.keep, noise=source.noise)
