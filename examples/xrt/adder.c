/* Another kernel behind the real XRT, without any RTL: out[i] = a[i] + b[i], an element per cycle.
 *
 * Arguments are two inputs, an output and a count at register offsets 0x10, 0x1c, 0x28 and 0x34.
 * `adder.py` packs it into an xclbin.
 */

#include <stdlib.h>
#include <string.h>

#include "simulated_kernel.h"

struct adder {
    uint8_t* memory;
    uint64_t cycles;
    uint32_t registers[16], at;
    int busy, done;
};

static uint32_t* element(struct adder* k, uint32_t offset) {
    uint64_t address;
    memcpy(&address, (char*)k->registers + offset, sizeof address);
    return (uint32_t*)(k->memory + address) + k->at;
}

void* trencadis_open(void) { return calloc(1, sizeof(struct adder)); }
void trencadis_close(void* device) { free(device); }
void trencadis_reset(void* device) { ((struct adder*)device)->busy = 0; }
void trencadis_set_memory(void* device, uint8_t* bytes, uint64_t size) {
    (void)size;
    ((struct adder*)device)->memory = bytes;
}
void trencadis_set_timing(void* device, uint32_t latency, uint32_t stall_256, uint64_t seed) {
    (void)device, (void)latency, (void)stall_256, (void)seed;
}
void trencadis_write(void* device, uint32_t address, uint32_t value) {
    struct adder* k = device;
    if (address)
        k->registers[address / 4 % 16] = value;
    else if (value & 1)
        k->busy = 1, k->at = 0;
}
uint32_t trencadis_read(void* device, uint32_t address) {
    struct adder* k = device;
    if (address) return k->registers[address / 4 % 16];
    const uint32_t control = k->busy ? 1 : k->done << 1 | 4;
    k->done = 0;
    return control;
}
uint64_t trencadis_run(void* device, uint64_t most) {
    struct adder* k = device;
    for (uint64_t i = 0; i < most; ++i, ++k->cycles)
        if (k->busy && k->at == k->registers[0x34 / 4])
            k->busy = 0, k->done = 1;
        else if (k->busy)
            *element(k, 0x28) = *element(k, 0x10) + *element(k, 0x1c), ++k->at;
    return most;
}
int trencadis_interrupt(void* device) {
    (void)device;
    return 0;
}
uint64_t trencadis_cycles(void* device) { return ((struct adder*)device)->cycles; }
