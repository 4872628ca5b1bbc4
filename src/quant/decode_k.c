/*
 * decode_k.c: GGUF's k-quants, blocks of 256 cut into sub-blocks of 16 or 32 that have small integer
 * scales. Codes of 2 and 3 bits lie in planes: value i of the half h = i / 128 is in byte 32h + i % 32, bits
 * 2t, where t = i % 128 / 32.
 */
#include "quant/decode.h"

static void block_q2_k(const void *block, float *restrict x)
{
    const struct block_q2_k *restrict b = block;
    float d = f16_at(b->d), dmin = f16_at(b->dmin);
    for (int s = 0; s < 16; s++) { /* sub-blocks of 16 */
        int shift = s % 8 / 2 * 2;
        float scale = d * (float)(b->scales[s] & 15), min = dmin * (float)(b->scales[s] >> 4);
        const uint8_t *restrict qs = b->qs + s / 8 * 32 + s % 2 * 16;
        for (int l = 0; l < 16; l++)
            x[16 * s + l] = scale * (float)(qs[l] >> shift & 3) - min;
    }
}

/* 6-bit signed scale of sub-block s: 4 low bits in the first 8 bytes, 2 high bits in the last 4. */
static int q3_scale(const uint8_t *scales, int s)
{
    int low = s < 8 ? scales[s] & 15 : scales[s - 8] >> 4;
    int high = scales[8 + s % 4] >> (2 * (s / 4)) & 3;
    return (low | high << 4) - 32;
}

static void block_q3_k(const void *block, float *restrict x)
{
    const struct block_q3_k *restrict b = block;
    float d = f16_at(b->d);
    for (int s = 0; s < 16; s++) {
        int shift = s % 8 / 2 * 2, bit = s / 2;
        float scale = d * (float)q3_scale(b->scales, s);
        const uint8_t *restrict qs = b->qs + s / 8 * 32 + s % 2 * 16;
        const uint8_t *restrict hmask = b->hmask + s % 2 * 16;
        for (int l = 0; l < 16; l++)
            x[16 * s + l] = scale * (float)((qs[l] >> shift & 3) + (hmask[l] >> bit & 1) * 4 - 4);
    }
}

static void block_q4_k(const void *block, float *restrict x)
{
    const struct block_q4_k *restrict b = block;
    float d = f16_at(b->d), dmin = f16_at(b->dmin);
    for (int g = 0; g < 4; g++) { /* two sub-blocks of 32 share 32 bytes */
        float d0 = d * (float)k_scale(b->scales, 2 * g), m0 = dmin * (float)k_min(b->scales, 2 * g);
        float d1 = d * (float)k_scale(b->scales, 2 * g + 1), m1 = dmin * (float)k_min(b->scales, 2 * g + 1);
        const uint8_t *restrict qs = b->qs + 32 * g;
        for (int l = 0; l < 32; l++) {
            x[64 * g + l] = d0 * (float)(qs[l] & 15) - m0;
            x[64 * g + 32 + l] = d1 * (float)(qs[l] >> 4) - m1;
        }
    }
}

static void block_q5_k(const void *block, float *restrict x)
{
    const struct block_q5_k *restrict b = block;
    float d = f16_at(b->d), dmin = f16_at(b->dmin);
    for (int g = 0; g < 4; g++) {
        float d0 = d * (float)k_scale(b->scales, 2 * g), m0 = dmin * (float)k_min(b->scales, 2 * g);
        float d1 = d * (float)k_scale(b->scales, 2 * g + 1), m1 = dmin * (float)k_min(b->scales, 2 * g + 1);
        const uint8_t *restrict qs = b->qs + 32 * g;
        for (int l = 0; l < 32; l++) {
            int lo = (qs[l] & 15) + (b->qh[l] >> (2 * g) & 1) * 16;
            int hi = (qs[l] >> 4) + (b->qh[l] >> (2 * g + 1) & 1) * 16;
            x[64 * g + l] = d0 * (float)lo - m0;
            x[64 * g + 32 + l] = d1 * (float)hi - m1;
        }
    }
}

static void block_q6_k(const void *block, float *restrict x)
{
    const struct block_q6_k *restrict b = block;
    float d = f16_at(b->d);
    for (int s = 0; s < 16; s++) {
        int t = s % 8 / 2, shift = t / 2 * 4;
        float scale = d * (float)b->scales[s];
        const uint8_t *restrict ql = b->ql + s / 8 * 64 + t % 2 * 32 + s % 2 * 16;
        const uint8_t *restrict qh = b->qh + s / 8 * 32 + s % 2 * 16;
        for (int l = 0; l < 16; l++)
            x[16 * s + l] = scale * (float)(((ql[l] >> shift & 15) | (qh[l] >> (2 * t) & 3) << 4) - 32);
    }
}

static void block_q8_k(const void *block, float *restrict x)
{
    const struct block_q8_k *restrict b = block;
    float d = f32_from_bits(u32_at(b->d));
    for (int j = 0; j < K_BLOCK; j++)
        x[j] = d * (float)b->qs[j];
}

void decode_q2_k(const struct qmat *w, int64_t row, float *out)
{
    decode_blocks(w, row, out, K_BLOCK, sizeof(struct block_q2_k), block_q2_k);
}

void decode_q3_k(const struct qmat *w, int64_t row, float *out)
{
    decode_blocks(w, row, out, K_BLOCK, sizeof(struct block_q3_k), block_q3_k);
}

void decode_q4_k(const struct qmat *w, int64_t row, float *out)
{
    decode_blocks(w, row, out, K_BLOCK, sizeof(struct block_q4_k), block_q4_k);
}

void decode_q5_k(const struct qmat *w, int64_t row, float *out)
{
    decode_blocks(w, row, out, K_BLOCK, sizeof(struct block_q5_k), block_q5_k);
}

void decode_q6_k(const struct qmat *w, int64_t row, float *out)
{
    decode_blocks(w, row, out, K_BLOCK, sizeof(struct block_q6_k), block_q6_k);
}

void decode_q8_k(const struct qmat *w, int64_t row, float *out)
{
    decode_blocks(w, row, out, K_BLOCK, sizeof(struct block_q8_k), block_q8_k);
}
