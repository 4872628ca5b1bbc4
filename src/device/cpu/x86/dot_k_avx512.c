/* dot_k_avx512.c: Q4_K, Q5_K and Q6_K blocks of 256 times int8 activations. */
#include "device/cpu/x86/dot_avx512.h"
#include "device/cpu/x86/dot_x86.h"

struct block512 {
    __m512i code[4];   /* 64 unsigned weights each, two sub-blocks of 32 */
    __m256 scale, min; /* one per sub-block */
};

INLINED __m256 bytes_to_floats(uint64_t bytes)
{
    return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_cvtsi64_si128((long long)bytes)));
}

/* d, dmin and the 12 bytes of packed 6-bit numbers lead both formats. */
INLINED void k_scales(struct block512 *w, const uint8_t *block)
{
    uint64_t scale, min;
    dot_k_scales(block + 4, &scale, &min);
    w->scale = _mm256_mul_ps(_mm256_set1_ps(_cvtsh_ss(u16_at(block))), bytes_to_floats(scale));
    w->min = _mm256_mul_ps(_mm256_set1_ps(_cvtsh_ss(u16_at(block + 2))), bytes_to_floats(min));
}

/* 32 bytes of nibbles as 64 codes: the low ones, then the high ones. */
INLINED __m512i nibbles(const uint8_t *qs)
{
    __m512i twice = _mm512_broadcast_i64x4(_mm256_loadu_si256((const __m256i *)qs));
    __m512i v = _mm512_srlv_epi64(twice, _mm512_set_epi64(4, 4, 4, 4, 0, 0, 0, 0));
    return _mm512_and_si512(v, _mm512_set1_epi8(15));
}

/* Rotates v's 64-bit lanes left, by low in the lower half and high in the upper one. */
INLINED __m512i rotate_halves(__m512i v, int low, int high)
{
    return _mm512_rolv_epi64(v, _mm512_set_epi64(high, high, high, high, low, low, low, low));
}

INLINED void decode_q4_k(struct block512 *w, const uint8_t *p)
{
    const struct block_q4_k *b = (const struct block_q4_k *)p;
    k_scales(w, p);
    UNROLLED
    for (int g = 0; g < 4; g++)
        w->code[g] = nibbles(b->qs + 32 * g);
}

INLINED void decode_q5_k(struct block512 *w, const uint8_t *p)
{
    const struct block_q5_k *b = (const struct block_q5_k *)p;
    k_scales(w, p);
    __m512i high = _mm512_broadcast_i64x4(_mm256_loadu_si256((const __m256i *)b->qh));
    UNROLLED
    for (int g = 0; g < 4; g++) { /* bits 2g and 2g + 1 of each byte go to place 4 */
        __m512i fifth = rotate_halves(high, 4 - 2 * g, 3 - 2 * g);
        w->code[g] = _mm512_or_si512(nibbles(b->qs + 32 * g), _mm512_and_si512(fifth, _mm512_set1_epi8(16)));
    }
}

/* Adds a block with minimums: scale * (codes . x) to acc, min * (sum of x) to acc_min. b is in blocks of 32.
 */
INLINED void add_min_block(const struct block512 *w, const struct q8_row *x, int64_t b, int n_cols,
                           __m512 *acc, __m256 *acc_min)
{
    UNROLLED
    for (int c = 0; c < n_cols; c++) {
        const int8_t *q = x[c].q + b * Q8_BLOCK;
        __m256 d = _mm256_loadu_ps(x[c].d + b), scale = _mm256_mul_ps(w->scale, d);
        __m512 sum = _mm512_setzero_ps();
        UNROLLED
        for (int g = 0; g < 4; g++) {
            __m512i dot =
                _mm512_dpbusd_epi32(_mm512_setzero_si512(), w->code[g], _mm512_loadu_si512(q + 64 * g));
            sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot), spread_blocks512(scale, g), sum);
        }
        acc[c] = _mm512_add_ps(acc[c], sum);
        __m256 x_sum = _mm256_cvtepi32_ps(_mm256_loadu_si256((const __m256i *)(x[c].sum + b)));
        acc_min[c] = _mm256_fmadd_ps(w->min, _mm256_mul_ps(d, x_sum), acc_min[c]);
    }
}

INLINED float sum8(__m256 v)
{
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

typedef void (*decode_min_fn)(struct block512 *w, const uint8_t *p);

INLINED void min_rows(const struct dot_tile *t, int n_cols, size_t block_bytes, decode_min_fn decode)
{
    struct q8_row x[DOT_MAX_COLS];
    dot_tile_q8(t, n_cols, x);
    int64_t n_block = t->w->cols / K_BLOCK;
    for (int r = 0; r < t->n_rows; r++) {
        const uint8_t *p = t->data + (size_t)r * t->row_bytes;
        __m512 acc[DOT_MAX_COLS];
        __m256 acc_min[DOT_MAX_COLS];
        UNROLLED
        for (int c = 0; c < n_cols; c++) {
            acc[c] = _mm512_setzero_ps();
            acc_min[c] = _mm256_setzero_ps();
        }
        for (int64_t b = 0; b < n_block; b++, p += block_bytes) {
            struct block512 w;
            decode(&w, p);
            add_min_block(&w, x, b * (K_BLOCK / Q8_BLOCK), n_cols, acc, acc_min);
        }
        UNROLLED
        for (int c = 0; c < n_cols; c++)
            t->y[(size_t)c * t->y_stride + (size_t)r] = _mm512_reduce_add_ps(acc[c]) - sum8(acc_min[c]);
    }
}

struct block_q6_512 {
    __m512i code[4], start[4]; /* 64 signed weights each, four sub-blocks of 16 */
    __m512 scale;              /* one per sub-block */
};

INLINED void decode_q6_k(struct block_q6_512 *w, const uint8_t *p)
{
    const struct block_q6_k *b = (const struct block_q6_k *)p;
    const __m512i nibble = _mm512_set1_epi8(15), top = _mm512_set1_epi8(48), offset = _mm512_set1_epi8(32);
    UNROLLED
    for (int n = 0; n < 2; n++) { /* halves of 128: bits 2t of qh belong to the t-th 32 values */
        __m512i low = _mm512_loadu_si512(b->ql + 64 * n);
        __m512i high = _mm512_broadcast_i64x4(_mm256_loadu_si256((const __m256i *)(b->qh + 32 * n)));
        __m512i top0 = _mm512_and_si512(rotate_halves(high, 4, 2), top);
        __m512i top1 = _mm512_and_si512(rotate_halves(high, 0, -2), top);
        __m512i code0 = _mm512_or_si512(_mm512_and_si512(low, nibble), top0);
        __m512i code1 = _mm512_or_si512(_mm512_and_si512(_mm512_srli_epi16(low, 4), nibble), top1);
        w->code[2 * n] = _mm512_sub_epi8(code0, offset);
        w->code[2 * n + 1] = _mm512_sub_epi8(code1, offset);
    }
    UNROLLED
    for (int i = 0; i < 4; i++)
        w->start[i] = signed_start512(w->code[i]);
    __m512i scale = _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)b->scales));
    w->scale = _mm512_mul_ps(_mm512_set1_ps(_cvtsh_ss(u16_at(b->d))), _mm512_cvtepi32_ps(scale));
}

/* Lanes 4j..4j+3 of code[i]'s products belong to sub-block 4i + j. */
INLINED __m512 spread_subblocks(__m512 v, int i)
{
    __m512i lane = _mm512_add_epi32(_mm512_set1_epi32(4 * i),
                                    _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3));
    return _mm512_permutexvar_ps(lane, v);
}

INLINED void add_q6_block(const struct block_q6_512 *w, const struct q8_row *x, int64_t b, int n_cols,
                          __m512 *acc)
{
    const __m512i pairs = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
    UNROLLED
    for (int c = 0; c < n_cols; c++) {
        const int8_t *q = x[c].q + b * Q8_BLOCK;
        __m512 d = _mm512_permutexvar_ps(pairs, _mm512_castps256_ps512(_mm256_loadu_ps(x[c].d + b)));
        __m512 scale = _mm512_mul_ps(w->scale, d), sum = _mm512_setzero_ps();
        UNROLLED
        for (int i = 0; i < 4; i++) {
            __m512i dot = signed_dot512(w->start[i], w->code[i], q + 64 * i);
            sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot), spread_subblocks(scale, i), sum);
        }
        acc[c] = _mm512_add_ps(acc[c], sum);
    }
}

INLINED void q6_k_tile(const struct dot_tile *t, int n_cols)
{
    struct q8_row x[DOT_MAX_COLS];
    dot_tile_q8(t, n_cols, x);
    int64_t n_block = t->w->cols / K_BLOCK;
    for (int r = 0; r < t->n_rows; r++) {
        const uint8_t *p = t->data + (size_t)r * t->row_bytes;
        __m512 acc[DOT_MAX_COLS];
        UNROLLED
        for (int c = 0; c < n_cols; c++)
            acc[c] = _mm512_setzero_ps();
        for (int64_t b = 0; b < n_block; b++, p += sizeof(struct block_q6_k)) {
            struct block_q6_512 w;
            decode_q6_k(&w, p);
            add_q6_block(&w, x, b * (K_BLOCK / Q8_BLOCK), n_cols, acc);
        }
        UNROLLED
        for (int c = 0; c < n_cols; c++)
            t->y[(size_t)c * t->y_stride + (size_t)r] = _mm512_reduce_add_ps(acc[c]);
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

void dot_q4_k_avx512(const struct qmat *w, int64_t row, int n_rows, const void *const *x, int n_cols,
                     float *y, size_t y_stride)
{
    struct dot_tile t = dot_tile_at(w, row, n_rows, x, y, y_stride);
    dot_tiles8(q4_k_tile, &t, n_cols);
}

void dot_q5_k_avx512(const struct qmat *w, int64_t row, int n_rows, const void *const *x, int n_cols,
                     float *y, size_t y_stride)
{
    struct dot_tile t = dot_tile_at(w, row, n_rows, x, y, y_stride);
    dot_tiles8(q5_k_tile, &t, n_cols);
}

void dot_q6_k_avx512(const struct qmat *w, int64_t row, int n_rows, const void *const *x, int n_cols,
                     float *y, size_t y_stride)
{
    struct dot_tile t = dot_tile_at(w, row, n_rows, x, y, y_stride);
    dot_tiles8(q6_k_tile, &t, n_cols);
}
