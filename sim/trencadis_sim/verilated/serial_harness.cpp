// A Verilated board with a serial link, as bytes in and bytes out. Compiled into a shared library
// next to the Verilated model.
//
// One call of `cycle` is one clock cycle of the board. The wires are driven and sampled bit by bit,
// DIVISOR cycles each, as the other end of a UART does.

#include <cstdint>
#include <deque>
#include <memory>

#include "Vtrencadis.h"
#include "harness_config.h"  // DIVISOR

namespace {

constexpr int BITS = 10;  // start, 8 data, stop

class Board {
public:
    Board() : context(new VerilatedContext), model(new Vtrencadis(context.get())) {
        model->rx = 1;
        for (int i = 0; i < 256; ++i) cycle();
    }

    ~Board() { model->final(); }

    void send(const uint8_t* bytes, uint64_t count) {
        to_board.insert(to_board.end(), bytes, bytes + count);
    }

    uint64_t receive(uint8_t* bytes, uint64_t most) {
        uint64_t count = 0;
        for (; count < most && !from_board.empty(); ++count) {
            bytes[count] = from_board.front();
            from_board.pop_front();
        }
        return count;
    }

    void run(uint64_t cycles) {
        while (cycles--) cycle();
    }

    // Whether all bytes have been sent and none is on its way back.
    bool quiet() const { return to_board.empty() && !send_left && !receive_left; }

    uint32_t leds() const { return model->leds; }

private:
    void cycle() {
        if (!send_left && !to_board.empty()) {
            frame = 0x200u | to_board.front() << 1;
            to_board.pop_front();
            send_left = BITS * DIVISOR;
        }
        model->rx = send_left ? frame >> (BITS - (send_left - 1) / DIVISOR - 1) & 1 : 1;
        if (send_left) --send_left;
        model->clk = 0;
        model->eval();
        model->clk = 1;
        model->eval();

        if (!receive_left) {
            if (!model->tx) {
                receive_left = BITS * DIVISOR;
                received = 0;
            }
        }
        if (receive_left) {
            const int at = BITS * DIVISOR - receive_left;
            if (at % DIVISOR == DIVISOR / 2) received |= model->tx << at / DIVISOR;
            // The stop bit may end early: the next start bit must not be missed.
            if (--receive_left == DIVISOR / 2 - 1) {
                receive_left = 0;
                if (received >> 9 & 1) from_board.push_back(received >> 1 & 0xFF);
            }
        }
    }

    std::unique_ptr<VerilatedContext> context;
    std::unique_ptr<Vtrencadis> model;
    std::deque<uint8_t> to_board, from_board;
    uint32_t frame = 0, received = 0;
    int send_left = 0, receive_left = 0;
};

}  // namespace

extern "C" {
void* trencadis_open() { return new Board; }
void trencadis_close(void* board) { delete static_cast<Board*>(board); }
void trencadis_send(void* board, const uint8_t* bytes, uint64_t count) {
    static_cast<Board*>(board)->send(bytes, count);
}
uint64_t trencadis_receive(void* board, uint8_t* bytes, uint64_t most) {
    return static_cast<Board*>(board)->receive(bytes, most);
}
void trencadis_run(void* board, uint64_t cycles) { static_cast<Board*>(board)->run(cycles); }
int trencadis_quiet(void* board) { return static_cast<Board*>(board)->quiet(); }
uint32_t trencadis_leds(void* board) { return static_cast<Board*>(board)->leds(); }
}
