"""Two int8 multiplications on one DSP."""

from amaranth.hdl import Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from trencadis_format.timing import MULTIPLY_LATENCY
from trencadis_format.widths import PRODUCT_BITS, VALUE_BITS

__all__ = ["PairMultiplier"]


class PairMultiplier(wiring.Component):
    """Multiply a pair of weights with the same activation, on the 27 x 18 multiplier of a DSP48E2.

    The wide operand is `high * 2**18 + low`, so that the product holds both products 18 bits
    apart. A negative low product borrows from the high one; the borrow is handed on in
    `high_carry`, for the adder that follows to add. The packing is that of AMD's white paper WP486.

    Latency 3 cycles, one pair of products per cycle.

    Members
    -------
    low : In(8)
        Weight of the even tile, two's complement.
    high : In(9)
        Weight of the odd tile less the borrow of `low`, two's complement (`weight_record`).
    value : In(signed(9))
        Activation.
    low_product, high_product : Out(signed(PRODUCT_BITS))
        `low * value`, and `high * value` short of `high_carry`.
    high_carry : Out(1)
        High carry to be added to `high_product`.
    """

    latency = MULTIPLY_LATENCY

    low: Signal
    high: Signal
    value: Signal
    low_product: Signal
    high_product: Signal
    high_carry: Signal

    def __init__(self) -> None:
        super().__init__(
            {
                "low": In(8),
                "high": In(9),
                "value": In(signed(VALUE_BITS)),
                "low_product": Out(signed(PRODUCT_BITS)),
                "high_product": Out(signed(PRODUCT_BITS)),
                "high_carry": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        wide = Signal(signed(27), reset_less=True)
        narrow = Signal(signed(VALUE_BITS), reset_less=True)
        multiplied = Signal(signed(36), reset_less=True)
        product = Signal(signed(36), reset_less=True)
        m.d.sync += [
            wide[:PRODUCT_BITS].eq(self.low.as_signed()),
            wide[PRODUCT_BITS:].eq(self.high),
            narrow.eq(self.value),
            multiplied.eq(wide * narrow),
            product.eq(multiplied),
        ]
        m.d.comb += [
            self.low_product.eq(product[:PRODUCT_BITS]),
            self.high_product.eq(product[PRODUCT_BITS:]),
            self.high_carry.eq(product[PRODUCT_BITS - 1]),
        ]
        return m
