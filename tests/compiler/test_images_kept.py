"""The device images of the shipped networks, byte for byte as they have always been."""

import hashlib
from pathlib import Path

import pytest

from trencadis_boards import load_board
from trencadis_compiler.compile import compile_model

EXAMPLES = Path(__file__).parents[2] / "examples"

IMAGES = {
    ("digits/digits.onnx", "sim"): "587770266bb048799702901a5e8e633e",
    ("digits/digits.onnx", "u250"): "04bc84b2e671de71218a2d61a850aea0",
    ("digits/digits.onnx", "zu3eg"): "46a4d769077845d697dc9929cad9f571",
    ("digits/digits.onnx", "ulx3s"): "e321c90018bb3c1b84c5c91f4537a07c",
    ("speech_commands/reference.onnx", "u250"): "f58dbd1ea939f4d6eb33a6c481c2f74b",
    ("speech_commands/reference.onnx", "zu3eg"): "15d2f971859f9ad21588ff7773edcdb6",
}


@pytest.mark.parametrize(("model", "board"), sorted(IMAGES))
def test_device_images_keep_their_bytes(model: str, board: str) -> None:
    image = compile_model(EXAMPLES / model, load_board(board)).overlay.image
    assert hashlib.sha256(image).hexdigest()[:32] == IMAGES[model, board]
