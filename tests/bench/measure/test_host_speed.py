import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from trencadis_bench.measure.host_speed import NoBinding, main
from trencadis_host.devices.xrt.device import XrtDevice


@pytest.mark.parametrize(("input_type", "size"), [(None, 4), ("float32", 4), ("int8", 1)])
def test_figures_are_of_the_batch(image: Path, input_type: str | None, size: int) -> None:
    options = ["--samples", "300", "--units", "2", "--runs", "2", "--threads", "2", "--json"]
    if input_type is not None:
        options += ["--input-type", input_type]
    done = CliRunner().invoke(main, [str(image), *options])
    assert done.exit_code == 0, done.output
    figures = json.loads(done.output)
    assert figures["words"] == 300
    assert figures["input_type"] == input_type or input_type is None
    assert figures["input_bytes_per_word"] == 16 * size
    assert figures["packed_bytes_per_word"] == 16
    rates = [value for name, value in figures.items() if name.endswith("_per_s")]
    assert len(rates) == 8
    assert all(rate > 0 for rate in rates)
    # The whole takes longer than any of its parts.
    assert figures["whole_words_per_s"] < figures["unpacking_words_per_s"]
    assert figures["hidden_part_of_transfers"] < 1


def test_a_bad_image_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "bad.tcd").write_bytes(b"no image")
    done = CliRunner().invoke(main, [str(tmp_path / "bad.tcd")])
    assert done.exit_code == 2
    assert done.stderr.count("\n") == 1
    assert "bad.tcd" in done.stderr


def test_the_device_without_a_card_takes_all_samples(xclbin: Path, overlay, samples) -> None:
    data = xclbin.read_bytes().replace(b"maker_board_shell_1", b"none".ljust(19, b"\0"))
    xclbin.write_bytes(data)
    with XrtDevice("none", NoBinding(), (0,), xclbin, overlay, 10) as device:
        results, statistics = device.run(samples(1000))
    assert statistics.samples == 1000
    assert results.shape == (1000, overlay.output_bytes)
