/*
 * peak_avx2.c: the peak loops for AVX2 and FMA. Each round has one product into each of CHAINS sums: enough
 * to cover the latency of the units, few enough for 16 registers. The sums are variables of their own because
 * an array of them ends up in memory.
 */
#include <immintrin.h>

#include "device/peak.h"

enum { CHAINS = 10 };

/* What the compiler knows nothing about: sums that start alike stay apart, and products of constants are not
 * computed before the loop. Makes no instruction. */
static inline __m256i fresh(__m256i x)
{
    __asm__ volatile("" : "+x"(x));
    return x;
}

static inline __m256 fresh_ps(__m256 x)
{
    __asm__ volatile("" : "+x"(x));
    return x;
}

static inline float sum_lanes(__m256 x)
{
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

static uint64_t read_avx2(const void *p, size_t bytes)
{
    const __m256i *x = p;
    __m256i sum[8] = { 0 };
    for (size_t i = 0; i < bytes / 32; i += 8)
        for (int k = 0; k < 8; k++)
            sum[k] = _mm256_xor_si256(sum[k], _mm256_load_si256(x + i + k));
    for (int k = 1; k < 8; k++)
        sum[0] = _mm256_xor_si256(sum[0], sum[k]);
    uint64_t part[4];
    _mm256_storeu_si256((__m256i *)part, sum[0]);
    return part[0] ^ part[1] ^ part[2] ^ part[3];
}

/* Without VNNI a byte product takes three steps: pairs to 16 bits, pairs of those to 32, add. */
static inline __m256i add_bytes(__m256i sum, __m256i a, __m256i b, __m256i one)
{
    return _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(fresh(a), b), one));
}

static int64_t int8_avx2(int64_t rounds, int32_t *sink)
{
    __m256i a = _mm256_set1_epi8(3), b = _mm256_set1_epi8(-5), one = _mm256_set1_epi16(1);
    __m256i z = _mm256_setzero_si256();
    __m256i s0 = fresh(z), s1 = fresh(z), s2 = fresh(z), s3 = fresh(z), s4 = fresh(z), s5 = fresh(z),
            s6 = fresh(z), s7 = fresh(z), s8 = fresh(z), s9 = fresh(z);
    for (int64_t r = 0; r < rounds; r++) {
        s0 = add_bytes(s0, a, b, one);
        s1 = add_bytes(s1, a, b, one);
        s2 = add_bytes(s2, a, b, one);
        s3 = add_bytes(s3, a, b, one);
        s4 = add_bytes(s4, a, b, one);
        s5 = add_bytes(s5, a, b, one);
        s6 = add_bytes(s6, a, b, one);
        s7 = add_bytes(s7, a, b, one);
        s8 = add_bytes(s8, a, b, one);
        s9 = add_bytes(s9, a, b, one);
    }
    s0 = _mm256_add_epi32(s0, s1);
    s2 = _mm256_add_epi32(s2, s3);
    s4 = _mm256_add_epi32(s4, s5);
    s6 = _mm256_add_epi32(s6, s7);
    s8 = _mm256_add_epi32(s8, s9);
    s0 = _mm256_add_epi32(s0, s2);
    s4 = _mm256_add_epi32(s4, s6);
    s0 = _mm256_add_epi32(s0, s4);
    s0 = _mm256_add_epi32(s0, s8);
    int32_t part[8];
    _mm256_storeu_si256((__m256i *)part, s0);
    *sink = 0;
    for (int i = 0; i < 8; i++)
        *sink = (int32_t)((uint32_t)*sink + (uint32_t)part[i]);
    return rounds * CHAINS * 32;
}

/* One operand is widened from bf16 before every product, as the weights are. */
static inline __m256 add_bf16(__m256 sum, __m256i a, __m256 b)
{
    __m256i wide = _mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm256_castsi256_si128(fresh(a))), 16);
    return _mm256_fmadd_ps(_mm256_castsi256_ps(wide), b, sum);
}

static int64_t bf16_avx2(int64_t rounds, float *sink)
{
    __m256i a = _mm256_set1_epi16(0x3f80); /* 1 */
    __m256 b = _mm256_set1_ps(0.5f);
    __m256 z = _mm256_setzero_ps();
    __m256 s0 = fresh_ps(z), s1 = fresh_ps(z), s2 = fresh_ps(z), s3 = fresh_ps(z), s4 = fresh_ps(z),
           s5 = fresh_ps(z), s6 = fresh_ps(z), s7 = fresh_ps(z), s8 = fresh_ps(z), s9 = fresh_ps(z);
    for (int64_t r = 0; r < rounds; r++) {
        s0 = add_bf16(s0, a, b);
        s1 = add_bf16(s1, a, b);
        s2 = add_bf16(s2, a, b);
        s3 = add_bf16(s3, a, b);
        s4 = add_bf16(s4, a, b);
        s5 = add_bf16(s5, a, b);
        s6 = add_bf16(s6, a, b);
        s7 = add_bf16(s7, a, b);
        s8 = add_bf16(s8, a, b);
        s9 = add_bf16(s9, a, b);
    }
    s0 = _mm256_add_ps(s0, s1);
    s2 = _mm256_add_ps(s2, s3);
    s4 = _mm256_add_ps(s4, s5);
    s6 = _mm256_add_ps(s6, s7);
    s8 = _mm256_add_ps(s8, s9);
    s0 = _mm256_add_ps(s0, s2);
    s4 = _mm256_add_ps(s4, s6);
    s0 = _mm256_add_ps(s0, s4);
    s0 = _mm256_add_ps(s0, s8);
    *sink = sum_lanes(s0);
    return rounds * CHAINS * 8;
}

static int64_t f32_avx2(int64_t rounds, float *sink)
{
    __m256 a = fresh_ps(_mm256_set1_ps(1.0f)), b = fresh_ps(_mm256_set1_ps(0.5f));
    __m256 z = _mm256_setzero_ps();
    __m256 s0 = fresh_ps(z), s1 = fresh_ps(z), s2 = fresh_ps(z), s3 = fresh_ps(z), s4 = fresh_ps(z),
           s5 = fresh_ps(z), s6 = fresh_ps(z), s7 = fresh_ps(z), s8 = fresh_ps(z), s9 = fresh_ps(z);
    for (int64_t r = 0; r < rounds; r++) {
        s0 = _mm256_fmadd_ps(a, b, s0);
        s1 = _mm256_fmadd_ps(a, b, s1);
        s2 = _mm256_fmadd_ps(a, b, s2);
        s3 = _mm256_fmadd_ps(a, b, s3);
        s4 = _mm256_fmadd_ps(a, b, s4);
        s5 = _mm256_fmadd_ps(a, b, s5);
        s6 = _mm256_fmadd_ps(a, b, s6);
        s7 = _mm256_fmadd_ps(a, b, s7);
        s8 = _mm256_fmadd_ps(a, b, s8);
        s9 = _mm256_fmadd_ps(a, b, s9);
    }
    s0 = _mm256_add_ps(s0, s1);
    s2 = _mm256_add_ps(s2, s3);
    s4 = _mm256_add_ps(s4, s5);
    s6 = _mm256_add_ps(s6, s7);
    s8 = _mm256_add_ps(s8, s9);
    s0 = _mm256_add_ps(s0, s2);
    s4 = _mm256_add_ps(s4, s6);
    s0 = _mm256_add_ps(s0, s4);
    s0 = _mm256_add_ps(s0, s8);
    *sink = sum_lanes(s0);
    return rounds * CHAINS * 8;
}

const struct peak_loops peak_avx2 = {
    .name = "AVX2",
    .needs = CPU_ISA_AVX2,
    .read = read_avx2,
    .int8 = int8_avx2,
    .bf16 = bf16_avx2,
    .f32 = f32_avx2,
};
