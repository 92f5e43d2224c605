"""ResNet-50 at 75 % zeros, whole, with its host segments."""

from pathlib import Path

import onnx

from trencadis_bench.large.networks import write_network
from trencadis_boards import load_board
from trencadis_compiler.compile import compile_model
from trencadis_compiler.options import Options

__all__ = ["BATCH", "prepare_resnet50"]

BATCH = 8


def prepare_resnet50(folder: Path) -> tuple[Path, Path]:
    """The model for a batch of `BATCH`, and the image of the model as it is exported: for one.

    Compiled as without `--board`: for a simulated kernel that is sized for it.
    """
    model, batch, image = (
        folder / name for name in ("resnet50.onnx", f"resnet50-{BATCH}.onnx", "resnet50.tcd")
    )
    write_network("resnet50", model)
    proto = onnx.load(model)
    for info in (*proto.graph.input, *proto.graph.output):
        info.type.tensor_type.shape.dim[0].dim_value = BATCH
    del proto.graph.value_info[:]
    onnx.save(proto, batch)
    compile_model(model, load_board("sim"), options=Options(sized=True)).save(image)
    return batch, image
