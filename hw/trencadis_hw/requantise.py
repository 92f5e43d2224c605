"""From sums to quantised activations, exactly."""

from amaranth.hdl import Array, Cat, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from trencadis_hw import abi
from trencadis_hw.layouts import layout_of
from trencadis_hw.streams import delay

__all__ = ["Requantiser"]


class Requantiser(wiring.Component):
    """`key = clip(floor((m*sum + c) / 2**s), low, high)`, with ties to even if so asked.

    m, c and s come from an `abi.REQUANTISE` record; the compiler proves for every channel that
    each of the at most 256 steps of this function falls on the right sum. c contains bias and
    rounding, so an exact tie shows as a fraction of zero.

    Latency 6 cycles, one sum a cycle.

    Parameters
    ----------
    sum_bits : int
        Width of a sum.

    Members
    -------
    sum : In(signed(sum_bits))
        Sum to requantise.
    parameters : In(REQUANTISE)
        Its channel.
    low, high : In(KEY_BITS)
        Smallest and largest key, 5 cycles after the sum.
    key : Out(KEY_BITS)
        The quantised activation.
    """

    latency = 6
    bounds_latency = 5

    def __init__(self, sum_bits: int) -> None:
        self._sum_bits = sum_bits
        super().__init__(
            {
                "sum": In(signed(sum_bits)),
                "parameters": In(layout_of(abi.REQUANTISE)),
                "low": In(abi.KEY_BITS),
                "high": In(abi.KEY_BITS),
                "key": Out(abi.KEY_BITS),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        multiplier_bits = len(self.parameters.multiplier)
        offset_bits = len(self.parameters.offset) + abi.OFFSET_SHIFT
        product_bits = self._sum_bits + multiplier_bits + 1
        scaled_bits = max(product_bits, offset_bits) + 1

        operand = Signal(signed(self._sum_bits), reset_less=True)
        multiplier = Signal(signed(multiplier_bits + 1), reset_less=True)
        multiplied = Signal(signed(product_bits), reset_less=True)
        product = Signal(signed(product_bits), reset_less=True)
        scaled = Signal(signed(scaled_bits), reset_less=True)
        offset = delay(m, self.parameters.offset, 3, name="offset").as_signed()
        shift = delay(m, self.parameters.shift, 4, name="shift")
        even = delay(m, self.parameters.even, 5, name="even")
        m.d.sync += [
            operand.eq(self.sum),
            multiplier.eq(self.parameters.multiplier),
            multiplied.eq(operand * multiplier),
            product.eq(multiplied),
            scaled.eq(product + (offset << abi.OFFSET_SHIFT)),
        ]

        shifts = [abi.SHIFT_BASE + abi.SHIFT_STEP * i for i in range(1 << len(shift))]
        quotient = Signal(abi.KEY_BITS, reset_less=True)
        negative = Signal(reset_less=True)
        overflow = Signal(reset_less=True)
        tie = Signal(reset_less=True)
        m.d.sync += [
            quotient.eq(Array(scaled[s : s + abi.KEY_BITS] for s in shifts)[shift]),
            negative.eq(scaled < 0),
            overflow.eq(Array(scaled[s + abi.KEY_BITS :].any() for s in shifts)[shift]),
            tie.eq(Array(~scaled[:s].any() for s in shifts)[shift]),
        ]

        rounded = Signal(abi.KEY_BITS)
        m.d.comb += rounded.eq(Cat(quotient[0] & ~(tie & even), quotient[1:]))
        with m.If(negative | (rounded < self.low)):
            m.d.sync += self.key.eq(self.low)
        with m.Elif(overflow | (rounded > self.high)):
            m.d.sync += self.key.eq(self.high)
        with m.Else():
            m.d.sync += self.key.eq(rounded)
        return m
