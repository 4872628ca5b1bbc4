/*
 * dot_avx512.h: what the integer kernels for AVX-512 share. Both work on groups of 256 weights: 4 vectors of
 * 64 codes, each two blocks of 32 (the blocks of the activations), and 8 scales.
 *
 * vpdpbusd multiplies unsigned with signed bytes. Signed weights therefore meet activations with 128 added,
 * and the sum starts at -128 times the sum of the weights, which costs once per row instead of once per
 * column.
 */
#ifndef TONNE_DEVICE_CPU_X86_DOT_AVX512_H
#define TONNE_DEVICE_CPU_X86_DOT_AVX512_H

#include <immintrin.h>

#include "device/cpu/dot_tile.h"

struct codes512 {
    __m512i code[4]; /* 64 weights each, int8 (or u8 for the formats with a minimum) */
    __m256 scale;    /* one per 32 weights */
};

/* 8 values, one per block of 32, as the lanes of code[i]'s products need them: 2i in the lower half, 2i + 1
 * above. */
INLINED __m512 spread_blocks512(__m256 v, int i)
{
    __m512i lane = _mm512_inserti64x4(_mm512_set1_epi32(2 * i), _mm256_set1_epi32(2 * i + 1), 1);
    return _mm512_permutexvar_ps(lane, _mm512_castps256_ps512(v));
}

/* Per-lane start value -128 * (sum of the lane's 4 weights). */
INLINED __m512i signed_start512(__m512i code)
{
    __m512i sum = _mm512_dpbusd_epi32(_mm512_setzero_si512(), _mm512_set1_epi8((char)128), code);
    return _mm512_sub_epi32(_mm512_setzero_si512(), sum);
}

INLINED __m512i signed_dot512(__m512i start, __m512i code, const int8_t *q)
{
    __m512i x = _mm512_xor_si512(_mm512_loadu_si512(q), _mm512_set1_epi8((char)128));
    return _mm512_dpbusd_epi32(start, x, code);
}

/* Adds n <= 8 blocks of 32, from block b of the row on, to the columns' sums. Codes beyond n are 0, scales
 * finite; the activations' codes are padded, their scales may be anything beyond the end and are not read. */
INLINED void add_signed_blocks512(const struct codes512 *w, int n, const struct q8_row *x, int64_t b,
                                  int n_cols, __m512 *acc)
{
    __m512i start[4];
    UNROLLED
    for (int i = 0; i < 4; i++)
        start[i] = signed_start512(w->code[i]);
    __mmask8 present = (__mmask8)((1u << n) - 1);
    UNROLLED
    for (int c = 0; c < n_cols; c++) {
        const int8_t *q = x[c].q + b * Q8_BLOCK;
        __m256 scale = _mm256_mul_ps(w->scale, _mm256_maskz_loadu_ps(present, x[c].d + b));
        __m512 sum = _mm512_mul_ps(_mm512_cvtepi32_ps(signed_dot512(start[0], w->code[0], q)),
                                   spread_blocks512(scale, 0));
        UNROLLED
        for (int i = 1; i < 4; i++) {
            if (2 * i >= n)
                break;
            __m512 dot = _mm512_cvtepi32_ps(signed_dot512(start[i], w->code[i], q + 64 * i));
            sum = _mm512_fmadd_ps(dot, spread_blocks512(scale, i), sum);
        }
        acc[c] = _mm512_add_ps(acc[c], sum);
    }
}

/* 8 f16 scales, one every stride bytes; the first n are read, the others are 0. */
INLINED __m256 f16_scales512(const uint8_t *p, int stride, int n)
{
    if (n == 8)
        return _mm256_cvtph_ps(_mm_set_epi16((short)u16_at(p + 7 * stride), (short)u16_at(p + 6 * stride),
                                             (short)u16_at(p + 5 * stride), (short)u16_at(p + 4 * stride),
                                             (short)u16_at(p + 3 * stride), (short)u16_at(p + 2 * stride),
                                             (short)u16_at(p + stride), (short)u16_at(p)));
    uint16_t scale[8] = { 0 };
    for (int i = 0; i < n; i++)
        scale[i] = u16_at(p + i * stride);
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)scale));
}

#endif
