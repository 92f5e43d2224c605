"""A lane: reads one activation a cycle and finds the weights that belong to it."""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from trencadis_hw import abi
from trencadis_hw.config import EngineConfig
from trencadis_hw.layouts import layout_of
from trencadis_hw.lists import ENTRY, list_write_layout
from trencadis_hw.load import LoadInterface, LoadSignature, add_load_port
from trencadis_hw.streams import delay

__all__ = ["Lane", "address_bits", "issue_layout", "lookup_layout"]


def address_bits(config: EngineConfig) -> int:
    """Width of an address in a lane's activation memories."""
    return max(1, (max(config.dense_values, config.list_entries) - 1).bit_length())


def issue_layout(config: EngineConfig) -> data.StructLayout:
    """What the sequencer tells all lanes in a cycle: which activation to read.

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
    """What the sequencer tells all lanes about the activation they read: where its weights are.

    `dense`: it is from the dense input, where the channel is `index`. `weight_row`: weight row of
    channel 0. `walk_first`: it is the first entry of a list. `dynamic`: a value of 0 ends the list.
    """
    return data.StructLayout(
        {
            "dense": 1,
            "index": abi.INDEX_BITS,
            "weight_row": range(config.weight_rows),
            "walk_first": 1,
            "dynamic": 1,
        }
    )


class Lane(wiring.Component):
    """One lane, for all words of a core.

    Latency from `issue` to `values` and `weight_rows`: 5 cycles; to `ended`: 5 cycles. An issue in
    the cycle after `writes` reads the new entry.

    Parameters
    ----------
    config : EngineConfig
        The engine.
    words : int
        Words in lockstep.
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
        What is there, a word each, 2 cycles later.
    write_enables, writes : In
        Entries to write, a word each.
    values : Out(array of signed(VALUE_BITS))
        The activation, 0 if there is none.
    weight_rows : Out(array)
        Row of the weight memory that belongs to it.
    ended : Out(words)
        The list has ended at or before this entry.
    load : In(LoadSignature)
        Image rows for this lane.
    """

    latency = 5
    lookup_latency = 4

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

    def __init__(self, config: EngineConfig, *, words: int, load_bits: int) -> None:
        self._config = config
        self._words = words
        value = signed(abi.VALUE_BITS)
        super().__init__(
            {
                "issue": In(issue_layout(config)),
                "lookup": In(lookup_layout(config)),
                "dense_address": Out(address_bits(config)),
                "dense_values": In(data.ArrayLayout(value, words)),
                "write_enables": In(words),
                "writes": In(data.ArrayLayout(list_write_layout(), words)),
                "values": Out(data.ArrayLayout(value, words)),
                "weight_rows": Out(data.ArrayLayout(range(config.weight_rows), words)),
                "ended": Out(words),
                "load": In(LoadSignature(load_bits)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config

        m.submodules.slots = slots = memory.Memory(
            shape=layout_of(abi.SLOT),
            depth=config.slot_rows,
            init=[],
            attrs={"ram_style": "distributed"},
        )
        add_load_port(m, slots, self.load, abi.Target.SLOT)
        slot = slots.read_port(domain="comb")
        m.d.comb += slot.addr.eq(self.issue.slot)
        offset = Signal(address_bits(config), reset_less=True)
        window = Signal(address_bits(config), reset_less=True)
        exists = Signal()
        address = Signal(address_bits(config), reset_less=True)
        m.d.sync += [
            offset.eq(slot.data.offset),
            window.eq(self.issue.address),
            exists.eq(self.issue.valid & slot.data.valid),
            address.eq(window + offset),
        ]
        m.d.comb += self.dense_address.eq(address)

        present = delay(m, exists, 3, name="present")
        lookup = self.lookup

        for word in range(self._words):
            entry = Signal(ENTRY, name=f"entry_{word}")
            if config.list_entries:
                stored = self._list_memory(m, word, address)
                m.d.comb += entry.eq(stored)
            if config.dense_values:
                with m.If(lookup.dense if config.list_entries else 1):
                    m.d.comb += [
                        entry.value.eq(self.dense_values[word]),
                        entry.index.eq(lookup.index),
                    ]
            ended = Signal(name=f"ended_{word}")
            m.d.comb += ended.eq(~present | (entry.value == 0))
            if config.list_entries:
                over = Signal(name=f"over_{word}")
                ended_now = Signal(name=f"ended_now_{word}")
                m.d.comb += ended_now.eq(ended | (over & ~lookup.walk_first))
                m.d.sync += over.eq(ended_now)
                ended = ended_now
            m.d.sync += [
                self.ended[word].eq(ended),
                self.values[word].eq(
                    Mux(present & ~(lookup.dynamic & ended), entry.value, 0)
                    if config.list_entries
                    else Mux(present, entry.value, 0)
                ),
                self.weight_rows[word].eq(lookup.weight_row + entry.index),
            ]
        return m

    def _list_memory(self, m: Module, word: int, address: Signal) -> data.View:
        """The lane's copy of the activation lists of a word; the entry 2 cycles after `address`."""
        config = self._config
        write = self.writes[word]
        regions = memory.Memory(
            shape=layout_of(abi.REGION),
            depth=abi.MAP_COUNT,
            init=[],
            attrs={"ram_style": "distributed"},
        )
        m.submodules[f"regions_{word}"] = regions
        add_load_port(m, regions, self.load, abi.Target.REGION)
        region = regions.read_port(domain="comb")
        m.d.comb += region.addr.eq(write.map)

        lists = memory.Memory(
            shape=ENTRY, depth=config.list_entries, init=[], attrs={"ram_style": "block"}
        )
        m.submodules[f"lists_{word}"] = lists
        port, read = lists.write_port(), lists.read_port()

        # A borrow makes an address before the region larger than any size.
        local = Signal(abi.LIST_ADDRESS_BITS + 1, name=f"local_{word}", reset_less=True)
        received = Signal(list_write_layout(), name=f"received_{word}", reset_less=True)
        arrived = Signal(name=f"arrived_{word}")
        owner = Signal(name=f"owner_{word}", reset_less=True)
        mine = Signal(name=f"mine_{word}")
        entry = Signal(ENTRY, name=f"new_{word}", reset_less=True)
        write_address = Signal(address_bits(config), name=f"write_address_{word}", reset_less=True)
        m.d.sync += [
            arrived.eq(self.write_enables[word]),
            received.eq(write),
            owner.eq(write.everywhere | (write.owner == region.data.low[: len(write.owner)])),
            local.eq(write.address - Mux(write.owned, 0, region.data.low)),
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
        output = Signal(ENTRY, name=f"output_{word}", reset_less=True)
        m.d.sync += output.eq(read.data)
        return output
