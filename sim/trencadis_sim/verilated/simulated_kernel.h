/* What a shared library must have to be simulated as a kernel behind XRT: a Verilated model, or
 * anything that behaves like the kernel. Time stands still but for calls; calls on one handle come
 * one at a time. `harness.cpp` has these functions for the overlay's kernel.
 */

#ifndef TRENCADIS_SIMULATED_KERNEL_H
#define TRENCADIS_SIMULATED_KERNEL_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A kernel after reset; one for each compute unit. */
void* trencadis_open(void);
void trencadis_close(void* device);

/* Pull the reset line, whatever goes on. */
void trencadis_reset(void* device);

/* Device memory, all banks of the card in one address space. */
void trencadis_set_memory(void* device, uint8_t* bytes, uint64_t size);

/* Cycles until memory answers; parts of 256 of the cycles in which a channel of a memory port is
 * not ready; seed of these stalls. May do nothing. */
void trencadis_set_timing(void* device, uint32_t latency, uint32_t stall_256, uint64_t seed);

/* Optional: answer accesses to these bytes of memory with errors. */
void trencadis_set_fault(void* device, uint64_t first, uint64_t size);

/* Registers, at byte offsets. Offset 0 is the control register of ap_ctrl_hs: 1 starts; 1, 2 and 4
 * are start, done and idle when read, and reading clears done. */
void trencadis_write(void* device, uint32_t address, uint32_t value);
uint32_t trencadis_read(void* device, uint32_t address);

/* Let the clock run until the interrupt line is high, or for `most` cycles; the cycles that
 * passed. */
uint64_t trencadis_run(void* device, uint64_t most);

/* The interrupt line; cycles since the simulation began. */
int trencadis_interrupt(void* device);
uint64_t trencadis_cycles(void* device);

#ifdef __cplusplus
}
#endif

#endif
