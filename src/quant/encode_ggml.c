/*
 * encode_ggml.c: encoders of the GGUF formats whose block is 32 weights with a scale of its own.
 *
 * The loops over a block have no branches and fixed trip counts, so that compilers turn them into SIMD.
 * Floats are clamped before they become integers: on sane input the clamp changes nothing, on any input it
 * keeps the cast defined.
 */
#include "quant/encode.h"

#include <float.h>
#include <math.h>

#include "base/half.h"
#include "quant/lanes.h"
#include "quant/x86/encode_x86.h"

enum { BLOCK = 32, HALF = 16 };

typedef void encode_block(uint8_t *out, const float *x);

/* All blocks of these rows, one after the other: rows have no gaps. */
static inline void encode_blocks(encode_block *one, int block_bytes, void *data, int64_t row, int64_t n_rows,
                                 int64_t cols, const float *src)
{
    int64_t per_row = cols / BLOCK;
    uint8_t *out = (uint8_t *)data + row * per_row * block_bytes;
    for (int64_t b = 0; b < n_rows * per_row; b++)
        one(out + b * block_bytes, src + b * BLOCK);
}

static void put_f16(uint8_t *out, float f)
{
    uint16_t h = f32_to_f16(f);
    out[0] = (uint8_t)h;
    out[1] = (uint8_t)(h >> 8);
}

/* max |x|; compared as integers, where the order of magnitudes is the same and any order of comparing will
 * do. */
static float max_abs(const float *x)
{
    int32_t m = 0;
    for (int i = 0; i < BLOCK; i++) {
        int32_t a = (int32_t)(f32_bits(x[i]) & 0x7fffffff);
        m = a > m ? a : m;
    }
    return f32_from_bits((uint32_t)m);
}

/* The element of largest magnitude with its sign, the first one on ties; +0 for a zero block. */
static float signed_max(const float *x)
{
    float max = max_abs(x);
    int first = BLOCK - 1;
    for (int i = 0; i < BLOCK; i++) {
        int at = fabsf(x[i]) == max ? i : BLOCK - 1;
        first = at < first ? at : first;
    }
    return max > 0.0f ? x[first] : 0.0f;
}

static float inverse_or_zero(float d)
{
    return d != 0.0f ? 1.0f / d : 0.0f;
}

/* x without its fraction, clamped to 0..top. */
static int truncated(float x, float top)
{
    x = x < top ? x : top;
    x = x > 0.0f ? x : 0.0f;
    return (int)x;
}

/* Codes are as wide as floats until here: narrower ones would make compilers shuffle. j and j + 16 share byte
 * j. */
static void put_nibbles(uint8_t *out, const int32_t *code)
{
    for (int j = 0; j < HALF; j++)
        out[j] = (uint8_t)((code[j] & 15) | code[j + HALF] << 4);
}

/* ---- Q8_0: f16 d, i8 code[32] ---- */

/* Nearest integer, halves away from zero, clamped to +-127 (as integers: NaN too gets 127). */
static int round_away(float x)
{
    const int32_t top = 0x42fe0000;                                                        /* 127.0f */
    int32_t size = (int32_t)(f32_bits(x) & 0x7fffffff), sign = (int32_t)f32_bits(x) >> 31; /* 0 or -1 */
    float a = f32_from_bits((uint32_t)(size < top ? size : top));
    int whole = (int)a;
    float rest = a - (float)whole; /* exact, and so is twice it */
    int n = whole + (int)(rest + rest);
    return (n ^ sign) - sign;
}

static void q8_0_block(uint8_t *out, const float *x)
{
    float d = max_abs(x) / 127.0f, inverse = inverse_or_zero(d);
    put_f16(out, d);
    for (int i = 0; i < BLOCK; i++)
        out[2 + i] = (uint8_t)round_away(x[i] * inverse);
}

void q8_0_blocks_plain(uint8_t *out, int64_t n_blocks, const float *src)
{
    for (int64_t b = 0; b < n_blocks; b++)
        q8_0_block(out + b * 34, src + b * BLOCK);
}

void q8_0_blocks_fast(uint8_t *out, int64_t n_blocks, const float *src)
{
    if (encode_has_avx512())
        q8_0_blocks_avx512(out, n_blocks, src);
    else
        q8_0_blocks_plain(out, n_blocks, src);
}

void encode_q8_0(void *data, void *scale, float *absmax, int64_t row, int64_t n_rows, int64_t cols,
                 const float *src)
{
    int64_t per_row = cols / BLOCK;
    (void)scale, (void)absmax;
    q8_0_blocks_fast((uint8_t *)data + row * per_row * 34, n_rows * per_row, src);
}

/* ---- Q4_0: f16 d, nibbles; Q5_0: f16 d, the fifth bits, nibbles. The largest element gets code 0. ---- */

static void q4_0_block(uint8_t *out, const float *x)
{
    float d = signed_max(x) / -8.0f, inverse = inverse_or_zero(d);
    int32_t code[BLOCK];
    put_f16(out, d);
    for (int i = 0; i < BLOCK; i++)
        code[i] = truncated(x[i] * inverse + 8.5f, 15.0f);
    put_nibbles(out + 2, code);
}

void encode_q4_0(void *data, void *scale, float *absmax, int64_t row, int64_t n_rows, int64_t cols,
                 const float *src)
{
    (void)scale, (void)absmax;
    encode_blocks(q4_0_block, 18, data, row, n_rows, cols, src);
}

/* Bit i of four little-endian bytes is bit 4 of code i. */
static void put_fifth_bits(uint8_t *out, const int32_t *code)
{
    for (int k = 0; k < 4; k++) {
        int bits = 0;
        for (int i = 0; i < 8; i++)
            bits |= code[8 * k + i] >> 4 << i;
        out[k] = (uint8_t)bits;
    }
}

static void q5_0_block(uint8_t *out, const float *x)
{
    float d = signed_max(x) / -16.0f, inverse = inverse_or_zero(d);
    int32_t code[BLOCK];
    put_f16(out, d);
    for (int i = 0; i < BLOCK; i++)
        code[i] = truncated(x[i] * inverse + 16.5f, 31.0f);
    put_fifth_bits(out + 2, code);
    put_nibbles(out + 6, code);
}

void encode_q5_0(void *data, void *scale, float *absmax, int64_t row, int64_t n_rows, int64_t cols,
                 const float *src)
{
    (void)scale, (void)absmax;
    encode_blocks(q5_0_block, 22, data, row, n_rows, cols, src);
}

/* ---- Q5_1: f16 d, f16 minimum, the fifth bits, nibbles ---- */

static void q5_1_block(uint8_t *out, const float *x)
{
    float min = FLT_MAX, max = -FLT_MAX; /* compared in order: of two zeros the first one's sign is stored */
    for (int i = 0; i < BLOCK; i++) {
        min = x[i] < min ? x[i] : min;
        max = x[i] > max ? x[i] : max;
    }
    float d = (max - min) / 31.0f, inverse = inverse_or_zero(d);
    int32_t code[BLOCK];
    put_f16(out, d);
    put_f16(out + 2, min);
    for (int i = 0; i < BLOCK; i++)
        code[i] = truncated((x[i] - min) * inverse + 0.5f, 31.0f);
    put_fifth_bits(out + 4, code);
    put_nibbles(out + 8, code);
}

void encode_q5_1(void *data, void *scale, float *absmax, int64_t row, int64_t n_rows, int64_t cols,
                 const float *src)
{
    (void)scale, (void)absmax;
    encode_blocks(q5_1_block, 24, data, row, n_rows, cols, src);
}

/* ---- MXFP4: u8 exponent, nibbles of e2m1 ---- */

/* floor(log2(max)) - 2 biased by 127: the largest element lies at 4..8 units. log2f rounds just below a power
 * of two up to it, as in the reference. The top is one below the largest useful exponent: no value overflows.
 */
static int mxfp4_exponent(float max)
{
    if (!(max > 0.0f))
        return 0;
    float e = floorf(log2f(max)) - 2.0f + 127.0f;
    return truncated(e, 252.0f);
}

/* 0 .5 1 1.5 2 3 4 6 by magnitude, the lower neighbour on ties; zero has no sign. unit is 2^(e - 127). */
static int mxfp4_code(float x, float unit)
{
    float a = fabsf(x);
    int m = (a > 0.25f * unit) + (a > 0.75f * unit) + (a > 1.25f * unit) + (a > 1.75f * unit) +
            (a > 2.5f * unit) + (a > 3.5f * unit) + (a > 5.0f * unit);
    int negative = (x < 0.0f) & (m > 0);
    return m | negative << 3;
}

static void mxfp4_block(uint8_t *out, const float *x)
{
    int e = mxfp4_exponent(max_abs(x));
    float unit = e ? f32_from_bits((uint32_t)e << 23) : 0x1p-127f;
    int32_t code[BLOCK];
    for (int i = 0; i < BLOCK; i++)
        code[i] = mxfp4_code(x[i], unit);
    out[0] = (uint8_t)e;
    put_nibbles(out + 1, code);
}

void encode_mxfp4(void *data, void *scale, float *absmax, int64_t row, int64_t n_rows, int64_t cols,
                  const float *src)
{
    (void)scale, (void)absmax;
    encode_blocks(mxfp4_block, 17, data, row, n_rows, cols, src);
}

/* ---- IQ4_NL: f16 d, nibbles that index 16 uneven levels ----
 * The scale is searched: 16 candidates, each judged by a least-squares fit with weights x^2. The sums of a
 * block must be added in order, so SIMD works on LANES blocks at once, one per lane: x[i][lane]. */

enum { LANES = 8, GROUPS = LANES / LANE4, N_TRY = 7 };

/* Nearest level to v, the upper one on ties: as its index, and as its value. */
static inline int iq4_code(float v)
{
    return (v >= -115.5f) + (v >= -93.5f) + (v >= -74.0f) + (v >= -57.0f) + (v >= -42.0f) + (v >= -28.5f) +
           (v >= -16.0f) + (v >= -4.5f) + (v >= 7.0f) + (v >= 19.0f) + (v >= 31.5f) + (v >= 45.5f) +
           (v >= 61.0f) + (v >= 79.0f) + (v >= 101.0f);
}

static inline f32x4 iq4_levels(f32x4 v)
{
    i32x4 sum = ((v >= -115.5f) & 23) + ((v >= -93.5f) & 21) + ((v >= -74.0f) & 18) + ((v >= -57.0f) & 16) +
                ((v >= -42.0f) & 14) + ((v >= -28.5f) & 13) + ((v >= -16.0f) & 12) + ((v >= -4.5f) & 11) +
                ((v >= 7.0f) & 12) + ((v >= 19.0f) & 12) + ((v >= 31.5f) & 13) + ((v >= 45.5f) & 15) +
                ((v >= 61.0f) & 16) + ((v >= 79.0f) & 20) + ((v >= 101.0f) & 24);
    return __builtin_convertvector(sum - 127, f32x4);
}

/* With levels q nearest to inverse * x: a = sum x^2 q x, b = sum x^2 q^2. */
static void iq4_sums(const f32x4 x[BLOCK][GROUPS], const f32x4 inverse[GROUPS], f32x4 a[GROUPS],
                     f32x4 b[GROUPS])
{
    for (int g = 0; g < GROUPS; g++) {
        f32x4 sum_a = { 0 }, sum_b = { 0 };
        for (int i = 0; i < BLOCK; i++) {
            f32x4 v = x[i][g], q = iq4_levels(inverse[g] * v), weighted = v * v * q;
            sum_a += weighted * v;
            sum_b += weighted * q;
        }
        a[g] = sum_a;
        b[g] = sum_b;
    }
}

/* The elements of largest magnitude with their signs, and where there is hardly anything. */
static void iq4_maxima(const f32x4 x[BLOCK][GROUPS], f32x4 max[GROUPS], i32x4 empty[GROUPS])
{
    for (int g = 0; g < GROUPS; g++) {
        f32x4 size = { 0 };
        max[g] = size;
        for (int i = 0; i < BLOCK; i++) {
            f32x4 s = lanes_abs(x[i][g]);
            max[g] = lanes_pick(s > size, x[i][g], max[g]);
            size = lanes_pick(s > size, s, size);
        }
        empty[g] = size < 1e-15f;
    }
}

static void iq4_scales(const f32x4 x[BLOCK][GROUPS], f32x4 d[GROUPS])
{
    f32x4 max[GROUPS], inverse[GROUPS], a[GROUPS], b[GROUPS], best[GROUPS], zero = { 0 };
    i32x4 empty[GROUPS];
    iq4_maxima(x, max, empty);
    for (int g = 0; g < GROUPS; g++)
        inverse[g] = 1.0f / (max[g] / 127.0f);
    iq4_sums(x, inverse, a, b);
    for (int g = 0; g < GROUPS; g++) {
        d[g] = lanes_pick(b[g] > 0.0f, a[g] / b[g], zero);
        best[g] = d[g] * a[g];
    }
    for (int t = -N_TRY; t <= N_TRY; t++) {
        for (int g = 0; g < GROUPS; g++)
            inverse[g] = ((float)t - 127.0f) / max[g];
        iq4_sums(x, inverse, a, b);
        for (int g = 0; g < GROUPS; g++) {
            i32x4 better = (b[g] > 0.0f) & (a[g] * a[g] > best[g] * b[g]);
            f32x4 fit = a[g] / b[g];
            d[g] = lanes_pick(better, fit, d[g]);
            best[g] = lanes_pick(better, fit * a[g], best[g]);
        }
    }
    for (int g = 0; g < GROUPS; g++)
        d[g] = lanes_pick(empty[g], zero, d[g]);
}

/* n <= LANES blocks of x, 18 bytes each. */
static void iq4_nl_blocks(uint8_t *out, const float *src, int n)
{
    f32x4 x[BLOCK][GROUPS] = { { { 0 } } }, d[GROUPS];
    for (int l = 0; l < n; l++)
        for (int i = 0; i < BLOCK; i++)
            x[i][l / LANE4][l % LANE4] = src[l * BLOCK + i];
    iq4_scales(x, d);
    for (int l = 0; l < n; l++) {
        float scale = d[l / LANE4][l % LANE4], inverse = inverse_or_zero(scale);
        int32_t code[BLOCK];
        for (int i = 0; i < BLOCK; i++)
            code[i] = iq4_code(inverse * src[l * BLOCK + i]);
        put_f16(out + l * 18, scale);
        put_nibbles(out + l * 18 + 2, code);
    }
}

void encode_iq4_nl(void *data, void *scale, float *absmax, int64_t row, int64_t n_rows, int64_t cols,
                   const float *src)
{
    (void)scale, (void)absmax;
    int64_t per_row = cols / BLOCK, n_blocks = n_rows * per_row;
    uint8_t *out = (uint8_t *)data + row * per_row * 18;
    for (int64_t b = 0; b < n_blocks; b += LANES)
        iq4_nl_blocks(out + b * 18, src + b * BLOCK, n_blocks - b < LANES ? (int)(n_blocks - b) : LANES);
}
