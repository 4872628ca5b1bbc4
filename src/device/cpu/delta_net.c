/*
 * delta_net.c: causal convolution, L2 norm, the gated delta rule, gated RMS norm.
 *
 * Columns of a head's state do not depend on each other, so a task is (span, v head, slice of columns). Few
 * rows go token by token; longer spans go in chunks of 64 rows: with c the cumulated log decay inside the
 * chunk and S the state before it, A_ij = beta_i (k_i . k_j) exp(c_i - c_j), j < i         P_ij = (q_i . k_j)
 * exp(c_i - c_j), j <= i (I + A) D = beta (V - exp(c) K S)                       solved row by row O = exp(c)
 * Q S + P D                                    S' = exp(c_last) S + (exp(c_last - c) K)^T D No exponent is
 * above 0.
 */
#include <math.h>
#include <string.h>

#include "base/checked.h"
#include "device/cpu/cpu.h"

enum { CHUNK = 64, CHUNK_WORTH = 16, SOLVE_ROWS = 8, TASKS_PER_THREAD = 8, MIN_SLICE = 2 * VEC_LANES };

static const float L2_EPS = 1e-6f;

struct delta_job {
    struct cpu_device *c;
    const struct delta_net_args *a;
    size_t conv_dim, out_dim;
    int slice, n_slice; /* columns per task, tasks per head */
};

/* One head of one span as the rule sees it; rows counts from the span's first. */
struct delta_head {
    const struct delta_net_args *a;
    const struct vec_kernels *vec;
    const float *q, *k, *v;         /* row 0 of each, conv_dim apart; v from the slice's first column on */
    float *out;                     /* row 0, out_dim apart; the slice's columns */
    float *state;                   /* [d_k][d_v] from the slice's first column on */
    size_t conv_dim, out_dim, gate; /* gate: index of row 0 in a and b */
    int head, cols;
};

struct chunk_work {
    float
        *k; /* [CHUNK][d_k] the chunk's keys; rows of qkv lie at powers of two, where they evict each other */
    float *q;       /* [CHUNK][d_k] */
    float *kt;      /* [d_k][CHUNK] keys as columns */
    float *a;       /* [CHUNK][CHUNK] -A */
    float *p;       /* [CHUNK][CHUNK] P */
    float *read;    /* [CHUNK][d_v] K S */
    float *d;       /* [CHUNK][d_v] D */
    float *history; /* [conv_kernel - 1][widest head] */
};

static size_t widest_head(const struct device_limits *l)
{
    return (size_t)(l->d_k > l->d_v ? l->d_k : l->d_v);
}

static void work_carve(struct chunk_work *w, const struct device_limits *l, struct arena *a)
{
    size_t rows = CHUNK * sizeof(float), taps = (size_t)(l->conv_kernel > 0 ? l->conv_kernel : 1);
    w->k = arena_take(a, rows * (size_t)l->d_k);
    w->q = arena_take(a, rows * (size_t)l->d_k);
    w->kt = arena_take(a, rows * (size_t)l->d_k);
    w->a = arena_take(a, rows * CHUNK);
    w->p = arena_take(a, rows * CHUNK);
    w->read = arena_take(a, rows * (size_t)l->d_v);
    w->d = arena_take(a, rows * (size_t)l->d_v);
    w->history = arena_take(a, taps * widest_head(l) * sizeof(float));
}

static struct chunk_work work_at(const struct cpu_device *c, int thread)
{
    const struct delta_net_scratch *s = &c->delta_net;
    struct arena a = { .base = s->work + (size_t)thread * s->work_bytes, .capacity = s->work_bytes };
    struct chunk_work w;
    work_carve(&w, &c->limits, &a);
    return w;
}

void delta_net_carve(struct cpu_device *c, struct arena *a)
{
    struct arena one = { 0 };
    struct chunk_work w;
    if (c->limits.n_v_head > 0)
        work_carve(&w, &c->limits, &one);
    c->delta_net.work_bytes = align_up(one.used, ARENA_ALIGN);
    c->delta_net.work = arena_take(a, (size_t)c->n_threads * c->delta_net.work_bytes);
}

/* ---- convolution and L2 norm, by heads ---- */

/* y = silu(conv); x[j] are n channels of the row taps - 1 - j before the current one, x[taps - 1] is y
 * itself. */
static void conv_row(const struct vec_kernels *vec, float *y, const float *const *x, const float *w, int taps,
                     int n)
{
    if (taps == 4) {
        vec->conv4_silu(y, x[0], x[1], x[2], x[3], w, n);
        return;
    }
    for (int i = 0; i < n; i++) {
        float sum = 0;
        for (int j = 0; j < taps; j++)
            sum += w[(size_t)i * (size_t)taps + (size_t)j] * x[j][i];
        y[i] = sum;
    }
    vec->sigmoid_mul(y, y, n);
}

/* Channels [first, first + n) of a span, in place: from the last row back, so that the rows before are still
 * raw. */
static void conv_span(const struct delta_job *job, const struct delta_net_span *s, size_t first, int n,
                      float *history)
{
    int taps = job->a->conv_kernel, keep = taps - 1;
    float *rows = job->a->qkv + (size_t)s->row * job->conv_dim + first;
    const float *before[CPU_MAX_TAPS];
    for (int j = 0; j < keep; j++) { /* the rows that the next call will look back at */
        int from = s->n_rows - keep + j;
        const float *src = from >= 0 ? rows + (size_t)from * job->conv_dim
                                     : s->conv + (size_t)(from + keep) * job->conv_dim + first;
        memcpy(history + (size_t)j * (size_t)n, src, (size_t)n * sizeof *history);
    }
    for (int t = s->n_rows - 1; t >= 0; t--) {
        for (int j = 0; j < taps; j++) {
            int from = t - keep + j;
            before[j] = from >= 0 ? rows + (size_t)from * job->conv_dim
                                  : s->conv + (size_t)(from + keep) * job->conv_dim + first;
        }
        conv_row(job->c->vec, rows + (size_t)t * job->conv_dim, before,
                 job->a->w->conv + first * (size_t)taps, taps, n);
    }
    for (int j = 0; j < keep; j++)
        memcpy(s->conv + (size_t)j * job->conv_dim + first, history + (size_t)j * (size_t)n,
               (size_t)n * sizeof *history);
}

/* Unit u is a q head, a k head or a v head: its convolution, and for q and k the L2 norm (q also over
 * sqrt(d_k)). */
static void prepare_head(const struct delta_job *job, int u, float *history)
{
    const struct delta_net_args *a = job->a;
    int n_qk = 2 * a->n_k_head;
    size_t first = u < n_qk ? (size_t)u * (size_t)a->d_k
                            : (size_t)n_qk * (size_t)a->d_k + (size_t)(u - n_qk) * (size_t)a->d_v;
    for (int i = 0; i < a->n_span; i++) {
        const struct delta_net_span *s = &a->span[i];
        conv_span(job, s, first, u < n_qk ? a->d_k : a->d_v, history);
        for (int t = 0; t < s->n_rows && u < n_qk; t++) {
            float *x = a->qkv + (size_t)(s->row + t) * job->conv_dim + first; /* [d_k] */
            float norm = sqrtf(job->c->vec->dot(x, x, a->d_k) + L2_EPS);
            job->c->vec->scale(x, 1.0f / (u < a->n_k_head ? norm * sqrtf((float)a->d_k) : norm), a->d_k);
        }
    }
}

/* ---- the rule ---- */

static float log_decay(const struct delta_head *h, int row)
{
    size_t at = h->gate + (size_t)row * (size_t)h->a->n_v_head;
    float x = h->a->a[at] + h->a->w->dt_bias[h->head];
    return h->a->w->a_neg[h->head] * (x > 20.0f ? x : log1pf(expf(x)));
}

static float beta_of(const struct delta_head *h, int row)
{
    return 1.0f / (1.0f + expf(-h->a->b[h->gate + (size_t)row * (size_t)h->a->n_v_head]));
}

static void run_steps(const struct delta_head *h, int first, int n)
{
    for (int t = first; t < first + n; t++) {
        size_t at = (size_t)t * h->conv_dim;
        struct vec_delta_step s = {
            .state = h->state,
            .row = (size_t)h->a->d_v,
            .q = h->q + at,
            .k = h->k + at,
            .v = h->v + at,
            .out = h->out + (size_t)t * h->out_dim,
            .decay = expf(log_decay(h, t)),
            .beta = beta_of(h, t),
            .qk = h->vec->dot(h->q + at, h->k + at, h->a->d_k),
            .d_k = h->a->d_k,
            .cols = h->cols,
        };
        h->vec->delta_step(&s);
    }
}

/* Copies the chunk's keys and queries; kt gets the keys as columns, zero beyond n. */
static void gather_rows(const struct delta_head *h, int first, int n, const struct chunk_work *w)
{
    size_t d_k = (size_t)h->a->d_k;
    for (size_t t = 0; t < (size_t)n; t++) {
        size_t at = ((size_t)first + t) * h->conv_dim;
        memcpy(w->k + t * d_k, h->k + at, d_k * sizeof *w->k);
        memcpy(w->q + t * d_k, h->q + at, d_k * sizeof *w->q);
    }
    for (size_t i = 0; i < d_k; i++)
        for (size_t t = 0; t < CHUNK; t++)
            w->kt[i * CHUNK + t] = t < (size_t)n ? w->k[t * d_k + i] : 0.0f;
}

/* c[n][c_row] = x[n][d_k] b[d_k][cols]; x are the chunk's q or k. */
static void times_rows(const struct delta_head *h, const float *x, int n, const float *b, size_t b_row,
                       int cols, float *c, size_t c_row)
{
    struct vec_tile t = { .c = c,
                          .a = x,
                          .b = b,
                          .c_row = c_row,
                          .a_row = (size_t)h->a->d_k,
                          .b_row = b_row,
                          .b_panel = VEC_LANES,
                          .rows = n,
                          .cols = cols,
                          .depth = h->a->d_k };
    h->vec->tile_f32(&t);
}

/* Fills -A and P of the chunk. c: cumulated log decays, in double because differences of them count. */
static void chunk_matrices(const struct delta_head *h, int first, int n, const double *c,
                           const struct chunk_work *w)
{
    int cols = (int)align_up((size_t)n, VEC_LANES);
    times_rows(h, w->k, n, w->kt, CHUNK, cols, w->a, CHUNK);
    times_rows(h, w->q, n, w->kt, CHUNK, cols, w->p, CHUNK);
    for (int i = 0; i < n; i++) {
        float decay[CHUNK], *a = w->a + (size_t)i * CHUNK, *p = w->p + (size_t)i * CHUNK;
        float beta = beta_of(h, first + i);
        for (int j = 0; j <= i; j++)
            decay[j] = (float)(c[i] - c[j]);
        h->vec->exp_sum(decay, 0, i + 1);
        for (int j = 0; j <= i; j++) {
            a[j] *= -beta * decay[j];
            p[j] *= decay[j];
        }
        for (int j = i + 1; j < n; j++)
            p[j] = 0;
    }
}

/* d[rows..][cols] += m[rows..][0..depth) d[0..depth) */
static void add_rows(const struct delta_head *h, float *c, size_t c_row, const float *m, const float *d,
                     int rows, int depth)
{
    struct vec_tile t = { .c = c,
                          .a = m,
                          .b = d,
                          .c_row = c_row,
                          .a_row = CHUNK,
                          .b_row = (size_t)h->a->d_v,
                          .b_panel = VEC_LANES,
                          .rows = rows,
                          .cols = h->cols,
                          .depth = depth,
                          .scale = 1.0f };
    h->vec->tile_f32(&t);
}

/* d = (I + A)^-1 d: what earlier blocks of rows contribute at once, then row after row inside the block. */
static void solve(const struct delta_head *h, int n, const float *minus_a, float *d)
{
    size_t row = (size_t)h->a->d_v;
    for (int r = 0; r < n; r += SOLVE_ROWS) {
        int rows = n - r < SOLVE_ROWS ? n - r : SOLVE_ROWS;
        const float *m = minus_a + (size_t)r * CHUNK;
        if (r)
            add_rows(h, d + (size_t)r * row, row, m, d, rows, r);
        for (int i = 1; i < rows; i++)
            add_rows(h, d + (size_t)(r + i) * row, row, m + (size_t)i * CHUNK + r, d + (size_t)r * row, 1, i);
    }
}

static void run_chunk(const struct delta_head *h, int first, int n, const struct chunk_work *w)
{
    double c[CHUNK], total = 0;
    size_t row = (size_t)h->a->d_v, at = (size_t)first * h->conv_dim;
    float *out = h->out + (size_t)first * h->out_dim;
    for (int i = 0; i < n; i++)
        c[i] = total += (double)log_decay(h, first + i);
    gather_rows(h, first, n, w);
    chunk_matrices(h, first, n, c, w);
    times_rows(h, w->k, n, h->state, row, h->cols, w->read, row);
    times_rows(h, w->q, n, h->state, row, h->cols, out, h->out_dim);
    for (int i = 0; i < n; i++) {
        const float *v = h->v + at + (size_t)i * h->conv_dim, *read = w->read + (size_t)i * row;
        float decay = expf((float)c[i]), beta = beta_of(h, first + i), *d = w->d + (size_t)i * row;
        for (int j = 0; j < h->cols; j++)
            d[j] = beta * (v[j] - decay * read[j]);
        h->vec->scale(out + (size_t)i * h->out_dim, decay, h->cols);
    }
    solve(h, n, w->a, w->d);
    for (int r = 0; r < n; r += SOLVE_ROWS) {
        int rows = n - r < SOLVE_ROWS ? n - r : SOLVE_ROWS;
        add_rows(h, out + (size_t)r * h->out_dim, h->out_dim, w->p + (size_t)r * CHUNK, w->d, rows, r + rows);
    }
    float fade[CHUNK];
    for (int i = 0; i < n; i++)
        fade[i] = expf((float)(c[n - 1] - c[i]));
    for (int i = 0; i < h->a->d_k; i++)
        for (int t = 0; t < n; t++)
            w->kt[(size_t)i * CHUNK + (size_t)t] *= fade[t];
    struct vec_tile update = { .c = h->state,
                               .a = w->kt,
                               .b = w->d,
                               .c_row = row,
                               .a_row = CHUNK,
                               .b_row = row,
                               .b_panel = VEC_LANES,
                               .rows = h->a->d_k,
                               .cols = h->cols,
                               .depth = n,
                               .scale = expf((float)c[n - 1]) };
    h->vec->tile_f32(&update);
}

/* ---- tasks ---- */

/* out[d_v] = rms_norm(out) * w * silu(z) */
static void gated_norm(const struct delta_job *job, size_t row, size_t head)
{
    const struct delta_net_args *a = job->a;
    size_t at = row * job->out_dim + head * (size_t)a->d_v;
    job->c->vec->rms_norm(a->out + at, a->out + at, a->w->norm, a->d_v, a->eps);
    job->c->vec->silu_mul(a->out + at, a->z + at, a->out + at, a->d_v);
}

/* Tasks count spans, then v heads, then slices. */
static void run_task(const struct delta_job *job, int64_t task, const struct chunk_work *w)
{
    const struct delta_net_args *a = job->a;
    int slice = (int)(task % job->n_slice), head = (int)(task / job->n_slice % a->n_v_head);
    const struct delta_net_span *s = &a->span[task / job->n_slice / a->n_v_head];
    int k_head = a->v_head_tiled ? head % a->n_k_head : head / (a->n_v_head / a->n_k_head);
    int col = slice * job->slice, left = a->d_v - col;
    const float *rows = a->qkv + (size_t)s->row * job->conv_dim;
    struct delta_head h = {
        .a = a,
        .vec = job->c->vec,
        .q = rows + (size_t)k_head * (size_t)a->d_k,
        .k = rows + (size_t)(a->n_k_head + k_head) * (size_t)a->d_k,
        .v = rows + 2 * (size_t)a->n_k_head * (size_t)a->d_k + (size_t)head * (size_t)a->d_v + (size_t)col,
        .out = a->out + (size_t)s->row * job->out_dim + (size_t)head * (size_t)a->d_v + (size_t)col,
        .state = s->state + (size_t)head * (size_t)a->d_k * (size_t)a->d_v + (size_t)col,
        .conv_dim = job->conv_dim,
        .out_dim = job->out_dim,
        .gate = (size_t)s->row * (size_t)a->n_v_head + (size_t)head,
        .head = head,
        .cols = left < job->slice ? left : job->slice,
    };
    for (int t = 0; t < s->n_rows; t += CHUNK) {
        int n = s->n_rows - t < CHUNK ? s->n_rows - t : CHUNK;
        if (n >= CHUNK_WORTH)
            run_chunk(&h, t, n, w);
        else
            run_steps(&h, t, n);
    }
    for (int t = 0; t < s->n_rows && job->n_slice == 1; t++)
        gated_norm(job, (size_t)(s->row + t), (size_t)head);
}

static void delta_net_run(void *arg, struct threads *t, int thread)
{
    const struct delta_job *job = arg;
    const struct delta_net_args *a = job->a;
    struct chunk_work w = work_at(job->c, thread);
    struct range r = threads_share(t, thread, 2 * a->n_k_head + a->n_v_head, 1);
    for (int64_t u = r.begin; u < r.end; u++)
        prepare_head(job, (int)u, w.history);
    threads_barrier(t);
    int64_t n_task = (int64_t)a->n_span * a->n_v_head * job->n_slice;
    for (int64_t i; (i = threads_next(t)) < n_task;)
        run_task(job, i, &w);
    if (job->n_slice == 1)
        return;
    threads_barrier(t);
    r = threads_share(t, thread, (int64_t)a->n_rows * a->n_v_head, 1);
    for (int64_t u = r.begin; u < r.end; u++)
        gated_norm(job, (size_t)(u / a->n_v_head), (size_t)(u % a->n_v_head));
}

int cpu_delta_net(struct device *d, const struct delta_net_args *a, struct err *e)
{
    (void)e;
    struct cpu_device *c = (struct cpu_device *)d;
    if (a->n_span == 0 || a->n_rows == 0)
        return 0;
    struct delta_job job = { .c = c, .a = a, .slice = a->d_v, .n_slice = 1 };
    job.out_dim = (size_t)a->n_v_head * (size_t)a->d_v;
    job.conv_dim = 2 * (size_t)a->n_k_head * (size_t)a->d_k + job.out_dim;
    int threads = c->n_threads;
    while (threads > 1 && a->n_span * a->n_v_head * job.n_slice < TASKS_PER_THREAD * threads &&
           job.slice / 2 >= MIN_SLICE && job.slice % (2 * VEC_LANES) == 0) {
        job.slice /= 2;
        job.n_slice *= 2;
    }
    threads_run(c->threads, delta_net_run, &job);
    return 0;
}
