/* dot_nf4_avx2.c: NF4 and FP4, plain and double-quantized, times f32 activations. A block's codebook is
 * scaled by its absmax and lies in two registers, so a weight is exactly what the format's decode gives. */
#include "device/cpu/dot_codebook.h"
#include "device/cpu/x86/dot_avx2.h"
#include "device/cpu/x86/dot_x86.h"

/* 8 weights: 4 bytes, each byte's high nibble first. Permutes look at 3 bits; the fourth chooses the half. */
INLINED __m256 load_codes(const uint8_t *p, __m256 low, __m256 high)
{
    const __m256i offset = _mm256_setr_epi32(4, 0, 12, 8, 20, 16, 28, 24);
    __m256i index = _mm256_srlv_epi32(_mm256_set1_epi32((int)u32_at(p)), offset);
    __m256 is_high = _mm256_castsi256_ps(_mm256_slli_epi32(index, 28));
    return _mm256_blendv_ps(_mm256_permutevar8x32_ps(low, index), _mm256_permutevar8x32_ps(high, index),
                            is_high);
}

INLINED void codebook_rows(const struct dot_tile *t, int n_cols, const float *codebook, dot_absmax_fn absmax)
{
    int64_t n_block = t->w->cols / BNB_BLOCK;
    const __m256 table_low = _mm256_loadu_ps(codebook), table_high = _mm256_loadu_ps(codebook + 8);
    struct dot_absmax plane = dot_absmax_at(t->w);
    for (int r = 0; r < t->n_rows; r++) {
        const uint8_t *p = t->data + (size_t)r * t->row_bytes;
        int64_t first = (t->row + r) * n_block;
        __m256 even[4], odd[4];
        UNROLLED
        for (int c = 0; c < n_cols; c++)
            even[c] = odd[c] = _mm256_setzero_ps();
        for (int64_t b = 0; b < n_block; b++, p += BNB_BLOCK / 2) {
            __m256 scale = _mm256_set1_ps(absmax(&plane, first + b));
            __m256 low = _mm256_mul_ps(table_low, scale), high = _mm256_mul_ps(table_high, scale);
            UNROLLED
            for (int i = 0; i < BNB_BLOCK; i += 16) {
                __m256 w0 = load_codes(p + i / 2, low, high), w1 = load_codes(p + i / 2 + 4, low, high);
                UNROLLED
                for (int c = 0; c < n_cols; c++) {
                    const float *x = (const float *)t->x[c] + b * BNB_BLOCK + i;
                    even[c] = _mm256_fmadd_ps(w0, _mm256_loadu_ps(x), even[c]);
                    odd[c] = _mm256_fmadd_ps(w1, _mm256_loadu_ps(x + 8), odd[c]);
                }
            }
        }
        UNROLLED
        for (int c = 0; c < n_cols; c++)
            t->y[(size_t)c * t->y_stride + (size_t)r] = sum256(_mm256_add_ps(even[c], odd[c]));
    }
}

INLINED void nf4_tile(const struct dot_tile *t, int n_cols)
{
    codebook_rows(t, n_cols, dot_nf4_values, dot_absmax_plain);
}

INLINED void nf4_dq_tile(const struct dot_tile *t, int n_cols)
{
    codebook_rows(t, n_cols, dot_nf4_values, dot_absmax_nested);
}

INLINED void fp4_tile(const struct dot_tile *t, int n_cols)
{
    codebook_rows(t, n_cols, dot_fp4_values, dot_absmax_plain);
}

INLINED void fp4_dq_tile(const struct dot_tile *t, int n_cols)
{
    codebook_rows(t, n_cols, dot_fp4_values, dot_absmax_nested);
}

void dot_nf4_avx2(const struct qmat *w, int64_t row, int n_rows, const void *const *x, int n_cols, float *y,
                  size_t y_stride)
{
    struct dot_tile t = dot_tile_at(w, row, n_rows, x, y, y_stride);
    dot_tiles4(nf4_tile, &t, n_cols);
}

void dot_nf4_dq_avx2(const struct qmat *w, int64_t row, int n_rows, const void *const *x, int n_cols,
                     float *y, size_t y_stride)
{
    struct dot_tile t = dot_tile_at(w, row, n_rows, x, y, y_stride);
    dot_tiles4(nf4_dq_tile, &t, n_cols);
}

void dot_fp4_avx2(const struct qmat *w, int64_t row, int n_rows, const void *const *x, int n_cols, float *y,
                  size_t y_stride)
{
    struct dot_tile t = dot_tile_at(w, row, n_rows, x, y, y_stride);
    dot_tiles4(fp4_tile, &t, n_cols);
}

void dot_fp4_dq_avx2(const struct qmat *w, int64_t row, int n_rows, const void *const *x, int n_cols,
                     float *y, size_t y_stride)
{
    struct dot_tile t = dot_tile_at(w, row, n_rows, x, y, y_stride);
    dot_tiles4(fp4_dq_tile, &t, n_cols);
}
