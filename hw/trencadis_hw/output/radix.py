"""One digit of a radix selection: the step that both k-WTA selectors are made of.

The k-th largest of a vector of keys is found two bits at a time, from the most significant ones.
Candidates are the activations that agree with the digits found so far; they are counted by their
next digit, and the largest digit that at least k candidates reach is the next one of the k-th
largest. What lies above it is in, so k shrinks by its count. After the last digit the digits are
the k-th largest key, and k is how many activations equal to it are still to be taken.
"""

from collections.abc import Sequence

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from trencadis_format.widths import KEY_BITS

__all__ = [
    "DIGITS",
    "DIGIT_BITS",
    "DigitCounter",
    "choose_winners",
    "rank_row",
    "ranks_layout",
    "threshold_layout",
]

MAX_GATED = 8
"""Bits that are counted by gates alone."""

DIGIT_BITS = 2
DIGITS = KEY_BITS // DIGIT_BITS


def threshold_layout(most: int) -> data.StructLayout:
    """State of the selection in a vector of up to `most` activations.

    `digits`: digits of the k-th largest key found so far, the rest 0; `k`: activations still to be
    taken from the candidates.
    """
    return data.StructLayout({"digits": KEY_BITS, "k": range(most + 1)})


def count_ones(bits: Sequence[Value]) -> Value:
    """Count the bits that are set.

    Made of gates: the count of six bits is one level of LUTs, where adders would each be a carry
    chain. The expression of a carry holds that of the one before twice, so many bits are added.
    """
    if len(bits) == 1:
        return bits[0]
    half = 1 << ((len(bits) - 1).bit_length() - 1)
    low, high = count_ones(bits[:half]), count_ones(bits[half:])
    if len(bits) > MAX_GATED:
        return low + high
    total: list[Value] = []
    carry: Value = C(0, 1)
    for i in range(len(low)):
        a, b = low[i], high[i] if i < len(high) else C(0, 1)
        total.append(a ^ b ^ carry)
        carry = (a & b) | (carry & (a ^ b))
    return Cat(*total, carry)[: len(bits).bit_length()]


class DigitCounter(wiring.Component):
    """Count the candidates of a vector by one digit and find that digit of the k-th largest.

    Latency from the last row to `found_valid`: 4 cycles, one row per cycle, vectors back to back.

    Parameters
    ----------
    width, most : int
        Activations of a row, and of the longest vector.

    Members
    -------
    valid : In(1)
        There is a row.
    keys, mask : In
        The row's activations, and which of them count.
    last : In(1)
        It is the last row of its vector.
    number : In(range(DIGITS))
        The digit to find, 0 for the most significant; the same from a vector's first row to
        `found_valid`.
    threshold : In(threshold_layout)
        The digits found before; constant during a vector.
    found_valid : Out(1)
        A vector has been counted.
    found : Out(threshold_layout)
        The digits with the new one.
    """

    latency = 4

    valid: Signal
    keys: data.View
    mask: Signal
    last: Signal
    number: Signal
    threshold: data.View
    found_valid: Signal
    found: data.View

    def __init__(self, width: int, most: int) -> None:
        self._width, self._most = width, most
        super().__init__(
            {
                "valid": In(1),
                "keys": In(data.ArrayLayout(KEY_BITS, width)),
                "mask": In(width),
                "last": In(1),
                "number": In(range(DIGITS)),
                "threshold": In(threshold_layout(most)),
                "found_valid": Out(1),
                "found": Out(threshold_layout(most)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        width = self._width
        digits = range(1, 1 << DIGIT_BITS)

        # Which activations are candidates with at least each digit.
        reach = [Signal(width, name=f"reach_{digit}", reset_less=True) for digit in digits]
        for i in range(width):
            agree, digit = Signal(name=f"agree_{i}"), Signal(DIGIT_BITS, name=f"digit_{i}")
            with m.Switch(self.number):
                for number in range(DIGITS):
                    low = KEY_BITS - DIGIT_BITS * (number + 1)
                    with m.Case(number):
                        above = slice(low + DIGIT_BITS, None)
                        m.d.comb += [
                            agree.eq(self.keys[i][above] == self.threshold.digits[above]),
                            digit.eq(self.keys[i][low : low + DIGIT_BITS]),
                        ]
            for value, signal in zip(digits, reach, strict=True):
                m.d.sync += signal[i].eq(self.valid & self.mask[i] & agree & (digit >= value))

        # Add them up over the rows of the vector.
        counted, ends = Signal(), Signal()
        starts = Signal(init=1)
        threshold = Signal(threshold_layout(self._most), reset_less=True)
        done = Signal()
        totals = [
            Signal(range(self._most + 1), name=f"total_{digit}", reset_less=True)
            for digit in digits
        ]
        m.d.sync += [
            counted.eq(self.valid),
            ends.eq(self.valid & self.last),
            threshold.eq(self.threshold),
            done.eq(ends),
        ]
        with m.If(counted):
            m.d.sync += starts.eq(ends)
            for total, signal in zip(totals, reach, strict=True):
                count = count_ones([signal[i] for i in range(width)])
                m.d.sync += total.eq(Mux(starts, 0, total) + count)

        # Compare, a cycle before the subtraction: a carry chain in each is enough.
        threshold_now = Signal(threshold_layout(self._most), reset_less=True)
        compared = Signal()
        reached = Signal(len(digits), reset_less=True)
        above = [
            Signal(range(self._most + 1), name=f"above_{digit}", reset_less=True)
            for digit in digits
        ]
        threshold_then = Signal(threshold_layout(self._most), reset_less=True)
        m.d.sync += [
            threshold_now.eq(threshold),
            compared.eq(done),
            threshold_then.eq(threshold_now),
        ]
        for i, total in enumerate(totals):
            m.d.sync += [reached[i].eq(total >= threshold_now.k), above[i].eq(total)]

        # Choose the digit: the largest one reached. What lies above it is in.
        m.d.sync += self.found_valid.eq(compared)
        chosen = Signal(DIGIT_BITS)
        inside = Signal(range(self._most + 1))
        m.d.comb += inside.eq(above[0])
        for value in digits:
            with m.If(reached[value - 1]):
                m.d.comb += [
                    chosen.eq(value),
                    inside.eq(above[value] if value < len(above) else 0),
                ]
        m.d.sync += [
            self.found.k.eq(threshold_then.k - inside),
            self.found.digits.eq(threshold_then.digits),
        ]
        with m.Switch(self.number):
            for i in range(DIGITS):
                with m.Case(i):
                    low = KEY_BITS - DIGIT_BITS * (i + 1)
                    m.d.sync += self.found.digits[low : low + DIGIT_BITS].eq(chosen)
        return m


def ranks_layout(width: int) -> data.StructLayout:
    """Compare the activations of a row with the k-th largest key of their vector.

    `greater`, `equal`: bits; `before`: how many equal ones come before each activation, and in
    all, `width` + 1 counts.
    """
    counts = data.ArrayLayout(range(width + 1), width + 1)
    return data.StructLayout({"greater": width, "equal": width, "before": counts})


def rank_row(m: Module, *, keys: data.View, mask: Value, largest: Value, width: int) -> data.View:
    """Compare a row's activations with the k-th largest key; a view of `ranks_layout`."""
    ranks = Signal(ranks_layout(width), name="ranks")
    m.d.comb += ranks.before[0].eq(0)
    for i in range(width):
        m.d.comb += [
            ranks.greater[i].eq(mask[i] & (keys[i] > largest)),
            ranks.equal[i].eq(mask[i] & (keys[i] == largest)),
            ranks.before[i + 1].eq(count_ones([ranks.equal[j] for j in range(i + 1)])),
        ]
    return ranks


def choose_winners(
    m: Module, ranks: data.View, *, left: Value, exact: Value, width: int
) -> tuple[Value, Value]:
    """Winners of a row, given how it compares with the k-th largest key of its vector.

    Parameters
    ----------
    ranks : view of ranks_layout
        What `rank_row` found, better a cycle before.
    left : bits
        Activations equal to the k-th largest key that may still win.
    exact : bit
        Mind `left`; otherwise all activations equal to the k-th largest win.
    width : int
        Activations of a row.

    Returns
    -------
    tuple
        The winners as bits, and `left` after this row.
    """
    winners = Signal(width, name="winners")
    for i in range(width):
        may = ~exact | (ranks.before[i] < left)
        m.d.comb += winners[i].eq(ranks.greater[i] | (ranks.equal[i] & may))
    every = ranks.before[width]
    return winners, Mux(every < left, left - every, 0)
