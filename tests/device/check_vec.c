/* check_vec.c: every vector loop of every instruction set against the formula in double. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/half.h"
#include "device/cpu/vec.h"
#include "quant/act.h"
#include "support/check.h"

static const double U = 0x1p-24; /* half a unit in the last place of 1 */

static const enum cpu_isa all_isa[] = { CPU_ISA_PLAIN, CPU_ISA_AVX2, CPU_ISA_AVX512 };

/* A sum of n products in at least 16 chains that are then added up. */
static double sum_bound(double magnitude, double n)
{
    return (n / VEC_LANES + 8) * U * magnitude;
}

static void check_reductions(struct check *c, const struct vec_kernels *v)
{
    for (int i = 0; i < 40; i++) {
        if (!check_case(c, "%s reductions %d", v->name, i))
            continue;
        size_t n = (size_t)check_count(c, 5000) - (i == 0);
        float *a = check_floats(c, n), *b = check_floats(c, n), *w = check_floats(c, n), *y = check_out(c, n);
        double dot = 0, mag = 0, squares = 0, max = -INFINITY;
        for (size_t k = 0; k < n; k++) {
            dot += (double)a[k] * b[k];
            mag += fabs((double)a[k] * b[k]);
            squares += (double)a[k] * a[k];
            max = fmax(max, a[k]);
        }
        float want = (float)dot, got = v->dot(a, b, (int64_t)n);
        check_close(c, "dot", &want, &got, 1, sum_bound(mag, (double)n));
        want = (float)max, got = v->max(a, (int64_t)n);
        check_same(c, "max", &want, &got, sizeof want);
        float *norm = check_out(c, n);
        double *bound = check_alloc(c, n * sizeof *bound, sizeof *bound);
        for (size_t k = 0; k < n; k++) {
            norm[k] = (float)(a[k] / sqrt(squares / (double)n + (double)1e-6f) * w[k]);
            bound[k] = sum_bound(fabs((double)norm[k]), (double)n);
        }
        v->rms_norm(y, a, w, (int64_t)n, 1e-6f);
        check_close_each(c, "rms_norm", norm, y, n, bound);
        v->rms_norm(a, a, w, (int64_t)n, 1e-6f);
        check_same(c, "rms_norm in place", y, a, n * sizeof *a);
        check_done(c);
    }
}

static void check_elementwise(struct check *c, const struct vec_kernels *v)
{
    for (int i = 0; i < 20; i++) {
        if (!check_case(c, "%s elementwise %d", v->name, i))
            continue;
        size_t n = (size_t)check_count(c, 3000);
        float *x = check_floats_in(c, n, -20, 20), *y = check_floats(c, n), *u = check_floats(c, n),
              s = check_normal(c);
        float *want = check_out(c, n), *got = check_copy(c, y, n);
        double *bound = check_alloc(c, n * sizeof *bound, sizeof *bound);
        for (size_t k = 0; k < n; k++) {
            want[k] = (float)(y[k] + (double)s * x[k]);
            bound[k] = 2 * U * (fabs((double)y[k]) + fabs((double)s * x[k]));
        }
        v->axpy(got, s, x, (int64_t)n);
        check_close_each(c, "axpy", want, got, n, bound);
        memcpy(got, y, n * sizeof *got);
        for (size_t k = 0; k < n; k++)
            want[k] = y[k] * s;
        v->scale(got, s, (int64_t)n);
        check_same(c, "scale", want, got, n * sizeof *got);
        for (size_t k = 0; k < n; k++) {
            want[k] = (float)(x[k] / (1 + exp(-(double)x[k])) * u[k]);
            bound[k] = 8 * U * fabs((double)want[k]) + 0x1p-140;
        }
        v->silu_mul(got, x, u, (int64_t)n);
        check_close_each(c, "silu_mul", want, got, n, bound);
        for (size_t k = 0; k < n; k++) {
            want[k] = (float)(y[k] / (1 + exp(-(double)x[k])));
            bound[k] = 8 * U * fabs((double)want[k]) + 0x1p-140;
        }
        memcpy(got, y, n * sizeof *got);
        v->sigmoid_mul(got, x, (int64_t)n);
        check_close_each(c, "sigmoid_mul", want, got, n, bound);
        check_done(c);
    }
}

static void check_exp(struct check *c, const struct vec_kernels *v)
{
    for (int i = 0; i < 20; i++) {
        if (!check_case(c, "%s exp %d", v->name, i))
            continue;
        size_t n = (size_t)check_count(c, 3000);
        float low = i % 2 ? -87.3f : -1, *x = check_floats_in(c, n, low, 0), *want = check_out(c, n),
              total = 0;
        float max = check_uniform(c, 0, 1);
        double *bound = check_alloc(c, n * sizeof *bound, sizeof *bound), sum = 0;
        for (size_t k = 0; k < n; k++) {
            float argument = x[k] - max; /* its rounding is the caller's; a result below e^-87 may be 0 */
            want[k] = (float)exp((double)argument);
            bound[k] = 4 * U * (double)want[k] + (argument < -87 ? 0x1p-125 : 0);
            sum += want[k];
        }
        float got = v->exp_sum(x, max, (int64_t)n);
        check_close_each(c, "exp", want, x, n, bound);
        total = (float)sum;
        check_close(c, "sum of exp", &total, &got, 1, sum_bound(sum, (double)n) + 4 * U * sum);
        check_done(c);
    }
    if (check_case(c, "%s exp edges", v->name)) {
        float x[] = { -INFINITY, -1000, -88, 0, 1, 88, NAN };
        v->exp_sum(x, 0, 7);
        float want[] = { 0, 0, 0, 1, 2.71828183f, 1.6516363e38f, NAN };
        double bound[] = { 0, 0, 0, 0, 1e-6, 1e33, 0 };
        check_close_each(c, "edges", want, x, 7, bound);
        check_done(c);
    }
}

static void check_conv(struct check *c, const struct vec_kernels *v)
{
    for (int i = 0; i < 20; i++) {
        if (!check_case(c, "%s conv4 %d", v->name, i))
            continue;
        size_t n = (size_t)check_count(c, 500);
        float *x[4], *w = check_floats(c, 4 * n), *want = check_out(c, n);
        double *bound = check_alloc(c, n * sizeof *bound, sizeof *bound);
        for (int j = 0; j < 4; j++)
            x[j] = check_floats(c, n);
        for (size_t k = 0; k < n; k++) {
            double sum = 0, mag = 0;
            for (int j = 0; j < 4; j++) {
                sum += (double)w[4 * k + (size_t)j] * x[j][k];
                mag += fabs((double)w[4 * k + (size_t)j] * x[j][k]);
            }
            want[k] = (float)(sum / (1 + exp(-sum)));
            bound[k] = 16 * U * (mag + 1); /* silu's slope is below 1.1 */
        }
        v->conv4_silu(x[3], x[0], x[1], x[2], x[3], w, (int64_t)n);
        check_close_each(c, "conv4_silu", want, x[3], n, bound);
        check_done(c);
    }
}

static void check_q8(struct check *c, const struct vec_kernels *v)
{
    for (int i = 0; i < 20; i++) {
        if (!check_case(c, "%s q8_quantize %d", v->name, i))
            continue;
        size_t n = 32 * (size_t)check_count(c, 80);
        float *x = check_floats(c, n), spread = i % 3 == 1 ? 40 : 1;
        for (size_t b = 0; b < n / 32; b++) {
            float size = exp2f(spread * check_normal(c)); /* some blocks tiny, huge, zero or with halves */
            int kind = check_int(c, 0, 5);
            for (size_t k = 0; k < 32; k++)
                x[32 * b + k] = kind == 0   ? 0
                                : kind == 1 ? (k ? 0.5f + (float)check_int(c, -127, 126) : 127.0f)
                                            : size * x[32 * b + k];
        }
        char *want = check_alloc(c, q8_row_bytes((int64_t)n), 64),
             *got = check_alloc(c, q8_row_bytes((int64_t)n), 64);
        memset(want, 0, q8_row_bytes((int64_t)n));
        memset(got, 0, q8_row_bytes((int64_t)n));
        q8_quantize(want, x, (int64_t)n);
        v->q8_quantize(got, x, (int64_t)n);
        check_same(c, "q8_quantize", want, got, q8_row_bytes((int64_t)n));
        check_done(c);
    }
}

/* Random panels of b in one of the three types, and the same numbers as f32. */
static void *random_panels(struct check *c, enum qtype type, size_t n, float *value)
{
    void *b = check_alloc(c, n * (type == QTYPE_F32 ? 4 : 2), 4);
    for (size_t i = 0; i < n; i++) {
        float x = check_normal(c);
        uint16_t h = type == QTYPE_F16 ? f32_to_f16(check_int(c, 0, 50) ? x : x * 1e-6f) : f32_to_bf16(x);
        value[i] = type == QTYPE_F32 ? x : type == QTYPE_F16 ? f16_to_f32(h) : bf16_to_f32(h);
        if (type == QTYPE_F32)
            ((float *)b)[i] = x;
        else
            ((uint16_t *)b)[i] = h;
    }
    return b;
}

static void tile_of(const struct vec_kernels *v, enum qtype type, const struct vec_tile *t)
{
    if (type == QTYPE_F32)
        v->tile_f32(t);
    else if (type == QTYPE_F16)
        v->tile_f16(t);
    else
        v->tile_bf16(t);
}

static void check_tile(struct check *c, const struct vec_kernels *v, enum qtype type)
{
    for (int i = 0; i < 40; i++) {
        if (!check_case(c, "%s tile %s %d", v->name, qtype_info(type)->name, i))
            continue;
        int rows = check_count(c, 40), depth = check_count(c, 300) - (i == 0), panels = check_count(c, 6);
        int cols = type == QTYPE_F32 && i % 2 ? panels * 16 - check_int(c, 0, 15) : panels * 16;
        size_t c_row = (size_t)cols + (size_t)check_int(c, 0, 3),
               a_row = (size_t)depth + (size_t)check_int(c, 0, 3);
        size_t nb = (size_t)panels * (size_t)depth * 16, nc = (size_t)rows * c_row;
        float scale = i % 3 ? check_normal(c) : 0, *value = check_out(c, nb);
        void *b = random_panels(c, type, nb, value);
        float *a = check_floats(c, (size_t)rows * a_row), *old = check_floats(c, nc);
        float *want = check_copy(c, old, nc), *got = check_copy(c, old, nc), *alone = check_copy(c, old, nc);
        double *bound = check_alloc(c, nc * sizeof *bound, sizeof *bound);
        memset(bound, 0, nc * sizeof *bound); /* what lies between the rows stays */
        for (int r = 0; r < rows; r++)
            for (int j = 0; j < cols; j++) {
                size_t at = (size_t)r * c_row + (size_t)j;
                double sum = scale != 0 ? (double)scale * old[at] : 0, mag = fabs(sum);
                for (int k = 0; k < depth; k++) {
                    double p = (double)a[(size_t)r * a_row + (size_t)k] *
                               value[((size_t)(j / 16) * (size_t)depth + (size_t)k) * 16 + (size_t)(j % 16)];
                    sum += p;
                    mag += fabs(p);
                }
                want[at] = (float)sum;
                bound[at] = (depth + 2) * U * mag;
            }
        struct vec_tile t = { got, a, b, c_row, a_row, 16, (size_t)depth * 16, rows, cols, depth, scale };
        tile_of(v, type, &t);
        check_close_each(c, "tile", want, got, nc, bound);
        for (int r = 0; r < rows; r++) { /* a row alone has the same bits */
            struct vec_tile one = { alone + (size_t)r * c_row,
                                    a + (size_t)r * a_row,
                                    b,
                                    c_row,
                                    a_row,
                                    16,
                                    (size_t)depth * 16,
                                    1,
                                    cols,
                                    depth,
                                    scale };
            tile_of(v, type, &one);
        }
        check_same(c, "tile row by row", got, alone, nc * sizeof *got);
        check_done(c);
    }
}

static void check_delta_step(struct check *c, const struct vec_kernels *v)
{
    for (int i = 0; i < 30; i++) {
        if (!check_case(c, "%s delta_step %d", v->name, i))
            continue;
        int d_k = check_count(c, 130), cols = check_count(c, 130);
        size_t row = (size_t)cols + (size_t)check_int(c, 0, 5), n = (size_t)d_k * row;
        float *state = check_floats(c, n), *q = check_floats(c, (size_t)d_k),
              *k = check_floats(c, (size_t)d_k);
        float *value = check_floats(c, (size_t)cols), *out = check_out(c, (size_t)cols),
              *old = check_copy(c, state, n);
        float *want = check_copy(c, state, n), *want_out = check_out(c, (size_t)cols);
        double length = 0, qk = 0;
        for (int l = 0; l < d_k; l++)
            length += (double)k[l] * k[l];
        for (int l = 0; l < d_k; l++) {
            k[l] = (float)(k[l] / sqrt(length));
            qk += (double)q[l] * k[l];
        }
        float decay = check_uniform(c, 0, 1), beta = check_uniform(c, 0, 1);
        double *bound = check_alloc(c, n * sizeof *bound, 8),
               *bound_out = check_alloc(c, (size_t)cols * 8, 8);
        memset(bound, 0, n * sizeof *bound);
        for (int j = 0; j < cols; j++) {
            double m = 0, mag = 0, o = 0, mag_out = 0;
            for (int l = 0; l < d_k; l++) {
                m += (double)decay * old[(size_t)l * row + (size_t)j] * k[l];
                mag += fabs((double)old[(size_t)l * row + (size_t)j] * k[l]);
            }
            double d = (double)beta * (value[j] - m),
                   slack = (d_k / 2.0 + 6) * U * (mag + fabs((double)value[j]));
            for (int l = 0; l < d_k; l++) {
                size_t at = (size_t)l * row + (size_t)j;
                double updated = (double)decay * old[at] + k[l] * d;
                want[at] = (float)updated;
                bound[at] = slack * fabs((double)k[l]) + 4 * U * (fabs((double)old[at]) + fabs(k[l] * d));
                o += updated * q[l];
                mag_out += fabs((double)old[at] * q[l]);
            }
            want_out[j] = (float)o;
            bound_out[j] = slack * fabs(qk) + (d_k / 2.0 + 6) * U * (mag_out + fabs(qk * d));
        }
        struct vec_delta_step s = { state, row, q, k, value, out, decay, beta, (float)qk, d_k, cols };
        v->delta_step(&s);
        check_close_each(c, "state", want, state, n, bound);
        check_close_each(c, "out", want_out, out, (size_t)cols, bound_out);
        check_done(c);
    }
}

struct timed {
    const struct vec_kernels *v;
    struct vec_tile tile;
    struct vec_delta_step step;
    enum qtype type;
    int heads;
};

static void time_tile(void *arg)
{
    const struct timed *t = arg;
    tile_of(t->v, t->type, &t->tile);
}

static void time_steps(void *arg)
{
    const struct timed *t = arg;
    for (int h = 0; h < t->heads; h++) {
        struct vec_delta_step s = t->step;
        s.state += (size_t)h * 128 * 128;
        t->v->delta_step(&s);
    }
}

static void bench(struct check *c, const struct vec_kernels *v)
{
    if (!c->bench || !check_case(c, "%s bench", v->name))
        return;
    char name[64];
    static const enum qtype type[] = { QTYPE_F32, QTYPE_F16, QTYPE_BF16 };
    float *value = check_out(c, 256 * 256), *a = check_floats(c, 32 * 256), *y = check_out(c, 32 * 256);
    for (int i = 0; i < 9; i++) {
        static const int rows[] = { 1, 8, 32 };
        struct timed t = { .v = v, .type = type[i % 3] };
        void *b = random_panels(c, t.type, 256 * 256, value);
        t.tile = (struct vec_tile){ y, a, b, 256, 256, 16, 256 * 16, rows[i / 3], 256, 256, 0 };
        snprintf(name, sizeof name, "%s tile %s, %d x 256 x 256", v->name, qtype_info(t.type)->name,
                 rows[i / 3]);
        check_time(c, name, time_tile, &t, 256.0 * 256 * (t.type == QTYPE_F32 ? 4 : 2));
    }
    enum { HEADS = 2048 }; /* 128 MiB of state */
    struct timed t = { .v = v, .heads = HEADS };
    float *state = check_floats_in(c, (size_t)HEADS * 128 * 128, 0, 0);
    t.step = (struct vec_delta_step){ state, 128, a, a + 128, a + 256, y, 0.9f, 0.5f, 0.1f, 128, 128 };
    snprintf(name, sizeof name, "%s delta_step, %d heads from memory", v->name, HEADS);
    check_time(c, name, time_steps, &t, 2.0 * HEADS * 128 * 128 * 4);
    check_done(c);
}

int main(int argc, char **argv)
{
    static struct check c;
    check_begin(&c, argc, argv);
    for (size_t i = 0; i < sizeof all_isa / sizeof *all_isa; i++) {
        if (all_isa[i] > device_cpu_isa()) {
            check_skip(&c, "%s: this machine lacks it", device_cpu_isa_name(all_isa[i]));
            continue;
        }
        const struct vec_kernels *v = vec_pick(all_isa[i]);
        check_reductions(&c, v);
        check_elementwise(&c, v);
        check_exp(&c, v);
        check_conv(&c, v);
        check_q8(&c, v);
        check_tile(&c, v, QTYPE_F32);
        check_tile(&c, v, QTYPE_F16);
        check_tile(&c, v, QTYPE_BF16);
        check_delta_step(&c, v);
        bench(&c, v);
    }
    return check_end(&c);
}
