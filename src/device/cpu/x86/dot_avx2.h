/*
 * dot_avx2.h: what the kernels for AVX2 share. The integer ones work on up to 8 blocks of 32 weights, one
 * vector of codes each, with 8 scales.
 *
 * vpmaddubsw multiplies unsigned with signed bytes and adds pairs in 16 bits, where it saturates. Signed
 * weights give their sign to the activation: 128 * 127 * 2 = 32512 fits.
 */
#ifndef TONNE_DEVICE_CPU_X86_DOT_AVX2_H
#define TONNE_DEVICE_CPU_X86_DOT_AVX2_H

#include <immintrin.h>

#include "device/cpu/dot_tile.h"

struct codes256 {
    __m256i code[8]; /* 32 weights each */
    __m256 scale;    /* one per code vector */
};

INLINED float sum256(__m256 v)
{
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

/* Lane i of v everywhere. */
INLINED __m256 lane256(__m256 v, int i)
{
    return _mm256_permutevar8x32_ps(v, _mm256_set1_epi32(i));
}

/* Sums of 4 products, 8 lanes. */
INLINED __m256i unsigned_dot256(__m256i code, const int8_t *q)
{
    __m256i pairs = _mm256_maddubs_epi16(code, _mm256_loadu_si256((const __m256i *)q));
    return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
}

/* The same for signed codes, as sums of 2 products in 16 lanes. */
INLINED __m256i signed_pairs256(__m256i code, const int8_t *q)
{
    __m256i x = _mm256_sign_epi8(_mm256_loadu_si256((const __m256i *)q), code);
    return _mm256_maddubs_epi16(_mm256_abs_epi8(code), x);
}

/* d[0..n) of at most 8 */
INLINED __m256 first256(const float *d, int n)
{
    if (n == 8)
        return _mm256_loadu_ps(d);
    __m256i index = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_maskload_ps(d, _mm256_cmpgt_epi32(_mm256_set1_epi32(n), index));
}

/* Adds n <= 8 blocks of 32, from block b of the row on, to the columns' sums. */
INLINED void add_signed_blocks256(const struct codes256 *w, int n, const struct q8_row *x, int64_t b,
                                  int n_cols, __m256 *acc)
{
    const __m256i ones = _mm256_set1_epi16(1);
    UNROLLED
    for (int c = 0; c < n_cols; c++) {
        const int8_t *q = x[c].q + b * Q8_BLOCK;
        __m256 scale = _mm256_mul_ps(w->scale, first256(x[c].d + b, n)), sum = _mm256_setzero_ps();
        UNROLLED
        for (int i = 0; i < 8; i++) {
            if (i >= n)
                break;
            __m256i dot = _mm256_madd_epi16(signed_pairs256(w->code[i], q + 32 * i), ones);
            sum = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot), lane256(scale, i), sum);
        }
        acc[c] = _mm256_add_ps(acc[c], sum);
    }
}

/* 8 f16 scales, one every stride bytes; the first n are read, the others are 0. */
INLINED __m256 f16_scales256(const uint8_t *p, int stride, int n)
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
