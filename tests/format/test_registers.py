from trencadis_format.registers import STATISTICS, Register
from trencadis_hw.axi.lite import ADDRESS_BITS, ARGUMENTS


def test_argument_registers_do_not_overlap() -> None:
    sizes = dict.fromkeys(Register, 32) | dict(ARGUMENTS.values())
    sizes[Register.CONFIGURATION] = 64
    samples = [register + i for register, bits in sizes.items() for i in range(0, bits // 8, 4)]
    assert len(samples) == len(set(samples))
    assert max(samples) < 1 << ADDRESS_BITS
    assert all(sample % 4 == 0 for sample in samples)


def test_statistics_fill_whole_beats_of_the_widest_bus() -> None:
    assert STATISTICS.bits % 512 == 0
