/*
 * encode_x86.h: encoders with wide vectors, private to quant/. The same bytes as the plain ones in every
 * case, NaN included; which is used is decided at run time.
 */
#ifndef TONNE_QUANT_ENCODE_X86_H
#define TONNE_QUANT_ENCODE_X86_H

#include <stdbool.h>
#include <stdint.h>

#if defined(__x86_64__)
static inline bool encode_has_avx512(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}

/* n_blocks blocks of 64 floats: 32 bytes of codes and the largest magnitude each. midpoint: the 15 of the
 * code, rising. */
void nf4_blocks_avx512(uint8_t *codes, float *absmax, int64_t n_blocks, const float *src,
                       const float midpoint[15]);
/* n_blocks blocks of 32 floats: 34 bytes each. */
void q8_0_blocks_avx512(uint8_t *out, int64_t n_blocks, const float *src);
#else
static inline bool encode_has_avx512(void)
{
    return false;
}

static inline void nf4_blocks_avx512(uint8_t *codes, float *absmax, int64_t n_blocks, const float *src,
                                     const float midpoint[15])
{
    (void)codes, (void)absmax, (void)n_blocks, (void)src, (void)midpoint;
}

static inline void q8_0_blocks_avx512(uint8_t *out, int64_t n_blocks, const float *src)
{
    (void)out, (void)n_blocks, (void)src;
}
#endif

#endif
