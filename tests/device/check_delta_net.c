/*
 * check_delta_net.c: Gated DeltaNet of every cpu device against ref, which goes token by token: several
 * sessions, calls of one row and of several chunks, states carried between calls; threads do not change a
 * bit.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "support/check.h"

enum { MAX_SPAN = 3, MAX_CALL = 4 };

struct layer {
    int n_k_head, n_v_head, d_k, d_v, taps;
    bool tiled;
    struct delta_net_weights w;
    int n_call, n_span, rows[MAX_CALL][MAX_SPAN]; /* rows of each session in each call; 0: not in the call */
    const float *qkv[MAX_CALL], *z[MAX_CALL], *b[MAX_CALL], *a[MAX_CALL];
    const float *conv[MAX_SPAN], *state[MAX_SPAN]; /* before the first call */
};

/* What a device made of it. */
struct result {
    float *out[MAX_CALL], *conv[MAX_SPAN], *state[MAX_SPAN];
};

static size_t conv_dim(const struct layer *l)
{
    return 2 * (size_t)l->n_k_head * (size_t)l->d_k + (size_t)l->n_v_head * (size_t)l->d_v;
}

static size_t out_dim(const struct layer *l)
{
    return (size_t)l->n_v_head * (size_t)l->d_v;
}

static size_t state_floats(const struct layer *l)
{
    return (size_t)l->n_v_head * (size_t)l->d_k * (size_t)l->d_v;
}

static size_t call_rows(const struct layer *l, int call)
{
    size_t n = 0;
    for (int s = 0; s < l->n_span; s++)
        n += (size_t)l->rows[call][s];
    return n;
}

static struct layer draw_layer(struct check *c, int max_rows)
{
    static const int heads[][2] = { { 1, 1 }, { 2, 2 }, { 1, 3 }, { 2, 4 }, { 4, 16 }, { 3, 6 } };
    static const int width[][2] = { { 128, 128 }, { 64, 64 }, { 16, 32 }, { 8, 8 },
                                    { 128, 20 },  { 33, 48 }, { 1, 1 } };
    int h = check_int(c, 0, 5), d = check_int(c, 0, 6);
    struct layer l = { .n_k_head = heads[h][0],
                       .n_v_head = heads[h][1],
                       .d_k = width[d][0],
                       .d_v = width[d][1],
                       .taps = check_int(c, 0, 3) ? 4 : check_int(c, 1, 6),
                       .tiled = check_int(c, 0, 1),
                       .n_call = check_int(c, 1, MAX_CALL),
                       .n_span = check_int(c, 1, MAX_SPAN) };
    size_t n_v = (size_t)l.n_v_head;
    l.w.conv = check_floats(c, conv_dim(&l) * (size_t)l.taps);
    l.w.dt_bias = check_floats_in(c, n_v, -4, 4);
    float *a_neg = check_out(c, n_v);
    for (size_t i = 0; i < n_v; i++)
        a_neg[i] = -expf(check_uniform(c, -6, 2)); /* from hardly any decay to almost at once */
    l.w.a_neg = a_neg;
    l.w.norm = check_floats_in(c, (size_t)l.d_v, 0.5f, 1.5f);
    for (int i = 0; i < l.n_call; i++) {
        for (int s = 0; s < l.n_span; s++)
            l.rows[i][s] = check_int(c, 0, 4) ? check_count(c, max_rows) : 0;
        l.rows[i][check_int(c, 0, l.n_span - 1)] = check_count(c, max_rows);
        size_t n = call_rows(&l, i);
        l.qkv[i] = check_floats(c, n * conv_dim(&l));
        l.z[i] = check_floats(c, n * out_dim(&l));
        l.b[i] = check_floats(c, n * n_v);
        l.a[i] = check_floats_in(c, n * n_v, -5, 25); /* softplus is the identity above 20 */
    }
    for (int s = 0; s < l.n_span; s++) {
        l.conv[s] = check_floats(c, (size_t)(l.taps - 1) * conv_dim(&l));
        l.state[s] = check_floats_in(c, state_floats(&l), -0.3f, 0.3f);
    }
    return l;
}

static struct result feed(struct check *c, struct device *dev, const struct layer *l, float eps)
{
    struct result r;
    struct err e = { 0 };
    for (int s = 0; s < l->n_span; s++) {
        r.conv[s] = check_copy(c, l->conv[s], (size_t)(l->taps - 1) * conv_dim(l));
        r.state[s] = check_copy(c, l->state[s], state_floats(l));
    }
    for (int i = 0; i < l->n_call; i++) {
        size_t n = call_rows(l, i);
        struct delta_net_span span[MAX_SPAN];
        int n_span = 0, row = 0;
        for (int s = 0; s < l->n_span; row += l->rows[i][s++])
            if (l->rows[i][s])
                span[n_span++] = (struct delta_net_span){ row, l->rows[i][s], r.conv[s], r.state[s] };
        r.out[i] = check_out(c, n * out_dim(l));
        float *qkv = check_copy(c, l->qkv[i], n * conv_dim(l));
        struct delta_net_args a = { r.out[i], qkv,    l->z[i], l->b[i], l->a[i],     &l->w,
                                    span,     eps,    n_span,  (int)n,  l->n_k_head, l->n_v_head,
                                    l->d_k,   l->d_v, l->taps, l->tiled };
        check_ok(c, dev->ops->delta_net(dev, &a, &e), &e);
    }
    return r;
}

/* The state: 1e-5 of its largest number. */
static void compare_states(struct check *c, const char *what, const struct layer *l,
                           const struct result *want, const struct result *got)
{
    for (int s = 0; s < l->n_span; s++) {
        check_same(c, "conv history", want->conv[s], got->conv[s], (size_t)(l->taps - 1) * conv_dim(l) * 4);
        check_close(c, what, want->state[s], got->state[s], state_floats(l),
                    1e-5 * check_max(want->state[s], state_floats(l)));
    }
}

/* The read-outs before norm and gate: with a huge eps the norm is a constant factor, and gate and weight are
 * known. */
static struct result raw_outputs(struct check *c, struct device *ref, const struct layer *l)
{
    struct layer plain = *l;
    float *one = check_floats_in(c, (size_t)l->d_v, 1, 1);
    plain.w.norm = one;
    for (int i = 0; i < l->n_call; i++)
        plain.z[i] = check_floats_in(c, call_rows(l, i) * out_dim(l), 30, 30); /* silu(30) = 30 in f32 */
    struct result r = feed(c, ref, &plain, 1e18f);
    for (int i = 0; i < l->n_call; i++)
        for (size_t k = 0; k < call_rows(l, i) * out_dim(l); k++)
            r.out[i][k] *= 1e9f / 30;
    return r;
}

/* A read-out is S^T q with |q| = 1 / sqrt(d_k), and S grows by beta v k^T. Both forms of the rule get it
 * within some dozen roundings of the largest numbers in S and v. Norm and gate multiply that error by w
 * silu(z) / rms(o). */
static void compare_outputs(struct check *c, const char *what, const struct layer *l,
                            const struct result *want, const struct result *raw, const struct result *got)
{
    static const double U = 0x1p-24;
    double state = 0, value = 0;
    for (int s = 0; s < l->n_span; s++) {
        state = fmax(state, check_max(l->state[s], state_floats(l)));
        state = fmax(state, check_max(want->state[s], state_floats(l)));
    }
    for (int i = 0; i < l->n_call; i++)
        value = fmax(value, check_max(l->qkv[i], call_rows(l, i) * conv_dim(l)));
    double slip = 16 * U * (state + value / sqrt(l->d_k));
    for (int i = 0; i < l->n_call; i++) {
        size_t n = call_rows(l, i) * out_dim(l), d_v = (size_t)l->d_v;
        double *bound = check_alloc(c, n * sizeof *bound, sizeof *bound);
        for (size_t k = 0; k < n; k++) {
            double z = l->z[i][k], rms = check_rms(raw->out[i] + k / d_v * d_v, d_v);
            double gate = fabs(l->w.norm[k % d_v] * z / (1 + exp(-z)));
            bound[k] = gate * (2 * slip / sqrt(rms * rms + 1e-6) + 20 * U);
        }
        check_close_each(c, what, want->out[i], got->out[i], n, bound);
    }
}

struct timed {
    struct device *dev;
    struct delta_net_args a;
};

static void run_timed(void *arg)
{
    struct timed *t = arg;
    t->dev->ops->delta_net(t->dev, &t->a, NULL);
}

/* 397B's layer: one row of 8 sessions (32 MiB of state), and 512 rows of one. */
static void bench(struct check *c, const struct check_cpu *cpu)
{
    enum { KH = 16, VH = 64, D = 128, CONV = 2 * KH * D + VH * D, ROWS = 512, SESSIONS = 8 };
    char name[96];
    struct delta_net_weights w = { .conv = check_floats(c, CONV * 4),
                                   .dt_bias = check_floats(c, VH),
                                   .a_neg = check_floats_in(c, VH, -0.1f, 0),
                                   .norm = check_floats(c, D) };
    struct delta_net_args a = { check_out(c, ROWS * VH * D),
                                check_floats(c, ROWS * CONV),
                                check_floats(c, ROWS * VH * D),
                                check_floats(c, ROWS * VH),
                                check_floats(c, ROWS * VH),
                                &w,
                                NULL,
                                1e-6f,
                                0,
                                0,
                                KH,
                                VH,
                                D,
                                D,
                                4,
                                false };
    struct delta_net_span span[SESSIONS];
    for (int i = 0; i < SESSIONS; i++)
        span[i] = (struct delta_net_span){ i, 1, check_floats_in(c, 3 * CONV, 0, 0),
                                           check_floats_in(c, VH * D * D, 0, 0) };
    a.span = span;
    for (int i = 0; i < 2; i++) {
        span[0].n_rows = a.n_rows = i ? ROWS : 1;
        a.n_span = i ? 1 : SESSIONS;
        a.n_rows = i ? ROWS : SESSIONS;
        struct timed t = { cpu->dev, a };
        snprintf(name, sizeof name, "%s, %s", cpu->name, i ? "512 rows of 1 session" : "1 row of 8 sessions");
        check_time(c, name, run_timed, &t, i ? 0 : 2.0 * SESSIONS * VH * D * D * 4);
    }
}

int main(int argc, char **argv)
{
    static struct check c;
    struct check_cpu cpu[CHECK_CPU_MAX];
    struct device_limits limits = {
        .max_rows = 600, .n_k_head = 16, .n_v_head = 64, .d_k = 128, .d_v = 128, .conv_kernel = 6
    };
    check_begin(&c, argc, argv);
    struct device *ref = check_ref(&c, ACT_INT8, &limits);
    int n_cpu = check_cpus(&c, cpu, ACT_INT8, &limits);
    for (int i = 0; i < 30; i++) {
        if (!check_case(&c, "delta_net %d", i))
            continue;
        struct layer l = draw_layer(&c, i % 3 == 0 ? 200 : i % 3 == 1 ? 20 : 80);
        struct result want = feed(&c, ref, &l, 1e-6f), raw = raw_outputs(&c, ref, &l), first = { 0 };
        for (int k = 0; k < n_cpu; k++) {
            struct result got = feed(&c, cpu[k].dev, &l, 1e-6f);
            compare_states(&c, cpu[k].name, &l, &want, &got);
            compare_outputs(&c, cpu[k].name, &l, &want, &raw, &got);
            if (cpu[k].n_threads == 1)
                first = got;
            for (int j = 0; j < l.n_call; j++)
                check_same(&c, "another number of threads", first.out[j], got.out[j],
                           call_rows(&l, j) * out_dim(&l) * 4);
        }
        check_done(&c);
    }
    for (int i = 0; i < n_cpu && c.bench; i++)
        if (check_case(&c, "delta_net bench %s", cpu[i].name)) {
            bench(&c, &cpu[i]);
            check_done(&c);
        }
    check_cpus_close(cpu, n_cpu);
    ref->ops->close(ref);
    return check_end(&c);
}
