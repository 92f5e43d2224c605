"""Data sets by the names that recipes have for them."""

from pathlib import Path

from trencadis_train.data.archive import load_archive
from trencadis_train.data.digits import load_digits
from trencadis_train.data.fashion import load_fashion_mnist
from trencadis_train.data.idx import load_idx
from trencadis_train.data.labelled import Splits
from trencadis_train.data.madelon import load_madelon
from trencadis_train.data.speech_commands import Progress, load_speech_commands
from trencadis_train.errors import TrainingError
from trencadis_train.recipe import DataSource

__all__ = ["open_data"]


def open_data(
    source: DataSource,
    path: str = "",
    *,
    cache: Path | None = None,
    progress: Progress | None = None,
    user_cache: Path | None = None,
) -> Splits:
    """Read the data of a recipe.

    Parameters
    ----------
    source : DataSource
        What to read.
    path : str
        Folder or file, in place of the recipe's.
    cache : Path, optional
        Folder in which features of recordings are kept.
    user_cache : Path, optional
        Folder for what is fetched; the user's own cache without it.
    progress : callable, optional
        Told how many recordings of how many are done; only recordings take long.

    Raises
    ------
    TrainingError
        If there is none, or it cannot be used.
    """
    if source.set == "digits":
        return load_digits()
    if source.set == "madelon":
        return load_madelon(source.validation, user_cache)
    if source.set == "fashion-mnist":
        return load_fashion_mnist(source.validation, user_cache)
    if not (path or source.path):
        raise TrainingError(
            f"data set {source.set!r} needs a path; give it with --data, or as path in [data]"
        )
    where = Path(path or source.path)
    if source.set == "idx":
        return load_idx(where, validation=source.validation)
    if source.set == "speech-commands":
        return load_speech_commands(where, words=source.words, cache=cache, progress=progress)
    return load_archive(where, words=source.words, keep=source.keep, noise=source.noise)
