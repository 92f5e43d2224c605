"""Accumulators of a map engine: one per kernel ID and bank."""

from amaranth.hdl import C, Cat, Module, Signal, signed
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from trencadis_format.map_config import BANKS
from trencadis_format.widths import PRODUCT_BITS

__all__ = ["MapAccumulator"]


class MapAccumulator(wiring.Component):
    """The accumulators of one lane and tile.

    One product is added per cycle, one accumulator is read. They are never cleared: they wrap
    around, and `drain` takes differences, as with `BankedAccumulator`. `total` follows
    `read_kernel` and `read_bank` by 1 cycle, and has all products that came before them.

    Parameters
    ----------
    kernels : int
        Kernels of a tile.
    sum_bits : int
        Width of an accumulator.

    Members
    -------
    product, carry : In
        Product to add, and a carry; 0 if there is none.
    kernel, bank : In
        The accumulator they belong to.
    read_kernel, read_bank : In
        The accumulator to read.
    total : Out(sum_bits)
        Everything ever added to it, modulo 2**sum_bits.
    """

    product: Signal
    carry: Signal
    kernel: Signal
    bank: Signal
    read_kernel: Signal
    read_bank: Signal
    total: Signal

    def __init__(self, *, kernels: int, sum_bits: int) -> None:
        self._sum_bits = sum_bits
        self._kernel_bits = max(1, (kernels - 1).bit_length())
        super().__init__(
            {
                "product": In(signed(PRODUCT_BITS)),
                "carry": In(1),
                "kernel": In(self._kernel_bits),
                "bank": In(range(BANKS)),
                "read_kernel": In(self._kernel_bits),
                "read_bank": In(range(BANKS)),
                "total": Out(sum_bits),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.banks = banks = memory.Memory(
            shape=self._sum_bits,
            depth=BANKS << self._kernel_bits,
            init=[],
            attrs={"ram_style": "distributed"},
        )
        write = banks.write_port()
        current, drained = banks.read_port(domain="comb"), banks.read_port(domain="comb")
        # One carry chain adds sum, product and carry: the bit below the sum generates the carry.
        addend = Signal(signed(PRODUCT_BITS + 1))
        result = Signal(self._sum_bits + 1)
        m.d.comb += [
            current.addr.eq(Cat(self.kernel, self.bank)),
            write.addr.eq(Cat(self.kernel, self.bank)),
            addend.eq(Cat(self.carry, self.product)),
            result.eq(Cat(C(1, 1), current.data).as_signed() + addend),
            write.data.eq(result[1:]),
            write.en.eq(1),
            drained.addr.eq(Cat(self.read_kernel, self.read_bank)),
        ]
        m.d.sync += self.total.eq(drained.data)
        return m
