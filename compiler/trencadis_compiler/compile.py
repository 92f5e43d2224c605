"""The way from a model file to a compiled network, step by step."""

import os
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from trencadis_boards import Board
from trencadis_compiler.compile_chains import CompiledPart, Segments, compile_chains
from trencadis_compiler.compiled import Compiled
from trencadis_compiler.cutting.image_size import ImageSizes
from trencadis_compiler.emit.formats import inner_maps
from trencadis_compiler.emit.host_segment import UnknownTensorError, host_segment
from trencadis_compiler.emit.try_host import try_host_segment
from trencadis_compiler.errors import CompileError, Unsupported
from trencadis_compiler.fit import Fitted
from trencadis_compiler.importer.calibration import CalibrationError
from trencadis_compiler.importer.graph import Graph
from trencadis_compiler.importer.operator_graph import operator_graph
from trencadis_compiler.ir.network import Network, TensorInfo
from trencadis_compiler.kept_calibration import kept_calibration
from trencadis_compiler.mapping.planner import Planner
from trencadis_compiler.maps.compile_maps import (
    CompiledMaps,
    compile_map_chains,
    compile_maps,
    sized_board,
    whole_chain,
)
from trencadis_compiler.maps.lower import lower_graph
from trencadis_compiler.options import Options
from trencadis_compiler.packing.tiles import FULL_EFFORT
from trencadis_compiler.passes.build_network import build_network, source_tensor
from trencadis_compiler.passes.grow_chains import Chain, Growth
from trencadis_compiler.passes.partition import HostPart, OverlayPart, needed_chains, partition
from trencadis_compiler.passes.pipeline import grow, lower, with_declared_output
from trencadis_compiler.passes.refusal import refusal
from trencadis_compiler.place_fastest import place_fastest
from trencadis_compiler.prepare import (
    Calibration,
    Prepared,
    Progress,
    check_quantised,
    named,
    prepare,
)
from trencadis_compiler.profile import densities
from trencadis_compiler.report.network import network_report
from trencadis_compiler.segments.cut_segment import CompiledPieces
from trencadis_compiler.sparse_input import with_sparse_input
from trencadis_format.compiled import (
    CompiledNetwork,
    HostSegment,
    OverlaySegment,
    Segment,
    Source,
)
from trencadis_format.room import check_disk, check_memory
from trencadis_format.tensor_formats import TensorFormat

__all__ = [
    "Compiled",
    "Options",
    "compile_model",
    "import_model",
]

FINAL = frozenset(
    (
        "ArgMax",
        "Cast",
        "DequantizeLinear",
        "Flatten",
        "Identity",
        "LogSoftmax",
        "QuantizeLinear",
        "Reshape",
        "Softmax",
        "Squeeze",
        "Transpose",
    )
)
"""Operators that even a strict compile leaves to the host, after all layers."""


def import_model(path: str | os.PathLike[str], calibration: Calibration | None = None) -> Network:
    """The network of an ONNX file that is one chain of layers.

    Parameters
    ----------
    path : path
        The file.
    calibration : array, mapping of str to array, or Path, optional
        Inputs to quantise a float model with.

    Raises
    ------
    CompileError
        If the file is not a model that the overlay can run, all of it.
    CalibrationError
        If the calibration data are not the model's inputs.
    """
    path = Path(path)
    prepared = prepare(path, calibration, Options())
    with named(path):
        return lower(operator_graph(prepared.quantised))


def compile_model(
    path: str | os.PathLike[str],
    board: Board,
    *,
    calibration: Calibration | str | None = None,
    input_nonzeros: int | None = None,
    options: Options | None = None,
    progress: Progress = lambda text: None,
    target: str | os.PathLike[str] | None = None,
) -> Compiled:
    """Compile an ONNX model for a board.

    Parameters
    ----------
    path : path
        The model.
    board : Board
        Target board.
    calibration : array, optional
        Inputs, shape (samples, ...): a float model is quantised with them, and the density of
        activations that are sparse by ReLU alone is measured on them.
    input_nonzeros : int, optional
        As in `options`.
    options : Options, optional
        The other options.
    progress : callable
        Called with a message at each step.
    target : path, optional
        Where the result will be written: what its disk does not hold is refused early.

    Raises
    ------
    CompileError
        If the model is not valid, or cannot be run as the options say.
    CalibrationError
        If the calibration data are not the model's inputs.
    """
    path, target = Path(path), None if target is None else Path(target)
    if isinstance(calibration, str):
        calibration = Path(calibration)
    options = options or Options()
    if input_nonzeros is not None:
        options = replace(options, input_nonzeros=input_nonzeros)
    progress("reading the model")
    prepared = prepare(path, calibration, options, progress)
    graph = operator_graph(prepared.quantised)
    try:
        with named(path):
            if calibration is None:
                check_quantised(graph, path, prepared.standard)
            compiled = _Compilation(graph, prepared, board, options, progress, target).run()
    except CalibrationError as error:
        where = f"{calibration}: " if isinstance(calibration, Path) else ""
        raise CalibrationError(f"{where}{error}") from error
    source = Source(
        sha256=prepared.standard.sha256,
        judged_sha256=prepared.judged_sha256,
        options={
            "board": board.name,
            "calibrated": calibration is not None,
            "calibration": kept_calibration(calibration) if isinstance(calibration, Path) else None,
            **asdict(options),
        },
    )
    return replace(compiled, compiled=replace(compiled.compiled, source=source))


def _segment(compiled: CompiledPart, nodes: tuple[str, ...]) -> Segment:
    """The segment of a file."""
    if isinstance(compiled, CompiledPieces):
        return replace(compiled.segment, nodes=nodes)
    if isinstance(compiled, CompiledMaps):
        return OverlaySegment(compiled.overlay, nodes, compiled.maps)
    return OverlaySegment(compiled.overlay, nodes, inner_maps(compiled.network))


class _Compilation:
    """One compile: from a graph to segments."""

    def __init__(
        self,
        graph: Graph,
        prepared: Prepared,
        board: Board,
        options: Options,
        progress: Progress,
        target: Path | None,
    ) -> None:
        self._graph = graph
        self._prepared = prepared
        self._board = board
        self._options = options
        self._progress = progress
        self._target = target
        self._images = ImageSizes.of([])
        self._densities: dict[tuple[str, str], Mapping[str, float]] = {}

    def run(self) -> Compiled:
        options = self._options
        seen, growth = grow(self._graph, options.on_host)
        growth = replace(growth, reasons={**growth.reasons, **self._float_reasons(growth)})
        chains = needed_chains(self._graph, growth.chains)
        if options.input_nonzeros is not None:
            self._check_sparse(chains)
        layers = sum(len(chain.maps) for chain in chains.values())
        planner = Planner(FULL_EFFORT.shared(layers), self._progress)
        mapped = self._on_maps(chains, growth)
        if mapped is not None:
            return self._finished(mapped, growth, seen, planner)
        found = compile_chains(
            self._graph.name,
            chains,
            self._board,
            self._declared,
            sized=options.sized,
            planner=planner,
            progress=self._progress,
            on_images=self._check_room,
        )
        self._board = found.board
        return self._finished(found.segments, growth, seen, planner)

    def _on_maps(self, chains: Mapping[str, Chain], growth: Growth) -> Segments | None:
        """Segments for a map engine, if the board has one or a sized kernel is to take branches."""
        options, board = self._options, self._board
        forced = board.kernel.core.map is not None
        whole = None
        if not options.on_host and not options.fastest and options.input_nonzeros is None:
            whole = whole_chain(self._graph, chains, FINAL)
        if not forced and not (options.sized and whole is not None and len(chains) > 1):
            return None
        if whole is not None:
            try:
                network = lower_graph(self._graph, chains, whole.tensor)
                if not forced:
                    board = sized_board(board, network)
                self._progress("compiling for a map engine")
                samples = self._prepared.samples
                profile = None if samples is None else samples.arrays[network.input.name]
                made = compile_maps(network, board, profile=profile, progress=self._progress)
                self._board = board
                return Fitted({whole.tensor: whole}, {whole.tensor: made}, {})
            except CompileError as error:
                if forced and options.strict:
                    raise
                self._progress(f"chains one by one: {error}")
        if not forced:
            return None
        found = compile_map_chains(self._graph, chains, board, self._progress)
        return Fitted(found.chains, found.made, found.reasons)

    def _finished(
        self, fitted: Segments, growth: Growth, seen: Graph, planner: Planner
    ) -> Compiled:
        """The compiled network of segments."""
        options = self._options
        if options.strict:
            self._check_strict(seen, growth, fitted)
        kept: Mapping[str, str] = {}
        if options.fastest:
            fastest = place_fastest(self._graph, fitted, self._board, options.on_overlay)
            fitted, kept = fastest.fitted, fastest.kept
        try:
            segments = self._segments(fitted, growth)
        except UnknownTensorError:
            everything = Growth({}, growth.reasons)
            segments = self._segments(Fitted({}, {}, fitted.reasons), everything)
        self._check_placed(segments, growth, fitted)
        for segment in segments:
            if isinstance(segment, HostSegment):
                try_host_segment(segment)
        compiled = [s for s in segments if isinstance(s, tuple)]
        parts: tuple[Segment, ...] = tuple(
            _segment(*s) if isinstance(s, tuple) else s for s in segments
        )
        overlays = tuple(segment for segment, _ in compiled)
        network = CompiledNetwork(
            name=self._graph.name,
            kernel=self._board.kernel,
            inputs=tuple(map(_format, self._graph.inputs)),
            outputs=tuple(map(_format, self._graph.outputs)),
            segments=parts,
            report={
                **network_report(self._graph, self._board, overlays, parts, kept),
                **self._prepared.report,
                "memory_bytes": self._images.peak_bytes,
            },
        )
        return Compiled(
            network, overlays, self._prepared.judged, self._prepared.standard.model, planner
        )

    def _check_room(self, sizes: ImageSizes) -> None:
        """Refuse images that memory or disk would not hold, before they are made."""
        check_memory(
            sizes.peak_bytes,
            f"assembling {sizes.count} images of {sizes.total_bytes:,} bytes",
            "have more, or leave layers to the host (--place)",
        )
        if self._target is not None:
            check_disk(sizes.total_bytes, self._target)
        self._images = sizes

    def _float_reasons(self, growth: Growth) -> dict[str, Unsupported]:
        """Reasons why nodes that a quantised copy leaves in float are on the host."""
        said = self._prepared.report.get("quantised", {})
        texts = {
            "kept_in_float": "stays in float: quantised, it would spoil an output",
            "excluded": "stays in float: excluded by the options",
        }
        return {
            name: Unsupported(f"{name!r}", text)
            for key, text in texts.items()
            for name in said.get(key, ())
            if name in growth.reasons
        }

    def _check_strict(self, seen: Graph, growth: Growth, fitted: Segments) -> None:
        """Check that no more than a final Softmax or the like is left to the host."""
        if fitted.reasons:
            raise next(iter(fitted.reasons.values()))
        parts = partition(self._graph, fitted.chains, growth.reasons)
        for number, part in enumerate(parts):
            if isinstance(part, OverlayPart):
                continue
            last = not any(isinstance(other, OverlayPart) for other in parts[number:])
            if not last or any(node.op_type not in FINAL for node in part.nodes):
                raise refusal(seen, growth)

    def _check_sparse(self, chains: Mapping[str, Chain]) -> None:
        """Check that there is an input that can be sent as indices and values."""
        names = {info.name for info in self._graph.inputs}
        reading = [chain for chain in chains.values() if source_tensor(chain.maps) in names]
        if not reading:
            raise CompileError("--input-nonzeros: no layer of the overlay reads the model's input")
        for chain in reading:
            network = build_network(self._graph.name, chain.maps)
            with_sparse_input(network, self._board, self._options.input_nonzeros or 0)

    def _declared(self, network: Network) -> tuple[Network, Mapping[str, float]]:
        """A chain as the model declares its ends, and the densities of its activations."""
        outputs = {info.name: info for info in self._graph.outputs}
        declared = outputs.get(network.output.name)
        if declared is not None:
            network = with_declared_output(network, declared)
        of_input = {info.name for info in self._graph.inputs}
        reads_input = network.input.name in of_input
        if self._options.input_nonzeros is not None and reads_input:
            network = with_sparse_input(network, self._board, self._options.input_nonzeros)
        density: Mapping[str, float] = {}
        samples = self._prepared.samples
        if samples is not None and reads_input:
            ends = network.input.name, network.output.name
            if ends not in self._densities:
                self._progress("measuring activations")
                measured = densities(network, samples.arrays[network.input.name])
                self._densities[ends] = measured
            density = self._densities[ends]
        return network, density

    def _segments(
        self, fitted: Segments, growth: Growth
    ) -> list[tuple[CompiledPart, tuple[str, ...]] | HostSegment]:
        parts = partition(self._graph, fitted.chains, {**growth.reasons, **fitted.reasons})
        extra: dict[str, TensorInfo] = {}
        for part in parts:
            if isinstance(part, OverlayPart):
                value = fitted.made[part.chain.tensor].network.output
                extra[value.name] = value.tensor
        found: list[tuple[CompiledPart, tuple[str, ...]] | HostSegment] = []
        for part in parts:
            if isinstance(part, HostPart):
                found.append(host_segment(self._prepared.quantised.model, self._graph, part, extra))
            else:
                names = tuple(node.name for node in part.nodes)
                found.append((fitted.made[part.chain.tensor], names))
        return found

    def _check_placed(self, segments: list[Any], growth: Growth, fitted: Segments) -> None:
        """Check that nodes are where the options want them."""
        names = {node.name for node in self._graph.nodes}
        for name in (*self._options.on_host, *self._options.on_overlay):
            if name not in names:
                raise CompileError(f"--place {name}: the model has no node of that name")
        on_overlay = {name for s in segments if isinstance(s, tuple) for name in s[1]}
        reasons: dict[str, Unsupported] = {**growth.reasons, **fitted.reasons}
        for name in self._options.on_overlay:
            if name not in on_overlay:
                why = reasons.get(name, "it is beside nodes that the overlay cannot do")
                raise CompileError(f"--place {name}=overlay: {why}")


def _format(info: TensorInfo) -> TensorFormat:
    return TensorFormat(name=info.name, dtype=info.dtype, shape=info.shape)
