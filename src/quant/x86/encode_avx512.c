/* encode_avx512.c: see encode_x86.h. */
#include "quant/x86/encode_x86.h"

#include <immintrin.h>
#include <string.h>

#include "base/half.h"

/* |x| of 16 floats as integers, which order magnitudes the same way. */
static inline __m512i magnitude(__m512 x)
{
    return _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(0x7fffffff));
}

/* ---- NF4 ---- */

/* How many midpoints lie below x: four steps of halving the sorted table. NaN lies above none. */
static inline __m512i count_below(__m512 x, __m512 midpoint)
{
    __m512i n = _mm512_setzero_si512();
    for (int half = 8; half; half /= 2) {
        __m512 m = _mm512_permutexvar_ps(_mm512_add_epi32(n, _mm512_set1_epi32(half - 1)), midpoint);
        n = _mm512_mask_add_epi32(n, _mm512_cmp_ps_mask(x, m, _CMP_GT_OQ), n, _mm512_set1_epi32(half));
    }
    return n;
}

void nf4_blocks_avx512(uint8_t *codes, float *absmax, int64_t n_blocks, const float *src,
                       const float midpoint[15])
{
    const __m512 table = _mm512_maskz_loadu_ps(0x7fff, midpoint); /* the last is never looked at */
    const __m256i weights = _mm256_set1_epi16(0x0110);            /* first code times 16, second times 1 */
    for (int64_t b = 0; b < n_blocks; b++, src += 64, codes += 32) {
        __m512 x[4];
        __m512i size = _mm512_setzero_si512();
        for (int k = 0; k < 4; k++) {
            x[k] = _mm512_loadu_ps(src + 16 * k);
            size = _mm512_max_epi32(size, magnitude(x[k]));
        }
        float max = f32_from_bits((uint32_t)_mm512_reduce_max_epi32(size));
        __m512 inverse = _mm512_set1_ps(1.0f / (max > 1e-38f ? max : 1e-38f));
        for (int k = 0; k < 4; k += 2) {
            __m128i low = _mm512_cvtepi32_epi8(count_below(_mm512_mul_ps(x[k], inverse), table));
            __m128i high = _mm512_cvtepi32_epi8(count_below(_mm512_mul_ps(x[k + 1], inverse), table));
            __m256i pairs = _mm256_maddubs_epi16(_mm256_set_m128i(high, low), weights);
            _mm_storeu_si128((__m128i *)(codes + 8 * k), _mm256_cvtepi16_epi8(pairs));
        }
        absmax[b] = max;
    }
}

/* ---- Q8_0 ---- */

/* Nearest integers, halves away from zero, clamped to +-127 as integers: NaN too gets 127. */
static inline __m128i round_away(__m512 x)
{
    __m512 a =
        _mm512_castsi512_ps(_mm512_min_epi32(magnitude(x), _mm512_set1_epi32(0x42fe0000))); /* 127.0f */
    __m512i whole = _mm512_cvttps_epi32(a), sign = _mm512_srai_epi32(_mm512_castps_si512(x), 31);
    __m512 rest = _mm512_sub_ps(a, _mm512_cvtepi32_ps(whole));
    __m512i n = _mm512_add_epi32(whole, _mm512_cvttps_epi32(_mm512_add_ps(rest, rest)));
    return _mm512_cvtepi32_epi8(_mm512_sub_epi32(_mm512_xor_si512(n, sign), sign));
}

void q8_0_blocks_avx512(uint8_t *out, int64_t n_blocks, const float *src)
{
    for (int64_t b = 0; b < n_blocks; b++, src += 32, out += 34) {
        __m512 x = _mm512_loadu_ps(src), y = _mm512_loadu_ps(src + 16);
        float max =
            f32_from_bits((uint32_t)_mm512_reduce_max_epi32(_mm512_max_epi32(magnitude(x), magnitude(y))));
        float d = max / 127.0f, inverse = d != 0.0f ? 1.0f / d : 0.0f;
        uint16_t half = f32_to_f16(d);
        memcpy(out, &half, sizeof half);
        _mm_storeu_si128((__m128i *)(out + 2), round_away(_mm512_mul_ps(x, _mm512_set1_ps(inverse))));
        _mm_storeu_si128((__m128i *)(out + 18), round_away(_mm512_mul_ps(y, _mm512_set1_ps(inverse))));
    }
}
