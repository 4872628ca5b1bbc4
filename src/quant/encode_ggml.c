/*
 * encode_ggml.c: encoders of the GGUF formats whose block is 32 weights with one scale (and minimum).
 *
 * The loops over a block have no branches and fixed trip counts, so that compilers turn them into SIMD. Floats
 * are clamped before they become integers: the clamp never acts on finite input, it keeps the cast defined.
 */
#include "quant/encode.h"

#include <math.h>

#include "base/half.h"

enum { BLOCK = 32 };

static void put_f16(uint8_t *out, float f)
{
    uint16_t h = f32_to_f16(f);
    out[0] = (uint8_t)h;
    out[1] = (uint8_t)(h >> 8);
}

static float max_abs(const float *x)
{
    float m = 0.0f;
    for (int i = 0; i < BLOCK; i++) {
        float a = fabsf(x[i]);
        m = a > m ? a : m;
    }
    return m;
}

/* Nearest integer, halves away from zero, clamped to +-127. */
static int round_away(float x)
{
    float a = fabsf(x);
    a = a < 127.0f ? a : 127.0f;
    int n = (int)a;
    n += a - (float)n >= 0.5f;
    return x < 0.0f ? -n : n;
}

static void q8_0_block(uint8_t *out, const float *x)
{
    float d = max_abs(x) / 127.0f;
    float inverse = d != 0.0f ? 1.0f / d : 0.0f;
    put_f16(out, d);
    for (int i = 0; i < BLOCK; i++)
        out[2 + i] = (uint8_t)round_away(x[i] * inverse);
}

void encode_q8_0(void *data, void *scale, float *absmax, int64_t row, int64_t n_rows, int64_t cols, const float *src)
{
    (void)scale;
    (void)absmax;
    int64_t  n_blocks = n_rows * (cols / BLOCK);
    uint8_t *out = (uint8_t *)data + row * (cols / BLOCK) * 34;
    for (int64_t b = 0; b < n_blocks; b++)
        q8_0_block(out + b * 34, src + b * BLOCK);
}
