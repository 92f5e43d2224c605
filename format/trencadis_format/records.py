"""Records: fixed sequences of bit fields, the first field in the least significant bits.

Amaranth layouts are derived from records, the compiler packs with them, the emulator and the host
unpack with them.
"""

from dataclasses import dataclass
from functools import cached_property

__all__ = ["Field", "FieldError", "Record"]


class FieldError(ValueError):
    """A number does not fit its field. One line: field, range, value."""


@dataclass(frozen=True)
class Field:
    """One bit field of a record: `bits` wide, two's complement if `signed`."""

    name: str
    bits: int
    doc: str
    signed: bool = False

    @property
    def low(self) -> int:
        """Smallest value the field holds."""
        return -(1 << (self.bits - 1)) if self.signed else 0

    @property
    def high(self) -> int:
        """Largest value the field holds."""
        return (1 << (self.bits - self.signed)) - 1

    def encode(self, value: int, record: str) -> int:
        """`value` as an unsigned bit pattern; refuses what does not fit."""
        if not self.low <= value <= self.high:
            raise FieldError(
                f"{record}.{self.name} must be in {self.low}..{self.high}, not {value}"
            )
        return value & ((1 << self.bits) - 1)

    def decode(self, pattern: int) -> int:
        """Inverse of `encode`, for a pattern of `bits` bits."""
        return pattern - (1 << self.bits) if pattern > self.high else pattern


@dataclass(frozen=True)
class Record:
    """A fixed sequence of bit fields, the first one in the least significant bits."""

    name: str
    fields: tuple[Field, ...]

    @cached_property
    def bits(self) -> int:
        """Width of a packed record."""
        return sum(field.bits for field in self.fields)

    def __getitem__(self, name: str) -> Field:
        for field in self.fields:
            if field.name == name:
                return field
        raise KeyError(f"{self.name} has no field {name}")

    def pack(self, **values: int) -> int:
        """Pack one value for every field.

        Raises
        ------
        ValueError
            If a value is missing, has no field, or does not fit its field.
        """
        unknown = sorted(values.keys() - {field.name for field in self.fields})
        if unknown:
            raise ValueError(f"{self.name} has no field {', '.join(unknown)}")
        word = offset = 0
        for field in self.fields:
            if field.name not in values:
                raise ValueError(f"{self.name}.{field.name} needs a value")
            word |= field.encode(int(values[field.name]), self.name) << offset
            offset += field.bits
        return word

    def unpack(self, word: int) -> dict[str, int]:
        """Inverse of `pack`."""
        if word < 0 or word >> self.bits:
            raise ValueError(f"a {self.name} record has {self.bits} bits, not {word.bit_length()}")
        values = {}
        for field in self.fields:
            values[field.name] = field.decode(word & ((1 << field.bits) - 1))
            word >>= field.bits
        return values
