"""Requantising: from sums to quantised activations, exactly."""

from amaranth.hdl import Array, Cat, Const, Module, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from trencadis_format.layer_tables import REQUANTISE, Ties
from trencadis_format.timing import BOUNDS_LATENCY, REQUANTISE_LATENCY
from trencadis_format.widths import KEY_BITS, OFFSET_SHIFT, SHIFT_BASE, SHIFT_STEP
from trencadis_hw.interface.layouts import layout_of
from trencadis_hw.interface.streams import delay

__all__ = ["Requantiser"]


class Requantiser(wiring.Component):
    """`key = clip(floor((m*sum + c) / 2**s), low, high)`, with ties to even or odd if so asked.

    m, c and s come from an `REQUANTISE` record; the compiler proves for every channel that
    each of the at most 256 steps of this function falls on the right sum. c contains bias and
    rounding, so an exact tie shows as a fraction of zero, which clears the lowest bit of an odd
    key. Ties to odd are the same with all bits from OFFSET_SHIFT on inverted: c is one less, the
    fraction is of ones, and sets the lowest bit of an even key.

    m is multiplied in two halves, each on one DSP. Latency 8 cycles, one sum a cycle.

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
        Smallest and largest key, `bounds_latency` cycles after the sum.
    key : Out(KEY_BITS)
        The quantised activation.
    """

    latency = REQUANTISE_LATENCY
    bounds_latency = BOUNDS_LATENCY

    sum: Signal
    parameters: data.View
    low: Signal
    high: Signal
    key: Signal

    def __init__(self, sum_bits: int) -> None:
        self._sum_bits = sum_bits
        super().__init__(
            {
                "sum": In(signed(sum_bits)),
                "parameters": In(layout_of(REQUANTISE)),
                "low": In(KEY_BITS),
                "high": In(KEY_BITS),
                "key": Out(KEY_BITS),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        half = len(self.parameters.multiplier) // 2
        part_bits = self._sum_bits + half + 1
        offset_bits = len(self.parameters.offset) + OFFSET_SHIFT
        scaled_bits = max(part_bits + half, offset_bits) + 1

        # Products of the sum with both halves of the multiplier.
        operand = Signal(signed(self._sum_bits), reset_less=True)
        m.d.sync += operand.eq(self.sum)
        parts = []
        for number in range(2):
            factor = Signal(signed(half + 1), name=f"factor_{number}", reset_less=True)
            multiplied = Signal(signed(part_bits), name=f"multiplied_{number}", reset_less=True)
            part = Signal(signed(part_bits), name=f"part_{number}", reset_less=True)
            m.d.sync += [
                factor.eq(self.parameters.multiplier.word_select(number, half)),
                multiplied.eq(operand * factor),
                part.eq(multiplied),
            ]
            parts.append(part)
        low_part, high_part = parts
        offset = delay(m, self.parameters.offset, 3, name="offset", registers=True).as_signed()
        shift = delay(m, self.parameters.shift, 5, name="shift", registers=True)
        ties = delay(m, self.parameters.ties, 5, name="ties")
        rounding = delay(m, ties, 2, name="rounding")

        # Their sum with the offset, which does not reach the lowest bits.
        with_offset = Signal(signed(scaled_bits), reset_less=True)
        high_later = Signal(signed(part_bits), reset_less=True)
        scaled = Signal(signed(scaled_bits), reset_less=True)
        m.d.sync += [
            with_offset.eq(
                Cat(
                    low_part[:OFFSET_SHIFT],
                    (low_part >> OFFSET_SHIFT) + offset,
                ).as_signed()
            ),
            high_later.eq(high_part),
            scaled.eq(Cat(with_offset[:half], (with_offset >> half) + high_later).as_signed()),
        ]

        # The key for every shift is a window of bits; what lies above and below it in steps of the
        # shift is summed up first.
        steps = 1 << len(shift)
        first, step = SHIFT_BASE, SHIFT_STEP
        window = Signal(KEY_BITS, reset_less=True)
        below = Signal(steps, reset_less=True)
        above = Signal(steps, reset_less=True)
        sign = Signal(reset_less=True)
        window_shift = Signal(len(shift), reset_less=True)
        to_odd = ties[1]  # only `Ties.ODD` has it: cheaper than to compare
        inverted = to_odd.replicate(len(scaled) - OFFSET_SHIFT)
        rest = scaled ^ Cat(Const(0, OFFSET_SHIFT), inverted)
        m.d.sync += [
            window.eq(Array(scaled[first + step * i :][:KEY_BITS] for i in range(steps))[shift]),
            sign.eq(scaled[-1]),
            window_shift.eq(shift),
        ]
        for i in range(steps):
            top = first + step * i + KEY_BITS
            bottom = first + step * (i - 1) if i else 0
            m.d.sync += [
                below[i].eq(rest[bottom : first + step * i].any()),
                above[i].eq(scaled[top : None if i == steps - 1 else top + step].any()),
            ]

        quotient = Signal(KEY_BITS, reset_less=True)
        negative = Signal(reset_less=True)
        overflow = Signal(reset_less=True)
        tie = Signal(reset_less=True)
        covered: list[Value] = [below[: i + 1].any() for i in range(steps)]
        exceeded: list[Value] = [above[i:].any() for i in range(steps)]
        m.d.sync += [
            quotient.eq(window),
            negative.eq(sign),
            overflow.eq(Array(exceeded)[window_shift]),
            tie.eq(~Array(covered)[window_shift]),
        ]

        rounded = Signal(KEY_BITS)
        set_lowest = tie & (rounding == Ties.ODD)
        clear_lowest = tie & (rounding == Ties.EVEN)
        m.d.comb += rounded.eq(Cat((quotient[0] | set_lowest) & ~clear_lowest, quotient[1:]))
        with m.If(negative | (~overflow & (rounded < self.low))):
            m.d.sync += self.key.eq(self.low)
        with m.Elif(overflow | (rounded > self.high)):
            m.d.sync += self.key.eq(self.high)
        with m.Else():
            m.d.sync += self.key.eq(rounded)
        return m
