import hashlib
import json
import random
import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trencadis_hw import abi
from trencadis_hw.config import CoreConfig, KernelConfig
from trencadis_hw.container import (
    LARGEST_FILE,
    ContainerError,
    InputError,
    InputFormat,
    OutputFormat,
    Overlay,
    write_atomically,
)

FUZZ = settings(
    deadline=None,
    max_examples=200,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def blocks_for(kernel: KernelConfig, *extra: abi.Block) -> list[abi.Block]:
    feed = dict.fromkeys((field.name for field in abi.FEED.fields), 0)
    feed |= {"beats": 1, "out_beats": 0}
    header = abi.HEADER.pack(version=abi.ABI_VERSION, configuration=kernel.digest)
    return [
        abi.Block(abi.Target.HEADER, [header], abi.HEADER.bits),
        abi.Block(abi.Target.CLEAR, [], 0),
        abi.Block(abi.Target.FEED, [abi.FEED.pack(**feed)], abi.FEED.bits),
        *extra,
        abi.Block(abi.Target.END, [], 0),
    ]


@pytest.fixture
def overlay(engine) -> Overlay:
    """9 inputs in two beats of 8 bytes, 3 sums of 4 places in two beats of 8 bytes."""
    kernel = KernelConfig(core=CoreConfig(engines=(engine(),)))
    return Overlay(
        name="net",
        kernel=kernel,
        image=abi.pack_blocks(blocks_for(kernel)),
        input=InputFormat(
            name="x",
            dtype="float32",
            shape=(None, 1, 3, 3),
            axes="CHW",
            channels=1,
            rows=3,
            columns=3,
            scale=0.5,
            zero_key=128,
            key_offset=128,
        ),
        output=OutputFormat(
            name="y",
            dtype="float32",
            shape=(1, 3),
            axes="C",
            channels=3,
            rows=1,
            columns=1,
            piece_bytes=2,
            pieces=2,
            places=4,
            order=(2, 0, 1),
            raw=False,
            integer=False,
            scales=(0.25,),
            offsets=(),
            zero_key=128,
            key_offset=128,
        ),
        report={"cycles_per_word": 12.5, "cycles_are": "static"},
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "net.tcd"


def rewrite(path: Path, change: Any, image: bytes | None = None) -> None:
    """Change the manifest of a container by hand, and do it well: digests are right."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    manifest = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["manifest"])
    stored = safetensors.numpy.load(data)["image"].tobytes()
    image = stored if image is None else image
    manifest["sha256"] = hashlib.sha256(image).hexdigest()
    change(manifest)
    text = json.dumps(manifest)
    path.write_bytes(
        safetensors.numpy.save(
            {"image": np.frombuffer(image, np.uint8)},
            {
                "format": "trencadis-overlay",
                "manifest": text,
                "sha256": hashlib.sha256(text.encode()).hexdigest(),
            },
        )
    )


def refused(path: Path) -> str:
    """The one line with which a file is refused."""
    with pytest.raises(ContainerError) as error:
        Overlay.load(path)
    text = str(error.value)
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    return text


def attempt(path: Path) -> Overlay | None:
    """An overlay, or None if it is refused properly."""
    try:
        return Overlay.load(path)
    except ContainerError as error:
        text = str(error)
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    return None


def test_an_overlay_comes_back_as_it_was(overlay, path) -> None:
    overlay.save(path)
    assert Overlay.load(path) == overlay
    assert (overlay.input_bytes, overlay.output_bytes) == (16, 8)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_the_same_overlay_gives_the_same_bytes(overlay, path) -> None:
    versions = set()
    for _ in range(8):
        overlay.save(path)
        versions.add(path.read_bytes())
    assert len(versions) == 1
    # It is what other software knows as safetensors.
    assert safetensors.numpy.load(path.read_bytes())["image"].tobytes() == overlay.image


# --- files ---------------------------------------------------------------------------------------


def test_missing_file(path) -> None:
    assert "cannot be read: No such file" in refused(path)


def test_folder(tmp_path) -> None:
    assert "not a regular file" in refused(tmp_path)


def test_endless_device() -> None:
    assert "not a regular file" in refused(Path("/dev/zero"))


def test_oversized_file(path) -> None:
    with path.open("wb") as file:
        file.truncate(LARGEST_FILE + 1)
    assert f"{LARGEST_FILE + 1} bytes, more than the {LARGEST_FILE} that are read" in refused(path)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "0 bytes are no container"),
        (b"1234567", "7 bytes are no container"),
        (bytes(8), "not a usable overlay image"),
        (b"\xff" * 64, "the container is truncated"),
        (struct.pack("<Q", 2) + b"{}", "its metadata is missing or not an object"),
        (struct.pack("<Q", 2) + b"[]", "its header is missing or not an object"),
        (struct.pack("<Q", 1 << 20) + b"[" * (1 << 20), "not a usable overlay image"),
        (struct.pack("<Q", 2) + b"\xff\xfe", "not a usable overlay image"),
    ],
)
def test_foreign_files(path, data, message) -> None:
    path.write_bytes(data)
    assert message in refused(path)


def test_another_container_format(path) -> None:
    path.write_bytes(safetensors.numpy.save({"image": np.zeros(4, np.uint8)}, {"format": "pt"}))
    assert "its format is 'pt', not 'trencadis-overlay'; compile the model again" in refused(path)


@pytest.mark.parametrize(
    "tensors",
    [
        {"other": np.zeros(4, np.uint8)},
        {"image": np.zeros(4, np.float32)},
        {"image": np.zeros(4, np.uint8), "other": np.zeros(4, np.uint8)},
    ],
    ids=["name", "type", "number"],
)
def test_other_tensors(path, tensors) -> None:
    path.write_bytes(safetensors.numpy.save(tensors, {"format": "trencadis-overlay"}))
    assert "it does not hold one tensor 'image' of bytes" in refused(path)


@FUZZ
@given(data=st.data())
def test_damaged_files(overlay, path, data) -> None:
    overlay.save(path)
    damaged = bytearray(path.read_bytes())
    place = st.integers(0, len(damaged) - 1)
    for index, value in data.draw(
        st.lists(st.tuples(place, st.integers(0, 255)), min_size=1, max_size=8)
    ):
        damaged[index] = value
    path.write_bytes(damaged)
    # What is still in order is still the same network, but for words in its report.
    loaded = attempt(path)
    assert loaded is None or loaded.image == overlay.image


@FUZZ
@given(data=st.data())
def test_truncated_files(overlay, path, data) -> None:
    overlay.save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    refused(path)


@FUZZ
@given(st.binary(max_size=200))
def test_random_files(tmp_path, data) -> None:
    path = tmp_path / "net.tcd"
    path.write_bytes(data)
    refused(path)


# --- manifests -----------------------------------------------------------------------------------


def fields_of(data: Any, *above: Any) -> Iterator[tuple[Any, ...]]:
    for name, value in data.items() if isinstance(data, dict) else enumerate(data):
        yield (*above, name)
        if isinstance(value, (dict, list)):
            yield from fields_of(value, *above, name)


WRONG = [None, True, -1, 0, 10**400, 1.5, float("nan"), "text", [], {"a": 1}, [None], [10**400]]


def test_every_field_with_every_kind_of_wrong_value(overlay, path) -> None:
    overlay.save(path)
    original = path.read_bytes()
    seen = []
    rewrite(path, seen.append)
    places = list(fields_of(seen[0]))
    assert len(places) > 60
    # The digest is made right, so that it is not the only thing that notices.
    accepted = set()
    for place in places:
        for value in WRONG:

            def change(manifest: Any, place=place, value=value) -> None:
                *above, last = place
                inner = manifest
                for name in above:
                    inner = inner[name]
                inner[last] = value
                manifest["configuration"] = digest(manifest["kernel"])

            path.write_bytes(original)
            rewrite(path, change)
            loaded = attempt(path)
            if loaded is not None:
                usable(loaded)
                accepted.add(".".join(map(str, place)))
    # Where another value of the right type makes sense too.
    assert accepted <= {
        "configuration",
        "sha256",
        "name",
        "input.name",
        "output.name",
        "input.shape.0",
        "output.shape.0",
        "input.scale",
        "output.scales.0",
        "output.offsets",
        "kernel.core.engines.0.tables",
        "kernel.core.engines.0.whole_rows",
        "input.zero_key",
        "output.zero_key",
        "input.key_offset",
        "input.nonzeros",  # 0, which it is
        "output.key_offset",
        "output.order.0",
        "output.order.1",
        "output.order.2",
        "report",
        "report.cycles_are",
        "report.cycles_per_word",
    }


def digest(kernel: Any) -> str:
    try:
        return f"{KernelConfig.from_dict(kernel).digest:016x}"
    except Exception:
        return "0" * 16


def usable(overlay: Overlay) -> None:
    """Whatever is accepted can be worked with."""
    keys = overlay.input.keys(np.zeros((2, 1, 3, 3), overlay.input.dtype))
    assert keys.shape == (2, 3, 3, 1)
    assert overlay.output_bytes == 8


@pytest.mark.parametrize("place", ["", "input", "output", "kernel.core.engines.0"])
def test_missing_and_unknown_fields(overlay, path, place) -> None:
    overlay.save(path)
    original = path.read_bytes()
    for unknown in (False, True):

        def change(manifest: Any, unknown=unknown) -> None:
            inner = manifest
            for name in place.split(".") if place else []:
                inner = inner[int(name) if name == "0" else name]
            if unknown:
                inner["surprise"] = 1
            else:
                inner.pop("lanes" if "lanes" in inner else sorted(inner)[-1])
            manifest["configuration"] = digest(manifest["kernel"])

        path.write_bytes(original)
        rewrite(path, change)
        if place or not unknown:
            refused(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(abi=99), "it was made for version 99 of the formats, this is 2"),
        (lambda m: m.update(sha256="0"), "the image does not match its digest"),
        (lambda m: m.update(configuration="0"), "does not match its digest"),
        (lambda m: m["kernel"].update(cores=0), "KernelConfig.cores must be an integer in 1..64"),
        (lambda m: m["kernel"].update(bus_bits=64.0), "its kernel has bus_bits 64.0"),
        (lambda m: m["input"].update(dtype="object"), "the type of its input is 'object'"),
        (lambda m: m["input"].update(axes="CHH"), "the axes of its input are 'CHH'"),
        (lambda m: m["input"].update(axes="CH"), "leave out some that are not 1"),
        (
            lambda m: m["input"].update(shape=[1, 3, 3, 3]),
            r"the shape of its input is [1, 3, 3, 3]",
        ),
        (lambda m: m["input"].update(shape=[1, -3, -3, 1]), "the shape of its input is"),
        (lambda m: m["input"].update(shape=[1, None, 3, 3]), "the shape of its input is"),
        (lambda m: m["input"].update(scale=0), "a scale is not positive"),
        (lambda m: m["output"].update(order=[0, 1, 4]), "the order of its output is not one"),
        (lambda m: m["output"].update(scales=[1, 1]), "its output has the wrong number of scales"),
        (lambda m: m["output"].update(pieces=3), "the sizes of its output do not fit each other"),
        (lambda m: m["output"].update(pieces=1 << 40), "word sizes are not those of the image"),
        (lambda m: m["output"].update(dtype="int8"), "its output is not int8"),
        (lambda m: m.update(report={}), "its report does not tell the cycles of a word"),
    ],
)
def test_hand_edited_manifests(overlay, path, change, message) -> None:
    overlay.save(path)
    rewrite(path, change)
    text = refused(path)
    assert message in text
    assert text.endswith("; compile the model again")


# --- images --------------------------------------------------------------------------------------


def block(target: abi.Target, rows: list[int], bits: int, **where: int) -> abi.Block:
    return abi.Block(target, rows, bits, **where)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (block(abi.Target.SLOT, [0], abi.SLOT.bits, engine=1), "there are 1 engines"),
        (block(abi.Target.SLOT, [0], abi.SLOT.bits, unit=2), "there are 2 units"),
        (block(abi.Target.SLOT, [0], abi.SLOT.bits, start=16), "rows to 17 of 16"),
        (block(abi.Target.SLOT, [0] * 17, abi.SLOT.bits), "rows to 17 of 16"),
        (block(abi.Target.SLOT, [1 << 20], 32), "a row is longer than 17 bits"),
        (block(abi.Target.SLOT, [0], 64), "rows of 64 bits instead of 17"),
        (block(abi.Target.SEQUENCE, [0] * 5, abi.SEQUENCE.bits), "rows to 5 of 4"),
        (block(abi.Target.TABLE, [0], abi.KEY_BITS), "rows to 1 of 0"),
        (block(abi.Target.CLEAR, [0], 32), "has rows"),
        (block(abi.Target.HEADER, [0], abi.HEADER.bits), "is not the first"),
        (block(abi.Target.FEED, [0], abi.FEED.bits), "does not describe its input once"),
        (block(abi.Target.INPUT, [0], abi.EMIT.bits), "does not say how its input is written"),
    ],
    ids=lambda value: getattr(getattr(value, "target", None), "name", ""),
)
def test_blocks_that_do_not_fit_the_hardware(overlay, path, extra, message) -> None:
    overlay.save(path)
    image = abi.pack_blocks(blocks_for(overlay.kernel, extra))
    rewrite(path, lambda manifest: None, image)
    assert message in refused(path)


def test_images_for_other_hardware(overlay, path) -> None:
    other = replace(overlay.kernel, cores=2)
    replace(overlay, image=abi.pack_blocks(blocks_for(other))).save(path)
    assert "the image was built for another configuration" in refused(path)


def sparse(overlay: Overlay, *extra: abi.Block, **kernel: Any) -> Overlay:
    """The overlay with an input of 3 positions with 1 of 3 channels each: two beats."""
    core = replace(overlay.kernel.core, **kernel)
    configuration = replace(overlay.kernel, core=core)
    blocks = blocks_for(configuration, *extra)
    feed = abi.FEED.unpack(blocks[2].rows[0]) | {"sparse": 1}
    blocks[2] = replace(blocks[2], rows=[abi.FEED.pack(**feed)])
    form = replace(overlay.input, shape=(None, 3, 3), axes="CW", channels=3, rows=1, nonzeros=1)
    return replace(overlay, kernel=configuration, input=form, image=abi.pack_blocks(blocks))


def written(**changes: int) -> abi.Block:
    """How the input of `sparse` is written, with what is to be different."""
    fields = dict.fromkeys((field.name for field in abi.EMIT.fields), 0)
    fields |= {"width": 2, "zero": 128, "pitch": 1} | changes
    return block(abi.Target.INPUT, [abi.EMIT.pack(**fields)], abi.EMIT.bits)


WRITTEN = written()


def test_sparse_inputs(overlay, path) -> None:
    saved = sparse(overlay, WRITTEN, sparse_input=True)
    saved.save(path)
    assert Overlay.load(path) == saved
    assert saved.input_bytes == 16


@pytest.mark.parametrize(
    "changes",
    [{"width": 1}, {"height": 1}, {"zero": 5}, {"emission": 3}, {"out_map": 1}, {"buffers": 2}],
    ids=str,
)
def test_sparse_inputs_that_are_written_otherwise(overlay, path, changes) -> None:
    sparse(overlay, written(**changes), sparse_input=True).save(path)
    assert "its sparse input is not written as its manifest says" in refused(path)


@pytest.mark.parametrize(
    ("extra", "kernel", "form", "message"),
    [
        ((), {"sparse_input": True}, {}, "does not say how its input is written"),
        ((WRITTEN,), {}, {}, "its input is sparse, which the hardware does not take"),
        ((WRITTEN,), {"sparse_input": True}, {"nonzeros": 4}, "word sizes are not those"),
        (
            (WRITTEN,),
            {"sparse_input": True},
            {"nonzeros": 0, "shape": (None, 3, 5), "columns": 5},
            "the manifest's input is sparse where the image's is not, or the other way round",
        ),
    ],
    ids=["unwritten", "hardware", "entries", "dense"],
)
def test_sparse_inputs_that_do_not_fit(overlay, path, extra, kernel, form, message) -> None:
    saved = sparse(overlay, *extra, **kernel)
    replace(saved, input=replace(saved.input, **form)).save(path)
    assert message in refused(path)


def test_images_with_other_word_sizes(overlay, path) -> None:
    form = replace(overlay.input, shape=(None, 1, 5, 5), rows=5, columns=5)
    replace(overlay, input=form).save(path)
    assert "the manifest's word sizes are not those of the image" in refused(path)


@FUZZ
@given(data=st.data())
def test_damaged_images_with_the_right_digest(overlay, path, data) -> None:
    overlay.save(path)
    image = bytearray(overlay.image)
    for index, value in data.draw(
        st.lists(
            st.tuples(st.integers(0, len(image) - 1), st.integers(0, 255)), min_size=1, max_size=4
        )
    ):
        image[index] = value
    rewrite(path, lambda manifest: None, bytes(image[: data.draw(st.integers(0, len(image)))]))
    loaded = attempt(path)
    if loaded is not None:
        usable(loaded)


# --- inputs --------------------------------------------------------------------------------------


def test_keys_are_rounded_half_to_even_and_clipped(overlay) -> None:
    values = [-0.25, 0.25, 0.75, 1.25, -0.75, 1e30, -1e30, 63.5, -64.0]
    keys = overlay.input.keys(np.array(values, np.float32).reshape(1, 1, 3, 3))
    assert keys.ravel().tolist() == [128, 128, 130, 130, 126, 255, 0, 255, 0]
    assert keys.dtype == np.uint8


@settings(deadline=None, max_examples=60)
@given(scale=st.floats(2**-20, 2**10, width=32), seed=st.integers(0, 1 << 16))
def test_keys_are_those_of_exact_arithmetic(scale, seed) -> None:
    from fractions import Fraction

    form = InputFormat(
        name="x",
        dtype="float32",
        shape=(None, 50),
        axes="C",
        channels=50,
        rows=1,
        columns=1,
        scale=scale,
        zero_key=77,
        key_offset=0,
    )
    rng = np.random.default_rng(seed)
    values = (rng.normal(0, 60, (1, 50)) * scale).astype(np.float32)
    values[:, ::5] = np.float32(scale) * (np.rint(values[:, ::5] / scale) + 0.5)
    exact = [
        min(max(round(Fraction(float(value)) / Fraction(scale)) + 77, 0), 255)
        for value in values.ravel()
    ]
    assert form.keys(values).ravel().tolist() == exact


def test_integers_are_keys_already(overlay) -> None:
    form = replace(overlay.input, dtype="int8")
    values = np.array([-128, -1, 0, 1, 127, 5, 6, 7, 8], np.int8).reshape(1, 1, 3, 3)
    assert form.keys(values).ravel().tolist() == [0, 127, 128, 129, 255, 133, 134, 135, 136]


def test_axes_are_put_in_order(overlay) -> None:
    form = replace(
        overlay.input, shape=(None, 2, 3, 4), axes="HWC", rows=2, columns=3, channels=4, scale=1.0
    )
    values = np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4)
    assert np.array_equal(form.keys(values), values + 128)
    form = replace(form, shape=(None, 4, 2, 3), axes="CHW")
    assert np.array_equal(form.keys(values.transpose(0, 3, 1, 2)), values + 128)


def test_wrong_inputs_are_refused(overlay) -> None:
    with pytest.raises(
        InputError,
        match=r"^input 'x' must have shape \['N', 1, 3, 3\], not \[9\]; N is any number of words$",
    ):
        overlay.input.keys(np.zeros(9, np.float32))


# --- writing -------------------------------------------------------------------------------------


def test_writing_replaces_a_file(path) -> None:
    path.write_bytes(b"old")
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_folder_that_is_not_there(tmp_path) -> None:
    with pytest.raises(ContainerError, match=r"none/net\.tcd: cannot be written: No such file"):
        write_atomically(tmp_path / "none" / "net.tcd", b"data")


def test_a_folder_in_the_way(tmp_path) -> None:
    (tmp_path / "net.tcd").mkdir()
    with pytest.raises(ContainerError, match="cannot be written: Is a directory"):
        write_atomically(tmp_path / "net.tcd", b"data")
    assert [file.name for file in tmp_path.iterdir()] == ["net.tcd"]


def test_nothing_is_left_when_writing_fails(path, monkeypatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    path.write_bytes(b"old")
    monkeypatch.setattr("trencadis_hw.container.os.fsync", full)
    with pytest.raises(ContainerError, match="cannot be written: No space left on device"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_every_flipped_bit_of_the_header_is_noticed(overlay: Overlay, path: Path) -> None:
    overlay.save(path)
    original = path.read_bytes()
    (length,) = struct.unpack("<Q", original[:8])
    rng = random.Random(0)
    for place in rng.sample(range(8 * (8 + length)), 400):
        data = bytearray(original)
        data[place // 8] ^= 1 << place % 8
        path.write_bytes(data)
        refused(path)
