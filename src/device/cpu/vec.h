/*
 * vec.h: the vector loops of everything that is not a weight product: norms, SiLU, softmax, attention, DeltaNet,
 * quantizing activations. One table per instruction set, in vec_plain.c, x86/vec_avx2.c and x86/vec_avx512.c.
 */
#ifndef TONNE_DEVICE_CPU_VEC_H
#define TONNE_DEVICE_CPU_VEC_H

#include "device/device.h"

struct vec_kernels {
    const char *name;
    /* extended by the files that need them */
    void (*q8_quantize)(void *row, const float *x, int64_t n); /* same bits as quant/act.h */
};

const struct vec_kernels *vec_pick(enum cpu_isa isa);

#endif
