"""The sum of two quantised activations, exactly."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from trencadis_format.layer_tables import Ties
from trencadis_format.map_tables import ADD, ADD_SHIFT
from trencadis_format.widths import KEY_BITS
from trencadis_hw.interface.layouts import layout_of

__all__ = ["ADD_LATENCY", "Adder"]

ADD_LATENCY = 4
"""Cycles from two keys to the key of their sum."""

SCALED_BITS = 50
"""Width of a scaled sum: one more than its largest term, twice."""


class Adder(wiring.Component):
    """`key = clip((first*a + second*b + c) >> ADD_SHIFT, low, high)`, ties to even or odd.

    The compiler proves it for all 65,536 pairs of keys. As with `Requantiser`, an exact tie shows
    as a rest of zeros, or of ones for ties to odd keys. Latency 4 cycles, one pair per cycle.

    Members
    -------
    first, second : In(KEY_BITS)
        The keys.
    parameters : In(ADD)
        Constant while a layer is computed.
    key : Out(KEY_BITS)
        The key of the sum.
    """

    first: Signal
    second: Signal
    parameters: data.View
    key: Signal

    def __init__(self) -> None:
        super().__init__(
            {
                "first": In(KEY_BITS),
                "second": In(KEY_BITS),
                "parameters": In(layout_of(ADD)),
                "key": Out(KEY_BITS),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        parameters = self.parameters
        keys = [Signal(KEY_BITS, name=f"key_{i}", reset_less=True) for i in range(2)]
        bits = KEY_BITS + len(parameters.first)
        products = [Signal(bits, name=f"product_{i}", reset_less=True) for i in range(2)]
        scaled = Signal(signed(SCALED_BITS), reset_less=True)
        m.d.sync += [
            keys[0].eq(self.first),
            keys[1].eq(self.second),
            products[0].eq(keys[0] * parameters.first),
            products[1].eq(keys[1] * parameters.second),
            scaled.eq(products[0] + products[1] + parameters.offset),
        ]
        rest, quotient = scaled[:ADD_SHIFT], scaled[ADD_SHIFT:].as_signed()
        clear = (parameters.ties == Ties.EVEN) & (rest == 0)
        set_ = (parameters.ties == Ties.ODD) & rest.all()
        rounded = Signal(quotient.shape())
        m.d.comb += rounded.eq(Cat((quotient[0] & ~clear) | set_, quotient[1:]).as_signed())
        m.d.sync += self.key.eq(
            Mux(
                rounded < parameters.low,
                parameters.low,
                Mux(rounded > parameters.high, parameters.high, rounded[:KEY_BITS]),
            )
        )
        return m
