"""Accumulators addressed by kernel ID: where products are routed to the kernel that owns them."""

from amaranth.hdl import C, Cat, Module, Signal, signed
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from trencadis_format.widths import PRODUCT_BITS

__all__ = ["BankedAccumulator"]


class BankedAccumulator(wiring.Component):
    """The accumulators of one lane and tile: two banks of one accumulator a kernel.

    Every cycle one product is added to the accumulator of its kernel in the active bank, while
    one accumulator of the other bank is read out. Accumulators are never cleared: they wrap
    around, and `drain` takes the difference to the previous readout. So the loop is a read of
    distributed memory, an adder and a write, in one cycle, and no product ever waits.

    Latency: a product is part of `total` if it came a cycle or more before `read_kernel`;
    `total` follows `read_kernel` by 1 cycle.

    Parameters
    ----------
    kernels : int
        Kernels of a tile.
    sum_bits : int
        Width of an accumulator.

    Members
    -------
    product : In(signed(PRODUCT_BITS))
        Product to add; 0 if there is none.
    carry : In(1)
        Added to the product.
    kernel : In(kernel bits)
        Kernel ID of the product.
    bank : In(1)
        The active bank.
    read_kernel : In(kernel bits)
        Accumulator of the other bank to read.
    total : Out(sum_bits)
        Everything ever added to that accumulator, modulo 2**sum_bits.
    """

    product: Signal
    carry: Signal
    kernel: Signal
    bank: Signal
    read_kernel: Signal
    total: Signal

    def __init__(self, *, kernels: int, sum_bits: int) -> None:
        if kernels < 1:
            raise ValueError(f"kernels must be positive, not {kernels!r}")
        if sum_bits < PRODUCT_BITS:
            raise ValueError(
                f"sum_bits must hold a product of {PRODUCT_BITS} bits, not {sum_bits!r}"
            )
        self._sum_bits = sum_bits
        self._kernel_bits = max(1, (kernels - 1).bit_length())
        super().__init__(
            {
                "product": In(signed(PRODUCT_BITS)),
                "carry": In(1),
                "kernel": In(self._kernel_bits),
                "bank": In(1),
                "read_kernel": In(self._kernel_bits),
                "total": Out(sum_bits),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.banks = banks = memory.Memory(
            shape=self._sum_bits,
            depth=2 << self._kernel_bits,
            init=[],
            attrs={"ram_style": "distributed"},
        )
        write = banks.write_port()
        current = banks.read_port(domain="comb")
        drained = banks.read_port(domain="comb")
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
            drained.addr.eq(Cat(self.read_kernel, ~self.bank)),
        ]
        m.d.sync += self.total.eq(drained.data)
        return m
