/*
 * check_moe.c: moe and mlp of the cpu device against the reference. Exact activations are compared within
 * rounding. With int8 ones a hidden value may fall on the other side of a rounding boundary, a whole code
 * away, so there the bound is a part of the result; the same numbers pass through the same code, and products
 * are checked tightly by check_dot. Bits must not depend on threads, on the other rows, or on the parts in
 * which experts are computed.
 */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "support/check.h"

enum { MAX_ROWS = 37, MAX_EXPERTS = 24, MAX_TOP = 10, MAX_D = 512 };

static const struct device_limits limits = { .max_rows = MAX_ROWS,
                                             .max_ctx = 1,
                                             .d_model = MAX_D,
                                             .n_expert = MAX_EXPERTS,
                                             .top_k = MAX_TOP,
                                             .d_expert = MAX_D,
                                             .d_ff = MAX_D,
                                             .d_shared = MAX_D,
                                             .max_cols = MAX_D };

static const enum qtype types[] = { QTYPE_F32,   QTYPE_F16,  QTYPE_BF16,   QTYPE_FP8_E4M3, QTYPE_Q4_0,
                                    QTYPE_Q8_0,  QTYPE_Q4_K, QTYPE_Q5_K,   QTYPE_Q6_K,     QTYPE_IQ4_NL,
                                    QTYPE_MXFP4, QTYPE_NF4,  QTYPE_NF4_DQ, QTYPE_Q5_0,     QTYPE_Q5_1 };
enum { N_TYPES = sizeof types / sizeof *types };

static enum qtype any_type(struct check *c, int64_t cols)
{
    for (;;) {
        enum qtype t = types[check_int(c, 0, N_TYPES - 1)];
        if (qtype_fits(t, cols))
            return t;
    }
}

/* gate and up may be the halves of one matrix, as fused checkpoints store them. */
static struct mlp_weights any_mlp(struct check *c, enum qtype in, enum qtype down, int64_t d, int64_t d_ff)
{
    struct mlp_weights w;
    if (check_int(c, 0, 1)) {
        struct qmat both = check_qmat(c, in, 2 * d_ff, d, 0.1f);
        w.gate = qmat_rows(&both, 0, d_ff);
        w.up = qmat_rows(&both, d_ff, d_ff);
    } else {
        w.gate = check_qmat(c, in, d_ff, d, 0.1f);
        w.up = check_qmat(c, in, d_ff, d, 0.1f);
    }
    w.down = check_qmat(c, down, d, d_ff, 0.1f);
    return w;
}

struct moe_case {
    bool is_mlp;
    int64_t d;
    struct moe_args moe;
    struct mlp_args mlp;
    int n_rows;
    float *h0;
};

/* Calls for rows [row, row + n); h holds all rows. */
static void run(struct check *c, struct device *d, const struct moe_case *m, int row, int n, float *h)
{
    struct err e = { 0 };
    size_t at = (size_t)row * (size_t)m->d;
    if (m->is_mlp) {
        struct mlp_args a = m->mlp;
        a.h = h + at;
        a.x += at;
        a.n_rows = n;
        check_ok(c, d->ops->mlp(d, &a, &e), &e);
    } else {
        struct moe_args a = m->moe;
        a.h = h + at;
        a.x += at;
        a.ids += row * a.top_k;
        a.weights += row * a.top_k;
        a.n_rows = n;
        check_ok(c, d->ops->moe(d, &a, &e), &e);
    }
    check_ok(c, d->ops->sync(d, &e), &e);
}

/* top_k ascending ids of n_expert; some experts are popular, others empty. */
static void choose(struct check *c, int32_t *ids, int top_k, int n_expert)
{
    bool taken[MAX_EXPERTS] = { 0 };
    for (int i = 0; i < top_k;) {
        int x = check_int(c, 0, 2) ? check_int(c, 0, top_k - 1) : check_int(c, 0, n_expert - 1);
        i += !taken[x];
        taken[x] = true;
    }
    for (int x = 0; x < n_expert; x++)
        if (taken[x])
            *ids++ = x;
}

static int64_t any_width(struct check *c)
{
    return check_int(c, 0, 2) ? 32 * check_count(c, MAX_D / 32) : 256 * check_int(c, 1, 2);
}

static void make_moe(struct check *c, struct moe_case *m)
{
    struct moe_args *a = &m->moe;
    a->n_expert = check_int(c, 1, MAX_EXPERTS);
    a->top_k = check_int(c, 1, a->n_expert < MAX_TOP ? a->n_expert : MAX_TOP);
    a->n_rows = m->n_rows;
    int64_t d_expert = any_width(c), d_shared = any_width(c);
    enum qtype in = any_type(c, m->d), down = any_type(c, d_expert);
    struct mlp_weights *expert = check_alloc(c, (size_t)a->n_expert * sizeof *expert, 8);
    for (int x = 0; x < a->n_expert; x++)
        expert[x] = any_mlp(c, in, down, m->d, d_expert);
    struct moe_weights *w = check_alloc(c, sizeof *w, 8);
    *w = (struct moe_weights){ .expert = expert };
    if (check_int(c, 0, 2))
        w->shared = any_mlp(c, any_type(c, m->d), any_type(c, d_shared), m->d, d_shared);
    if (check_int(c, 0, 1))
        w->shared_gate = check_floats_in(c, (size_t)m->d, -0.1f, 0.1f);
    int32_t *ids = check_alloc(c, (size_t)(m->n_rows * a->top_k) * sizeof *ids, sizeof *ids);
    for (int t = 0; t < m->n_rows; t++)
        choose(c, ids + t * a->top_k, a->top_k, a->n_expert);
    a->ids = ids;
    a->weights = check_floats_in(c, (size_t)(m->n_rows * a->top_k), 0, 1);
    a->w = w;
}

static void make_mlp(struct check *c, struct moe_case *m)
{
    int64_t d_ff = any_width(c);
    struct mlp_weights *w = check_alloc(c, sizeof *w, 8);
    *w = any_mlp(c, any_type(c, m->d), any_type(c, d_ff), m->d, d_ff);
    m->mlp.w = w;
}

/* The chosen ids, ascending; returns how many. */
static int used_experts(const struct moe_args *a, int32_t *ids)
{
    bool used[MAX_EXPERTS] = { 0 };
    int n = 0;
    for (int i = 0; i < a->n_rows * a->top_k; i++)
        used[a->ids[i]] = true;
    for (int x = 0; x < a->n_expert; x++)
        if (used[x])
            ids[n++] = x;
    return n;
}

static void call_parts(struct check *c, struct device *d, struct moe_args *a, int parts, const int32_t *list,
                       int n)
{
    struct err e = { 0 };
    a->parts = parts;
    a->list = list;
    a->n_list = n;
    check_ok(c, d->ops->moe(d, a, &e), &e);
    check_ok(c, d->ops->sync(d, &e), &e);
}

/* Experts arrive in any order, a few at a time, each with its data only from then on until it is added; sums
 * grow as the lowest ids are there. */
static void run_in_parts(struct check *c, struct device *d, const struct moe_case *m, float *h)
{
    struct moe_args a = m->moe;
    struct moe_weights w = *a.w;
    struct mlp_weights expert[MAX_EXPERTS];
    int32_t used[MAX_EXPERTS], list[MAX_EXPERTS];
    bool there[MAX_EXPERTS] = { 0 };
    a.h = h;
    a.w = &w;
    w.expert = expert;
    for (int x = 0; x < a.n_expert; x++) {
        expert[x] = m->moe.w->expert[x];
        expert[x].gate.data = expert[x].up.data = expert[x].down.data = NULL;
    }
    int n = used_experts(&a, used), left = n, added = 0, parts = MOE_BEGIN;
    while (added < n) {
        int n_list = 0, most = check_int(c, 0, left);
        for (int i = 0; i < n && n_list < most; i++)
            if (!there[i] && check_int(c, 0, 2) == 0) {
                there[i] = true;
                expert[used[i]] = m->moe.w->expert[used[i]];
                list[n_list++] = used[i];
            }
        left -= n_list;
        if (n_list || parts || check_int(c, 0, 3) == 0)
            call_parts(c, d, &a, parts | MOE_HIDDEN, list, n_list);
        int to = added;
        while (to < n && there[to])
            to++;
        parts = 0;
        if (to == n || (to > added && check_int(c, 0, 1))) {
            bool end = to == n && check_int(c, 0, 1);
            call_parts(c, d, &a, MOE_ADD | (end ? MOE_END : 0), used + added, to - added);
            for (; added < to; added++)
                expert[used[added]].gate.data = expert[used[added]].down.data = NULL;
            if (to == n && !end)
                call_parts(c, d, &a, MOE_END, NULL, 0);
        }
    }
}

/* The same in ascending chunks, as a long prompt takes them. */
static void run_in_chunks(struct check *c, struct device *d, const struct moe_case *m, float *h)
{
    struct moe_args a = m->moe;
    int32_t used[MAX_EXPERTS];
    int n = used_experts(&a, used);
    a.h = h;
    for (int i = 0, step; i < n; i += step) {
        step = check_int(c, 1, n - i);
        int parts = MOE_HIDDEN | MOE_ADD | (i == 0 ? MOE_BEGIN : 0) | (i + step == n ? MOE_END : 0);
        call_parts(c, d, &a, parts, used + i, step);
    }
}

static void check_parts(struct check *c, struct device *d, const struct moe_case *m, const float *whole,
                        size_t n)
{
    float *parts = check_copy(c, m->h0, n), *chunks = check_copy(c, m->h0, n);
    run_in_parts(c, d, m, parts);
    check_same(c, "in parts", whole, parts, n * sizeof *whole);
    run_in_chunks(c, d, m, chunks);
    check_same(c, "in chunks", whole, chunks, n * sizeof *whole);
}

/* The largest of what was added to h. */
static double added(const struct moe_case *m, const float *h, size_t n)
{
    double max = 0;
    for (size_t i = 0; i < n; i++)
        max = fmax(max, fabs((double)h[i] - m->h0[i]));
    return max;
}

static void run_case(struct check *c, struct device *ref, struct check_cpu *cpu, int n_cpu, bool is_mlp,
                     int n_rows, enum act_mode act, int round)
{
    if (!check_case(c, "%s, %d rows, %s, %d", is_mlp ? "mlp" : "moe", n_rows,
                    act == ACT_EXACT ? "exact" : "int8", round))
        return;
    struct moe_case m = { .is_mlp = is_mlp, .n_rows = n_rows, .d = any_width(c) };
    size_t n = (size_t)n_rows * (size_t)m.d;
    m.moe.x = m.mlp.x = check_floats(c, n);
    m.h0 = check_floats(c, n);
    if (is_mlp)
        make_mlp(c, &m);
    else
        make_moe(c, &m);
    float *want = check_copy(c, m.h0, n), *one = NULL;
    run(c, ref, &m, 0, n_rows, want);
    if (!is_mlp)
        check_parts(c, ref, &m, want, n);
    /* exact: two sums of up to 512 terms in a row, a few of them added up; int8: a code of 127 */
    double bound = added(&m, want, n) * (act == ACT_EXACT ? 4e-6 : 0.01) + 4e-7 * check_max(want, n);
    for (int k = 0; k < n_cpu && !c->failed; k++) {
        float *got = check_copy(c, m.h0, n), *alone = check_copy(c, m.h0, n);
        run(c, cpu[k].dev, &m, 0, n_rows, got);
        check_close(c, "h", want, got, n, bound);
        if (k && cpu[k].isa == cpu[k - 1].isa)
            check_same(c, "another number of threads", one, got, n * sizeof *got);
        one = got;
        for (int r = 0, step; r < n_rows; r += step) {
            step = check_int(c, 1, n_rows - r < 5 ? n_rows - r : 5);
            run(c, cpu[k].dev, &m, r, step, alone);
        }
        check_same(c, "rows in small calls", got, alone, n * sizeof *got);
        if (!is_mlp)
            check_parts(c, cpu[k].dev, &m, got, n);
        if (c->failed)
            check_fail(c, "with %s", cpu[k].name);
    }
    check_done(c);
}

/* ---- speed: a layer of the 397B model's widths with some of its experts, other ones in every call ---- */

enum { BENCH_D = 4096, BENCH_FF = 1024, BENCH_EXPERTS = 48, BENCH_TOP = 10, BENCH_ROWS = 128 };

struct bench {
    struct device *dev;
    struct moe_args a;
    int32_t ids[BENCH_ROWS * BENCH_TOP];
    float weights[BENCH_ROWS * BENCH_TOP];
    int call;
};

static void bench_call(void *arg)
{
    struct bench *b = arg;
    struct err e = { 0 };
    for (int t = 0; t < b->a.n_rows; t++) /* ascending ids: every third from a start that moves on */
        for (int i = 0; i < BENCH_TOP; i++)
            b->ids[t * BENCH_TOP + i] = (b->call * 7 + t * 5) % (BENCH_EXPERTS - 3 * BENCH_TOP) + 3 * i;
    b->call++;
    b->dev->ops->moe(b->dev, &b->a, &e);
}

/* A matrix at *at that repeats 64 random rows. */
static struct qmat bench_matrix(const struct qmat *rows, int64_t n, char **at)
{
    struct qmat w = *rows;
    size_t piece = 64 * qtype_row_bytes(w.type, w.cols);
    w.data = *at;
    w.rows = n;
    for (int64_t r = 0; r < n; r += 64, *at += piece)
        memcpy(*at, rows->data, piece);
    return w;
}

static void bench_type(struct check *c, enum qtype type)
{
    if (!check_case(c, "moe speed %s", qtype_info(type)->name))
        return;
    static struct bench b; /* too large for a stack */
    const struct device_limits l = { .max_rows = BENCH_ROWS,
                                     .max_ctx = 1,
                                     .d_model = BENCH_D,
                                     .top_k = BENCH_TOP,
                                     .n_expert = BENCH_EXPERTS,
                                     .d_expert = BENCH_FF,
                                     .max_cols = BENCH_D };
    struct qmat in = check_qmat(c, type, 64, BENCH_D, 0.02f), out = check_qmat(c, type, 64, BENCH_FF, 0.02f);
    size_t expert_bytes =
        2 * BENCH_FF * qtype_row_bytes(type, BENCH_D) + BENCH_D * qtype_row_bytes(type, BENCH_FF);
    struct mem m = { 0 };
    struct err e = { 0 };
    struct threads *pool = NULL;
    struct mlp_weights expert[BENCH_EXPERTS];
    const struct moe_weights w = { .expert = expert };
    if (!check_ok(c, mem_ram(&m, BENCH_EXPERTS * expert_bytes, "benchmark", &e), &e) ||
        !check_ok(c, threads_open(&pool, 0, &e), &e))
        return;
    char *at = m.ptr;
    for (int x = 0; x < BENCH_EXPERTS; x++)
        expert[x] = (struct mlp_weights){ bench_matrix(&in, BENCH_FF, &at), bench_matrix(&in, BENCH_FF, &at),
                                          bench_matrix(&out, BENCH_D, &at) };
    struct device_cpu_options opt = { .isa = CPU_ISA_BEST, .threads = pool };
    check_ok(c, device_cpu_open(&b.dev, &opt, &e), &e);
    check_ok(c, b.dev->ops->reserve(b.dev, &l, &e), &e);
    b.a = (struct moe_args){ .h = check_floats(c, BENCH_ROWS * BENCH_D),
                             .x = check_floats(c, BENCH_ROWS * BENCH_D),
                             .ids = b.ids,
                             .weights = b.weights,
                             .w = &w,
                             .n_rows = 1,
                             .top_k = BENCH_TOP,
                             .n_expert = BENCH_EXPERTS };
    check_time(c, "one token, weight bytes", bench_call, &b, (double)(BENCH_TOP * expert_bytes));
    b.a.n_rows = BENCH_ROWS;
    check_time(c, "128 tokens, multiply-adds", bench_call, &b,
               3.0 * BENCH_ROWS * BENCH_TOP * BENCH_D * BENCH_FF);
    b.dev->ops->close(b.dev);
    threads_close(&pool);
    mem_free(&m);
    check_done(c);
}

int main(int argc, char **argv)
{
    static const int counts[] = { 1, 2, 8, 9, MAX_ROWS };
    struct check c;
    check_begin(&c, argc, argv);
    if (c.bench) {
        bench_type(&c, QTYPE_Q4_K);
        bench_type(&c, QTYPE_Q6_K);
        bench_type(&c, QTYPE_BF16);
        return check_end(&c);
    }
    for (int act = ACT_INT8; act <= ACT_EXACT; act++) {
        struct check_cpu cpu[CHECK_CPU_MAX];
        int n_cpu = check_cpus(&c, cpu, (enum act_mode)act, &limits);
        struct device *ref = check_ref(&c, (enum act_mode)act, &limits);
        for (int round = 0; round < 5; round++)
            for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
                for (int is_mlp = 0; is_mlp < 2; is_mlp++)
                    run_case(&c, ref, cpu, n_cpu, is_mlp, counts[i], (enum act_mode)act, round);
        check_cpus_close(cpu, n_cpu);
        ref->ops->close(ref);
    }
    return check_end(&c);
}
