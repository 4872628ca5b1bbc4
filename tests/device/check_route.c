/* check_route.c: the router of every cpu device against ref: logits, which experts, their weights, ties. */
#include <math.h>
#include <string.h>

#include "support/check.h"

static const double U = 0x1p-24; /* half a unit in the last place of 1 */

struct routed {
    int32_t *ids;
    float *weights, *logits;
};

static struct routed route(struct check *c, struct device *dev, const float *x, const struct qmat *router,
                           int n_rows, int top_k, bool renormalise)
{
    struct err e = { 0 };
    size_t n = (size_t)n_rows * (size_t)top_k;
    struct routed r = { check_alloc(c, n * sizeof *r.ids, 4), check_out(c, n),
                        check_out(c, (size_t)n_rows * (size_t)router->rows) };
    memset(r.ids, 0xff, n * sizeof *r.ids);
    struct route_args a = { r.ids, r.weights, r.logits, x, *router, n_rows, top_k, renormalise };
    check_ok(c, dev->ops->route(dev, &a, &e), &e);
    return r;
}

/* Rows of the matrix appear twice, so that ties are exact. */
static void repeat_rows(struct check *c, const struct qmat *w)
{
    size_t bytes = qtype_row_bytes(w->type, w->cols);
    char *data = (char *)(uintptr_t)w->data;
    for (int i = 0; i < w->rows / 3; i++) {
        int from = check_int(c, 0, (int)w->rows - 1), to = check_int(c, 0, (int)w->rows - 1);
        memmove(data + (size_t)to * bytes, data + (size_t)from * bytes, bytes);
    }
}

static void logit_bounds(const struct qmat *w, const float *x, int n_rows, double *bound, float *row)
{
    for (int64_t i = 0; i < w->rows; i++) {
        qmat_decode(w, i, 1, row);
        for (int t = 0; t < n_rows; t++) {
            double sum = 0;
            for (int64_t k = 0; k < w->cols; k++)
                sum += fabs((double)row[k] * x[(int64_t)t * w->cols + k]);
            bound[(int64_t)t * w->rows + i] = ((double)w->cols / 16 + 8) * U * sum;
        }
    }
}

/* ids must be the best by the device's own logits, lower ids first among equals; and these are close to
 * ref's. */
static void check_choice(struct check *c, const float *logits, int n_expert, const int32_t *ids, int top_k)
{
    for (int i = 0; i < top_k; i++) {
        if (ids[i] < 0 || ids[i] >= n_expert || (i && ids[i] <= ids[i - 1])) {
            check_fail(c, "expert %d of %d in place %d", ids[i], n_expert, i);
            return;
        }
        for (int x = 0, k = 0; x < n_expert; x++) {
            if (k < top_k && ids[k] == x) {
                k++;
                continue;
            }
            if (logits[x] > logits[ids[i]] || (logits[x] == logits[ids[i]] && x < ids[i]))
                check_fail(c, "expert %d was taken and %d was not", ids[i], x);
        }
    }
}

/* The softmax of the device's own logits over the experts, or over the chosen ones. */
static void check_weights(struct check *c, const struct routed *r, int t, int n_expert, int top_k,
                          bool renormalise)
{
    const float *logits = r->logits + (size_t)t * (size_t)n_expert;
    const int32_t *ids = r->ids + (size_t)t * (size_t)top_k;
    double max = -INFINITY, total = 0;
    for (int x = 0; x < n_expert; x++)
        max = fmax(max, logits[x]);
    for (int i = 0; i < (renormalise ? top_k : n_expert); i++)
        total += exp(logits[renormalise ? ids[i] : i] - max);
    for (int i = 0; i < top_k; i++) {
        float want = (float)(exp(logits[ids[i]] - max) / total);
        check_close(c, "weight", &want, &r->weights[(size_t)t * (size_t)top_k + (size_t)i], 1,
                    (n_expert / 16.0 + 20) * U * (double)want);
    }
}

static void check_one(struct check *c, struct device *ref, const struct check_cpu *cpu, int n_cpu,
                      enum qtype type)
{
    int n_expert = check_count(c, 512), cols = 32 * check_count(c, 40), n_rows = check_count(c, 40);
    int top_k = check_int(c, 1, n_expert < 12 ? n_expert : 12);
    bool renormalise = check_int(c, 0, 1);
    struct qmat w = check_qmat(c, type, n_expert, cols, 0.1f);
    repeat_rows(c, &w);
    float *x = check_floats(c, (size_t)n_rows * (size_t)cols), *row = check_out(c, (size_t)cols);
    size_t n = (size_t)n_rows * (size_t)n_expert;
    double *bound = check_alloc(c, n * sizeof *bound, sizeof *bound);
    logit_bounds(&w, x, n_rows, bound, row);
    struct routed want = route(c, ref, x, &w, n_rows, top_k, renormalise), first = { 0 };
    for (int i = -1; i < n_cpu; i++) {
        struct routed got = i < 0 ? want : route(c, cpu[i].dev, x, &w, n_rows, top_k, renormalise);
        check_close_each(c, i < 0 ? "ref" : cpu[i].name, want.logits, got.logits, n, bound);
        for (int t = 0; t < n_rows; t++) {
            check_choice(c, got.logits + (size_t)t * (size_t)n_expert, n_expert, got.ids + t * top_k, top_k);
            check_weights(c, &got, t, n_expert, top_k, renormalise);
        }
        if (i < 0)
            continue;
        if (cpu[i].n_threads == 1)
            first = got;
        size_t chosen = (size_t)n_rows * (size_t)top_k * 4;
        check_same(c, "logits, other threads", first.logits, got.logits, n * sizeof *got.logits);
        check_same(c, "ids, other threads", first.ids, got.ids, chosen);
        check_same(c, "weights, other threads", first.weights, got.weights, chosen);
        size_t last = (size_t)n_rows - 1;
        struct routed alone = route(c, cpu[i].dev, x + last * (size_t)cols, &w, 1, top_k, renormalise);
        check_same(c, "a row alone", got.logits + last * (size_t)n_expert, alone.logits,
                   (size_t)n_expert * 4);
        check_same(c, "a row alone", got.weights + last * (size_t)top_k, alone.weights, (size_t)top_k * 4);
    }
}

struct timed {
    struct device *dev;
    struct route_args a;
};

static void run_timed(void *arg)
{
    struct timed *t = arg;
    t->dev->ops->route(t->dev, &t->a, NULL);
}

static void bench(struct check *c, const struct check_cpu *cpu)
{
    struct qmat w = check_qmat(c, QTYPE_F32, 512, 4096, 0.02f);
    float *x = check_floats(c, 4096);
    struct timed t = { cpu->dev,
                       { check_alloc(c, 40, 4), check_out(c, 10), check_out(c, 512), x, w, 1, 10, true } };
    check_time(c, cpu->name, run_timed, &t, 512.0 * 4096 * 4);
}

int main(int argc, char **argv)
{
    static struct check c;
    struct check_cpu cpu[CHECK_CPU_MAX];
    struct device_limits limits = { .max_rows = 64,
                                    .d_model = 4096,
                                    .n_expert = 512,
                                    .top_k = 12,
                                    .max_cols = 4096,
                                    .max_rows_out = 512,
                                    .d_expert = 64 };
    static const enum qtype type[] = { QTYPE_F32, QTYPE_BF16, QTYPE_F16, QTYPE_Q8_0 };
    check_begin(&c, argc, argv);
    struct device *ref = check_ref(&c, ACT_INT8, &limits);
    int n_cpu = check_cpus(&c, cpu, ACT_INT8, &limits);
    for (int i = 0; i < 32; i++)
        if (check_case(&c, "route %s %d", qtype_info(type[i % 4])->name, i)) {
            check_one(&c, ref, cpu, n_cpu, type[i % 4]);
            check_done(&c);
        }
    for (int i = 0; i < n_cpu && c.bench; i++)
        if (check_case(&c, "route bench %s", cpu[i].name)) {
            bench(&c, &cpu[i]);
            check_done(&c);
        }
    check_cpus_close(cpu, n_cpu);
    ref->ops->close(ref);
    return check_end(&c);
}
