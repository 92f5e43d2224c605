from collections.abc import Callable

import pytest
from amaranth.hdl import Array, Assert, C, Cat, Elaboratable, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring

from trencadis_format.config import EngineConfig, Routing
from trencadis_format.timing import array_latency
from trencadis_hw.array.accumulate import BankedAccumulator
from trencadis_hw.array.tree_array import TreeArray
from trencadis_hw.axi.full import AxiReader, AxiWriter
from trencadis_hw.control.distribute import Collector, Distributor
from trencadis_hw.control.run_control import RunControl
from trencadis_hw.interface.streams import Queue, RegisterSlice, delay
from trencadis_hw.output.emit import Emitter
from trencadis_hw.output.radix import DIGITS
from trencadis_hw.output.reorder import Reorder
from trencadis_hw.output.rows import RowMerge, RowSplit
from trencadis_hw.output.select import StreamSelector
from trencadis_hw.output.select_whole import WholeSelector
from trencadis_hw.output.serialise import Serialiser
from trencadis_hw.transfer.feed_lists import ListFeeder
from trencadis_hw.transfer.pack import Packer
from trencadis_sim.testbench.formal import (
    Channel,
    ProofError,
    StreamContractSpec,
    any_constant,
    any_value,
    prove,
)

pytestmark = pytest.mark.formal

LOAD_BITS = 256
SMALL = EngineConfig(
    lanes=2,
    tiles=2,
    kernels_per_tile=2,
    dense_values=8,
    list_entries=8,
    weight_rows=4,
    queue_beats=4,
    requantisers=2,
    requantise_rows=4,
    reorder_rows=4,
    select_rows=2,
    whole_rows=4,
    layers=2,
)
LOADED = {"load.enable": 0}
"""Images are not loaded while a block works."""


def reader_channels(dut: AxiReader) -> list[Channel]:
    axi = dut.axi
    payload = Cat(axi.araddr, axi.arlen, axi.arsize, axi.arburst)
    return [Channel("ar", payload, axi.arvalid, axi.arready, True)]


def writer_channels(dut: AxiWriter) -> list[Channel]:
    axi = dut.axi
    address = Cat(axi.awaddr, axi.awlen, axi.awsize, axi.awburst)
    return [
        Channel("aw", address, axi.awvalid, axi.awready, True),
        Channel("w", Cat(axi.wdata, axi.wstrb, axi.wlast), axi.wvalid, axi.wready, True),
    ]


@pytest.mark.parametrize(
    "make",
    [
        lambda: Queue(4, 1),
        lambda: Queue(4, 3),
        lambda: RegisterSlice(4),
        lambda: RowMerge(SMALL),
        lambda: Packer(piece_bits=8, bus_bits=32, depth=3),
    ],
    ids=["queue of 1", "queue of 3", "register slice", "merge", "pack"],
)
def test_contract(make: Callable[[], wiring.Component]) -> None:
    prove(StreamContractSpec(make()))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Serialiser(SMALL, batch_lanes=1, load_bits=LOAD_BITS),
        lambda: RowSplit(SMALL, load_bits=LOAD_BITS),
    ],
    ids=["serialise", "split"],
)
def test_contract_of_blocks_with_tables(make: Callable[[], wiring.Component]) -> None:
    prove(StreamContractSpec(make(), tied=LOADED))


def test_contract_of_emitter() -> None:
    at_hand = "(or [dut.present] (= [dut.fsm_state] #b00))"
    spec = StreamContractSpec(Emitter(SMALL, load_bits=LOAD_BITS), tied=LOADED)
    prove(spec, invariants=[at_hand])


def test_contract_of_sparse_input() -> None:
    dut = ListFeeder(SMALL, bus_bits=64, load_bits=LOAD_BITS)
    at_hand = "(or [dut.emitter.present] (= [dut.emitter.fsm_state] #b00))"
    prove(StreamContractSpec(dut, tied=LOADED), invariants=[at_hand])


def test_contract_of_selector_and_that_it_loses_no_digit() -> None:
    """The queue after a stage has room for all that its counter will have found."""
    invariants = []
    for number in range(DIGITS):
        stage = f"dut.stage_{number}"
        counter, level = f"{stage}.counter", f"[{stage}.found_digits.level]"
        coming = ("ends", "done", "compared", "found_valid")
        terms = " ".join(f"(ite [{counter}.{name}] #x1 #x0)" for name in coming)
        invariants += [
            f"(= [{stage}.pending] (bvadd {level} {terms}))",
            f"(bvule {level} #x8)",
            f"(bvule [{stage}.pending] #x8)",
            f"(=> [{counter}.found_valid] (not (= {level} #x8)))",
        ]
    spec = StreamContractSpec(StreamSelector(SMALL, load_bits=LOAD_BITS), tied=LOADED)
    prove(spec, invariants=invariants)


def test_contract_of_whole_selector_and_that_it_loses_no_row() -> None:
    spec = StreamContractSpec(WholeSelector(SMALL, load_bits=LOAD_BITS), tied=LOADED)
    under_way = (
        "(bvule (bvadd [dut.queue.level] (ite [dut.won] #b001 #b000)"
        " (ite [dut.compared] #b001 #b000)) #b110)"
    )
    room = "(=> [dut.compared] (not (= [dut.queue.level] #b110)))"
    prove(spec, invariants=[under_way, room])


def test_contract_of_reordering_and_that_it_loses_no_row() -> None:
    dut = Reorder(SMALL, batch_lanes=1, key_latency=2, load_bits=LOAD_BITS)
    under_way = (
        "(bvule (bvadd [dut.queue_0.level] (ite [dut.issued] #x1 #x0)"
        " (ite [dut.arrived] #x1 #x0)) #x8)"
    )
    room = "(=> [dut.arrived] (not (= [dut.queue_0.level] #x8)))"
    prove(StreamContractSpec(dut, tied=LOADED), invariants=[under_way, room])


@pytest.mark.parametrize("block", [Distributor, Collector])
def test_contract_of_distribution(block: type[Distributor] | type[Collector]) -> None:
    prove(StreamContractSpec(block(4, 3), tied={"enable": 1}, steady=["samples"]))


def test_contract_of_reader() -> None:
    dut = AxiReader(bits=32, longest=2, depth=4)
    prove(StreamContractSpec(dut, tied={"stop": 0}, channels=reader_channels(dut)))


def test_contract_of_reader_that_is_stopped() -> None:
    """An address stays offered even then; beats are thrown away."""
    dut = AxiReader(bits=32, longest=2, depth=4)
    prove(StreamContractSpec(dut, exempt=["beats"], channels=reader_channels(dut)))


def test_contract_of_writer_that_may_be_stopped() -> None:
    dut = AxiWriter(bits=32, longest=2)
    prove(StreamContractSpec(dut, channels=writer_channels(dut)))


def test_contract_of_the_statistics() -> None:
    dut = RunControl(bus_bits=64)
    # The ports are idle, and take a transfer at once, whenever one is begun.
    prove(StreamContractSpec(dut, tied={"read.ready": 1, "write.ready": 1}))


class ReaderSpec(Elaboratable):
    """A reader on a port that answers what was asked for, and nothing else."""

    def __init__(self) -> None:
        self._dut = AxiReader(bits=32, longest=2, depth=4)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.dut = dut = self._dut
        axi = dut.axi
        coming = Signal(8)
        asked = Signal(8)
        m.d.comb += [
            dut.transfers.valid.eq(any_value(1)),
            dut.transfers.payload.address.eq(any_value(64)),
            dut.transfers.payload.beats.eq(any_value(32)),
            dut.beats.ready.eq(any_value(1)),
            dut.stop.eq(any_value(1)),
            axi.arready.eq(any_value(1)),
            axi.rvalid.eq(any_value(1) & (coming != 0)),
            asked.eq(Mux(axi.arvalid & axi.arready, axi.arlen + 1, 0)),
        ]
        m.d.sync += coming.eq(coming + asked - axi.rvalid)
        return m


def test_reader_has_room_for_every_beat() -> None:
    claimed = "(concat #b00000 [dut.claimed])"
    length = "((_ extract 71 64) [dut.bursts.bursts__payload])"
    prove(
        ReaderSpec(),
        invariants=[
            f"(= {claimed} (bvadd [coming] (concat #b00000 [dut.queue.level])))",
            f"(=> [dut.bursts.bursts__valid] (bvule {length} #x01))",
            f"(=> [dut.offered] (bvult (bvadd {claimed} {length}) #x04))",
            "(bvule [dut.claimed] #b100)",
            "(bvule [coming] #x04)",
            "(=> [dut.axi__rvalid] (not (= [dut.queue.level] #b100)))",
        ],
    )


class BankedRouterSpec(Elaboratable):
    """Any products into the accumulators; those of one kernel and bank are added up outside too.

    The kernel is any one, so none is lost, and none goes to a kernel that it is not for.
    """

    def __init__(self, *, forgets_carries: bool = False) -> None:
        self._dut = BankedAccumulator(kernels=2, sum_bits=18)
        self._forgets_carries = forgets_carries

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.dut = dut = self._dut
        kernel, bank = any_constant(1), any_constant(1)
        address = Signal(2)
        outside = Signal(18)
        m.d.comb += [
            address.eq(Cat(kernel, bank)),
            dut.product.eq(any_value(18)),
            dut.carry.eq(any_value(1)),
            dut.kernel.eq(any_value(1)),
            dut.bank.eq(any_value(1)),
            dut.read_kernel.eq(any_value(1)),
        ]
        carry = Mux(self._forgets_carries, 0, dut.carry)
        with m.If((dut.kernel == kernel) & (dut.bank == bank)):
            m.d.sync += outside.eq(outside + dut.product + carry)
        read = Signal()
        expected = Signal(18)
        m.d.sync += [
            read.eq((dut.read_kernel == kernel) & (dut.bank != bank)),
            expected.eq(outside),
        ]
        m.d.comb += Assert(~read | (dut.total == expected), "the sum must be that of its products")
        return m


STORED = "(= (select [dut.banks] [address]) [outside])"


def test_banked_routing_loses_no_product_and_misroutes_none() -> None:
    prove(BankedRouterSpec(), invariants=[STORED])


def test_proof_of_routing_sees_a_lost_carry() -> None:
    with pytest.raises(ProofError, match=r"^invariant 1 does not hold after reset\n"):
        prove(BankedRouterSpec(forgets_carries=True), invariants=[STORED])


class TreeRouterSpec(Elaboratable):
    """Weights with any kernel IDs, and activations of 0 and 1; one column is added up outside."""

    def __init__(self, config: EngineConfig) -> None:
        self._config = config
        self._dut = TreeArray(config)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, dut = self._config, self._dut
        m.submodules.dut = dut
        m.d.comb += Value.cast(dut.step).eq(any_value(len(Value.cast(dut.step))))
        split, was_split = Signal(), Signal()
        if config.routing == "split-trees":
            m.d.comb += split.eq(any_value(1) & ~was_split)
            m.d.sync += was_split.eq(split)
        m.d.comb += dut.step.split.eq(split)
        kernel, odd = any_constant(config.kernel_bits), any_constant(1)
        products = []
        for lane in range(config.lanes):
            row = Signal.like(dut.weights[lane], name=f"row_{lane}")
            present = any_value(1)
            m.d.comb += [
                Value.cast(row).eq(any_value(len(Value.cast(row)))),
                dut.weights[lane].eq(row),
                dut.values[lane].eq(present),
            ]
            even_weight = row.weight0
            odd_weight = row.weight1 + (row.weight0 < 0)
            owned = present & (Mux(odd, row.kernel1, row.kernel0) == kernel)
            products.append(Mux(owned, Mux(odd, odd_weight, even_weight), 0))
        cycles = array_latency(config) - 1
        half = config.lanes // 2
        low, high, held, total = (
            Signal(signed(config.sum_bits), name=name) for name in ("low", "high", "held", "total")
        )
        m.d.comb += [low.eq(sum(products[:half], C(0))), high.eq(sum(products[half:], C(0)))]
        m.d.sync += held.eq(high)
        first = dut.step.first
        now = Mux(was_split & ~first, held, 0) + low + Mux(split, 0, high)
        starts = first | was_split
        later = delay(m, Cat(now[: config.sum_bits], starts), cycles, name="later")
        m.d.sync += total.eq(Mux(later[-1], 0, total) + later[:-1].as_signed())
        column = Array(dut.beat.sums[i] for i in range(config.columns))
        m.d.comb += Assert(
            column[odd * config.kernels_per_tile + kernel] == total,
            "the sum must be that of its products",
        )
        return m


@pytest.mark.parametrize("routing", ["trees", "split-trees"])
def test_tree_routing_loses_no_product_and_misroutes_none(routing: Routing) -> None:
    config = EngineConfig(
        lanes=2,
        tiles=2,
        kernels_per_tile=2,
        routing=routing,
        sum_bits=18,
        dense_values=8,
        requantisers=1,
    )
    prove(TreeRouterSpec(config), depth=array_latency(config) + 1)
