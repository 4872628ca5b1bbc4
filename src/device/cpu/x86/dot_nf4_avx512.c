/* dot_nf4_avx512.c: NF4 and FP4, plain and double-quantized, times f32 activations. A block's codebook is
 * scaled by its absmax and lies in one register, so a weight is one permute and exactly what the format's
 * decode gives. */
#include <immintrin.h>

#include "device/cpu/dot_codebook.h"
#include "device/cpu/dot_tile.h"
#include "device/cpu/x86/dot_x86.h"

/* 16 weights: 8 bytes, each byte's high nibble first. Every 8 byte lane picks the nibbles of its two weights
 * by their bit offsets; the permute looks at 4 bits only, so the neighbours need no masking. */
INLINED __m512 load_codes(const uint8_t *p, __m512 values)
{
    const __m512i offset = _mm512_setr_epi32(4, 0, 12, 8, 20, 16, 28, 24, 36, 32, 44, 40, 52, 48, 60, 56);
    uint64_t codes;
    memcpy(&codes, p, sizeof codes);
    __m512i index = _mm512_multishift_epi64_epi8(offset, _mm512_set1_epi64((long long)codes));
    return _mm512_permutexvar_ps(index, values);
}

INLINED void codebook_rows(const struct dot_tile *t, int n_cols, const float *codebook, dot_absmax_fn absmax)
{
    int64_t n_block = t->w->cols / BNB_BLOCK;
    const __m512 table = _mm512_loadu_ps(codebook);
    struct dot_absmax plane = dot_absmax_at(t->w);
    for (int r = 0; r < t->n_rows; r++) {
        const uint8_t *p = t->data + (size_t)r * t->row_bytes;
        int64_t first = (t->row + r) * n_block;
        __m512 even[DOT_MAX_COLS], odd[DOT_MAX_COLS];
        UNROLLED
        for (int c = 0; c < n_cols; c++)
            even[c] = odd[c] = _mm512_setzero_ps();
        for (int64_t b = 0; b < n_block; b++, p += BNB_BLOCK / 2) {
            __m512 values = _mm512_mul_ps(table, _mm512_set1_ps(absmax(&plane, first + b)));
            __m512 w0 = load_codes(p, values), w1 = load_codes(p + 8, values);
            __m512 w2 = load_codes(p + 16, values), w3 = load_codes(p + 24, values);
            UNROLLED
            for (int c = 0; c < n_cols; c++) {
                const float *x = (const float *)t->x[c] + b * BNB_BLOCK;
                even[c] = _mm512_fmadd_ps(w0, _mm512_loadu_ps(x), even[c]);
                odd[c] = _mm512_fmadd_ps(w1, _mm512_loadu_ps(x + 16), odd[c]);
                even[c] = _mm512_fmadd_ps(w2, _mm512_loadu_ps(x + 32), even[c]);
                odd[c] = _mm512_fmadd_ps(w3, _mm512_loadu_ps(x + 48), odd[c]);
            }
        }
        UNROLLED
        for (int c = 0; c < n_cols; c++)
            t->y[(size_t)c * t->y_stride + (size_t)r] = _mm512_reduce_add_ps(_mm512_add_ps(even[c], odd[c]));
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

void dot_nf4_avx512(const struct qmat *w, int64_t row, int n_rows, const void *const *x, int n_cols, float *y,
                    size_t y_stride)
{
    struct dot_tile t = dot_tile_at(w, row, n_rows, x, y, y_stride);
    dot_tiles8(nf4_tile, &t, n_cols);
}

void dot_nf4_dq_avx512(const struct qmat *w, int64_t row, int n_rows, const void *const *x, int n_cols,
                       float *y, size_t y_stride)
{
    struct dot_tile t = dot_tile_at(w, row, n_rows, x, y, y_stride);
    dot_tiles8(nf4_dq_tile, &t, n_cols);
}

void dot_fp4_avx512(const struct qmat *w, int64_t row, int n_rows, const void *const *x, int n_cols, float *y,
                    size_t y_stride)
{
    struct dot_tile t = dot_tile_at(w, row, n_rows, x, y, y_stride);
    dot_tiles8(fp4_tile, &t, n_cols);
}

void dot_fp4_dq_avx512(const struct qmat *w, int64_t row, int n_rows, const void *const *x, int n_cols,
                       float *y, size_t y_stride)
{
    struct dot_tile t = dot_tile_at(w, row, n_rows, x, y, y_stride);
    dot_tiles8(fp4_dq_tile, &t, n_cols);
}
