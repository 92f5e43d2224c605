"""From beats of sums to rows of a map: requantised, or sums as they are."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from trencadis_format.image import Target
from trencadis_format.layer_tables import REQUANTISE
from trencadis_format.map_config import MapConfig
from trencadis_format.map_tables import MAP_LAYER, MapMode
from trencadis_format.widths import KEY_BITS
from trencadis_hw.interface.layouts import layout_of
from trencadis_hw.interface.load import LoadInterface, LoadSignature, narrow_load
from trencadis_hw.interface.loaded_table import LoadedTable
from trencadis_hw.maps.memory import row_layout
from trencadis_hw.maps.walk import issue_layout
from trencadis_hw.output.requantise import Requantiser

__all__ = ["MakeRows"]

RAW_BITS = 32


class MakeRows(wiring.Component):
    """Makes the rows that a layer gives: of keys of its sums, of the sums, or of largest keys.

    Parameters
    ----------
    config : MapConfig
        The engine.
    load_bits : int
        Width of the load bus.

    Members
    -------
    layer : In(MAP_LAYER)
        The layer; constant while it is computed.
    beat_valid, sums, parameter_row : In
        Beats of the array, as in `MapArray`.
    valid, issue, read : In
        Rows that a `MapMode.MAXIMUM` layer reads, and what they are.
    row_valid, row : Out
        A row.
    load : In(LoadSignature)
        Image rows.
    """

    layer: data.View
    beat_valid: Signal
    sums: data.View
    parameter_row: Signal
    valid: Signal
    issue: data.View
    read: data.View
    row_valid: Signal
    row: data.View
    load: LoadInterface

    def __init__(self, config: MapConfig, *, load_bits: int) -> None:
        self._config = config
        self._load_bits = load_bits
        super().__init__(
            {
                "layer": In(layout_of(MAP_LAYER)),
                "beat_valid": In(1),
                "sums": In(data.ArrayLayout(signed(config.sum_bits), config.tiles)),
                "parameter_row": In(MAP_LAYER["requantise_base"].bits),
                "valid": In(1),
                "issue": In(issue_layout()),
                "read": In(row_layout(config)),
                "row_valid": Out(1),
                "row": Out(row_layout(config)),
                "load": In(LoadSignature(load_bits)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        keys_valid, keys = self._requantise(m)
        sums_valid, sums = self._raw(m)
        largest_valid, largest = self._maximum(m)
        m.d.sync += self.row_valid.eq(keys_valid | sums_valid | largest_valid)
        with m.If(self.layer.mode == MapMode.MAXIMUM):
            m.d.sync += Value.cast(self.row).eq(largest)
        with m.Elif(self.layer.raw):
            m.d.sync += Value.cast(self.row).eq(sums)
        with m.Else():
            m.d.sync += Value.cast(self.row).eq(keys)
        return m

    def _requantise(self, m: Module) -> tuple[Value, Value]:
        """Keys of the beats, as many beats as make a row."""
        config = self._config
        keys = []
        for tile in range(config.tiles):
            m.submodules[f"requantiser_{tile}"] = unit = Requantiser(config.sum_bits)
            table = LoadedTable(
                REQUANTISE,
                Target.REQUANTISE,
                depth=config.requantise_rows,
                load_bits=self._load_bits,
                style="block",
            )
            m.submodules[f"parameters_{tile}"] = table
            mine = narrow_load(m, self.load, self.load.unit == tile, name=f"load_{tile}")
            wiring.connect(m, mine, table.load)
            m.d.comb += [
                table.address[0].eq(self.parameter_row),
                unit.parameters.eq(table.row[0]),
                unit.sum.eq(self.sums[tile]),
                unit.low.eq(self.layer.low),
                unit.high.eq(self.layer.high),
            ]
            keys.append(unit.key)
        valid = Signal(Requantiser.latency)
        m.d.sync += valid.eq(Cat(self.beat_valid & ~self.layer.raw, valid))
        beats = config.row_beats
        if beats == 1:
            return valid[-1], Cat(*keys)
        earlier = Signal(KEY_BITS * config.tiles * (beats - 1), reset_less=True)
        place = Signal(range(beats))
        with m.If(valid[-1]):
            m.d.sync += [
                earlier.eq(Cat(earlier, *keys)[KEY_BITS * config.tiles :]),
                place.eq(Mux(place == beats - 1, 0, place + 1)),
            ]
        return valid[-1] & (place == beats - 1), Cat(earlier, *keys)

    def _raw(self, m: Module) -> tuple[Value, Value]:
        """The sums of a beat, in 32 bits each, a row after the other."""
        config = self._config
        bits = KEY_BITS * config.row_values
        sums = Signal(RAW_BITS * config.tiles, reset_less=True)
        left = Signal(range(config.raw_rows + 1))
        wide = []
        for tile in range(config.tiles):
            extended = Signal(signed(RAW_BITS), name=f"sum_{tile}")
            m.d.comb += extended.eq(self.sums[tile])
            wide.append(extended)
        with m.If(self.beat_valid & self.layer.raw):
            m.d.sync += [sums.eq(Cat(*wide)), left.eq(config.raw_rows)]
        with m.Elif(left != 0):
            m.d.sync += [sums.eq(sums >> bits), left.eq(left - 1)]
        return left != 0, sums[:bits]

    def _maximum(self, m: Module) -> tuple[Value, Value]:
        """The largest keys of a window, column by column; keys of the padding do not count."""
        largest = Signal(row_layout(self._config), reset_less=True)
        valid = Signal()
        m.d.sync += valid.eq(self.valid & self.issue.last & (self.layer.mode == MapMode.MAXIMUM))
        with m.If(self.valid):
            for i in range(self._config.row_values):
                before, read = Signal(KEY_BITS, name=f"before_{i}"), Signal(KEY_BITS, name=f"k_{i}")
                m.d.comb += [
                    before.eq(Mux(self.issue.first, 0, largest[i])),
                    read.eq(Mux(self.issue.masked, 0, self.read[i])),
                ]
                m.d.sync += largest[i].eq(Mux(read > before, read, before))
        return valid, Value.cast(largest)
