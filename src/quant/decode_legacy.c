/* decode_legacy.c: GGUF's blocks of 32 with one scale: Q4_0 Q4_1 Q5_0 Q5_1 Q8_0. */
#include "quant/decode.h"

static void block_q4_0(const void *block, float *restrict x)
{
    const struct block_q4_0 *restrict b = block;
    float d = f16_at(b->d);
    for (int j = 0; j < 16; j++) {
        x[j] = d * (float)((b->qs[j] & 15) - 8);
        x[j + 16] = d * (float)((b->qs[j] >> 4) - 8);
    }
}

static void block_q4_1(const void *block, float *restrict x)
{
    const struct block_q4_1 *restrict b = block;
    float d = f16_at(b->d), m = f16_at(b->m);
    for (int j = 0; j < 16; j++) {
        x[j] = d * (float)(b->qs[j] & 15) + m;
        x[j + 16] = d * (float)(b->qs[j] >> 4) + m;
    }
}

static void block_q5_0(const void *block, float *restrict x)
{
    const struct block_q5_0 *restrict b = block;
    float d = f16_at(b->d);
    uint32_t qh = u32_at(b->qh);
    for (int j = 0; j < 16; j++) {
        int lo = (b->qs[j] & 15) | (int)(qh >> j & 1) << 4;
        int hi = b->qs[j] >> 4 | (int)(qh >> (j + 16) & 1) << 4;
        x[j] = d * (float)(lo - 16);
        x[j + 16] = d * (float)(hi - 16);
    }
}

static void block_q5_1(const void *block, float *restrict x)
{
    const struct block_q5_1 *restrict b = block;
    float d = f16_at(b->d), m = f16_at(b->m);
    uint32_t qh = u32_at(b->qh);
    for (int j = 0; j < 16; j++) {
        int lo = (b->qs[j] & 15) | (int)(qh >> j & 1) << 4;
        int hi = b->qs[j] >> 4 | (int)(qh >> (j + 16) & 1) << 4;
        x[j] = d * (float)lo + m;
        x[j + 16] = d * (float)hi + m;
    }
}

static void block_q8_0(const void *block, float *restrict x)
{
    const struct block_q8_0 *restrict b = block;
    float d = f16_at(b->d);
    for (int j = 0; j < 32; j++)
        x[j] = d * (float)b->qs[j];
}

void decode_q4_0(const struct qmat *w, int64_t row, float *out)
{
    decode_blocks(w, row, out, 32, sizeof(struct block_q4_0), block_q4_0);
}

void decode_q4_1(const struct qmat *w, int64_t row, float *out)
{
    decode_blocks(w, row, out, 32, sizeof(struct block_q4_1), block_q4_1);
}

void decode_q5_0(const struct qmat *w, int64_t row, float *out)
{
    decode_blocks(w, row, out, 32, sizeof(struct block_q5_0), block_q5_0);
}

void decode_q5_1(const struct qmat *w, int64_t row, float *out)
{
    decode_blocks(w, row, out, 32, sizeof(struct block_q5_1), block_q5_1);
}

void decode_q8_0(const struct qmat *w, int64_t row, float *out)
{
    decode_blocks(w, row, out, 32, sizeof(struct block_q8_0), block_q8_0);
}
