/* dot_legacy_avx2.c: blocks of 32 with one scale times int8 activations: Q4_0 Q5_0 Q8_0 IQ4_NL MXFP4; and
 * IQ4_XS, which is IQ4_NL with its scales gathered per 256. */
#include "device/cpu/x86/dot_avx2.h"
#include "device/cpu/x86/dot_x86.h"

/* Fills w from n blocks at p; codes of absent blocks are 0, their scales finite. */
typedef void (*decode256_fn)(struct codes256 *w, const uint8_t *p, int n);

/* The last n < 8 blocks of a row; once for all formats and tile shapes, as it is long and seldom runs. */
static __attribute__((noinline)) void sum_tail(decode256_fn decode, const uint8_t *p, int n,
                                               const struct q8_row *x, int64_t b, int n_cols, __m256 *sum)
{
    struct codes256 w;
    decode(&w, p, n);
    for (int c = 0; c < n_cols; c++) {
        sum[c] = _mm256_setzero_ps();
        add_signed_blocks256(&w, n, &x[c], b, 1, &sum[c]);
    }
}

INLINED void block_rows(const struct dot_tile *t, int n_cols, int block_bytes, decode256_fn decode)
{
    struct q8_row x[DOT_MAX_COLS];
    dot_tile_q8(t, n_cols, x);
    int64_t n_block = t->w->cols / Q8_BLOCK;
    for (int r = 0; r < t->n_rows; r++) {
        const uint8_t *p = t->data + (size_t)r * t->row_bytes;
        __m256 acc[DOT_MAX_COLS];
        UNROLLED
        for (int c = 0; c < n_cols; c++)
            acc[c] = _mm256_setzero_ps();
        struct codes256 w;
        int64_t b = 0;
        for (; b + 8 <= n_block; b += 8, p += 8 * block_bytes) {
            decode(&w, p, 8);
            add_signed_blocks256(&w, 8, x, b, n_cols, acc);
        }
        if (b < n_block) {
            __m256 tail[DOT_MAX_COLS];
            sum_tail(decode, p, (int)(n_block - b), x, b, n_cols, tail);
            UNROLLED
            for (int c = 0; c < n_cols; c++)
                acc[c] = _mm256_add_ps(acc[c], tail[c]);
        }
        UNROLLED
        for (int c = 0; c < n_cols; c++)
            t->y[(size_t)c * t->y_stride + (size_t)r] = sum256(acc[c]);
    }
}

/* 16 bytes of nibbles as 32 bytes: the low ones, then the high ones. */
INLINED __m256i nibble_block(const uint8_t *p)
{
    __m128i v = _mm_loadu_si128((const __m128i *)p);
    __m256i both = _mm256_inserti128_si256(_mm256_castsi128_si256(v), _mm_srli_epi16(v, 4), 1);
    return _mm256_and_si256(both, _mm256_set1_epi8(15));
}

INLINED void decode_q8_0(struct codes256 *w, const uint8_t *p, int n)
{
    enum { SIZE = sizeof(struct block_q8_0) };
    UNROLLED
    for (int i = 0; i < 8; i++)
        w->code[i] = i < n ? _mm256_loadu_si256((const __m256i *)(p + i * SIZE + 2)) : _mm256_setzero_si256();
    w->scale = f16_scales256(p, SIZE, n);
}

INLINED void decode_q4_0(struct codes256 *w, const uint8_t *p, int n)
{
    enum { SIZE = sizeof(struct block_q4_0) };
    UNROLLED
    for (int i = 0; i < 8; i++) {
        w->code[i] = _mm256_setzero_si256();
        if (i < n)
            w->code[i] = _mm256_sub_epi8(nibble_block(p + i * SIZE + 2), _mm256_set1_epi8(8));
    }
    w->scale = f16_scales256(p, SIZE, n);
}

/* Byte j is 0xff where bit j is set. */
INLINED __m256i expand_bits(uint32_t bits)
{
    const __m256i byte = _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
    const __m256i bit = _mm256_set1_epi64x((long long)0x8040201008040201);
    __m256i v = _mm256_and_si256(_mm256_shuffle_epi8(_mm256_set1_epi32((int)bits), byte), bit);
    return _mm256_cmpeq_epi8(v, bit);
}

INLINED void decode_q5_0(struct codes256 *w, const uint8_t *p, int n)
{
    enum { SIZE = sizeof(struct block_q5_0) };
    const __m256i sixteen = _mm256_set1_epi8(16);
    UNROLLED
    for (int i = 0; i < 8; i++) {
        w->code[i] = _mm256_setzero_si256();
        if (i >= n)
            continue;
        /* the fifth bit adds the 16 that the format's offset takes away */
        __m256i offset = _mm256_andnot_si256(expand_bits(u32_at(p + i * SIZE + 2)), sixteen);
        w->code[i] = _mm256_sub_epi8(nibble_block(p + i * SIZE + 6), offset);
    }
    w->scale = f16_scales256(p, SIZE, n);
}

INLINED void decode_table(struct codes256 *w, const uint8_t *qs, int stride, int n, __m128i table)
{
    __m256i values = _mm256_broadcastsi128_si256(table);
    UNROLLED
    for (int i = 0; i < 8; i++) {
        w->code[i] = _mm256_setzero_si256();
        if (i < n)
            w->code[i] = _mm256_shuffle_epi8(values, nibble_block(qs + i * stride));
    }
}

INLINED __m128i iq4_table(void)
{
    return _mm_setr_epi8(-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113);
}

INLINED void decode_iq4_nl(struct codes256 *w, const uint8_t *p, int n)
{
    enum { SIZE = sizeof(struct block_iq4_nl) };
    decode_table(w, p + 2, SIZE, n, iq4_table());
    w->scale = f16_scales256(p, SIZE, n);
}

/* Twice the values of the format, so that they are integers; the scale is half of 2^(e - 127), which is a
 * subnormal number for e = 0 and 1. Absent blocks have codes 0, so their scale only has to be finite. */
INLINED void decode_mxfp4(struct codes256 *w, const uint8_t *p, int n)
{
    enum { SIZE = sizeof(struct block_mxfp4) };
    decode_table(w, p + 1, SIZE, n, _mm_setr_epi8(0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12));
    uint32_t e[8] = { 0 };
    UNROLLED
    for (int i = 0; i < 8; i++)
        e[i] = i < n ? p[i * SIZE] : 0;
    __m256i v = _mm256_setr_epi32((int)e[0], (int)e[1], (int)e[2], (int)e[3], (int)e[4], (int)e[5], (int)e[6],
                                  (int)e[7]);
    __m256i normal = _mm256_slli_epi32(_mm256_sub_epi32(v, _mm256_set1_epi32(1)), 23);
    __m256i tiny = _mm256_sllv_epi32(_mm256_set1_epi32(0x00200000), v);
    __m256i is_normal = _mm256_cmpgt_epi32(v, _mm256_set1_epi32(1));
    w->scale = _mm256_castsi256_ps(_mm256_blendv_epi8(tiny, normal, is_normal));
}

/* One block of 256. */
INLINED void decode_iq4_xs(struct codes256 *w, const uint8_t *p, int n)
{
    (void)n;
    const struct block_iq4_xs *b = (const struct block_iq4_xs *)p;
    decode_table(w, b->qs, 16, 8, iq4_table());
    __m256i shift = _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28);
    __m256i low = _mm256_srlv_epi32(_mm256_set1_epi32((int)u32_at(b->scales_l)), shift);
    __m256i high = _mm256_srlv_epi32(_mm256_set1_epi32(u16_at(b->scales_h)), _mm256_srli_epi32(shift, 1));
    __m256i scale = _mm256_or_si256(_mm256_and_si256(low, _mm256_set1_epi32(15)),
                                    _mm256_slli_epi32(_mm256_and_si256(high, _mm256_set1_epi32(3)), 4));
    scale = _mm256_sub_epi32(scale, _mm256_set1_epi32(32));
    w->scale = _mm256_mul_ps(_mm256_set1_ps(_cvtsh_ss(u16_at(b->d))), _mm256_cvtepi32_ps(scale));
}

INLINED void q8_0_tile(const struct dot_tile *t, int n_cols)
{
    block_rows(t, n_cols, sizeof(struct block_q8_0), decode_q8_0);
}

INLINED void q4_0_tile(const struct dot_tile *t, int n_cols)
{
    block_rows(t, n_cols, sizeof(struct block_q4_0), decode_q4_0);
}

INLINED void q5_0_tile(const struct dot_tile *t, int n_cols)
{
    block_rows(t, n_cols, sizeof(struct block_q5_0), decode_q5_0);
}

INLINED void iq4_nl_tile(const struct dot_tile *t, int n_cols)
{
    block_rows(t, n_cols, sizeof(struct block_iq4_nl), decode_iq4_nl);
}

INLINED void mxfp4_tile(const struct dot_tile *t, int n_cols)
{
    block_rows(t, n_cols, sizeof(struct block_mxfp4), decode_mxfp4);
}

/* 8 blocks of 17 bytes: one block of IQ4_XS has the same 256 weights in 136. */
INLINED void iq4_xs_tile(const struct dot_tile *t, int n_cols)
{
    block_rows(t, n_cols, sizeof(struct block_iq4_xs) / 8, decode_iq4_xs);
}

void dot_q8_0_avx2(const struct qmat *w, int64_t row, int n_rows, const void *const *x, int n_cols, float *y,
                   size_t y_stride)
{
    struct dot_tile t = dot_tile_at(w, row, n_rows, x, y, y_stride);
    dot_tiles8(q8_0_tile, &t, n_cols);
}

void dot_q4_0_avx2(const struct qmat *w, int64_t row, int n_rows, const void *const *x, int n_cols, float *y,
                   size_t y_stride)
{
    struct dot_tile t = dot_tile_at(w, row, n_rows, x, y, y_stride);
    dot_tiles8(q4_0_tile, &t, n_cols);
}

void dot_q5_0_avx2(const struct qmat *w, int64_t row, int n_rows, const void *const *x, int n_cols, float *y,
                   size_t y_stride)
{
    struct dot_tile t = dot_tile_at(w, row, n_rows, x, y, y_stride);
    dot_tiles8(q5_0_tile, &t, n_cols);
}

void dot_iq4_nl_avx2(const struct qmat *w, int64_t row, int n_rows, const void *const *x, int n_cols,
                     float *y, size_t y_stride)
{
    struct dot_tile t = dot_tile_at(w, row, n_rows, x, y, y_stride);
    dot_tiles8(iq4_nl_tile, &t, n_cols);
}

void dot_iq4_xs_avx2(const struct qmat *w, int64_t row, int n_rows, const void *const *x, int n_cols,
                     float *y, size_t y_stride)
{
    struct dot_tile t = dot_tile_at(w, row, n_rows, x, y, y_stride);
    dot_tiles8(iq4_xs_tile, &t, n_cols);
}

void dot_mxfp4_avx2(const struct qmat *w, int64_t row, int n_rows, const void *const *x, int n_cols, float *y,
                    size_t y_stride)
{
    struct dot_tile t = dot_tile_at(w, row, n_rows, x, y, y_stride);
    dot_tiles8(mxfp4_tile, &t, n_cols);
}
