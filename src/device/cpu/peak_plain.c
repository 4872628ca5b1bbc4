/*
 * peak_plain.c: the peak loops in plain C, which compilers turn into the SIMD that every processor of the
 * architecture has. The products run over arrays in the first-level cache.
 */
#include "base/half.h"
#include "device/peak.h"

enum { LANES = 32, LENGTH = 512 };

static uint64_t read_plain(const void *p, size_t bytes)
{
    const uint64_t *x = p;
    uint64_t sum[16] = { 0 }, all = 0;
    for (size_t i = 0; i < bytes / 8; i += 16)
        for (int k = 0; k < 16; k++)
            sum[k] ^= x[i + (size_t)k];
    for (int k = 0; k < 16; k++)
        all ^= sum[k];
    return all;
}

static int64_t int8_plain(int64_t rounds, int32_t *sink)
{
    int16_t a[LENGTH], b[LENGTH]; /* widened: what SIMD without byte products multiplies */
    for (int i = 0; i < LENGTH; i++)
        a[i] = 3, b[i] = -5;
    uint32_t sum = 0; /* wraps, as SIMD sums do */
    for (int64_t r = 0; r < rounds; r++) {
        __asm__ volatile("" : : "r"(a), "r"(b) : "memory"); /* the arrays may have changed */
        int32_t s = 0;
        for (int i = 0; i < LENGTH; i++)
            s += a[i] * b[i];
        sum += (uint32_t)s;
    }
    *sink = (int32_t)sum;
    return rounds * LENGTH;
}

static int64_t bf16_plain(int64_t rounds, float *sink)
{
    uint16_t a[LENGTH];
    float b[LENGTH], sum[LANES] = { 0 };
    for (int i = 0; i < LENGTH; i++)
        a[i] = f32_to_bf16(1), b[i] = 0.5f;
    for (int64_t r = 0; r < rounds; r++) {
        __asm__ volatile("" : : "r"(a), "r"(b) : "memory");
        for (int i = 0; i < LENGTH; i += LANES)
            for (int k = 0; k < LANES; k++)
                sum[k] += bf16_to_f32(a[i + k]) * b[i + k];
    }
    *sink = 0;
    for (int k = 0; k < LANES; k++)
        *sink += sum[k];
    return rounds * LENGTH;
}

static int64_t f32_plain(int64_t rounds, float *sink)
{
    float a[LENGTH], b[LENGTH], sum[LANES] = { 0 };
    for (int i = 0; i < LENGTH; i++)
        a[i] = 1, b[i] = 0.5f;
    for (int64_t r = 0; r < rounds; r++) {
        __asm__ volatile("" : : "r"(a), "r"(b) : "memory");
        for (int i = 0; i < LENGTH; i += LANES)
            for (int k = 0; k < LANES; k++)
                sum[k] += a[i + k] * b[i + k];
    }
    *sink = 0;
    for (int k = 0; k < LANES; k++)
        *sink += sum[k];
    return rounds * LENGTH;
}

const struct peak_loops peak_plain = {
    .name = "plain C",
    .needs = CPU_ISA_PLAIN,
    .read = read_plain,
    .int8 = int8_plain,
    .bf16 = bf16_plain,
    .f32 = f32_plain,
};
