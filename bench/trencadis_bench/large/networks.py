"""Large networks by name, and `python -m trencadis_bench.large.networks NAME FILE`."""

import io
from collections.abc import Callable, Mapping
from pathlib import Path

import click
import onnx

from trencadis_bench.large.bert import bert_base
from trencadis_bench.large.vision import chain, mobilenet_v2, resnet50
from trencadis_format.command_line import reported
from trencadis_format.files import write_atomically

__all__ = ["NETWORKS", "main", "write_network"]

NETWORKS: Mapping[str, Callable[[], onnx.ModelProto]] = {
    "resnet50": resnet50,
    "bert-base": bert_base,
    "mobilenet-v2": mobilenet_v2,
    "chain-30": chain,
}


def write_network(name: str, path: Path) -> Path:
    """Write a network's file; the same bytes each time."""
    text = io.BytesIO()
    onnx.save(NETWORKS[name](), text)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, text.getvalue())
    return path


@click.command()
@click.argument("name", type=click.Choice(sorted(NETWORKS)))
@click.argument("path", type=click.Path(path_type=Path))
@reported("networks")
def main(name: str, path: Path) -> None:
    """Write a network with random sparse weights as QDQ ONNX."""
    write_network(name, path)


if __name__ == "__main__":
    main()
