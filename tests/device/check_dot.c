/*
 * check_dot.c: every kernel of dot.c's table against the format's own decode, products summed in double;
 * every tile shape must give the same bits. With --bench: speed from cache and from RAM beside a plain read.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "device/cpu/dot.h"
#include "quant/act.h"
#include "quant/blocks.h"
#include "support/check.h"

enum { COLS = DOT_MAX_COLS };

/* ---- a case: a matrix, activations as the kernel reads them, and what must come out ---- */

struct dot_case {
    const struct dot_kernel *k;
    struct qmat w; /* the slice under test */
    int n_rows;
    const void *x[COLS]; /* as the kernel takes them */
    float *value[COLS];  /* the same as f32 [cols] */
};

/* Random codes of any bit pattern, with sane scales: encoders leave corners of a format unused. */
static void randomize_blocks(struct check *c, const struct qmat *w)
{
    static const struct {
        enum qtype type;
        int at[2]; /* f16 fields of a block; -1: none */
    } halves[] = {
        { QTYPE_Q4_0, { 0, -1 } },   { QTYPE_Q5_0, { 0, -1 } },   { QTYPE_Q8_0, { 0, -1 } },
        { QTYPE_Q4_K, { 0, 2 } },    { QTYPE_Q5_K, { 0, 2 } },    { QTYPE_Q6_K, { 208, -1 } },
        { QTYPE_IQ4_NL, { 0, -1 } }, { QTYPE_IQ4_XS, { 0, -1 } },
    };
    const struct qtype_info *info = qtype_info(w->type);
    uint8_t *p = (uint8_t *)(uintptr_t)w->data,
            *end = p + (size_t)w->rows * qtype_row_bytes(w->type, w->cols);
    for (; p < end; p += info->block_bytes) {
        for (int i = 0; i < info->block_bytes; i++)
            p[i] = (uint8_t)check_bits(c);
        for (size_t h = 0; h < sizeof halves / sizeof *halves; h++)
            for (int k = 0; k < 2 && halves[h].type == w->type; k++)
                if (halves[h].at[k] >= 0)
                    f16_put(p + halves[h].at[k], check_uniform(c, -0.02f, 0.02f));
        if (w->type == QTYPE_MXFP4)
            p[0] = (uint8_t)check_int(c, 117, 130);
    }
}

static bool has_codes_of_any_kind(enum qtype t)
{
    return qtype_info(t)->act == QACT_Q8 || t == QTYPE_NF4 || t == QTYPE_NF4_DQ || t == QTYPE_FP4 ||
           t == QTYPE_FP4_DQ;
}

static void make_columns(struct check *c, struct dot_case *d)
{
    int64_t cols = d->w.cols;
    for (int i = 0; i < COLS; i++) {
        float *x = check_floats(c, (size_t)cols);
        d->x[i] = d->value[i] = x;
        if (d->k->act == QACT_F32)
            continue;
        x[check_int(c, 0, (int)cols - 1)] *= 20; /* an outlier, and a block of zeros now and then */
        if (i % 3 == 1)
            memset(x, 0, Q8_BLOCK * sizeof *x);
        char *row = check_alloc(c, q8_row_bytes(cols), 64);
        memset(row, 0xff, q8_row_bytes(cols)); /* padding must not matter: NaN scales */
        q8_quantize(row, x, cols);
        struct q8_row q = q8_row_at(row, cols);
        for (int64_t k = 0; k < cols; k++)
            x[k] = q.d[k / Q8_BLOCK] * (float)q.q[k];
        d->x[i] = row;
    }
}

/* What formats with a minimum subtract from value k of a row: it adds to the rounding. */
static double minimum_at(const struct qmat *w, int64_t row, int64_t k)
{
    if (w->type != QTYPE_Q4_K && w->type != QTYPE_Q5_K)
        return 0;
    const uint8_t *block = (const uint8_t *)w->data +
                           (size_t)(w->row0 + row) * qtype_row_bytes(w->type, w->cols) +
                           (size_t)(k / K_BLOCK) * (size_t)qtype_info(w->type)->block_bytes;
    return fabs((double)f16_at(block + 2) * k_min(block + 4, (int)(k % K_BLOCK / 32)));
}

/* Roundings on a product's way into the result, at most: its own, those of its lane's sum, of the lanes' sum.
 */
static double roundings(const struct dot_kernel *k, int64_t cols)
{
    return k->act == QACT_Q8 ? 18 + (double)(cols / 256) : 10 + (double)(cols / 16);
}

/* want and bound [COLS][n_rows] */
static void expect(struct check *c, const struct dot_case *d, float *want, double *bound)
{
    int64_t cols = d->w.cols;
    float *row = check_alloc(c, (size_t)cols * sizeof *row, 4);
    for (int r = 0; r < d->n_rows; r++) {
        qmat_decode(&d->w, r, 1, row);
        for (int i = 0; i < COLS; i++) {
            double sum = 0, magnitude = 0;
            for (int64_t k = 0; k < cols; k++) {
                double p = (double)row[k] * d->value[i][k];
                sum += p;
                magnitude += fabs(p) + 2 * minimum_at(&d->w, r, k) * fabs((double)d->value[i][k]);
            }
            want[i * d->n_rows + r] = (float)sum;
            bound[i * d->n_rows + r] = magnitude * roundings(d->k, cols) * 0x1p-24 + 1e-37;
        }
    }
}

/* Every number of columns, rows in pieces of one to three: the bits of the whole tile, and nothing beside it.
 */
static void check_tiles(struct check *c, const struct dot_case *d, const float *whole)
{
    size_t stride = (size_t)d->n_rows + 3;
    for (int n_cols = 1; n_cols <= COLS; n_cols++) {
        int first = check_int(c, 0, COLS - n_cols);
        float *y = check_out(c, (size_t)n_cols * stride);
        for (int r = 0, n; r < d->n_rows; r += n) {
            n = check_int(c, 1, d->n_rows - r < 3 ? d->n_rows - r : 3);
            d->k->run(&d->w, r, n, d->x + first, n_cols, y + r, stride);
        }
        for (int i = 0; i < n_cols; i++) {
            const float *want = whole + (size_t)(first + i) * (size_t)d->n_rows,
                        *got = y + (size_t)i * stride;
            if (!check_same(c, "tile", want, got, (size_t)d->n_rows * sizeof *got))
                return;
            for (size_t r = (size_t)d->n_rows; r < stride; r++)
                if (!isnan(got[r]))
                    check_fail(c, "%d columns: written beside the tile", n_cols);
        }
    }
}

static void run_case(struct check *c, const struct dot_kernel *k, int64_t row0, int n_rows, int64_t cols,
                     bool raw)
{
    if (!check_case(c, "%s [%lld+%d][%lld]%s", k->name, (long long)row0, n_rows, (long long)cols,
                    raw ? " raw" : ""))
        return;
    struct qmat all = check_qmat(c, k->type, row0 + n_rows, cols, 0.05f);
    if (raw)
        randomize_blocks(c, &all);
    struct dot_case d = { .k = k, .w = qmat_rows(&all, row0, n_rows), .n_rows = n_rows };
    make_columns(c, &d);
    size_t n = (size_t)(COLS * n_rows);
    float *want = check_out(c, n), *got = check_out(c, n);
    double *bound = check_alloc(c, n * sizeof *bound, sizeof *bound);
    expect(c, &d, want, bound);
    k->run(&d.w, 0, n_rows, d.x, COLS, got, (size_t)n_rows);
    check_close_each(c, "products", want, got, n, bound);
    check_tiles(c, &d, got);
    check_done(c);
}

/* An FP8 NaN (all ones) must come out as NaN, in its row only. */
static void run_nan_case(struct check *c, const struct dot_kernel *k)
{
    if ((k->type != QTYPE_FP8_E4M3 && k->type != QTYPE_FP8_E5M2) || !check_case(c, "%s NaN", k->name))
        return;
    for (int64_t at = 0; at < 200; at += 33) {
        struct qmat w = check_qmat(c, k->type, 2, 200, 0.05f);
        ((uint8_t *)(uintptr_t)w.data)[at] = at & 1 ? 0xff : 0x7f;
        const void *x = check_floats(c, 200);
        float y[2];
        k->run(&w, 0, 2, &x, 1, y, 2);
        if (!isnan(y[0]) || isnan(y[1]))
            check_fail(c, "NaN at column %lld gives %g, %g", (long long)at, (double)y[0], (double)y[1]);
    }
    check_done(c);
}

static void run_kernel(struct check *c, const struct dot_kernel *k)
{
    static const int64_t lengths[] = { 1,   7,   16,  31,  32,  33,  64,  96,   100,  128,  130,
                                       192, 224, 256, 260, 288, 512, 768, 1000, 1056, 2048, 4096 };
    static const int counts[] = { 1, 2, 3, 7, 33 };
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++)
        for (size_t r = 0; r < sizeof counts / sizeof *counts; r++) {
            if (!qtype_fits(k->type, lengths[i]) || (lengths[i] > 1000 && counts[r] > 3))
                continue;
            run_case(c, k, 0, counts[r], lengths[i], false);
            if (has_codes_of_any_kind(k->type))
                run_case(c, k, check_int(c, 1, 5), counts[r], lengths[i], true);
        }
    run_case(c, k, 126, 5, 768, false); /* crosses a scale of FP8, and a group of NF4_DQ */
    run_nan_case(c, k);
}

/* ---- speed ---- */

enum { BENCH_COLS = 4096 };
static const size_t l2_bytes = 256 << 10, ram_bytes = (size_t)256 << 20;

struct speed {
    const struct dot_kernel *k; /* NULL: read */
    struct qmat w;
    const void *x[COLS];
    int n_cols;
    float *y;
    const void *data;
    size_t bytes;
};

/* All of 256 bytes, in registers. */
static uint64_t read_256(const char *p)
{
    typedef uint64_t vec __attribute__((vector_size(16), may_alias));
    const vec *v = (const vec *)p;
    vec a = { 0 }, b = { 0 };
    for (int i = 0; i < 16; i += 4) {
        a ^= v[i] ^ v[i + 1];
        b ^= v[i + 2] ^ v[i + 3];
    }
    a ^= b;
    return a[0] ^ a[1];
}

static void run_speed(struct speed *s)
{
    if (s->k) { /* tiles of 32 rows, as the device uses them */
        for (int64_t r = 0; r < s->w.rows; r += 32)
            s->k->run(&s->w, r, (int)(s->w.rows - r < 32 ? s->w.rows - r : 32), s->x, s->n_cols, s->y, 32);
        return;
    }
    uint64_t bits = 0;
    const char *p = s->data;
    for (size_t i = 0; i < s->bytes; i += 256)
        bits ^= read_256(p + i);
    s->y[0] = (float)bits;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Median seconds of one run. */
static double measure(struct speed *s)
{
    enum { SAMPLES = 7 };
    double t[SAMPLES];
    int repeat = s->bytes > ((size_t)1 << 24) ? 1 : 100;
    for (int i = -1; i < SAMPLES; i++) {
        double start = clock_seconds();
        for (int k = 0; k < repeat; k++)
            run_speed(s);
        if (i >= 0)
            t[i] = (clock_seconds() - start) / repeat;
    }
    qsort(t, SAMPLES, sizeof *t, by_value);
    return t[SAMPLES / 2];
}

/* Repeats a small random matrix to fill memory with its rows. */
static struct qmat large_matrix(struct check *c, enum qtype type, size_t bytes, struct mem *m)
{
    enum { PATTERN_ROWS = 128 };
    struct qmat small = check_qmat(c, type, PATTERN_ROWS, BENCH_COLS, 0.05f);
    size_t row_bytes = qtype_row_bytes(type, BENCH_COLS), data, scale, small_data, small_scale;
    int64_t rows = (int64_t)(bytes / row_bytes) / PATTERN_ROWS * PATTERN_ROWS;
    if (rows < PATTERN_ROWS)
        rows = (int64_t)(bytes / row_bytes);
    struct err e = { 0 };
    if (!qtype_sizes(type, rows, BENCH_COLS, &data, &scale) ||
        !qtype_sizes(type, PATTERN_ROWS, BENCH_COLS, &small_data, &small_scale) ||
        mem_ram(m, data + scale, "benchmark", &e) < 0) {
        fprintf(stderr, "%s\n", e.what);
        exit(2);
    }
    char *p = m->ptr;
    for (size_t at = 0; at < data; at += small_data)
        memcpy(p + at, small.data, data - at < small_data ? data - at : small_data);
    for (size_t at = 0; at < scale; at += small_scale)
        memcpy(p + data + at, small.scale, scale - at < small_scale ? scale - at : small_scale);
    if (qtype_needs_absmax(type)) { /* the pattern's plane has fewer groups; numbers do not matter here */
        uint32_t n_group = (uint32_t)((rows * (BENCH_COLS / 64) + 255) / 256);
        memset(p + data, 0, scale);
        memcpy(p + data + 4, &n_group, sizeof n_group);
    }
    return (struct qmat){
        .type = type, .rows = rows, .cols = BENCH_COLS, .data = p, .scale = scale ? p + data : NULL
    };
}

static void bench_read(struct check *c, const char *where, size_t bytes)
{
    if (!check_case(c, "read %s", where))
        return;
    struct mem m;
    struct err e = { 0 };
    if (!check_ok(c, mem_ram(&m, bytes, "benchmark", &e), &e))
        return;
    memset(m.ptr, 1, bytes);
    float y;
    struct speed s = { .y = &y, .data = m.ptr, .bytes = bytes };
    printf("time  %-24s %-4s %7.1f GB/s\n", "read", where, (double)bytes / measure(&s) / 1e9);
    mem_free(&m);
    check_done(c);
}

static void bench_kernel(struct check *c, const struct dot_kernel *k)
{
    if (!check_case(c, "%s speed", k->name))
        return;
    struct dot_case d = { .k = k, .w = { .type = k->type, .cols = BENCH_COLS } };
    make_columns(c, &d);
    double rate[2], macs = 0;
    for (int ram = 0; ram < 2; ram++) {
        struct mem m;
        struct speed s = { .k = k, .n_cols = 1, .y = check_out(c, COLS * 32) };
        s.w = large_matrix(c, k->type, ram ? ram_bytes : l2_bytes, &m);
        memcpy(s.x, d.x, sizeof s.x);
        s.bytes = m.bytes;
        rate[ram] = (double)m.bytes / measure(&s) / 1e9;
        s.n_cols = COLS;
        if (!ram)
            macs = (double)s.w.rows * BENCH_COLS * COLS / measure(&s) / 1e9;
        mem_free(&m);
    }
    printf("time  %-24s L2 %6.1f GB/s   RAM %6.1f GB/s   8 columns %6.1f GMAC/s\n", k->name, rate[0], rate[1],
           macs);
    check_done(c);
}

int main(int argc, char **argv)
{
    struct check c;
    check_begin(&c, argc, argv);
    if (c.bench) {
        bench_read(&c, "L2", l2_bytes);
        bench_read(&c, "RAM", ram_bytes);
    }
    for (int i = 0; i < dot_kernel_count; i++) {
        const struct dot_kernel *k = &dot_kernels[i];
        if (k->needs > device_cpu_isa())
            check_skip(&c, "%s: this processor has no %s", k->name, device_cpu_isa_name(k->needs));
        else if (c.bench)
            bench_kernel(&c, k);
        else
            run_kernel(&c, k);
    }
    return check_end(&c);
}
