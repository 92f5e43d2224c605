"""An array with an adder tree for every kernel of a tile."""

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring

from trencadis_format.config import EngineConfig
from trencadis_format.widths import PRODUCT_BITS
from trencadis_hw.array.array import ArraySignature, step_layout
from trencadis_hw.array.multiply import PairMultiplier
from trencadis_hw.interface.streams import delay

__all__ = ["TreeArray"]


class TreeArray(wiring.Component):
    """Lanes x tiles multipliers, and for every tile and kernel a tree over all lanes.

    Each tree adds the products whose kernel ID is its own; an accumulator after it adds up the
    cycles of a step. A step is drained in one beat, so steps may follow each other every cycle.
    Column `tile * kernels + kernel` holds the sum of that kernel of that tile.

    With `split-trees`, the two halves of a tree are added up at its last level alone, and where
    operands are split, only the lower half is: the upper half's sum is held and takes the place of
    the accumulator's in the next cycle. Splits are at least two cycles apart.

    Latency from a step's last operands to its beat: `timing.array_latency` cycles.

    Parameters
    ----------
    config : EngineConfig
        The engine.
    """

    step: data.View
    values: data.View
    weights: data.View
    valid: Signal
    beat: data.View

    def __init__(self, config: EngineConfig) -> None:
        self._config = config
        super().__init__(ArraySignature(config))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        levels = max(0, (config.lanes - 1).bit_length())
        before_sum = PairMultiplier.latency + 1 + levels
        halved = config.routing == "split-trees"
        upper = config.lanes // 2
        step = Signal(step_layout())
        m.d.comb += Value.cast(step).eq(delay(m, Value.cast(self.step), before_sum, name="step"))
        # The bit that makes something happen must be known after reset.
        last = Signal(before_sum)
        m.d.sync += [
            last.eq(Cat(self.step.last, last)),
            self.valid.eq(last[-1] & ~step.discard),
        ]

        split = delay(m, self.step.split, before_sum - 1, name="split", registers=True)
        begun = delay(m, split, 2, name="begun", registers=True)

        products: list[list[tuple[Value, Signal | None, Value]]] = [[] for _ in range(config.tiles)]
        for lane in range(config.lanes):
            row = self.weights[lane]
            for tile in range(0, config.tiles, 2):
                multiplier = PairMultiplier()
                m.submodules[f"multiply_{lane}_{tile}"] = multiplier
                m.d.comb += [
                    multiplier.low.eq(row[f"weight{tile}"]),
                    multiplier.high.eq(row[f"weight{tile + 1}"]),
                    multiplier.value.eq(self.values[lane]),
                ]
                for odd in range(2):
                    kernel = delay(
                        m,
                        row[f"kernel{tile + odd}"],
                        PairMultiplier.latency,
                        name=f"kernel_{lane}_{tile + odd}",
                        registers=True,
                    )
                    product: Value = multiplier.low_product
                    carry: Signal | None = None
                    if odd:
                        product, carry = multiplier.high_product, multiplier.high_carry
                        if halved and lane == upper:
                            # A sum that begins with half of a tree has an adder less than carries.
                            product, carry = (product + carry)[:PRODUCT_BITS].as_signed(), None
                    products[tile + odd].append((product, carry, kernel))

        sums = []
        for tile in range(config.tiles):
            for kernel in range(config.kernels_per_tile):
                name = f"tree_{tile}_{kernel}"
                terms = []
                for lane, (product, carry, owner) in enumerate(products[tile]):
                    owned = owner == kernel
                    gated = Signal(signed(PRODUCT_BITS), name=f"{name}_{lane}", reset_less=True)
                    m.d.sync += gated.eq(Mux(owned, product, 0))
                    gated_carry = None
                    if carry is not None:
                        gated_carry = Signal(name=f"{name}_{lane}_carry", reset_less=True)
                        m.d.sync += gated_carry.eq(owned & carry)
                    terms.append((gated, gated_carry))
                total = Signal(config.sum_bits, name=f"sum_{tile}_{kernel}", reset_less=True)
                before: Value = total
                if halved:
                    low, low_carry = _carry_tree(m, terms[:upper], config.sum_bits, f"{name}_low")
                    high, _ = _carry_tree(m, terms[upper:], config.sum_bits, f"{name}_high")
                    width = min(len(low) + 1, config.sum_bits)
                    tree, carry = Signal(signed(width), name=name, reset_less=True), None
                    held = Signal.like(high, name=f"held_{tile}_{kernel}")
                    m.d.sync += tree.eq(_add(low, Mux(split, 0, high), low_carry))
                    with m.If(split):
                        m.d.sync += held.eq(high)
                    before = Mux(begun, held, total)
                else:
                    tree, carry = _carry_tree(m, terms, config.sum_bits, name)
                m.d.sync += total.eq(
                    _add(tree, Mux(step.first, 0, before), carry)[: config.sum_bits]
                )
                sums.append(total)

        m.d.comb += Value.cast(self.beat).eq(
            Cat(
                *sums,
                C(0, config.kernel_bits),
                delay(
                    m,
                    Cat(step.layer, step.pool_first, step.pool_last, step.vector_end),
                    1,
                    name="beat_flags",
                ),
            )
        )
        return m


def _add(a: Value, b: Value, carry: Value | None) -> Value:
    """`a + b + carry` on one carry chain, as a signed value."""
    if carry is None:
        return a + b
    total = Cat(C(1, 1), a).as_signed() + Cat(carry, b).as_signed()
    return total[1:].as_signed()


def _carry_tree(
    m: Module, terms: list[tuple[Signal, Signal | None]], sum_bits: int, name: str
) -> tuple[Signal, Signal | None]:
    """Sum of terms that each come with a carry bit to be added, a register after every level.

    Every adder takes one carry in; n terms have n carries and n - 1 adders, so one is left over
    for whoever adds the sum to something.
    """
    level = 0
    while len(terms) > 1:
        level += 1
        sums = []
        for i in range(0, len(terms), 2):
            (a, a_carry), rest = terms[i], terms[i + 1 : i + 2]
            width = min(len(a) + 1, sum_bits)
            total = Signal(signed(width), name=f"{name}_{level}_{i // 2}", reset_less=True)
            left: Signal | None = None
            if rest:
                b, b_carry = rest[0]
                m.d.sync += total.eq(_add(a, b, b_carry))
            else:
                m.d.sync += total.eq(a)
            if a_carry is not None:
                left = Signal(name=f"{name}_{level}_{i // 2}_carry", reset_less=True)
                m.d.sync += left.eq(a_carry)
            sums.append((total, left))
        terms = sums
    return terms[0]
