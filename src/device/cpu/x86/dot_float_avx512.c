/* dot_float_avx512.c: F32, F16, BF16 and FP8 weights times f32 activations. A weight becomes exactly the f32
 * that its format's decode gives; two sums of 16 lanes per output take turns along the row. */
#include <immintrin.h>

#include "device/cpu/dot_tile.h"
#include "device/cpu/x86/dot_x86.h"

enum { FP8_TILE = 128 };

/* 16 weights from column i of a row; lanes outside m are not read and give 0. */
typedef __m512 (*load16_fn)(const uint8_t *row, int64_t i, __mmask16 m);

INLINED __mmask16 lanes(int64_t n)
{
    return n >= 16 ? 0xffff : (__mmask16)((1u << (n > 0 ? n : 0)) - 1);
}

INLINED void plain_rows(const struct dot_tile *t, int n_cols, load16_fn load)
{
    int64_t cols = t->w->cols;
    for (int r = 0; r < t->n_rows; r++) {
        const uint8_t *p = t->data + (size_t)r * t->row_bytes;
        __m512 even[DOT_MAX_COLS], odd[DOT_MAX_COLS];
        UNROLLED
        for (int c = 0; c < n_cols; c++)
            even[c] = odd[c] = _mm512_setzero_ps();
        int64_t i = 0;
        for (; i + 32 <= cols; i += 32) {
            __m512 w0 = load(p, i, 0xffff), w1 = load(p, i + 16, 0xffff);
            UNROLLED
            for (int c = 0; c < n_cols; c++) {
                const float *x = (const float *)t->x[c] + i;
                even[c] = _mm512_fmadd_ps(w0, _mm512_loadu_ps(x), even[c]);
                odd[c] = _mm512_fmadd_ps(w1, _mm512_loadu_ps(x + 16), odd[c]);
            }
        }
        if (i < cols) {
            __mmask16 m0 = lanes(cols - i), m1 = lanes(cols - i - 16);
            __m512 w0 = load(p, i, m0), w1 = load(p, i + 16, m1);
            UNROLLED
            for (int c = 0; c < n_cols; c++) {
                const float *x = (const float *)t->x[c] + i;
                even[c] = _mm512_fmadd_ps(w0, _mm512_maskz_loadu_ps(m0, x), even[c]);
                odd[c] = _mm512_fmadd_ps(w1, _mm512_maskz_loadu_ps(m1, x + 16), odd[c]);
            }
        }
        UNROLLED
        for (int c = 0; c < n_cols; c++)
            t->y[(size_t)c * t->y_stride + (size_t)r] = _mm512_reduce_add_ps(_mm512_add_ps(even[c], odd[c]));
    }
}

INLINED __m512 load_f32(const uint8_t *row, int64_t i, __mmask16 m)
{
    return _mm512_maskz_loadu_ps(m, row + 4 * i);
}

INLINED __m512 load_f16(const uint8_t *row, int64_t i, __mmask16 m)
{
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(m, row + 2 * i));
}

INLINED __m512 load_bf16(const uint8_t *row, int64_t i, __mmask16 m)
{
    __m512i wide = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(m, row + 2 * i));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}

INLINED void f32_tile(const struct dot_tile *t, int n_cols)
{
    plain_rows(t, n_cols, load_f32);
}

INLINED void f16_tile(const struct dot_tile *t, int n_cols)
{
    plain_rows(t, n_cols, load_f16);
}

INLINED void bf16_tile(const struct dot_tile *t, int n_cols)
{
    plain_rows(t, n_cols, load_bf16);
}

/* FP8 becomes f16 by moving bits. E5M2 is an f16's upper byte. E4M3's exponent is 8 too small there, which
 * the scale makes good, and its NaN (all ones) would be a number: such codes are collected in nan. */
struct fp8 {
    float factor;
    __m256i (*half)(__m128i code);
    __mmask16 (*nan)(__m128i code);
};

INLINED __m256i half_e4m3(__m128i code)
{
    __m256i v = _mm256_slli_epi16(_mm256_cvtepi8_epi16(code), 7); /* sign, sign, exponent, mantissa */
    return _mm256_and_si256(v, _mm256_set1_epi16((short)0xbfff));
}

INLINED __mmask16 nan_e4m3(__m128i code)
{
    return _mm_cmpeq_epi8_mask(_mm_and_si128(code, _mm_set1_epi8(0x7f)), _mm_set1_epi8(0x7f));
}

INLINED __m256i half_e5m2(__m128i code)
{
    return _mm256_slli_epi16(_mm256_cvtepu8_epi16(code), 8);
}

INLINED __mmask16 nan_e5m2(__m128i code)
{
    (void)code;
    return 0; /* an f16 NaN already */
}

INLINED __m512 load_fp8(const uint8_t *p, __mmask16 m, __m512 scale, const struct fp8 *f, __mmask16 *nan)
{
    __m128i code = _mm_maskz_loadu_epi8(m, p);
    *nan |= f->nan(code);
    return _mm512_mul_ps(_mm512_cvtph_ps(f->half(code)), scale);
}

/* One tile of at most 128 columns, from column i on, with one scale. */
INLINED void fp8_span(const struct dot_tile *t, int n_cols, const struct fp8 *f, const uint8_t *p, int64_t i,
                      int64_t n, float tile_scale, __m512 *even, __m512 *odd, __mmask16 *nan)
{
    __m512 scale = _mm512_set1_ps(tile_scale * f->factor);
    for (int64_t k = 0; k < n; k += 32) {
        __mmask16 m0 = lanes(n - k), m1 = lanes(n - k - 16);
        __m512 w0 = load_fp8(p + i + k, m0, scale, f, nan), w1 = load_fp8(p + i + k + 16, m1, scale, f, nan);
        UNROLLED
        for (int c = 0; c < n_cols; c++) {
            const float *x = (const float *)t->x[c] + i + k;
            even[c] = _mm512_fmadd_ps(w0, _mm512_maskz_loadu_ps(m0, x), even[c]);
            odd[c] = _mm512_fmadd_ps(w1, _mm512_maskz_loadu_ps(m1, x + 16), odd[c]);
        }
    }
}

INLINED void fp8_rows(const struct dot_tile *t, int n_cols, const struct fp8 *f)
{
    int64_t cols = t->w->cols, n_span = (cols + FP8_TILE - 1) / FP8_TILE;
    for (int r = 0; r < t->n_rows; r++) {
        const uint8_t *p = t->data + (size_t)r * t->row_bytes;
        const float *scale = (const float *)t->w->scale + (t->row + r) / FP8_TILE * n_span;
        __m512 even[DOT_MAX_COLS], odd[DOT_MAX_COLS];
        __mmask16 nan = 0;
        UNROLLED
        for (int c = 0; c < n_cols; c++)
            even[c] = odd[c] = _mm512_setzero_ps();
        int64_t s = 0;
        for (; (s + 1) * FP8_TILE <= cols; s++)
            fp8_span(t, n_cols, f, p, s * FP8_TILE, FP8_TILE, scale[s], even, odd, &nan);
        if (s < n_span)
            fp8_span(t, n_cols, f, p, s * FP8_TILE, cols - s * FP8_TILE, scale[s], even, odd, &nan);
        UNROLLED
        for (int c = 0; c < n_cols; c++) {
            float sum = _mm512_reduce_add_ps(_mm512_add_ps(even[c], odd[c]));
            t->y[(size_t)c * t->y_stride + (size_t)r] = nan ? f32_from_bits(0x7fc00000) : sum;
        }
    }
}

INLINED void fp8_e4m3_tile(const struct dot_tile *t, int n_cols)
{
    const struct fp8 f = { 256, half_e4m3, nan_e4m3 };
    fp8_rows(t, n_cols, &f);
}

INLINED void fp8_e5m2_tile(const struct dot_tile *t, int n_cols)
{
    const struct fp8 f = { 1, half_e5m2, nan_e5m2 };
    fp8_rows(t, n_cols, &f);
}

void dot_f32_avx512(const struct qmat *w, int64_t row, int n_rows, const void *const *x, int n_cols, float *y,
                    size_t y_stride)
{
    struct dot_tile t = dot_tile_at(w, row, n_rows, x, y, y_stride);
    dot_tiles8(f32_tile, &t, n_cols);
}

void dot_f16_avx512(const struct qmat *w, int64_t row, int n_rows, const void *const *x, int n_cols, float *y,
                    size_t y_stride)
{
    struct dot_tile t = dot_tile_at(w, row, n_rows, x, y, y_stride);
    dot_tiles8(f16_tile, &t, n_cols);
}

void dot_bf16_avx512(const struct qmat *w, int64_t row, int n_rows, const void *const *x, int n_cols,
                     float *y, size_t y_stride)
{
    struct dot_tile t = dot_tile_at(w, row, n_rows, x, y, y_stride);
    dot_tiles8(bf16_tile, &t, n_cols);
}

void dot_fp8_e4m3_avx512(const struct qmat *w, int64_t row, int n_rows, const void *const *x, int n_cols,
                         float *y, size_t y_stride)
{
    struct dot_tile t = dot_tile_at(w, row, n_rows, x, y, y_stride);
    dot_tiles8(fp8_e4m3_tile, &t, n_cols);
}

void dot_fp8_e5m2_avx512(const struct qmat *w, int64_t row, int n_rows, const void *const *x, int n_cols,
                         float *y, size_t y_stride)
{
    struct dot_tile t = dot_tile_at(w, row, n_rows, x, y, y_stride);
    dot_tiles8(fp8_e5m2_tile, &t, n_cols);
}
