"""Inputs and outputs of an array of multipliers, the same for every routing."""

from amaranth.hdl import Module, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from trencadis_format.config import EngineConfig
from trencadis_format.layer_tables import SEQUENCE, weight_record
from trencadis_format.widths import LAYER_BITS, VALUE_BITS
from trencadis_hw.interface.layouts import layout_of

__all__ = ["ArraySignature", "adder_tree", "beat_layout", "step_layout"]


def step_layout() -> data.StructLayout:
    """Flags that travel with the operands of a cycle.

    `first`, `last`: they are the first, the last operands of a step's sums (a step is one pass over
    one window, or over two). `split`: the last operands of the lower half of the lanes, and the
    first of the upper half, whose sums go on with the next operands; then `last` is set, too. The
    rest counts with `last`: the layer, whether the sums are the first or last of a pooling window
    (`pool_first`, `pool_last`), whether they end a vector (`vector_end`), kernels to drain less one
    (`beats`), whether to add up the groups (`combine`), and whether to forget the sums (`discard`).
    """
    return data.StructLayout(
        {
            "first": 1,
            "last": 1,
            "split": 1,
            "layer": LAYER_BITS,
            "pool_first": 1,
            "pool_last": 1,
            "vector_end": 1,
            "beats": SEQUENCE["beats"].bits,
            "combine": 1,
            "discard": 1,
        }
    )


def beat_layout(config: EngineConfig) -> data.StructLayout:
    """Sums that leave the array in a cycle, and what they are.

    `sums`: one per column. `beat`: kernel ID within the tile (0 with adder trees). `vector_end`:
    the vector's last beat. `layer`, `pool_first`, `pool_last`: as in `step_layout`.
    """
    return data.StructLayout(
        {
            "sums": data.ArrayLayout(signed(config.sum_bits), config.columns),
            "beat": config.kernel_bits,
            "layer": LAYER_BITS,
            "pool_first": 1,
            "pool_last": 1,
            "vector_end": 1,
        }
    )


class ArraySignature(wiring.Signature):
    """Ports of an array for one sample.

    Members
    -------
    step : In(step_layout)
        What the operands are.
    values : In(array of signed(VALUE_BITS))
        Activations, one per lane; 0 in a cycle without operands.
    weights : In(array)
        Rows of the lanes' weight memories.
    valid : Out(1)
        There is a beat.
    beat : Out(beat_layout)
        The sums.
    """

    def __init__(self, config: EngineConfig) -> None:
        self._config = config
        super().__init__(
            {
                "step": In(step_layout()),
                "values": In(data.ArrayLayout(signed(VALUE_BITS), config.lanes)),
                "weights": In(
                    data.ArrayLayout(
                        layout_of(weight_record(config.tiles, config.kernel_bits)), config.lanes
                    )
                ),
                "valid": Out(1),
                "beat": Out(beat_layout(config)),
            }
        )


def adder_tree(m: Module, terms: list[Signal], *, name: str) -> Signal:
    """Sum of `terms`, modulo their common width; a register after every level of the tree."""
    level = 0
    while len(terms) > 1:
        level += 1
        sums = []
        for i in range(0, len(terms), 2):
            total = Signal.like(terms[0], name=f"{name}_{level}_{i // 2}", reset_less=True)
            m.d.sync += total.eq(sum(terms[i + 1 : i + 2], start=terms[i]))
            sums.append(total)
        terms = sums
    return terms[0]
