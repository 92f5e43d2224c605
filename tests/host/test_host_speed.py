import json
from pathlib import Path

from click.testing import CliRunner

from trencadis_host.xrt import XrtDevice
from trencadis_sim.host_speed import NoDoor, main


def test_figures_are_of_the_batch(image: Path) -> None:
    options = ["--words", "300", "--units", "2", "--runs", "2", "--json"]
    done = CliRunner().invoke(main, [str(image), *options])
    assert done.exit_code == 0, done.output
    figures = json.loads(done.output)
    assert figures["words"] == 300
    assert figures["input_bytes_per_word"] == 16
    rates = [value for name, value in figures.items() if name.endswith("_per_s")]
    assert len(rates) == 8
    assert all(rate > 0 for rate in rates)
    # The whole takes longer than any of its parts.
    assert figures["whole_words_per_s"] < figures["unpacking_words_per_s"]


def test_the_device_without_a_card_takes_all_words(xclbin: Path, overlay, words) -> None:
    data = xclbin.read_bytes().replace(b"maker_board_shell_1", b"none".ljust(19, b"\0"))
    xclbin.write_bytes(data)
    with XrtDevice("none", NoDoor(), (0,), xclbin, overlay, 10) as device:
        results, statistics = device.run(words(1000))
    assert statistics.words == 1000
    assert results.shape == (1000, overlay.output_bytes)
