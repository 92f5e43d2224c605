"""Accuracy of a compiled network on recordings: on a device, exactly, and by onnxruntime."""

from pathlib import Path

import click
import numpy as np
from rich.console import Console

from trencadis_bench.verify.verify import onnxruntime_outputs, reference_outputs
from trencadis_format.command_line import reported
from trencadis_format.compiled import load_overlay
from trencadis_host import Session
from trencadis_train.data.datasets import open_data
from trencadis_train.recipe import load_recipe

BATCH = 256
FILE = click.Path(path_type=Path)


@click.command()
@click.argument("model", type=FILE)
@click.argument("image", type=FILE)
@click.option("--recipe", type=FILE, required=True, help="Says which words of the data.")
@click.option("--data", default="", help="Folder or file of the data, in place of the recipe's.")
@click.option("--part", type=click.Choice(["validation", "test"]), default="test")
@click.option("--device", default="emulator", show_default=True, help="As for sparse-run.")
@reported("accuracy")
def main(model: Path, image: Path, recipe: Path, data: str, part: str, device: str) -> None:
    """Compute a part of the data with IMAGE (.tcd) and with the MODEL (.onnx) it came from."""
    examples = dict(open_data(load_recipe(recipe).data, data).parts)[part]
    overlay = load_overlay(image)
    inputs = examples.images[:, None].astype(np.float32)
    batches = [inputs[start : start + BATCH] for start in range(0, len(inputs), BATCH)]
    with Session(image, device) as session:
        computed = [session.run(None, {overlay.input.name: batch})[0] for batch in batches]
    outputs = {
        device: np.concatenate(computed),
        "exact arithmetic": np.concatenate(
            [reference_outputs(model, overlay, batch) for batch in batches]
        ),
        "onnxruntime": np.concatenate([onnxruntime_outputs(model, batch) for batch in batches]),
    }
    console = Console(highlight=False)
    for name, found in outputs.items():
        right = int(np.count_nonzero(found.argmax(axis=1) == examples.labels))
        differing = int(np.count_nonzero(found != outputs["exact arithmetic"]))
        console.print(
            f"{name}: {right:,} of {len(inputs):,} words right ({right / len(inputs):.2%}), "
            f"{differing} of {found.size:,} outputs differ from exact arithmetic",
            soft_wrap=True,
        )


if __name__ == "__main__":
    main()
