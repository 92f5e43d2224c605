"""Files for `infer`: a compiled model's image and packed inputs; and back, outputs from results."""

from pathlib import Path

import click
import numpy as np

from trencadis_host.packing import pack_inputs, unpack_outputs
from trencadis_hw.container import ContainerError, InputError, Overlay
from trencadis_hw.reported import reported

FILE = click.Path(path_type=Path)


@click.command()
@click.argument("model", type=FILE)
@click.argument("source", type=FILE)
@click.argument("target", type=FILE)
@click.option("--unpack", is_flag=True, help="SOURCE is what infer wrote, TARGET an .npy file.")
def main(model: Path, source: Path, target: Path, unpack: bool) -> None:
    """Pack SOURCE (.npy) into the folder TARGET."""
    with reported("pack.py", bad_input=(ContainerError, InputError, OSError, ValueError)):
        overlay = Overlay.load(model)
        if unpack:
            words = np.fromfile(source, np.uint8).reshape(-1, overlay.output_bytes)
            np.save(target, unpack_outputs(overlay, words))
            return
        packed = pack_inputs(overlay, np.load(source))
        target.mkdir(parents=True, exist_ok=True)
        sizes = (overlay.input_bytes, overlay.output_bytes, overlay.kernel.bus_bytes)
        (target / "image").write_bytes(overlay.image)
        (target / "input").write_bytes(packed.tobytes())
        (target / "sizes").write_text(" ".join(map(str, sizes)) + "\n")


if __name__ == "__main__":
    main()
