/*
 * vec_plain.c: the vector loops in plain C, written so that a compiler can vectorize them: sums run in 16
 * lanes that are added up at the end. Also the ends of rows that the intrinsics' files leave over.
 */
#include <float.h>
#include <math.h>
#include <string.h>

#include "base/half.h"
#include "device/cpu/vec.h"
#include "quant/act.h"

enum { LANES = VEC_LANES };

/* Halves the lanes until one is left. */
static float lane_sum(float s[LANES])
{
    for (int half = LANES / 2; half; half /= 2)
        for (int i = 0; i < half; i++)
            s[i] += s[i + half];
    return s[0];
}

static float plain_dot(const float *a, const float *b, int64_t n)
{
    float s[LANES] = { 0 };
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int l = 0; l < LANES; l++)
            s[l] += a[i + l] * b[i + l];
    for (; i < n; i++)
        s[i % LANES] += a[i] * b[i];
    return lane_sum(s);
}

static float plain_max(const float *x, int64_t n)
{
    float max = -INFINITY;
    for (int64_t i = 0; i < n; i++)
        max = x[i] > max ? x[i] : max;
    return max;
}

static void plain_scale(float *x, float s, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        x[i] *= s;
}

static void plain_axpy(float *y, float s, const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] += s * x[i];
}

static void plain_rms_norm(float *y, const float *x, const float *w, int64_t n, float eps)
{
    float scale = 1.0f / sqrtf(plain_dot(x, x, n) / (float)n + eps);
    for (int64_t i = 0; i < n; i++)
        y[i] = x[i] * scale * w[i];
}

/* e^x: x = n ln 2 + r with n whole; e^r = 1 + r + r^2 p(r) within 4e-9, p fitted on |r| <= ln 2 / 2. */
static inline float exp_fast(float x)
{
    const float bias = 0x1.8p23f; /* adding and subtracting it rounds to a whole number */
    float t = x < 88.37f ? x : 88.37f;
    t = t > -87.33f ? t : -87.33f;
    float n = (t * 1.44269504f + bias) - bias;
    float r = (t - n * 0x1.62ep-1f) - n * 0x1.0bfbe8p-15f; /* ln 2 in two parts; the first product is exact */
    float p = 0.00138145988f;
    p = p * r + 0.00836871658f;
    p = p * r + 0.0416683890f;
    p = p * r + 0.166665211f;
    p = p * r + 0.499999940f;
    float e = (r * r * p + r) + 1.0f;
    float power = f32_from_bits((uint32_t)((int32_t)n + 127) << 23);
    float value = x < -87.33f ? 0.0f : e * power;
    return x == x ? value : x; /* NaN stays NaN */
}

static inline float silu(float x)
{
    return x / (1.0f + exp_fast(-x));
}

static float plain_exp_sum(float *x, float max, int64_t n)
{
    float s[LANES] = { 0 };
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int l = 0; l < LANES; l++) {
            x[i + l] = exp_fast(x[i + l] - max);
            s[l] += x[i + l];
        }
    for (; i < n; i++) {
        x[i] = exp_fast(x[i] - max);
        s[i % LANES] += x[i];
    }
    return lane_sum(s);
}

static void plain_silu_mul(float *y, const float *g, const float *u, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = silu(g[i]) * u[i];
}

static void plain_sigmoid_mul(float *y, const float *g, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = y[i] / (1.0f + exp_fast(-g[i]));
}

static void plain_conv4_silu(float *y, const float *x0, const float *x1, const float *x2, const float *x3,
                             const float *w, int64_t n)
{
    for (int64_t i = 0; i < n; i++, w += 4)
        y[i] = silu(((w[0] * x0[i] + w[1] * x1[i]) + w[2] * x2[i]) + w[3] * x3[i]);
}

/* 16 elements of b as f32. */
static inline void decode_f32(const void *from, float *to)
{
    memcpy(to, from, LANES * sizeof *to);
}

static inline void decode_f16(const void *from, float *to)
{
    uint16_t h[LANES];
    memcpy(h, from, sizeof h);
    for (int l = 0; l < LANES; l++)
        to[l] = f16_to_f32(h[l]);
}

static inline void decode_bf16(const void *from, float *to)
{
    uint16_t h[LANES];
    memcpy(h, from, sizeof h);
    for (int l = 0; l < LANES; l++)
        to[l] = bf16_to_f32(h[l]);
}

enum { PIECE = 64 }; /* rows of b decoded at a time, for all rows of a */

/* n_rows, a constant 2 or 1: c = scale * c + a[..][0..depth) b[0..depth) of one panel. */
static inline __attribute__((always_inline)) void plain_rows(float *c, size_t c_row, const float *a,
                                                             size_t a_row, const float *b, int n_rows,
                                                             int depth, float scale)
{
    float sum[2][LANES] = { { 0 } };
    for (int i = 0; i < n_rows && scale != 0.0f; i++)
        for (int l = 0; l < LANES; l++)
            sum[i][l] = scale * c[(size_t)i * c_row + (size_t)l];
    for (int k = 0; k < depth; k++, b += LANES)
        for (int i = 0; i < n_rows; i++)
            for (int l = 0; l < LANES; l++)
                sum[i][l] += a[(size_t)i * a_row + (size_t)k] * b[l];
    for (int i = 0; i < n_rows; i++)
        memcpy(c + (size_t)i * c_row, sum[i], sizeof sum[i]);
}

static inline __attribute__((always_inline)) void plain_panel(const struct vec_tile *t, float *c,
                                                              const char *b, size_t element,
                                                              void (*decode)(const void *, float *))
{
    float piece[PIECE * LANES];
    int k = 0;
    do { /* once even for depth 0: c is scaled */
        int n = t->depth - k < PIECE ? t->depth - k : PIECE, row = 0;
        float scale = k ? 1.0f : t->scale;
        for (int i = 0; i < n; i++)
            decode(b + (size_t)(k + i) * t->b_row * element, piece + i * LANES);
        const float *a = t->a + k;
        for (; row + 2 <= t->rows; row += 2)
            plain_rows(c + (size_t)row * t->c_row, t->c_row, a + (size_t)row * t->a_row, t->a_row, piece, 2,
                       n, scale);
        for (; row < t->rows; row++)
            plain_rows(c + (size_t)row * t->c_row, t->c_row, a + (size_t)row * t->a_row, t->a_row, piece, 1,
                       n, scale);
        k += PIECE;
    } while (k < t->depth);
}

static inline __attribute__((always_inline)) void plain_tile(const struct vec_tile *t, size_t element,
                                                             void (*decode)(const void *, float *))
{
    for (int j = 0; j + LANES <= t->cols; j += LANES)
        plain_panel(t, t->c + j, (const char *)t->b + (size_t)(j / LANES) * t->b_panel * element, element,
                    decode);
}

/* The last cols % 16 columns of an f32 tile. */
void vec_tile_tail(const struct vec_tile *t)
{
    int first = t->cols / LANES * LANES;
    for (int i = 0; i < t->rows; i++)
        for (int j = first; j < t->cols; j++) {
            const float *a = t->a + (size_t)i * t->a_row;
            const float *b = (const float *)t->b + (size_t)(j / LANES) * t->b_panel + (size_t)(j % LANES);
            float *c = &t->c[(size_t)i * t->c_row + (size_t)j], sum = t->scale != 0.0f ? t->scale * *c : 0.0f;
            for (int k = 0; k < t->depth; k++)
                sum += a[k] * b[(size_t)k * t->b_row];
            *c = sum;
        }
}

static void plain_tile_f32(const struct vec_tile *t)
{
    plain_tile(t, sizeof(float), decode_f32);
    vec_tile_tail(t);
}

static void plain_tile_f16(const struct vec_tile *t)
{
    plain_tile(t, sizeof(uint16_t), decode_f16);
}

static void plain_tile_bf16(const struct vec_tile *t)
{
    plain_tile(t, sizeof(uint16_t), decode_bf16);
}

/* n <= 16 columns from column j on. Both readings of the state, S^T k and S^T q, happen in one pass; the
 * read-out of the updated state follows from them: decay S^T q + (q . k) d. */
static inline void delta_step_lanes(const struct vec_delta_step *s, int j, int n)
{
    float m[LANES] = { 0 }, o[LANES] = { 0 }, d[LANES];
    float *state = s->state + j;
    for (int i = 0; i < s->d_k; i++)
        for (int l = 0; l < n; l++) {
            float x = state[(size_t)i * s->row + (size_t)l];
            m[l] += x * s->k[i];
            o[l] += x * s->q[i];
        }
    for (int l = 0; l < n; l++) {
        d[l] = s->beta * (s->v[j + l] - s->decay * m[l]);
        s->out[j + l] = s->decay * o[l] + s->qk * d[l];
    }
    for (int i = 0; i < s->d_k; i++)
        for (int l = 0; l < n; l++) {
            float *x = &state[(size_t)i * s->row + (size_t)l];
            *x = s->decay * *x + s->k[i] * d[l];
        }
}

/* The last cols % 16 columns. */
void vec_delta_step_tail(const struct vec_delta_step *s)
{
    if (s->cols % LANES)
        delta_step_lanes(s, s->cols / LANES * LANES, s->cols % LANES);
}

static void plain_delta_step(const struct vec_delta_step *s)
{
    for (int j = 0; j + LANES <= s->cols; j += LANES)
        delta_step_lanes(s, j, LANES);
    vec_delta_step_tail(s);
}

const struct vec_kernels vec_plain = {
    .name = "plain",
    .needs = CPU_ISA_PLAIN,
    .q8_quantize = q8_quantize,
    .dot = plain_dot,
    .max = plain_max,
    .scale = plain_scale,
    .axpy = plain_axpy,
    .rms_norm = plain_rms_norm,
    .exp_sum = plain_exp_sum,
    .silu_mul = plain_silu_mul,
    .sigmoid_mul = plain_sigmoid_mul,
    .conv4_silu = plain_conv4_silu,
    .tile_f32 = plain_tile_f32,
    .tile_f16 = plain_tile_f16,
    .tile_bf16 = plain_tile_bf16,
    .delta_step = plain_delta_step,
};
