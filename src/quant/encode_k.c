/*
 * encode_k.c: encoders of the GGUF formats whose block is 256 weights in sub-blocks with quantized scales.
 *
 * Each sub-block's scale (and minimum) is searched: candidates are judged by a weighted least-squares fit.
 * The sums of a sub-block must be added in order to give the reference's bytes, so SIMD works on all
 * sub-blocks of a super-block at once, one per lane: x[i][lane] is value i of sub-block lane. What depends on
 * a sub-block is a select, never a branch. Values become codes by clamping first and rounding then, which is
 * the same as the other way round and defined for every float.
 */
#include "quant/encode.h"

#include <math.h>
#include <string.h>

#include "base/half.h"
#include "quant/lanes.h"

enum { SUPER = 256 };

static float put_f16(uint8_t *out, float f) /* gives what was stored */
{
    uint16_t h = f32_to_f16(f);
    out[0] = (uint8_t)h;
    out[1] = (uint8_t)(h >> 8);
    return f16_to_f32(h);
}

/* Nearest integer, halves to even, of a value that lies within +-2^22: the adder rounds at 1. */
static inline float nearest(float x)
{
    const float bias = 0x1.8p23f;
    return (x + bias) - bias;
}

/* NaN becomes low. */
static inline float clamped(float x, float low, float high)
{
    x = x > low ? x : low;
    return x < high ? x : high;
}

static int nearest_int(float x)
{
    return (int)nearest(clamped(x, -0x1p22f, 0x1p22f));
}

/* ---- Q4_K and Q5_K: 8 sub-blocks of 32, x = scale * code - minimum ---- */

enum { SUB = 32, LANES = 8, GROUPS = LANES / LANE4 };

struct min_rule { /* codes 0..top; n_try candidates of range first, first + 0.1, ... beyond top */
    float top, first;
    int n_try;
};
static const struct min_rule q4_rule = { 15.0f, -1.0f, 21 }, q5_rule = { 31.0f, -0.5f, 16 };

struct min_fit { /* sub-block l is lane l % 4 of group l / 4 */
    f32x4 x[SUB][GROUPS], weight[SUB][GROUPS];
    f32x4 level[SUB][GROUPS]; /* codes of the candidate in hand */
    f32x4 min[GROUPS], max[GROUPS], scale[GROUPS], error[GROUPS];
    f32x4 sum_w[GROUPS], sum_x[GROUPS];           /* sum of weights, of weights times x */
    f32x4 code_inverse[GROUPS], code_min[GROUPS]; /* what the codes kept so far were made with */
};

static void load_lanes(struct min_fit *f, const float *src)
{
    for (int l = 0; l < LANES; l++)
        for (int i = 0; i < SUB; i++)
            f->x[i][l / LANE4][l % LANE4] = src[l * SUB + i];
    for (int g = 0; g < GROUPS; g++) {
        f32x4 spread = { 0 };
        for (int i = 0; i < SUB; i++)
            spread += f->x[i][g] * f->x[i][g];
        for (int l = 0; l < LANE4; l++)
            spread[l] = sqrtf(spread[l] / SUB);
        for (int i = 0; i < SUB; i++)
            f->weight[i][g] = spread + lanes_abs(f->x[i][g]);
    }
}

static void bounds_and_sums(struct min_fit *f)
{
    for (int g = 0; g < GROUPS; g++) {
        f32x4 min = f->x[0][g], max = min, sum_w = f->weight[0][g], sum_x = sum_w * min;
        for (int i = 1; i < SUB; i++) {
            f32x4 x = f->x[i][g], w = f->weight[i][g];
            min = lanes_pick(x < min, x, min);
            max = lanes_pick(x > max, x, max);
            sum_w += w;
            sum_x += w * x;
        }
        f->min[g] = lanes_pick(min > 0.0f, lanes_all(0.0f), min);
        f->max[g] = max;
        f->sum_w[g] = sum_w;
        f->sum_x[g] = sum_x;
    }
}

static void set_levels(struct min_fit *f, const f32x4 inverse[GROUPS], float top)
{
    for (int i = 0; i < SUB; i++)
        for (int g = 0; g < GROUPS; g++)
            f->level[i][g] = lanes_nearest(lanes_clamped(inverse[g] * (f->x[i][g] - f->min[g]), 0.0f, top));
}

static void weighted_error(const struct min_fit *f, const f32x4 scale[GROUPS], const f32x4 min[GROUPS],
                           f32x4 error[GROUPS])
{
    f32x4 sum[GROUPS] = { { 0 } };
    for (int i = 0; i < SUB; i++)
        for (int g = 0; g < GROUPS; g++) {
            f32x4 off = scale[g] * f->level[i][g] + min[g] - f->x[i][g];
            sum[g] += f->weight[i][g] * (off * off);
        }
    memcpy(error, sum, sizeof sum);
}

/* The start: the whole range from min to max on codes 0..top. */
static void first_candidate(struct min_fit *f, float top)
{
    for (int g = 0; g < GROUPS; g++) {
        f->code_inverse[g] = top / (f->max[g] - f->min[g]);
        f->code_min[g] = f->min[g];
        f->scale[g] = 1.0f / f->code_inverse[g];
    }
    set_levels(f, f->code_inverse, top);
    weighted_error(f, f->scale, f->min, f->error);
}

/* Least squares of x on the levels in hand: scale and minimum (never above 0); where it cannot be solved,
 * fits is 0. The order of products is that of the reference. */
static void solve(const struct min_fit *f, f32x4 scale[GROUPS], f32x4 min[GROUPS], i32x4 fits[GROUPS])
{
    f32x4 sum_l[GROUPS] = { { 0 } }, sum_ll[GROUPS] = { { 0 } }, sum_xl[GROUPS] = { { 0 } };
    for (int i = 0; i < SUB; i++)
        for (int g = 0; g < GROUPS; g++) {
            f32x4 level = f->level[i][g], weighted = f->weight[i][g] * level;
            sum_l[g] += weighted;
            sum_ll[g] += weighted * level;
            sum_xl[g] += weighted * f->x[i][g];
        }
    for (int g = 0; g < GROUPS; g++) {
        f32x4 determinant = f->sum_w[g] * sum_ll[g] - sum_l[g] * sum_l[g];
        f32x4 s = (f->sum_w[g] * sum_xl[g] - f->sum_x[g] * sum_l[g]) / determinant;
        f32x4 m = (sum_ll[g] * f->sum_x[g] - sum_l[g] * sum_xl[g]) / determinant;
        fits[g] = determinant > 0.0f;
        scale[g] = lanes_pick(m > 0.0f, sum_xl[g] / sum_ll[g], s);
        min[g] = lanes_pick(m > 0.0f, lanes_all(0.0f), m);
    }
}

/* One more candidate: codes over `range` steps between min and max, then fitted. An accepted minimum also
 * changes the range of the candidates after it. */
static void next_candidate(struct min_fit *f, float range, float top)
{
    f32x4 inverse[GROUPS], scale[GROUPS], min[GROUPS], error[GROUPS];
    i32x4 fits[GROUPS];
    for (int g = 0; g < GROUPS; g++)
        inverse[g] = range / (f->max[g] - f->min[g]);
    set_levels(f, inverse, top);
    solve(f, scale, min, fits);
    weighted_error(f, scale, min, error);
    for (int g = 0; g < GROUPS; g++) {
        i32x4 better = fits[g] & (error[g] < f->error[g]);
        f->code_inverse[g] = lanes_pick(better, inverse[g], f->code_inverse[g]);
        f->code_min[g] = lanes_pick(better, f->min[g], f->code_min[g]);
        f->error[g] = lanes_pick(better, error[g], f->error[g]);
        f->scale[g] = lanes_pick(better, scale[g], f->scale[g]);
        f->min[g] = lanes_pick(better, min[g], f->min[g]);
    }
}

static void fit_min(struct min_fit *f, const float *src, const struct min_rule *rule)
{
    i32x4 flat[GROUPS];
    f32x4 lowest[GROUPS];
    load_lanes(f, src);
    bounds_and_sums(f);
    for (int g = 0; g < GROUPS; g++) {
        flat[g] = f->max[g] == f->min[g];
        lowest[g] = f->min[g];
    }
    first_candidate(f, rule->top);
    for (int t = 0; t < rule->n_try; t++)
        next_candidate(f, rule->first + 0.1f * (float)t + rule->top, rule->top);
    for (int g = 0; g < GROUPS; g++) { /* a constant sub-block below zero: no codes, only a minimum */
        f32x4 zero = { 0 };
        f->scale[g] = lanes_pick(flat[g], zero, f->scale[g]);
        f->min[g] = lanes_pick(flat[g], lowest[g], f->min[g]);
        f->code_inverse[g] = lanes_pick(flat[g], zero, f->code_inverse[g]);
        f->code_min[g] = lanes_pick(flat[g], zero, f->code_min[g]);
    }
}

/* Six bits, as the reference's u8 holds them: a negative value wraps and ends at the top. */
static int six_bits(float x)
{
    int n = nearest_int(x) & 255;
    return n < 63 ? n : 63;
}

static void put_scales(uint8_t out[12], const uint8_t scale[LANES], const uint8_t min[LANES])
{
    for (int s = 0; s < 4; s++) {
        out[s] = (uint8_t)(scale[s] | scale[s + 4] >> 4 << 6);
        out[s + 4] = (uint8_t)(min[s] | min[s + 4] >> 4 << 6);
        out[s + 8] = (uint8_t)((scale[s + 4] & 15) | (min[s + 4] & 15) << 4);
    }
}

/* Codes of one sub-block with the scale and minimum as stored; with scale 0, those of the fit. */
static void recode(uint8_t *code, const float *x, float d, float min, float inverse, float code_min,
                   float top)
{
    if (d != 0.0f)
        for (int i = 0; i < SUB; i++)
            code[i] = (uint8_t)nearest(clamped((x[i] + min) / d, 0.0f, top));
    else
        for (int i = 0; i < SUB; i++)
            code[i] = (uint8_t)nearest(clamped(inverse * (x[i] - code_min), 0.0f, top));
}

/* The head of a Q4_K or Q5_K block, 16 bytes, and the codes. */
static void encode_with_min(uint8_t *head, uint8_t code[SUPER], const float *src, const struct min_rule *rule)
{
    struct min_fit f;
    float max_scale = 0.0f, max_min = 0.0f;
    uint8_t scale[LANES], min[LANES];
    fit_min(&f, src, rule);
    for (int l = 0; l < LANES; l++) {
        float s = f.scale[l / LANE4][l % LANE4], m = -f.min[l / LANE4][l % LANE4];
        max_scale = s > max_scale ? s : max_scale;
        max_min = m > max_min ? m : max_min;
    }
    float per_scale = max_scale > 0.0f ? 63.0f / max_scale : 0.0f;
    float per_min = max_min > 0.0f ? 63.0f / max_min : 0.0f;
    for (int l = 0; l < LANES; l++) {
        scale[l] = (uint8_t)six_bits(per_scale * f.scale[l / LANE4][l % LANE4]);
        min[l] = (uint8_t)six_bits(per_min * -f.min[l / LANE4][l % LANE4]);
    }
    float d = put_f16(head, max_scale / 63.0f), d_min = put_f16(head + 2, max_min / 63.0f);
    put_scales(head + 4, scale, min);
    for (int l = 0; l < LANES; l++)
        recode(code + l * SUB, src + l * SUB, d * (float)scale[l], d_min * (float)min[l],
               f.code_inverse[l / LANE4][l % LANE4], f.code_min[l / LANE4][l % LANE4], rule->top);
}

/* Sub-blocks 2g and 2g + 1 share the 32 bytes of group g. */
static void put_nibbles(uint8_t out[SUPER / 2], const uint8_t code[SUPER])
{
    for (int g = 0; g < 4; g++)
        for (int i = 0; i < SUB; i++)
            out[g * SUB + i] = (uint8_t)((code[2 * g * SUB + i] & 15) | code[(2 * g + 1) * SUB + i] << 4);
}

void encode_q4_k(void *data, void *scale, float *absmax, int64_t row, int64_t n_rows, int64_t cols,
                 const float *src)
{
    (void)scale, (void)absmax;
    enum { BYTES = 144 };
    uint8_t *out = (uint8_t *)data + row * (cols / SUPER) * BYTES, code[SUPER];
    for (int64_t b = 0; b < n_rows * (cols / SUPER); b++, out += BYTES) {
        encode_with_min(out, code, src + b * SUPER, &q4_rule);
        put_nibbles(out + 16, code);
    }
}

void encode_q5_k(void *data, void *scale, float *absmax, int64_t row, int64_t n_rows, int64_t cols,
                 const float *src)
{
    (void)scale, (void)absmax;
    enum { BYTES = 176 };
    uint8_t *out = (uint8_t *)data + row * (cols / SUPER) * BYTES, code[SUPER];
    for (int64_t b = 0; b < n_rows * (cols / SUPER); b++, out += BYTES) {
        encode_with_min(out, code, src + b * SUPER, &q5_rule);
        for (int i = 0; i < SUB; i++) { /* bit l: the fifth bit of sub-block l */
            int bits = 0;
            for (int l = 0; l < LANES; l++)
                bits |= code[l * SUB + i] >> 4 << l;
            out[16 + i] = (uint8_t)bits;
        }
        put_nibbles(out + 48, code);
    }
}

/* ---- Q6_K: 16 sub-blocks of 16, x = scale * code, codes -32..31 ---- */

enum { SUB6 = 16, LANES6 = 16, GROUPS6 = LANES6 / LANE4, N_TRY6 = 9 };

struct signed_fit { /* sub-block l is lane l % 4 of group l / 4 */
    f32x4 x[SUB6][GROUPS6];
    f32x4 max[GROUPS6]; /* of largest magnitude, with its sign */
    f32x4 scale[GROUPS6];
    f32x4 inverse[GROUPS6]; /* the codes kept are nearest(inverse * x) */
    i32x4 empty[GROUPS6];   /* nothing there: no codes at all */
};

static void load_lanes6(struct signed_fit *f, const float *src)
{
    for (int l = 0; l < LANES6; l++)
        for (int i = 0; i < SUB6; i++)
            f->x[i][l / LANE4][l % LANE4] = src[l * SUB6 + i];
    for (int g = 0; g < GROUPS6; g++) {
        f32x4 size = { 0 }, max = { 0 };
        for (int i = 0; i < SUB6; i++) {
            f32x4 x = f->x[i][g], s = lanes_abs(x);
            max = lanes_pick(s > size, x, max);
            size = lanes_pick(s > size, s, size);
        }
        f->max[g] = max;
        f->empty[g] = size < 1e-15f;
    }
}

/* With codes q nearest to inverse * x: a = sum x^2 x q, b = sum x^2 q^2. */
static void signed_sums(const struct signed_fit *f, const f32x4 inverse[GROUPS6], f32x4 a[GROUPS6],
                        f32x4 b[GROUPS6])
{
    for (int g = 0; g < GROUPS6; g++) {
        f32x4 sum_a = { 0 }, sum_b = { 0 };
        for (int i = 0; i < SUB6; i++) {
            f32x4 x = f->x[i][g], q = lanes_nearest(lanes_clamped(inverse[g] * x, -32.0f, 31.0f)), w = x * x;
            sum_a += w * x * q;
            sum_b += w * q * q;
        }
        a[g] = sum_a;
        b[g] = sum_b;
    }
}

static void fit_signed(struct signed_fit *f, const float *src)
{
    f32x4 inverse[GROUPS6], a[GROUPS6], b[GROUPS6], best[GROUPS6];
    load_lanes6(f, src);
    for (int g = 0; g < GROUPS6; g++)
        f->inverse[g] = -32.0f / f->max[g];
    signed_sums(f, f->inverse, a, b);
    for (int g = 0; g < GROUPS6; g++) {
        f->scale[g] = lanes_pick(b[g] != 0.0f, a[g] / b[g], lanes_all(0.0f));
        best[g] = f->scale[g] * a[g];
    }
    for (int t = -N_TRY6; t <= N_TRY6; t++) {
        if (t == 0)
            continue;
        for (int g = 0; g < GROUPS6; g++)
            inverse[g] = -(32.0f + 0.1f * (float)t) / f->max[g];
        signed_sums(f, inverse, a, b);
        for (int g = 0; g < GROUPS6; g++) {
            i32x4 better = (b[g] > 0.0f) & (a[g] * a[g] > best[g] * b[g]);
            f32x4 scale = a[g] / b[g];
            f->inverse[g] = lanes_pick(better, inverse[g], f->inverse[g]);
            f->scale[g] = lanes_pick(better, scale, f->scale[g]);
            best[g] = lanes_pick(better, scale * a[g], best[g]);
        }
    }
    for (int g = 0; g < GROUPS6; g++)
        f->scale[g] = lanes_pick(f->empty[g], lanes_all(0.0f), f->scale[g]);
}

/* Codes of sub-block l, 0..63, with the scale as stored; with scale 0, those of the fit. */
static void recode_signed(uint8_t *code, const float *x, float d, const struct signed_fit *f, int l)
{
    if (d != 0.0f)
        for (int i = 0; i < SUB6; i++)
            code[i] = (uint8_t)(nearest(clamped(x[i] / d, -32.0f, 31.0f)) + 32.0f);
    else if (f->empty[l / LANE4][l % LANE4])
        memset(code, 0, SUB6);
    else
        for (int i = 0; i < SUB6; i++)
            code[i] =
                (uint8_t)(nearest(clamped(f->inverse[l / LANE4][l % LANE4] * x[i], -32.0f, 31.0f)) + 32.0f);
}

/* Low nibbles (64 bytes per half) and high pairs of bits (32 bytes per half): in each half of 128 codes, the
 * four runs of 32 lie beside one another. */
static void put_six_bits(uint8_t *low, uint8_t *high, const uint8_t code[SUPER])
{
    for (int half = 0; half < 2; half++, code += 128, low += 64, high += 32)
        for (int i = 0; i < 32; i++) {
            uint8_t c0 = code[i], c1 = code[i + 32], c2 = code[i + 64], c3 = code[i + 96];
            low[i] = (uint8_t)((c0 & 15) | (c2 & 15) << 4);
            low[i + 32] = (uint8_t)((c1 & 15) | (c3 & 15) << 4);
            high[i] = (uint8_t)(c0 >> 4 | c1 >> 4 << 2 | c2 >> 4 << 4 | c3 >> 4 << 6);
        }
}

static float scale_of(const struct signed_fit *f, int l)
{
    return f->scale[l / LANE4][l % LANE4];
}

/* low[128], high[64], i8 scale[16], f16 d */
static void q6_k_block(uint8_t *out, const float *src)
{
    struct signed_fit f;
    uint8_t code[SUPER];
    float max = 0.0f;
    fit_signed(&f, src);
    for (int l = 0; l < LANES6; l++)
        max = fabsf(scale_of(&f, l)) > fabsf(max) ? scale_of(&f, l) : max;
    if (!(fabsf(max) >= 1e-15f)) {
        memset(out, 0, 210);
        return;
    }
    float per_scale = -128.0f / max, d = put_f16(out + 208, 1.0f / per_scale);
    for (int l = 0; l < LANES6; l++) {
        int scale = nearest_int(clamped(per_scale * scale_of(&f, l), -128.0f, 127.0f));
        out[192 + l] = (uint8_t)scale;
        recode_signed(code + l * SUB6, src + l * SUB6, d * (float)scale, &f, l);
    }
    put_six_bits(out, out + 128, code);
}

void encode_q6_k(void *data, void *scale, float *absmax, int64_t row, int64_t n_rows, int64_t cols,
                 const float *src)
{
    (void)scale, (void)absmax;
    uint8_t *out = (uint8_t *)data + row * (cols / SUPER) * 210;
    for (int64_t b = 0; b < n_rows * (cols / SUPER); b++)
        q6_k_block(out + b * 210, src + b * SUPER);
}
