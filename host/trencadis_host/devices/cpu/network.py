"""A whole image as one compiled function, with the tables it reads."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir

from trencadis_format.tensor_formats import InputFormat, OutputFormat
from trencadis_host.devices.cpu.costs import DEFAULT_COSTS, Costs
from trencadis_host.devices.cpu.emit import I64, Emitter
from trencadis_host.devices.cpu.finish import write_pool
from trencadis_host.devices.cpu.jit import assemble, compile_module
from trencadis_host.devices.cpu.layer import LayerChoice, LayerWriter
from trencadis_host.devices.cpu.moves import CopySpec, emit_copy
from trencadis_host.devices.cpu.paths import Path
from trencadis_host.devices.cpu.programs import SLACK, LayerProgram, MapLayout, PoolProgram
from trencadis_host.devices.cpu.store import CodeStore, UnkeptCode
from trencadis_host.devices.cpu.tensors import (
    InputSpec,
    OutputSpec,
    emit_dequantise,
    emit_quantise,
    input_spec,
    output_spec,
)

__all__ = ["Network", "SampleForm", "assembly"]

PACKED, TENSORS = "packed", "tensors"
"""Names of the functions for packed samples and for the model's arrays."""

ALIGNMENT = 64

UNKEPT = UnkeptCode()


@dataclass(frozen=True)
class SampleForm:
    """Packed samples that go in and come out.

    Attributes
    ----------
    input_bytes, output_bytes : int
        Input bytes and output bytes of a sample.
    places : int
        Keys or sums per position of a packed output.
    input, output : InputFormat, OutputFormat or None
        The model's arrays; None if only packed batches are computed.
    """

    input_bytes: int
    output_bytes: int
    places: int
    input: InputFormat | None = None
    output: OutputFormat | None = None


class Network:
    """Compiled layers.

    Parameters
    ----------
    programs : sequence of LayerProgram and PoolProgram
        The layers.
    form : WordForm
        What goes in and comes out.
    path : Path
        Target board.
    block : int
        Samples that are computed together.
    store : CodeStore
        Where compiled code is kept.
    costs : Costs
        What chooses the kernels.
    """

    def __init__(
        self,
        programs: Sequence[LayerProgram | PoolProgram],
        form: SampleForm,
        path: Path,
        block: int,
        store: CodeStore = UNKEPT,
        costs: Costs = DEFAULT_COSTS,
    ) -> None:
        self.block = block
        builder = _Builder(programs, form, path, block, costs)
        builder.build()
        self.choices = builder.choices
        self._kept = builder.kept
        self._initial = builder.initial()
        self._table = _aligned(np.array(builder.addresses, np.int64))
        self._code = compile_module(builder.module, path, store)
        self._run = self._code.function(PACKED, 5)
        self._infer = self._code.function(TENSORS, 6) if builder.takes_tensors else None
        self._table_address = self._table.ctypes.data

    @property
    def table_bytes(self) -> int:
        """Memory of what the kernels read besides maps."""
        return sum(array.nbytes for array in self._kept)

    @property
    def workspace_bytes(self) -> int:
        """Memory of one thread."""
        return self._initial.nbytes

    def workspace(self) -> npt.NDArray[np.uint8]:
        """Memory for one thread, with the padding of all maps in it."""
        return _aligned(self._initial)

    def run(self, packed: int, results: int, samples: int, workspace: int) -> None:
        """Compute any number of samples; all but the count are addresses."""
        self._run(self._table_address, workspace, packed, results, samples)

    @property
    def takes_tensors(self) -> bool:
        """The model's arrays can be computed without packing them."""
        return self._infer is not None

    def infer(self, inputs: int, outputs: int, samples: int, workspace: int, flag: int) -> None:
        """Compute the model's arrays; all but the count are addresses.

        The flag, 64 bits, is not 0 afterwards if a number is not finite.
        """
        assert self._infer is not None
        self._infer(self._table_address, workspace, inputs, outputs, samples, flag)


def assembly(
    programs: Sequence[LayerProgram | PoolProgram], form: SampleForm, path: Path, block: int
) -> str:
    """Assembly of the layers for any path, whether this processor runs it or not."""
    builder = _Builder(programs, form, path, block, DEFAULT_COSTS)
    builder.build()
    return assemble(builder.module, path)


class _Builder:
    """Writes the function, and collects what it reads."""

    def __init__(
        self,
        programs: Sequence[LayerProgram | PoolProgram],
        form: SampleForm,
        path: Path,
        block: int,
        costs: Costs,
    ) -> None:
        self.module = ir.Module("network")
        self.choices: list[LayerChoice] = []
        self.kept: list[npt.NDArray[Any]] = []
        self.addresses: list[int] = []
        self._programs, self._form, self._path, self._block = programs, form, path, block
        self._costs = costs
        self._functions: dict[Any, Any] = {}
        self._places: dict[int, int] = {}
        self._size, self._overrun = 0, SLACK
        self._zeros: list[tuple[int, int, int]] = []
        self.takes_tensors = False
        self.e = Emitter(self.module, "layers", 3)

    def build(self) -> None:
        """Write all steps, and the functions around them."""
        first, last = self._programs[0].source, self._programs[-1].target
        for layout in [first, *(program.target for program in self._programs)]:
            self._reserve(layout)
        winners: int | None = None
        for program in self._programs:
            if isinstance(program, PoolProgram):
                write_pool(self, program, self._path)
            else:
                writer = LayerWriter(self, program, self._path, self._block, self._costs)
                self.choices.append(writer.write(winners))
            winners = program.winners
        layers = self.e.finish()
        self._write_packed(layers, first, last)
        if self._form.input is None or self._form.output is None:
            return
        given, wanted = input_spec(self._form.input, first), output_spec(self._form.output, last)
        if given is not None and wanted is not None:
            self._write_tensors(layers, first, last, given, wanted)
            self.takes_tensors = True

    def _write_packed(self, layers: Any, first: MapLayout, last: MapLayout) -> None:
        """Write the function for packed samples: one block after the other."""
        e = self.e = Emitter(self.module, PACKED, 5)
        table, workspace, packed, results, samples = e.arguments
        form = self._form
        with e.loop(I64(0), samples, self._block) as begin:
            count = e.smallest(e.b.sub(samples, begin), I64(self._block))
            self._spread(first, e.scaled(packed, begin, form.input_bytes), count)
            e.b.call(layers, [table, workspace, count])
            self._deliver(last, e.scaled(results, begin, form.output_bytes), count)
        e.finish()

    def _write_tensors(
        self,
        layers: Any,
        first: MapLayout,
        last: MapLayout,
        given: InputSpec,
        wanted: OutputSpec,
    ) -> None:
        """Write the function for the model's arrays; it stops at a number that is not finite."""
        e = self.e = Emitter(self.module, TENSORS, 6)
        table, workspace, inputs, outputs, samples, flag = e.arguments
        form = self._form.output
        assert form is not None
        order = self.address(np.array(form.order, np.int32))
        scales = self.address(np.array(form.scales, np.float64))
        offsets = self.address(np.array(form.offsets, np.float64))
        quantise = self.function(emit_quantise, given)
        dequantise = self.function(emit_dequantise, wanted)
        with e.loop(I64(0), samples, self._block) as begin:
            count = e.smallest(e.b.sub(samples, begin), I64(self._block))
            read = e.scaled(inputs, begin, given.in_stride)
            written = e.scaled(outputs, begin, wanted.out_stride)
            e.b.call(quantise, [read, self.map(first), count, flag])
            good = e.b.icmp_signed("==", e.load(I64, flag, 8), I64(0))
            with e.b.if_else(good) as (then, otherwise):
                with then:
                    e.b.call(layers, [table, workspace, count])
                    arguments = [self.map(last), written, count, order, scales, offsets]
                    e.b.call(dequantise, arguments)
                with otherwise:
                    e.b.ret_void()
        e.finish()

    def initial(self) -> npt.NDArray[np.uint8]:
        """A workspace as it is before the first run."""
        memory = np.zeros(self._size + self._overrun, np.uint8)
        for start, size, zero in self._zeros:
            memory[start : start + size] = zero
        return memory

    def _reserve(self, layout: MapLayout) -> None:
        place = self.reserve(layout.stride * self._block)
        self._places[id(layout)] = place
        self._zeros.append((place, layout.stride * self._block, layout.zero))

    def reserve(self, size: int) -> int:
        """Bytes of the workspace; where they begin."""
        place = self._size
        self._size += -(-(size + SLACK) // ALIGNMENT) * ALIGNMENT
        return place

    def overrun(self, size: int) -> None:
        """Let kernels read so many bytes after any map; what is there is not used."""
        self._overrun = max(self._overrun, size + SLACK)

    def map(self, layout: MapLayout) -> Any:
        """The address of a map of the first sample."""
        return self.e.at(self.e.arguments[1], self._places[id(layout)])

    def function(self, emitter: Any, *arguments: Any) -> Any:
        """A function of the module; one for all uses that are alike."""
        key = (emitter, *arguments)
        if key not in self._functions:
            name = f"{emitter.__name__.removeprefix('emit_')}{len(self._functions)}"
            self._functions[key] = emitter(self.module, name, *arguments)
        return self._functions[key]

    def keep(self, array: npt.NDArray[Any]) -> int:
        """The address of a copy of an array that lives as long as the network."""
        self.kept.append(_aligned(array))
        return int(self.kept[-1].ctypes.data)

    def address(self, array: npt.NDArray[Any]) -> Any:
        """The address of an array, read from the network's table at run time."""
        self.addresses.append(self.keep(array))
        place = self.e.at(self.e.arguments[0], 8 * (len(self.addresses) - 1))
        return self.e.load(I64, place, 8)

    def _spread(self, layout: MapLayout, packed: Any, samples: Any) -> None:
        """Copy packed inputs into the padded map."""
        line = layout.columns * layout.channels
        whole = layout.width == layout.columns
        spec = CopySpec(
            rows=1 if whole else layout.rows,
            row_bytes=line * layout.rows if whole else line,
            in_pitch=line,
            out_pitch=layout.width * layout.pitch,
            in_first=0,
            out_first=layout.first * layout.pitch,
            in_stride=self._form.input_bytes,
            out_stride=layout.stride,
        )
        self.e.b.call(self.function(emit_copy, spec), [packed, self.map(layout), samples])

    def _deliver(self, layout: MapLayout, results: Any, samples: Any) -> None:
        """Copy the last map into packed outputs."""
        size = 4 if self._programs[-1].raw else 1
        spec = CopySpec(
            rows=layout.rows * layout.columns,
            row_bytes=layout.channels * size,
            in_pitch=layout.pitch,
            out_pitch=self._form.places * size,
            in_first=0,
            out_first=0,
            in_stride=layout.stride,
            out_stride=self._form.output_bytes,
        )
        self.e.b.call(self.function(emit_copy, spec), [self.map(layout), results, samples])


def _aligned(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A copy that begins at a cache line, with some bytes after it."""
    data = np.ascontiguousarray(array)
    memory = np.zeros(data.nbytes + ALIGNMENT + SLACK, np.uint8)
    first = -memory.ctypes.data % ALIGNMENT
    view = memory[first : first + data.nbytes].view(data.dtype).reshape(data.shape)
    view[...] = data
    return view
