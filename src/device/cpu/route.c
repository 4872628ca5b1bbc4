/*
 * route.c: the router: logits of every expert, the top_k of them, their softmax weights. Always with f32
 * activations: which experts run must not depend on how products round.
 */
#include <string.h>

#include "device/cpu/cpu.h"

struct route_job {
    const struct cpu_device *c;
    const struct route_args *a;
    const struct dot_kernel *dot; /* NULL: decode a row, then vec->dot */
};

enum { TILE_EXPERTS = 8 };

/* Logits of experts [begin, end) for all rows. */
static void logits_part(const struct route_job *j, int thread, int64_t begin, int64_t end)
{
    const struct route_args *a = j->a;
    size_t n_expert = (size_t)a->router.rows, cols = (size_t)a->router.cols;
    if (begin == end)
        return;
    for (int t = 0; t < a->n_rows && j->dot; t += DOT_MAX_COLS) {
        int n = a->n_rows - t < DOT_MAX_COLS ? a->n_rows - t : DOT_MAX_COLS;
        const void *x[DOT_MAX_COLS];
        for (int i = 0; i < n; i++)
            x[i] = a->x + (size_t)(t + i) * cols;
        j->dot->run(&a->router, begin, (int)(end - begin), x, n, a->logits + (size_t)t * n_expert + begin,
                    n_expert);
    }
    float *row = j->c->matmul.panel + (size_t)thread * j->c->matmul.panel_floats; /* [cols] */
    for (int64_t i = begin; i < end && !j->dot; i++) {
        qmat_decode(&a->router, i, 1, row);
        for (size_t t = 0; t < (size_t)a->n_rows; t++)
            a->logits[t * n_expert + (size_t)i] = j->c->vec->dot(row, a->x + t * cols, (int64_t)cols);
    }
}

/* ids[top_k], the largest logits first; of equals the lower id. */
static void top_experts(const float *logits, int n_expert, int32_t *ids, int top_k)
{
    for (int x = 0, n = 0; x < n_expert; x++) {
        if (n == top_k && !(logits[x] > logits[ids[n - 1]]))
            continue;
        int at = n < top_k ? n++ : n - 1;
        for (; at > 0 && logits[x] > logits[ids[at - 1]]; at--)
            ids[at] = ids[at - 1];
        ids[at] = x;
    }
}

static void sort_ids(int32_t *ids, int n)
{
    for (int i = 1; i < n; i++)
        for (int at = i; at > 0 && ids[at] < ids[at - 1]; at--) {
            int32_t swap = ids[at];
            ids[at] = ids[at - 1];
            ids[at - 1] = swap;
        }
}

static float softmax_total(const struct vec_kernels *vec, const float *logits, int n, float max)
{
    float part[256], total = 0;
    for (int i = 0; i < n; i += 256) {
        int m = n - i < 256 ? n - i : 256;
        memcpy(part, logits + i, (size_t)m * sizeof *part);
        total += vec->exp_sum(part, max, m);
    }
    return total;
}

static void choose(const struct route_job *j, size_t t)
{
    const struct route_args *a = j->a;
    int n_expert = (int)a->router.rows, top_k = a->top_k;
    const float *logits = a->logits + t * (size_t)n_expert; /* [n_expert] */
    int32_t *ids = a->ids + t * (size_t)top_k;              /* [top_k] */
    float *weights = a->weights + t * (size_t)top_k;        /* [top_k] */
    top_experts(logits, n_expert, ids, top_k);
    float max = logits[ids[0]];
    sort_ids(ids, top_k);
    for (int i = 0; i < top_k; i++)
        weights[i] = logits[ids[i]];
    float total = j->c->vec->exp_sum(weights, max, top_k);
    if (!a->renormalise)
        total = softmax_total(j->c->vec, logits, n_expert, max);
    for (int i = 0; i < top_k; i++)
        weights[i] /= total;
}

static void route_run(void *arg, struct threads *t, int thread)
{
    const struct route_job *j = arg;
    struct range r = threads_share(t, thread, j->a->router.rows, TILE_EXPERTS);
    logits_part(j, thread, r.begin, r.end);
    threads_barrier(t);
    r = threads_share(t, thread, j->a->n_rows, 1);
    for (int64_t i = r.begin; i < r.end; i++)
        choose(j, (size_t)i);
}

int cpu_route(struct device *d, const struct route_args *a, struct err *e)
{
    (void)e;
    struct cpu_device *c = (struct cpu_device *)d;
    struct route_job job = { c, a, dot_pick(a->router.type, QACT_F32, c->isa) };
    threads_run(c->threads, route_run, &job);
    return 0;
}
