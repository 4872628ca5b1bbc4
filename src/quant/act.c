/* act.c: activations as int8 rows; the scalar definition. */
#include "quant/act.h"

#include <math.h>

#include "base/checked.h"

enum { PART_ALIGN = 64 };

static size_t code_bytes(int64_t n)
{
    return align_up((uint64_t)n, PART_ALIGN);
}

static size_t per_block_bytes(int64_t n)
{
    return align_up((uint64_t)(n / Q8_BLOCK) * sizeof(float), PART_ALIGN);
}

size_t q8_row_bytes(int64_t n)
{
    return code_bytes(n) + 2 * per_block_bytes(n);
}

struct q8_row q8_row_at(const void *row, int64_t n)
{
    const char *q = row, *d = q + code_bytes(n), *sum = d + per_block_bytes(n);
    return (struct q8_row){ .q = (const int8_t *)q, .d = (const float *)d, .sum = (const int32_t *)sum };
}

/* Nearest integer, halves to even, in the default rounding mode: the adder rounds at 1. */
static int round_even(float x)
{
    const float bias = 0x1.8p23f;
    x = x < 127.0f ? x : 127.0f; /* first: the sum cannot leave the exact range, NaN becomes a code */
    x = x > -127.0f ? x : -127.0f;
    return (int)((x + bias) - bias);
}

static void quantize_block(int8_t *q, float *d, int32_t *sum, const float *x)
{
    float max = 0.0f;
    for (int i = 0; i < Q8_BLOCK; i++) {
        float a = fabsf(x[i]);
        max = a > max ? a : max;
    }
    *d = max < Q8_ZERO ? 0.0f : max / 127.0f;
    float inverse = *d > 0.0f ? 1.0f / *d : 0.0f;
    int32_t total = 0;
    for (int i = 0; i < Q8_BLOCK; i++) {
        int code = round_even(x[i] * inverse);
        q[i] = (int8_t)code;
        total += code;
    }
    *sum = total;
}

void q8_quantize(void *row, const float *x, int64_t n)
{
    char *q = row;
    float *d = (float *)(q + code_bytes(n));
    int32_t *sum = (int32_t *)(q + code_bytes(n) + per_block_bytes(n));
    for (int64_t b = 0; b < n / Q8_BLOCK; b++)
        quantize_block((int8_t *)q + b * Q8_BLOCK, &d[b], &sum[b], x + b * Q8_BLOCK);
}
