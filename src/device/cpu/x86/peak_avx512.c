/*
 * peak_avx512.c: the peak loops for AVX-512 with VNNI and BF16. Each round has one product into each of
 * CHAINS sums: two units with a latency of at most six steps need twelve. The sums are variables of their own
 * because an array of them ends up in memory.
 */
#include <immintrin.h>

#include "device/peak.h"

enum { CHAINS = 12 };

/* What the compiler knows nothing about: sums that start alike stay apart, and products of constants are not
 * computed before the loop. Makes no instruction. */
static inline __m512i fresh(__m512i x)
{
    __asm__ volatile("" : "+v"(x));
    return x;
}

static inline __m512 fresh_ps(__m512 x)
{
    __asm__ volatile("" : "+v"(x));
    return x;
}

static uint64_t read_avx512(const void *p, size_t bytes)
{
    const __m512i *x = p;
    __m512i sum[8] = { 0 };
    for (size_t i = 0; i < bytes / 64; i += 8)
        for (int k = 0; k < 8; k++)
            sum[k] = _mm512_xor_si512(sum[k], _mm512_load_si512(x + i + k));
    for (int k = 1; k < 8; k++)
        sum[0] = _mm512_xor_si512(sum[0], sum[k]);
    return (uint64_t)_mm512_reduce_add_epi64(sum[0]);
}

static int64_t int8_avx512(int64_t rounds, int32_t *sink)
{
    __m512i a = _mm512_set1_epi8(3), b = _mm512_set1_epi8(-5);
    __m512i z = _mm512_setzero_si512();
    __m512i s0 = fresh(z), s1 = fresh(z), s2 = fresh(z), s3 = fresh(z), s4 = fresh(z), s5 = fresh(z),
            s6 = fresh(z), s7 = fresh(z), s8 = fresh(z), s9 = fresh(z), s10 = fresh(z), s11 = fresh(z);
    for (int64_t r = 0; r < rounds; r++) {
        s0 = _mm512_dpbusd_epi32(s0, a, b);
        s1 = _mm512_dpbusd_epi32(s1, a, b);
        s2 = _mm512_dpbusd_epi32(s2, a, b);
        s3 = _mm512_dpbusd_epi32(s3, a, b);
        s4 = _mm512_dpbusd_epi32(s4, a, b);
        s5 = _mm512_dpbusd_epi32(s5, a, b);
        s6 = _mm512_dpbusd_epi32(s6, a, b);
        s7 = _mm512_dpbusd_epi32(s7, a, b);
        s8 = _mm512_dpbusd_epi32(s8, a, b);
        s9 = _mm512_dpbusd_epi32(s9, a, b);
        s10 = _mm512_dpbusd_epi32(s10, a, b);
        s11 = _mm512_dpbusd_epi32(s11, a, b);
    }
    s0 = _mm512_add_epi32(s0, s1);
    s2 = _mm512_add_epi32(s2, s3);
    s4 = _mm512_add_epi32(s4, s5);
    s6 = _mm512_add_epi32(s6, s7);
    s8 = _mm512_add_epi32(s8, s9);
    s10 = _mm512_add_epi32(s10, s11);
    s0 = _mm512_add_epi32(s0, s2);
    s4 = _mm512_add_epi32(s4, s6);
    s8 = _mm512_add_epi32(s8, s10);
    s0 = _mm512_add_epi32(s0, s4);
    s0 = _mm512_add_epi32(s0, s8);
    *sink = _mm512_reduce_add_epi32(s0);
    return rounds * CHAINS * 64;
}

static int64_t bf16_avx512(int64_t rounds, float *sink)
{
    __m512bh a = (__m512bh)_mm512_set1_epi16(0x3f80), b = (__m512bh)_mm512_set1_epi16(0x3f00); /* 1, 0.5 */
    __m512 z = _mm512_setzero_ps();
    __m512 s0 = fresh_ps(z), s1 = fresh_ps(z), s2 = fresh_ps(z), s3 = fresh_ps(z), s4 = fresh_ps(z),
           s5 = fresh_ps(z), s6 = fresh_ps(z), s7 = fresh_ps(z), s8 = fresh_ps(z), s9 = fresh_ps(z),
           s10 = fresh_ps(z), s11 = fresh_ps(z);
    for (int64_t r = 0; r < rounds; r++) {
        s0 = _mm512_dpbf16_ps(s0, a, b);
        s1 = _mm512_dpbf16_ps(s1, a, b);
        s2 = _mm512_dpbf16_ps(s2, a, b);
        s3 = _mm512_dpbf16_ps(s3, a, b);
        s4 = _mm512_dpbf16_ps(s4, a, b);
        s5 = _mm512_dpbf16_ps(s5, a, b);
        s6 = _mm512_dpbf16_ps(s6, a, b);
        s7 = _mm512_dpbf16_ps(s7, a, b);
        s8 = _mm512_dpbf16_ps(s8, a, b);
        s9 = _mm512_dpbf16_ps(s9, a, b);
        s10 = _mm512_dpbf16_ps(s10, a, b);
        s11 = _mm512_dpbf16_ps(s11, a, b);
    }
    s0 = _mm512_add_ps(s0, s1);
    s2 = _mm512_add_ps(s2, s3);
    s4 = _mm512_add_ps(s4, s5);
    s6 = _mm512_add_ps(s6, s7);
    s8 = _mm512_add_ps(s8, s9);
    s10 = _mm512_add_ps(s10, s11);
    s0 = _mm512_add_ps(s0, s2);
    s4 = _mm512_add_ps(s4, s6);
    s8 = _mm512_add_ps(s8, s10);
    s0 = _mm512_add_ps(s0, s4);
    s0 = _mm512_add_ps(s0, s8);
    *sink = _mm512_reduce_add_ps(s0);
    return rounds * CHAINS * 32;
}

static int64_t f32_avx512(int64_t rounds, float *sink)
{
    __m512 a = fresh_ps(_mm512_set1_ps(1.0f)), b = fresh_ps(_mm512_set1_ps(0.5f));
    __m512 z = _mm512_setzero_ps();
    __m512 s0 = fresh_ps(z), s1 = fresh_ps(z), s2 = fresh_ps(z), s3 = fresh_ps(z), s4 = fresh_ps(z),
           s5 = fresh_ps(z), s6 = fresh_ps(z), s7 = fresh_ps(z), s8 = fresh_ps(z), s9 = fresh_ps(z),
           s10 = fresh_ps(z), s11 = fresh_ps(z);
    for (int64_t r = 0; r < rounds; r++) {
        s0 = _mm512_fmadd_ps(a, b, s0);
        s1 = _mm512_fmadd_ps(a, b, s1);
        s2 = _mm512_fmadd_ps(a, b, s2);
        s3 = _mm512_fmadd_ps(a, b, s3);
        s4 = _mm512_fmadd_ps(a, b, s4);
        s5 = _mm512_fmadd_ps(a, b, s5);
        s6 = _mm512_fmadd_ps(a, b, s6);
        s7 = _mm512_fmadd_ps(a, b, s7);
        s8 = _mm512_fmadd_ps(a, b, s8);
        s9 = _mm512_fmadd_ps(a, b, s9);
        s10 = _mm512_fmadd_ps(a, b, s10);
        s11 = _mm512_fmadd_ps(a, b, s11);
    }
    s0 = _mm512_add_ps(s0, s1);
    s2 = _mm512_add_ps(s2, s3);
    s4 = _mm512_add_ps(s4, s5);
    s6 = _mm512_add_ps(s6, s7);
    s8 = _mm512_add_ps(s8, s9);
    s10 = _mm512_add_ps(s10, s11);
    s0 = _mm512_add_ps(s0, s2);
    s4 = _mm512_add_ps(s4, s6);
    s8 = _mm512_add_ps(s8, s10);
    s0 = _mm512_add_ps(s0, s4);
    s0 = _mm512_add_ps(s0, s8);
    *sink = _mm512_reduce_add_ps(s0);
    return rounds * CHAINS * 16;
}

const struct peak_loops peak_avx512 = {
    .name = "AVX-512 VNNI BF16",
    .needs = CPU_ISA_AVX512,
    .read = read_avx512,
    .int8 = int8_avx512,
    .bf16 = bf16_avx512,
    .f32 = f32_avx512,
};
