"""Batch jobs: files of inputs through a model, by Ray Data with an actor per device.

`python -m trencadis_serve.ray_batch model.tcd INPUTS OUTPUTS` reads a folder of `.npy` files, with
samples along axis 0, or of Parquet files with a column per input, and writes Parquet files with a
column per output beside the other columns.
"""

from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
import ray

from trencadis_format.command_line import reported
from trencadis_format.errors import UserError
from trencadis_host import Session
from trencadis_serve.tensors import dtype_of_node

__all__ = ["infer_folder", "main"]

Columns = dict[str, npt.NDArray[Any]]

NUMPY_COLUMN = "data"
"""Ray's name of the arrays of `.npy` files."""


class Actor:
    """A session in a process of its own."""

    def __init__(self, path: str, device: str) -> None:
        self._session = Session(path, device)

    def __call__(self, batch: Columns) -> Columns:
        """Add the outputs of a batch to its columns; `.npy` inputs give way to them."""
        feed = {}
        for node in self._session.get_inputs():
            column = batch.get(node.name, batch.get(NUMPY_COLUMN))
            if column is None:
                raise UserError(f"there is no column {node.name!r}; there are {sorted(batch)}")
            shape = [size if isinstance(size, int) else -1 for size in node.shape[1:]]
            values = np.stack(list(column)).astype(dtype_of_node(node.type), copy=False)
            feed[node.name] = values.reshape(len(values), *shape)
        outputs = self._session.run(None, feed)
        rest = {name: column for name, column in batch.items() if name != NUMPY_COLUMN}
        names = [node.name for node in self._session.get_outputs()]
        return rest | dict(zip(names, outputs, strict=True))


def infer_folder(
    model: Path,
    inputs: Path,
    outputs: Path,
    *,
    device: str = "auto",
    actors: int = 1,
    batch: int = 256,
    cards: float = 0,
) -> int:
    """Infer all files of a folder; rows keep their order and are counted.

    Parameters
    ----------
    model : Path
        The compiled network.
    inputs : Path
        Folder of `.npy` or Parquet files.
    outputs : Path
        Folder of Parquet files; it must not exist.
    device : str
        Device of every actor.
    actors : int
        Processes that infer, at most: fewer if the cluster has no room for more.
    batch : int
        Samples that are inferred together.
    cards : float
        Amount of the custom resource `trencadis_card` for every actor.

    Raises
    ------
    UserError
        If there is nothing to read, or the outputs exist.
    """
    if outputs.exists():
        raise UserError(f"{outputs}: exists; give a folder that does not")
    kinds = {path.suffix for path in inputs.iterdir()} if inputs.is_dir() else set()
    Session(model, "emulator").close()  # a file that is none is refused before Ray starts
    if kinds == {".npy"}:
        paths = sorted(str(path.resolve()) for path in inputs.iterdir())
        data = ray.data.read_numpy(paths, include_paths=True)
    elif kinds == {".parquet"}:
        data = ray.data.read_parquet(str(inputs.resolve()))
    else:
        raise UserError(f"{inputs}: must be a folder of .npy files, or of .parquet files")
    resources = {"trencadis_card": cards} if cards else {}
    result = data.map_batches(
        Actor,
        fn_constructor_args=(str(model.resolve()), device),
        concurrency=(1, actors),  # as many as there is room for; more would wait for ever
        batch_size=batch,
        num_cpus=1,
        resources=resources,
    ).materialize()
    result.write_parquet(str(outputs.resolve()))
    return result.count()


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("inputs", type=click.Path(path_type=Path))
@click.argument("outputs", type=click.Path(path_type=Path))
@click.option("--device", default="auto", show_default=True, help="Device of every actor.")
@click.option(
    "--actors",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Processes that infer, at most.",
)
@click.option(
    "--batch",
    type=click.IntRange(1),
    default=256,
    show_default=True,
    help="Samples inferred together.",
)
@click.option(
    "--cards",
    type=click.FloatRange(0),
    default=0.0,
    help="Of the resource trencadis_card for every actor.",
)
def main(
    model: Path, inputs: Path, outputs: Path, device: str, actors: int, batch: int, cards: float
) -> None:
    """Infer the folder INPUTS with MODEL into the folder OUTPUTS."""
    with reported("ray_batch"):
        count = infer_folder(
            model, inputs, outputs, device=device, actors=actors, batch=batch, cards=cards
        )
        click.echo(f"{count:,} samples in {outputs}")


if __name__ == "__main__":
    main()
