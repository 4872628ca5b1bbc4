/*
 * decode_iq.c: GGUF's IQ1, IQ2 and IQ3: blocks of 256, groups of 8 (IQ3: two of 4) values taken from a
 * grid by an 8- to 11-bit index, with the signs beside it. The XXS and XS formats store seven of a group's
 * eight signs; the eighth makes the number of minus signs even.
 *
 * ib counts the 8 sub-blocks of 32 values, l the 4 groups in each.
 */
#include "quant/decode.h"
#include "quant/iq_grids.h"

/* The eight sign bits of a group from the seven stored ones. */
static unsigned even_signs(unsigned seven)
{
    return seven | (unsigned)__builtin_parity(seven) << 7;
}

/* v, negated when bit j of signs is set. */
static float signed_value(float v, unsigned signs, int j)
{
    return f32_from_bits(f32_bits(v) ^ (signs >> j & 1) << 31);
}

/* x[8] = scale * the grid's values, signed. */
static void group_iq2(float *restrict x, float scale, unsigned grid, unsigned signs)
{
    static const float value[4] = { 8, 25, 43, 0 };
    for (int j = 0; j < 8; j++)
        x[j] = scale * signed_value(value[grid >> 2 * j & 3], signs, j);
}

/* Scale of group l in a sub-block; its two 4-bit scales are in nibbles: low for l = 0, 1, high for 2, 3. */
static float scale_iq2(float d, unsigned nibbles, int l)
{
    return d * (0.5f + (float)(nibbles >> l / 2 * 4 & 15)) * 0.25f;
}

static void block_iq2_xxs(const void *block, float *restrict x)
{
    const struct block_iq2_xxs *b = block;
    float d = f16_at(b->d);
    for (int ib = 0; ib < 8; ib++) { /* 4 grid bytes, then 4 x 7 sign bits and a 4-bit scale */
        const uint8_t *index = b->qs + 8 * ib;
        uint32_t signs = u32_at(index + 4);
        float scale = d * (0.5f + (float)(signs >> 28)) * 0.25f;
        for (int l = 0; l < 4; l++)
            group_iq2(x + 32 * ib + 8 * l, scale, iq_grid2xxs[index[l]], even_signs(signs >> 7 * l & 127));
    }
}

static void block_iq2_xs(const void *block, float *restrict x)
{
    const struct block_iq2_xs *b = block;
    float d = f16_at(b->d);
    for (int g = 0; g < 32; g++) { /* 9 bits of index, 7 of sign */
        unsigned code = u16_at(b->qs + 2 * g);
        float scale = scale_iq2(d, b->scales[g / 4], g % 4);
        group_iq2(x + 8 * g, scale, iq_grid2xs[code & 511], even_signs(code >> 9));
    }
}

static void block_iq2_s(const void *block, float *restrict x)
{
    const struct block_iq2_s *b = block;
    float d = f16_at(b->d);
    for (int g = 0; g < 32; g++) {
        int ib = g / 4, l = g % 4;
        unsigned index = b->qs[g] | (b->qh[ib] >> 2 * l & 3u) << 8;
        group_iq2(x + 8 * g, scale_iq2(d, b->scales[ib], l), iq_grid2s[index], b->signs[g]);
    }
}

static void block_iq3_xxs(const void *block, float *restrict x)
{
    static const float value[8] = { 4, 12, 20, 28, 36, 44, 52, 62 };
    const struct block_iq3_xxs *b = block;
    float d = f16_at(b->d);
    for (int g = 0; g < 32; g++) {
        uint32_t word = u32_at(b->signs + g / 4 * 4); /* 4 x 7 sign bits and a 4-bit scale */
        float scale = d * (0.5f + (float)(word >> 28)) * 0.5f;
        unsigned signs = even_signs(word >> 7 * (g % 4) & 127);
        for (int j = 0; j < 8; j++) {
            unsigned grid = iq_grid3xxs[b->qs[2 * g + j / 4]];
            x[8 * g + j] = scale * signed_value(value[grid >> 3 * (j % 4) & 7], signs, j);
        }
    }
}

static void block_iq3_s(const void *block, float *restrict x)
{
    const struct block_iq3_s *b = block;
    float d = f16_at(b->d);
    for (int quad = 0; quad < 64; quad++) { /* 4 values each */
        int ib = quad / 8;
        unsigned nibble = b->scales[ib / 2] >> ib % 2 * 4 & 15;
        float scale = d * (float)(1 + 2 * nibble);
        unsigned grid = iq_grid3s[b->qs[quad] | (b->qh[ib] >> quad % 8 & 1u) << 8];
        unsigned signs = b->signs[quad / 2] >> quad % 2 * 4;
        for (int j = 0; j < 4; j++)
            x[4 * quad + j] = scale * signed_value((float)(2 * (grid >> 3 * j & 7) + 1), signs, j);
    }
}

/* x[8] = scale * (the grid's -1, 0, 1 plus delta). */
static void group_iq1(float *restrict x, float scale, unsigned grid, float delta)
{
    for (int j = 0; j < 8; j++)
        x[j] = scale * ((float)((int)(grid >> 2 * j & 3) - 1) + delta);
}

static void block_iq1_s(const void *block, float *restrict x)
{
    const struct block_iq1_s *b = block;
    float d = f16_at(b->d);
    for (int ib = 0; ib < 8; ib++) { /* qh: 4 x 3 high index bits, a 3-bit scale, the sign of delta */
        unsigned qh = u16_at(b->qh + 2 * ib);
        float scale = d * (float)(2 * (qh >> 12 & 7) + 1);
        float delta = qh & 0x8000 ? -0.125f : 0.125f;
        for (int l = 0; l < 4; l++) {
            unsigned index = b->qs[4 * ib + l] | (qh >> 3 * l & 7) << 8;
            group_iq1(x + 32 * ib + 8 * l, scale, iq_grid1s[index], delta);
        }
    }
}

static void block_iq1_m(const void *block, float *restrict x)
{
    const struct block_iq1_m *b = block;
    unsigned sc[4], d_bits = 0;
    for (int i = 0; i < 4; i++) { /* 4 x 3-bit scales, and a nibble of d on top, lowest first */
        sc[i] = u16_at(b->scales + 2 * i);
        d_bits |= sc[i] >> 12 << 4 * i;
    }
    float d = f16_to_f32((uint16_t)d_bits);
    for (int g = 0; g < 32; g++) {
        int ib = g / 4, l = g % 4;
        unsigned half = b->qh[g / 2] >> g % 2 * 4; /* 3 high index bits, the sign of delta */
        float scale = d * (float)(2 * (sc[ib / 2] >> (6 * (ib % 2) + l / 2 * 3) & 7) + 1);
        group_iq1(x + 8 * g, scale, iq_grid1s[b->qs[g] | (half & 7) << 8], half & 8 ? -0.125f : 0.125f);
    }
}

void decode_iq1_s(const struct qmat *w, int64_t row, float *out)
{
    decode_blocks(w, row, out, K_BLOCK, sizeof(struct block_iq1_s), block_iq1_s);
}

void decode_iq1_m(const struct qmat *w, int64_t row, float *out)
{
    decode_blocks(w, row, out, K_BLOCK, sizeof(struct block_iq1_m), block_iq1_m);
}

void decode_iq2_xxs(const struct qmat *w, int64_t row, float *out)
{
    decode_blocks(w, row, out, K_BLOCK, sizeof(struct block_iq2_xxs), block_iq2_xxs);
}

void decode_iq2_xs(const struct qmat *w, int64_t row, float *out)
{
    decode_blocks(w, row, out, K_BLOCK, sizeof(struct block_iq2_xs), block_iq2_xs);
}

void decode_iq2_s(const struct qmat *w, int64_t row, float *out)
{
    decode_blocks(w, row, out, K_BLOCK, sizeof(struct block_iq2_s), block_iq2_s);
}

void decode_iq3_xxs(const struct qmat *w, int64_t row, float *out)
{
    decode_blocks(w, row, out, K_BLOCK, sizeof(struct block_iq3_xxs), block_iq3_xxs);
}

void decode_iq3_s(const struct qmat *w, int64_t row, float *out)
{
    decode_blocks(w, row, out, K_BLOCK, sizeof(struct block_iq3_s), block_iq3_s);
}
