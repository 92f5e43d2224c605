"""Chains of layers to overlay segments: cut as the core needs, on a kernel sized for them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from trencadis_boards import Board
from trencadis_compiler.cutting.image_size import ImageSizes
from trencadis_compiler.cutting.plan_cut import Cut, plan_cut
from trencadis_compiler.cutting.size_kernel import kernel_for, largest_kernel, moved
from trencadis_compiler.fit import Fitted, fit_chains
from trencadis_compiler.ir.network import Network
from trencadis_compiler.ir.verify import verify
from trencadis_compiler.mapping.planner import Planner
from trencadis_compiler.maps.compile_maps import CompiledMaps
from trencadis_compiler.passes.build_network import at_end, build_network
from trencadis_compiler.passes.grow_chains import Chain
from trencadis_compiler.segments.cut_segment import CompiledPieces, compile_pieces
from trencadis_compiler.segments.segment import CompiledSegment, assemble_network
from trencadis_format.config import KernelConfig

__all__ = ["CompiledChains", "CompiledPart", "Declared", "compile_chains"]

CompiledPart = CompiledSegment | CompiledPieces | CompiledMaps
"""An overlay segment, whatever it is for."""

Segments = Fitted[CompiledPart]

Declared = Callable[[Network], tuple[Network, Mapping[str, float]]]
"""Gives a chain as the model declares its ends, and the densities of its activations."""


@dataclass(frozen=True)
class CompiledChains:
    """Overlay segments, and the board that they are for: its kernel may have grown."""

    board: Board
    segments: Segments


@dataclass(frozen=True)
class _ChainCut:
    """A chain that was cut; `profiled` if the densities of its activations were measured."""

    cut: Cut
    profiled: bool


def compile_chains(
    name: str,
    chains: Mapping[str, Chain],
    board: Board,
    declared: Declared,
    *,
    sized: bool,
    planner: Planner,
    progress: Callable[[str], None],
    on_images: Callable[[ImageSizes], None] = lambda sizes: None,
) -> CompiledChains:
    """Compile chains as far as a core holds them, whole or in pieces.

    Parameters
    ----------
    name : str
        Name of the model.
    chains : mapping of str to Chain
        Chains by the tensor that they make.
    board : Board
        Target board.
    declared : callable
        Completes a chain's network.
    sized : bool
        Grow the memories of the board's kernel to what the chains need.
    planner : Planner
        Makes the plans of all of them.
    progress : callable
        Called with a message at each step.
    on_images : callable
        Called with the sizes of the images, before the first is made.
    """

    def cut_for(kernel: KernelConfig) -> Fitted[_ChainCut]:
        def cut(network: Network) -> _ChainCut:
            network, density = declared(network)
            verify(network)
            found = plan_cut(network, kernel, density, planner=planner, progress=progress)
            return _ChainCut(found, bool(density))

        return fit_chains(name, chains, cut)

    kernel = board.kernel
    if not sized:
        cuts = cut_for(kernel)
    else:
        cuts = cut_for(largest_kernel(kernel, _networks(name, chains)))
        grown = kernel_for(kernel, [item.cut for item in cuts.made.values()])
        if grown == kernel:
            # Whatever fits has the plans that it has always had there.
            cuts = cut_for(kernel)
        else:
            board = replace(board, kernel=grown, name=f"{board.name}-{grown.digest:016x}")
            kernel = grown
            on_grown = {key: _moved(item, grown) for key, item in cuts.made.items()}
            cuts = replace(cuts, made=on_grown)

    def compiled(network: Network) -> CompiledPart:
        found = cuts.made.get(network.output.name)
        if found is None:  # a part of a chain of which the whole could not be assembled
            network, density = declared(network)
            cut = plan_cut(network, kernel, density, planner=planner, progress=progress)
            found = _ChainCut(cut, bool(density))
        return _compiled(found, board, progress)

    on_images(
        ImageSizes.of([p.placement for item in cuts.made.values() for p in item.cut.programs])
    )
    made: Segments = fit_chains(name, cuts.chains, compiled)
    return CompiledChains(board, replace(made, reasons={**cuts.reasons, **made.reasons}))


def _networks(name: str, chains: Mapping[str, Chain]) -> list[Network]:
    return [
        build_network(name, (*chain.maps[:-1], at_end(chain.maps[-1]))) for chain in chains.values()
    ]


def _moved(item: _ChainCut, kernel: KernelConfig) -> _ChainCut:
    return _ChainCut(moved(item.cut, kernel), item.profiled)


def _compiled(
    item: _ChainCut, board: Board, progress: Callable[[str], None]
) -> CompiledSegment | CompiledPieces:
    cut = item.cut
    program = cut.programs[0]
    # Layers that only hand the input on make a network with other ends.
    if not cut.whole or program.placement.network is not cut.network:
        return compile_pieces(cut, board, progress=progress)
    return assemble_network(
        program.placement, program.schedule, board, profiled=item.profiled, progress=progress
    )
