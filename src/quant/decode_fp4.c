/*
 * decode_fp4.c: GGUF formats whose 4-bit (or ternary) codes mean values of a fixed table:
 * IQ4_NL IQ4_XS MXFP4 NVFP4 TQ1_0 TQ2_0.
 */
#include "quant/decode.h"

/* The 16 points of IQ4_NL and IQ4_XS. */
static const int8_t iq4_value[16] = {
    -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113
};

/* Twice the values of the float format e2m1 (0, 0.5, 1, 1.5, 2, 3, 4, 6): integers, times half the scale.
 * Code 8 decodes to +0, as in the reference. */
static const int8_t e2m1_twice[16] = { 0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12 };

/* 2n values from n bytes: low nibbles first, then high ones. */
static inline void nibbles(float *restrict x, const uint8_t *restrict qs, int n, float scale,
                           const int8_t *value)
{
    for (int j = 0; j < n; j++) {
        x[j] = scale * (float)value[qs[j] & 15];
        x[j + n] = scale * (float)value[qs[j] >> 4];
    }
}

static void block_iq4_nl(const void *block, float *restrict x)
{
    const struct block_iq4_nl *b = block;
    nibbles(x, b->qs, 16, f16_at(b->d), iq4_value);
}

static void block_iq4_xs(const void *block, float *restrict x)
{
    const struct block_iq4_xs *b = block;
    float d = f16_at(b->d);
    unsigned high = u16_at(b->scales_h);
    for (int s = 0; s < 8; s++) { /* sub-blocks of 32 with a 6-bit scale */
        int scale = (b->scales_l[s / 2] >> s % 2 * 4 & 15) | (int)(high >> 2 * s & 3) << 4;
        nibbles(x + 32 * s, b->qs + 16 * s, 16, d * (float)(scale - 32), iq4_value);
    }
}

/* 2^(e - 128), half of an E8M0 scale; e = 0 and 1 are subnormal numbers. */
static float e8m0_half(uint8_t e)
{
    return f32_from_bits(e < 2 ? 0x00200000u << e : (uint32_t)(e - 1) << 23);
}

static void block_mxfp4(const void *block, float *restrict x)
{
    const struct block_mxfp4 *b = block;
    nibbles(x, b->qs, 16, e8m0_half(b->e), e2m1_twice);
}

static void block_nvfp4(const void *block, float *restrict x)
{
    const struct block_nvfp4 *b = block;
    for (int s = 0; s < 4; s++) { /* sub-blocks of 16; the scale is e4m3 without sign, NaN's code is 0 */
        uint8_t code = b->d[s] & 0x7f;
        float scale = code == 0x7f ? 0 : e4m3_to_f32(code);
        nibbles(x + 16 * s, b->qs + 8 * s, 8, scale * 0.5f, e2m1_twice);
    }
}

static void block_tq2_0(const void *block, float *restrict x)
{
    const struct block_tq2_0 *b = block;
    float d = f16_at(b->d);
    for (int i = 0; i < K_BLOCK; i += 32) {
        int shift = i % 128 / 32 * 2;
        for (int l = 0; l < 32; l++)
            x[i + l] = d * (float)((b->qs[i / 128 * 32 + l] >> shift & 3) - 1);
    }
}

/* n_digit runs of n values: run i is ternary digit i of each of n bytes. A byte holds digits as a fraction
 * (byte / 256 in base 3), so the digit comes out at the top after a multiplication. */
static inline float *ternary(float *restrict x, const uint8_t *restrict qs, int n, int n_digit, float d)
{
    for (int i = 0, power = 1; i < n_digit; i++, power *= 3)
        for (int j = 0; j < n; j++)
            *x++ = d * (float)(((qs[j] * power & 255) * 3 >> 8) - 1);
    return x;
}

static void block_tq1_0(const void *block, float *restrict x)
{
    const struct block_tq1_0 *b = block;
    float d = f16_at(b->d);
    x = ternary(x, b->qs, 32, 5, d);
    x = ternary(x, b->qs + 32, 16, 5, d);
    ternary(x, b->qh, 4, 4, d);
}

void decode_iq4_nl(const struct qmat *w, int64_t row, float *out)
{
    decode_blocks(w, row, out, 32, sizeof(struct block_iq4_nl), block_iq4_nl);
}

void decode_iq4_xs(const struct qmat *w, int64_t row, float *out)
{
    decode_blocks(w, row, out, K_BLOCK, sizeof(struct block_iq4_xs), block_iq4_xs);
}

void decode_mxfp4(const struct qmat *w, int64_t row, float *out)
{
    decode_blocks(w, row, out, 32, sizeof(struct block_mxfp4), block_mxfp4);
}

void decode_nvfp4(const struct qmat *w, int64_t row, float *out)
{
    decode_blocks(w, row, out, 64, sizeof(struct block_nvfp4), block_nvfp4);
}

void decode_tq1_0(const struct qmat *w, int64_t row, float *out)
{
    decode_blocks(w, row, out, K_BLOCK, sizeof(struct block_tq1_0), block_tq1_0);
}

void decode_tq2_0(const struct qmat *w, int64_t row, float *out)
{
    decode_blocks(w, row, out, K_BLOCK, sizeof(struct block_tq2_0), block_tq2_0);
}
