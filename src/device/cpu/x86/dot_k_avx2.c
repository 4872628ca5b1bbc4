/* dot_k_avx2.c: Q4_K, Q5_K and Q6_K blocks of 256 times int8 activations. */
#include "device/cpu/x86/dot_avx2.h"
#include "device/cpu/x86/dot_x86.h"

struct block256 {
    __m256i code[8];   /* 32 unsigned weights each: one sub-block */
    __m256 scale, min; /* one per sub-block */
};

INLINED __m256 bytes_to_floats(uint64_t bytes)
{
    return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_cvtsi64_si128((long long)bytes)));
}

/* d, dmin and the 12 bytes of packed 6-bit numbers lead both formats. */
INLINED void k_scales(struct block256 *w, const uint8_t *block)
{
    uint64_t scale, min;
    dot_k_scales(block + 4, &scale, &min);
    w->scale = _mm256_mul_ps(_mm256_set1_ps(_cvtsh_ss(u16_at(block))), bytes_to_floats(scale));
    w->min = _mm256_mul_ps(_mm256_set1_ps(_cvtsh_ss(u16_at(block + 2))), bytes_to_floats(min));
}

INLINED void decode_q4_k(struct block256 *w, const uint8_t *p)
{
    const struct block_q4_k *b = (const struct block_q4_k *)p;
    const __m256i nibble = _mm256_set1_epi8(15);
    k_scales(w, p);
    UNROLLED
    for (int g = 0; g < 4; g++) {
        __m256i v = _mm256_loadu_si256((const __m256i *)(b->qs + 32 * g));
        w->code[2 * g] = _mm256_and_si256(v, nibble);
        w->code[2 * g + 1] = _mm256_and_si256(_mm256_srli_epi16(v, 4), nibble);
    }
}

INLINED void decode_q5_k(struct block256 *w, const uint8_t *p)
{
    const struct block_q5_k *b = (const struct block_q5_k *)p;
    const __m256i nibble = _mm256_set1_epi8(15), sixteen = _mm256_set1_epi8(16);
    k_scales(w, p);
    __m256i high = _mm256_loadu_si256((const __m256i *)b->qh);
    UNROLLED
    for (int g = 0; g < 4; g++) {
        __m256i v = _mm256_loadu_si256((const __m256i *)(b->qs + 32 * g));
        for (int k = 0; k < 2; k++) { /* bit 2g + k of each byte is the fifth of sub-block 2g + k */
            const int bit = 2 * g + k;
            __m256i moved = bit < 4 ? _mm256_slli_epi16(high, 4 - bit) : _mm256_srli_epi16(high, bit - 4);
            __m256i low = _mm256_and_si256(_mm256_srli_epi16(v, 4 * k), nibble);
            w->code[bit] = _mm256_or_si256(low, _mm256_and_si256(moved, sixteen));
        }
    }
}

/* Adds a block with minimums: scale * (codes . x) to acc, min * (sum of x) to acc_min. b is in blocks of 32.
 */
INLINED void add_min_block(const struct block256 *w, const struct q8_row *x, int64_t b, int n_cols,
                           __m256 *acc, __m256 *acc_min)
{
    UNROLLED
    for (int c = 0; c < n_cols; c++) {
        const int8_t *q = x[c].q + b * Q8_BLOCK;
        __m256 d = _mm256_loadu_ps(x[c].d + b), scale = _mm256_mul_ps(w->scale, d);
        __m256 sum = _mm256_setzero_ps();
        UNROLLED
        for (int s = 0; s < 8; s++) {
            __m256i dot = unsigned_dot256(w->code[s], q + 32 * s);
            sum = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot), lane256(scale, s), sum);
        }
        acc[c] = _mm256_add_ps(acc[c], sum);
        __m256 x_sum = _mm256_cvtepi32_ps(_mm256_loadu_si256((const __m256i *)(x[c].sum + b)));
        acc_min[c] = _mm256_fmadd_ps(w->min, _mm256_mul_ps(d, x_sum), acc_min[c]);
    }
}

typedef void (*decode_min_fn)(struct block256 *w, const uint8_t *p);

INLINED void min_rows(const struct dot_tile *t, int n_cols, size_t block_bytes, decode_min_fn decode)
{
    struct q8_row x[DOT_MAX_COLS];
    dot_tile_q8(t, n_cols, x);
    int64_t n_block = t->w->cols / K_BLOCK;
    for (int r = 0; r < t->n_rows; r++) {
        const uint8_t *p = t->data + (size_t)r * t->row_bytes;
        __m256 acc[DOT_MAX_COLS], acc_min[DOT_MAX_COLS];
        UNROLLED
        for (int c = 0; c < n_cols; c++)
            acc[c] = acc_min[c] = _mm256_setzero_ps();
        for (int64_t b = 0; b < n_block; b++, p += block_bytes) {
            struct block256 w;
            decode(&w, p);
            add_min_block(&w, x, b * (K_BLOCK / Q8_BLOCK), n_cols, acc, acc_min);
        }
        UNROLLED
        for (int c = 0; c < n_cols; c++)
            t->y[(size_t)c * t->y_stride + (size_t)r] = sum256(acc[c]) - sum256(acc_min[c]);
    }
}

struct block_q6_256 {
    __m256i code[8];    /* 32 signed weights each: two sub-blocks of 16 */
    __m256i scale16[8]; /* their scales as 16 lanes of int16 */
    __m256 d;
};

/* The t-th 32 values of a half of 128: nibbles of ql, bits 2t of qh. */
INLINED __m256i q6_codes(__m256i low, __m256i high, int t)
{
    __m256i nibble = t < 2 ? low : _mm256_srli_epi16(low, 4);
    __m256i top = t < 2 ? _mm256_slli_epi16(high, 4 - 2 * t) : _mm256_srli_epi16(high, 2 * t - 4);
    __m256i code = _mm256_or_si256(_mm256_and_si256(nibble, _mm256_set1_epi8(15)),
                                   _mm256_and_si256(top, _mm256_set1_epi8(48)));
    return _mm256_sub_epi8(code, _mm256_set1_epi8(32));
}

INLINED void decode_q6_k(struct block_q6_256 *w, const uint8_t *p)
{
    const struct block_q6_k *b = (const struct block_q6_k *)p;
    UNROLLED
    for (int n = 0; n < 2; n++) {
        __m256i low0 = _mm256_loadu_si256((const __m256i *)(b->ql + 64 * n));
        __m256i low1 = _mm256_loadu_si256((const __m256i *)(b->ql + 64 * n + 32));
        __m256i high = _mm256_loadu_si256((const __m256i *)(b->qh + 32 * n));
        w->code[4 * n] = q6_codes(low0, high, 0);
        w->code[4 * n + 1] = q6_codes(low1, high, 1);
        w->code[4 * n + 2] = q6_codes(low0, high, 2);
        w->code[4 * n + 3] = q6_codes(low1, high, 3);
    }
    UNROLLED
    for (int i = 0; i < 8; i++)
        w->scale16[i] = _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_set1_epi16(b->scales[2 * i])),
                                                _mm_set1_epi16(b->scales[2 * i + 1]), 1);
    w->d = _mm256_set1_ps(_cvtsh_ss(u16_at(b->d)));
}

/* Pairs are below 2^13 and scales within 2^7, so the scaled sums stay below 2^22: exact in f32. */
INLINED void add_q6_block(const struct block_q6_256 *w, const struct q8_row *x, int64_t b, int n_cols,
                          __m256 *acc)
{
    UNROLLED
    for (int c = 0; c < n_cols; c++) {
        const int8_t *q = x[c].q + b * Q8_BLOCK;
        __m256 scale = _mm256_mul_ps(w->d, _mm256_loadu_ps(x[c].d + b)), sum = _mm256_setzero_ps();
        UNROLLED
        for (int i = 0; i < 8; i++) {
            __m256i dot = _mm256_madd_epi16(signed_pairs256(w->code[i], q + 32 * i), w->scale16[i]);
            sum = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot), lane256(scale, i), sum);
        }
        acc[c] = _mm256_add_ps(acc[c], sum);
    }
}

INLINED void q6_k_tile(const struct dot_tile *t, int n_cols)
{
    struct q8_row x[DOT_MAX_COLS];
    dot_tile_q8(t, n_cols, x);
    int64_t n_block = t->w->cols / K_BLOCK;
    for (int r = 0; r < t->n_rows; r++) {
        const uint8_t *p = t->data + (size_t)r * t->row_bytes;
        __m256 acc[DOT_MAX_COLS];
        UNROLLED
        for (int c = 0; c < n_cols; c++)
            acc[c] = _mm256_setzero_ps();
        for (int64_t b = 0; b < n_block; b++, p += sizeof(struct block_q6_k)) {
            struct block_q6_256 w;
            decode_q6_k(&w, p);
            add_q6_block(&w, x, b * (K_BLOCK / Q8_BLOCK), n_cols, acc);
        }
        UNROLLED
        for (int c = 0; c < n_cols; c++)
            t->y[(size_t)c * t->y_stride + (size_t)r] = sum256(acc[c]);
    }
}

INLINED void q4_k_tile(const struct dot_tile *t, int n_cols)
{
    min_rows(t, n_cols, sizeof(struct block_q4_k), decode_q4_k);
}

INLINED void q5_k_tile(const struct dot_tile *t, int n_cols)
{
    min_rows(t, n_cols, sizeof(struct block_q5_k), decode_q5_k);
}

void dot_q4_k_avx2(const struct qmat *w, int64_t row, int n_rows, const void *const *x, int n_cols, float *y,
                   size_t y_stride)
{
    struct dot_tile t = dot_tile_at(w, row, n_rows, x, y, y_stride);
    dot_tiles8(q4_k_tile, &t, n_cols);
}

void dot_q5_k_avx2(const struct qmat *w, int64_t row, int n_rows, const void *const *x, int n_cols, float *y,
                   size_t y_stride)
{
    struct dot_tile t = dot_tile_at(w, row, n_rows, x, y, y_stride);
    dot_tiles8(q5_k_tile, &t, n_cols);
}

void dot_q6_k_avx2(const struct qmat *w, int64_t row, int n_rows, const void *const *x, int n_cols, float *y,
                   size_t y_stride)
{
    struct dot_tile t = dot_tile_at(w, row, n_rows, x, y, y_stride);
    dot_tiles8(q6_k_tile, &t, n_cols);
}
