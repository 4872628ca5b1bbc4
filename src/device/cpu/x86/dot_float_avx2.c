/* dot_float_avx2.c: F32, F16, BF16 and FP8 weights times f32 activations. A weight becomes exactly the f32
 * that its format's decode gives; two sums of 8 lanes per output take turns along the row. */
#include "device/cpu/x86/dot_avx2.h"
#include "device/cpu/x86/dot_x86.h"

enum { FP8_TILE = 128 };

/* 8 weights from column i of a row. */
typedef __m256 (*load8_fn)(const uint8_t *row, int64_t i);

/* Copies n < 16 elements of size bytes before zeros, so that the end of a row reads like its middle. */
INLINED void padded(void *to, const void *from, int64_t n, int size)
{
    memset(to, 0, (size_t)(16 * size));
    memcpy(to, from, (size_t)(n * size));
}

/* Adds 16 columns to both sums. */
INLINED void add16(__m256 w0, __m256 w1, const float *x, __m256 *even, __m256 *odd)
{
    *even = _mm256_fmadd_ps(w0, _mm256_loadu_ps(x), *even);
    *odd = _mm256_fmadd_ps(w1, _mm256_loadu_ps(x + 8), *odd);
}

INLINED void plain_rows(const struct dot_tile *t, int n_cols, int size, load8_fn load)
{
    int64_t cols = t->w->cols;
    for (int r = 0; r < t->n_rows; r++) {
        const uint8_t *p = t->data + (size_t)r * t->row_bytes;
        __m256 even[4], odd[4];
        UNROLLED
        for (int c = 0; c < n_cols; c++)
            even[c] = odd[c] = _mm256_setzero_ps();
        int64_t i = 0;
        for (; i + 16 <= cols; i += 16) {
            __m256 w0 = load(p, i), w1 = load(p, i + 8);
            UNROLLED
            for (int c = 0; c < n_cols; c++)
                add16(w0, w1, (const float *)t->x[c] + i, &even[c], &odd[c]);
        }
        if (i < cols) {
            uint8_t w[64];
            float x[16];
            padded(w, p + i * size, cols - i, size);
            UNROLLED
            for (int c = 0; c < n_cols; c++) {
                padded(x, (const float *)t->x[c] + i, cols - i, sizeof *x);
                add16(load(w, 0), load(w, 8), x, &even[c], &odd[c]);
            }
        }
        UNROLLED
        for (int c = 0; c < n_cols; c++)
            t->y[(size_t)c * t->y_stride + (size_t)r] = sum256(_mm256_add_ps(even[c], odd[c]));
    }
}

INLINED __m256 load_f32(const uint8_t *row, int64_t i)
{
    return _mm256_loadu_ps((const float *)(row + 4 * i));
}

INLINED __m256 load_f16(const uint8_t *row, int64_t i)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(row + 2 * i)));
}

INLINED __m256 load_bf16(const uint8_t *row, int64_t i)
{
    __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(row + 2 * i)));
    return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
}

INLINED void f32_tile(const struct dot_tile *t, int n_cols)
{
    plain_rows(t, n_cols, 4, load_f32);
}

INLINED void f16_tile(const struct dot_tile *t, int n_cols)
{
    plain_rows(t, n_cols, 2, load_f16);
}

INLINED void bf16_tile(const struct dot_tile *t, int n_cols)
{
    plain_rows(t, n_cols, 2, load_bf16);
}

/* FP8 becomes f16 by moving bits. E5M2 is an f16's upper byte. E4M3's exponent is 8 too small there, which
 * the scale makes good, and its NaN (all ones) would be a number: such codes are collected in nan. */
struct fp8 {
    float factor;
    __m256i (*half)(__m128i code);
    __m128i (*nan)(__m128i code); /* 0xff where the code is one */
};

INLINED __m256i half_e4m3(__m128i code)
{
    __m256i v = _mm256_slli_epi16(_mm256_cvtepi8_epi16(code), 7); /* sign, sign, exponent, mantissa */
    return _mm256_and_si256(v, _mm256_set1_epi16((short)0xbfff));
}

INLINED __m128i nan_e4m3(__m128i code)
{
    return _mm_cmpeq_epi8(_mm_and_si128(code, _mm_set1_epi8(0x7f)), _mm_set1_epi8(0x7f));
}

INLINED __m256i half_e5m2(__m128i code)
{
    return _mm256_slli_epi16(_mm256_cvtepu8_epi16(code), 8);
}

INLINED __m128i nan_e5m2(__m128i code)
{
    (void)code;
    return _mm_setzero_si128(); /* an f16 NaN already */
}

/* Adds n (a multiple of 16) columns from p and each x + i on, which share one scale. */
INLINED void fp8_span(const uint8_t *p, const float *const *x, int64_t i, int64_t n, int n_cols,
                      float tile_scale, const struct fp8 *f, __m256 *even, __m256 *odd, __m128i *nan)
{
    __m256 scale = _mm256_set1_ps(tile_scale * f->factor);
    for (int64_t k = 0; k < n; k += 16) {
        __m128i code = _mm_loadu_si128((const __m128i *)(p + k));
        *nan = _mm_or_si128(*nan, f->nan(code));
        __m256i half = f->half(code);
        __m256 w0 = _mm256_mul_ps(_mm256_cvtph_ps(_mm256_castsi256_si128(half)), scale);
        __m256 w1 = _mm256_mul_ps(_mm256_cvtph_ps(_mm256_extracti128_si256(half, 1)), scale);
        UNROLLED
        for (int c = 0; c < n_cols; c++)
            add16(w0, w1, x[c] + i + k, &even[c], &odd[c]);
    }
}

INLINED void fp8_rows(const struct dot_tile *t, int n_cols, const struct fp8 *f)
{
    const float *const *x = (const float *const *)t->x;
    int64_t cols = t->w->cols, n_scale = (cols + FP8_TILE - 1) / FP8_TILE, whole = cols / 16 * 16;
    for (int r = 0; r < t->n_rows; r++) {
        const uint8_t *p = t->data + (size_t)r * t->row_bytes;
        const float *scale = (const float *)t->w->scale + (t->row + r) / FP8_TILE * n_scale;
        __m256 even[4], odd[4];
        __m128i nan = _mm_setzero_si128();
        UNROLLED
        for (int c = 0; c < n_cols; c++)
            even[c] = odd[c] = _mm256_setzero_ps();
        for (int64_t i = 0; i < whole; i += FP8_TILE) {
            int64_t n = whole - i < FP8_TILE ? whole - i : FP8_TILE;
            fp8_span(p + i, x, i, n, n_cols, scale[i / FP8_TILE], f, even, odd, &nan);
        }
        if (whole < cols) {
            uint8_t w[16];
            float tail[4][16];
            const float *tails[4] = { tail[0], tail[1], tail[2], tail[3] };
            padded(w, p + whole, cols - whole, 1);
            for (int c = 0; c < n_cols; c++)
                padded(tail[c], x[c] + whole, cols - whole, sizeof tail[c][0]);
            fp8_span(w, tails, 0, 16, n_cols, scale[n_scale - 1], f, even, odd, &nan);
        }
        int is_nan = _mm_movemask_epi8(nan);
        UNROLLED
        for (int c = 0; c < n_cols; c++) {
            float sum = sum256(_mm256_add_ps(even[c], odd[c]));
            t->y[(size_t)c * t->y_stride + (size_t)r] = is_nan ? f32_from_bits(0x7fc00000) : sum;
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

void dot_f32_avx2(const struct qmat *w, int64_t row, int n_rows, const void *const *x, int n_cols, float *y,
                  size_t y_stride)
{
    struct dot_tile t = dot_tile_at(w, row, n_rows, x, y, y_stride);
    dot_tiles4(f32_tile, &t, n_cols);
}

void dot_f16_avx2(const struct qmat *w, int64_t row, int n_rows, const void *const *x, int n_cols, float *y,
                  size_t y_stride)
{
    struct dot_tile t = dot_tile_at(w, row, n_rows, x, y, y_stride);
    dot_tiles4(f16_tile, &t, n_cols);
}

void dot_bf16_avx2(const struct qmat *w, int64_t row, int n_rows, const void *const *x, int n_cols, float *y,
                   size_t y_stride)
{
    struct dot_tile t = dot_tile_at(w, row, n_rows, x, y, y_stride);
    dot_tiles4(bf16_tile, &t, n_cols);
}

void dot_fp8_e4m3_avx2(const struct qmat *w, int64_t row, int n_rows, const void *const *x, int n_cols,
                       float *y, size_t y_stride)
{
    struct dot_tile t = dot_tile_at(w, row, n_rows, x, y, y_stride);
    dot_tiles4(fp8_e4m3_tile, &t, n_cols);
}

void dot_fp8_e5m2_avx2(const struct qmat *w, int64_t row, int n_rows, const void *const *x, int n_cols,
                       float *y, size_t y_stride)
{
    struct dot_tile t = dot_tile_at(w, row, n_rows, x, y, y_stride);
    dot_tiles4(fp8_e5m2_tile, &t, n_cols);
}
