"""A lane: reads one activation a cycle and finds the weights that belong to it."""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from trencadis_format.config import EngineConfig
from trencadis_format.image import Target
from trencadis_format.layer_tables import REGION, SLOT
from trencadis_format.timing import LANE_LATENCY, LOOKUP_LATENCY
from trencadis_format.widths import INDEX_BITS, LIST_ADDRESS_BITS, MAP_COUNT, VALUE_BITS
from trencadis_hw.interface.lists import ENTRY, list_write_layout
from trencadis_hw.interface.load import LoadInterface, LoadSignature
from trencadis_hw.interface.loaded_table import LoadedTable
from trencadis_hw.interface.streams import delay

__all__ = ["Lane", "address_bits", "issue_layout", "lookup_layout"]


def address_bits(config: EngineConfig) -> int:
    """Width of an address in a lane's activation memories."""
    return max(1, (max(config.dense_values, config.list_entries) - 1).bit_length())


def issue_layout(config: EngineConfig) -> data.StructLayout:
    """Order of the sequencer to all lanes: the activation to read in this cycle.

    `valid`: read one. `address`: of the window, plus the entry's; every lane adds the offset of its
    slot, from row `slot` of its table.
    """
    return data.StructLayout(
        {
            "valid": 1,
            "address": address_bits(config),
            "slot": range(config.slot_rows),
        }
    )


def lookup_layout(config: EngineConfig) -> data.StructLayout:
    """Order of the sequencer to all lanes: where the weights of the activation are that they read.

    `dense`: it is from the dense input, where the channel is `index`. `weight_row`: weight row of
    channel 0. `walk_first`: it is the first entry of a list. `dynamic`: a value of 0 ends the list.
    """
    return data.StructLayout(
        {
            "dense": 1,
            "index": INDEX_BITS,
            "weight_row": range(config.weight_rows),
            "walk_first": 1,
            "dynamic": 1,
        }
    )


class Lane(wiring.Component):
    """One lane, for all samples of a core.

    Latency from `issue` to `values` and `weight_rows`: 5 cycles; to `ended`: 5 cycles. An issue in
    the cycle after `writes` reads the new entry.

    Parameters
    ----------
    config : EngineConfig
        The engine.
    batch_lanes : int
        Samples in lockstep.
    load_bits : int
        Width of the load bus.

    Members
    -------
    issue : In(issue_layout)
        What to read.
    lookup : In(lookup_layout)
        What belongs to it, `lookup_latency` cycles after the issue.
    dense_address : Out
        Address in the dense input, 2 cycles after `issue`.
    dense_values : In(array of signed(VALUE_BITS))
        What is there, one per sample, 2 cycles later.
    write_enables, writes : In
        Entries to write, one per sample.
    values : Out(array of signed(VALUE_BITS))
        The activation, 0 if there is none.
    weight_rows : Out(array)
        Row of the weight memory that belongs to it.
    ended : Out(batch_lanes)
        The list has ended at or before this entry.
    load : In(LoadSignature)
        Image rows for this lane.
    """

    latency = LANE_LATENCY
    lookup_latency = LOOKUP_LATENCY

    issue: data.View
    lookup: data.View
    dense_address: Signal
    dense_values: data.View
    write_enables: Signal
    writes: data.View
    values: data.View
    weight_rows: data.View
    ended: Signal
    load: LoadInterface

    def __init__(self, config: EngineConfig, *, batch_lanes: int, load_bits: int) -> None:
        self._config = config
        self._batch_lanes = batch_lanes
        value = signed(VALUE_BITS)
        super().__init__(
            {
                "issue": In(issue_layout(config)),
                "lookup": In(lookup_layout(config)),
                "dense_address": Out(address_bits(config)),
                "dense_values": In(data.ArrayLayout(value, batch_lanes)),
                "write_enables": In(batch_lanes),
                "writes": In(data.ArrayLayout(list_write_layout(), batch_lanes)),
                "values": Out(data.ArrayLayout(value, batch_lanes)),
                "weight_rows": Out(data.ArrayLayout(range(config.weight_rows), batch_lanes)),
                "ended": Out(batch_lanes),
                "load": In(LoadSignature(load_bits)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config

        m.submodules.slots = slots = LoadedTable(
            SLOT, Target.SLOT, depth=config.slot_rows, load_bits=len(self.load.data)
        )
        wiring.connect(m, wiring.flipped(self.load), slots.load)
        slot = slots.row[0]
        m.d.comb += slots.address[0].eq(self.issue.slot)
        offset = Signal(address_bits(config), reset_less=True)
        window = Signal(address_bits(config), reset_less=True)
        exists = Signal()
        address = Signal(address_bits(config), reset_less=True)
        m.d.sync += [
            offset.eq(slot.offset),
            window.eq(self.issue.address),
            exists.eq(self.issue.valid & slot.valid),
            address.eq(window + offset),
        ]
        m.d.comb += self.dense_address.eq(address)

        present = delay(m, exists, 3, name="present")
        lookup = self.lookup

        for sample in range(self._batch_lanes):
            entry = Signal(ENTRY, name=f"entry_{sample}")
            if config.list_entries:
                stored = self._list_memory(m, sample, address)
                m.d.comb += entry.eq(stored)
            if config.dense_values:
                with m.If(lookup.dense if config.list_entries else 1):
                    m.d.comb += [
                        entry.value.eq(self.dense_values[sample]),
                        entry.index.eq(lookup.index),
                    ]
            ended = Signal(name=f"ended_{sample}")
            m.d.comb += ended.eq(~present | (entry.value == 0))
            if config.list_entries:
                over = Signal(name=f"over_{sample}")
                ended_now = Signal(name=f"ended_now_{sample}")
                m.d.comb += ended_now.eq(ended | (over & ~lookup.walk_first))
                m.d.sync += over.eq(ended_now)
                ended = ended_now
            m.d.sync += [
                self.ended[sample].eq(ended),
                self.values[sample].eq(
                    Mux(present & ~(lookup.dynamic & ended), entry.value, 0)
                    if config.list_entries
                    else Mux(present, entry.value, 0)
                ),
                self.weight_rows[sample].eq(lookup.weight_row + entry.index),
            ]
        return m

    def _list_memory(self, m: Module, sample: int, address: Signal) -> data.View:
        """The lane's copy of a sample's activation lists; the entry 2 cycles after `address`."""
        config = self._config
        write = self.writes[sample]
        regions = LoadedTable(REGION, Target.REGION, depth=MAP_COUNT, load_bits=len(self.load.data))
        m.submodules[f"regions_{sample}"] = regions
        wiring.connect(m, wiring.flipped(self.load), regions.load)
        region = regions.row[0]
        m.d.comb += regions.address[0].eq(write.map)

        lists = memory.Memory(
            shape=ENTRY, depth=config.list_entries, init=[], attrs={"ram_style": "block"}
        )
        m.submodules[f"lists_{sample}"] = lists
        port, read = lists.write_port(), lists.read_port()

        # A borrow makes an address before the region larger than any size.
        local = Signal(LIST_ADDRESS_BITS + 1, name=f"local_{sample}", reset_less=True)
        received = Signal(list_write_layout(), name=f"received_{sample}", reset_less=True)
        arrived = Signal(name=f"arrived_{sample}")
        owner = Signal(name=f"owner_{sample}", reset_less=True)
        mine = Signal(name=f"mine_{sample}")
        entry = Signal(ENTRY, name=f"new_{sample}", reset_less=True)
        write_address = Signal(
            address_bits(config), name=f"write_address_{sample}", reset_less=True
        )
        m.d.sync += [
            arrived.eq(self.write_enables[sample]),
            received.eq(write),
            owner.eq(write.everywhere | (write.owner == region.low[: len(write.owner)])),
            local.eq(write.address - Mux(write.owned, 0, region.low)),
            mine.eq(arrived & Mux(received.owned, owner, local < received.size)),
            entry.eq(received.entry),
            write_address.eq(local + received.base),
        ]
        m.d.comb += [
            port.addr.eq(write_address),
            port.data.eq(entry),
            port.en.eq(mine),
            read.addr.eq(address),
        ]
        output = Signal(ENTRY, name=f"output_{sample}", reset_less=True)
        m.d.sync += output.eq(read.data)
        return output
