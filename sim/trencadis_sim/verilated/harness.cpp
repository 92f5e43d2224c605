// A Verilated kernel as a device: its control port as function calls, its memory port on a memory
// that the caller owns. Compiled into a shared library next to the Verilated model.
//
// One call of `cycle` is one clock cycle. Ports are driven before the rising edge from what the
// model showed after the last one; handshakes are sampled just before the edge.

#include <cstdint>
#include <cstring>
#include <deque>
#include <memory>

#include "Vtrencadis.h"
#include "harness_config.h"  // BUS_BYTES

namespace {

struct Burst {
    uint64_t address;
    uint32_t beats;
    uint64_t ready_at;
};

// Deterministic stalls: one pseudo-random bit stream for all channels (xorshift64*).
struct Random {
    uint64_t state;
    bool below(uint32_t parts_of_256) {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        return ((state * 0x2545F4914F6CDD1DULL) >> 56) < parts_of_256;
    }
};

template <typename T>
void load_beat(T& port, const uint8_t* from) {
    std::memcpy(&port, from, BUS_BYTES);
}

template <typename T>
void store_beat(const T& port, uint64_t strobe, uint8_t* to) {
    const auto* bytes = reinterpret_cast<const uint8_t*>(&port);
    for (int i = 0; i < BUS_BYTES; ++i)
        if (strobe >> i & 1) to[i] = bytes[i];
}

class Device {
public:
    Device() : context(new VerilatedContext), model(new Vtrencadis(context.get())) { reset(); }

    ~Device() { model->final(); }

    void set_memory(uint8_t* bytes, uint64_t size) {
        memory = bytes;
        memory_size = size;
    }

    void set_timing(uint32_t latency_cycles, uint32_t stall_256, uint64_t seed) {
        latency = latency_cycles;
        stall = stall_256;
        random.state = seed * 0x9E3779B97F4A7C15ULL + 1;
    }

    // Accesses to these bytes are answered with an error.
    void set_fault(uint64_t first, uint64_t size) {
        fault_first = first;
        fault_size = size;
    }

    void reset() {
        reads.clear();
        writes.clear();
        answers.clear();
        write_error = 0;
        model->ap_rst_n = 0;
        model->s_axi_control_awvalid = model->s_axi_control_wvalid = 0;
        model->s_axi_control_arvalid = 0;
        model->s_axi_control_bready = model->s_axi_control_rready = 1;
        model->m_axi_gmem_rvalid = model->m_axi_gmem_bvalid = 0;
        for (int i = 0; i < 16; ++i) edge();
        model->ap_rst_n = 1;
        edge();
    }

    void cycle() {
        // Drive the memory port.
        const bool stalled = stall && random.below(stall);
        model->m_axi_gmem_arready = !(stall && random.below(stall)) && reads.size() < 64;
        model->m_axi_gmem_awready = !(stall && random.below(stall)) && writes.size() < 64;
        model->m_axi_gmem_wready = !(stall && random.below(stall));
        if (!model->m_axi_gmem_rvalid && !reads.empty() && reads.front().ready_at <= now && !stalled)
            offer_read();
        if (!model->m_axi_gmem_bvalid && !answers.empty() && answers.front().ready_at <= now &&
            !(stall && random.below(stall))) {
            model->m_axi_gmem_bvalid = 1;
            model->m_axi_gmem_bresp = answers.front().beats;
        }
        model->ap_clk = 0;
        model->eval();

        const bool ar = model->m_axi_gmem_arvalid && model->m_axi_gmem_arready;
        const bool aw = model->m_axi_gmem_awvalid && model->m_axi_gmem_awready;
        const bool w = model->m_axi_gmem_wvalid && model->m_axi_gmem_wready;
        const bool r = model->m_axi_gmem_rvalid && model->m_axi_gmem_rready;
        const bool b = model->m_axi_gmem_bvalid && model->m_axi_gmem_bready;
        if (ar) reads.push_back({model->m_axi_gmem_araddr, model->m_axi_gmem_arlen + 1u, now + latency});
        if (aw) writes.push_back({model->m_axi_gmem_awaddr, model->m_axi_gmem_awlen + 1u, 0});
        if (w) take_write();
        model->ap_clk = 1;
        model->eval();
        ++now;

        if (r) {
            model->m_axi_gmem_rvalid = 0;
            Burst& burst = reads.front();
            burst.address += BUS_BYTES;
            if (--burst.beats == 0) reads.pop_front();
        }
        if (b) {
            model->m_axi_gmem_bvalid = 0;
            answers.pop_front();
        }
    }

    void write_register(uint32_t address, uint32_t value) {
        model->s_axi_control_awaddr = address;
        model->s_axi_control_wdata = value;
        model->s_axi_control_wstrb = 15;
        model->s_axi_control_awvalid = model->s_axi_control_wvalid = 1;
        bool answered = false;
        while (!answered || model->s_axi_control_awvalid || model->s_axi_control_wvalid) {
            model->ap_clk = 0;
            model->eval();
            const bool aw = model->s_axi_control_awvalid && model->s_axi_control_awready;
            const bool w = model->s_axi_control_wvalid && model->s_axi_control_wready;
            answered = answered || model->s_axi_control_bvalid;
            cycle();
            if (aw) model->s_axi_control_awvalid = 0;
            if (w) model->s_axi_control_wvalid = 0;
        }
    }

    uint32_t read_register(uint32_t address) {
        model->s_axi_control_araddr = address;
        model->s_axi_control_arvalid = 1;
        for (;;) {
            model->ap_clk = 0;
            model->eval();
            const bool ar = model->s_axi_control_arvalid && model->s_axi_control_arready;
            const bool r = model->s_axi_control_rvalid;
            const uint32_t value = model->s_axi_control_rdata;
            cycle();
            if (ar) model->s_axi_control_arvalid = 0;
            if (r && !model->s_axi_control_arvalid) return value;
        }
    }

    // Run until the interrupt line rises or `most` cycles have passed; the cycles that passed.
    uint64_t run(uint64_t most) {
        const uint64_t start = now;
        while (now - start < most && !model->__SYM__interrupt) cycle();
        return now - start;
    }

    bool interrupt() const { return model->__SYM__interrupt; }
    uint64_t cycles() const { return now; }

private:
    void edge() {
        model->ap_clk = 0;
        model->eval();
        model->ap_clk = 1;
        model->eval();
    }

    bool inside(uint64_t address) const {
        return address <= memory_size && memory_size - address >= BUS_BYTES;
    }

    // The answer to an access of a beat: OKAY, SLVERR or DECERR.
    uint32_t response(uint64_t address) const {
        if (!inside(address)) return 3;
        return address - fault_first < fault_size ? 2 : 0;
    }

    void offer_read() {
        const Burst& burst = reads.front();
        model->m_axi_gmem_rvalid = 1;
        model->m_axi_gmem_rlast = burst.beats == 1;
        model->m_axi_gmem_rresp = response(burst.address);
        if (!model->m_axi_gmem_rresp) load_beat(model->m_axi_gmem_rdata, memory + burst.address);
    }

    void take_write() {
        // The kernel sends data only after its address.
        Burst& burst = writes.front();
        if (const uint32_t error = response(burst.address))
            write_error = error;
        else
            store_beat(model->m_axi_gmem_wdata, model->m_axi_gmem_wstrb, memory + burst.address);
        burst.address += BUS_BYTES;
        if (--burst.beats == 0) {
            answers.push_back({0, write_error, now + latency});
            write_error = 0;
            writes.pop_front();
        }
    }

    std::unique_ptr<VerilatedContext> context;
    std::unique_ptr<Vtrencadis> model;
    uint8_t* memory = nullptr;
    uint64_t memory_size = 0;
    uint64_t fault_first = 0, fault_size = 0;
    uint64_t now = 0;
    uint32_t latency = 0;
    uint32_t stall = 0;
    uint32_t write_error = 0;
    Random random{1};
    std::deque<Burst> reads, writes, answers;
};

}  // namespace

extern "C" {
void* trencadis_open() { return new Device; }
void trencadis_close(void* device) { delete static_cast<Device*>(device); }
void trencadis_reset(void* device) { static_cast<Device*>(device)->reset(); }
void trencadis_set_memory(void* device, uint8_t* bytes, uint64_t size) {
    static_cast<Device*>(device)->set_memory(bytes, size);
}
void trencadis_set_timing(void* device, uint32_t latency, uint32_t stall_256, uint64_t seed) {
    static_cast<Device*>(device)->set_timing(latency, stall_256, seed);
}
void trencadis_set_fault(void* device, uint64_t first, uint64_t size) {
    static_cast<Device*>(device)->set_fault(first, size);
}
void trencadis_write(void* device, uint32_t address, uint32_t value) {
    static_cast<Device*>(device)->write_register(address, value);
}
uint32_t trencadis_read(void* device, uint32_t address) {
    return static_cast<Device*>(device)->read_register(address);
}
uint64_t trencadis_run(void* device, uint64_t most) { return static_cast<Device*>(device)->run(most); }
int trencadis_interrupt(void* device) { return static_cast<Device*>(device)->interrupt(); }
uint64_t trencadis_cycles(void* device) { return static_cast<Device*>(device)->cycles(); }
}
