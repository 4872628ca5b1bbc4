/*
 * peak.h: the most that one core can do: loops that only read memory, and loops that only multiply numbers
 * that are in registers already. For measuring a machine (plan/machine_measure.c); a model reaches a part of
 * it.
 */
#ifndef TONNE_DEVICE_PEAK_H
#define TONNE_DEVICE_PEAK_H

#include <stddef.h>
#include <stdint.h>

#include "device/device.h"

enum { PEAK_READ_STEP = 4096 };

struct peak_loops {
    const char *name;
    enum cpu_isa needs;
    /* Loads all of p[0..bytes) once, in order. p is 64-byte aligned, bytes a multiple of PEAK_READ_STEP. The
     * result depends on every byte, so that nothing can be left out. */
    uint64_t (*read)(const void *p, size_t bytes);
    /* Each does `rounds` rounds of multiply-adds and returns how many that were. int8: products of bytes
     * summed in 32 bits; bf16: stored as bf16, summed in f32; as the kernels of this instruction set do them.
     * sink gets the sum of all products: each is 3 * -5 (int8, modulo 2^32) or 1 * 0.5 (bf16, f32, while f32
     * is exact). */
    int64_t (*int8)(int64_t rounds, int32_t *sink);
    int64_t (*bf16)(int64_t rounds, float *sink);
    int64_t (*f32)(int64_t rounds, float *sink);
};

/* The loops of the best instruction set at or below isa (CPU_ISA_BEST: of this machine). */
const struct peak_loops *peak_pick(enum cpu_isa isa);

extern const struct peak_loops peak_plain;
extern const struct peak_loops peak_avx2;   /* x86-64 only */
extern const struct peak_loops peak_avx512; /* x86-64 only */

#endif
