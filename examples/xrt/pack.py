"""Files for `infer`: a compiled model's image and packed inputs; and back, outputs from results."""

from pathlib import Path

import click
import numpy as np

from trencadis_format.command_line import reported
from trencadis_format.compiled import load_overlay
from trencadis_format.files import (
    load_array,
    make_folder,
    read_file,
    save_array,
    write_atomically,
)
from trencadis_format.tensors import pack_inputs, unpack_outputs

FILE = click.Path(path_type=Path)
MAX_INPUT_BYTES = 1 << 30
"""Bytes of outputs that are read."""


@click.command()
@click.argument("model", type=FILE)
@click.argument("source", type=FILE)
@click.argument("target", type=FILE)
@click.option("--unpack", is_flag=True, help="SOURCE is what infer wrote, TARGET an .npy file.")
@reported("pack.py")
def main(model: Path, source: Path, target: Path, unpack: bool) -> None:
    """Pack SOURCE (.npy) into the folder TARGET."""
    overlay = load_overlay(model)
    if unpack:
        samples = np.frombuffer(read_file(source, MAX_INPUT_BYTES), np.uint8)
        save_array(target, unpack_outputs(overlay, samples.reshape(-1, overlay.output_bytes)))
        return
    packed = pack_inputs(overlay, load_array(source))
    make_folder(target)
    sizes = (overlay.input_bytes, overlay.output_bytes, overlay.kernel.bus_bytes)
    write_atomically(target / "image", overlay.image)
    write_atomically(target / "input", packed.tobytes())
    write_atomically(target / "sizes", (" ".join(map(str, sizes)) + "\n").encode())


if __name__ == "__main__":
    main()
