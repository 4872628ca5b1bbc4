/* moe.c: the router, the experts it chose, and the plain gated MLP that both are made of. */
#include "device/ref/ref.h"

#include <math.h>
#include <stdlib.h>

/* The largest logit not yet in ids[0..n_taken); the lower id among equals. */
static int next_best(const float *logits, int n_expert, const int32_t *ids, int n_taken)
{
    int best = -1;
    for (int x = 0; x < n_expert; x++) {
        bool taken = false;
        for (int i = 0; i < n_taken; i++)
            taken |= ids[i] == x;
        if (!taken && (best < 0 || logits[x] > logits[best]))
            best = x;
    }
    return best;
}

static int by_id(const void *a, const void *b)
{
    return *(const int32_t *)a - *(const int32_t *)b;
}

static void route_row(const struct route_args *a, const float *logits, int32_t *ids, float *weights)
{
    int n_expert = (int)a->router.rows;
    for (int i = 0; i < a->top_k; i++)
        ids[i] = next_best(logits, n_expert, ids, i);
    double max = logits[ids[0]], total = 0;
    for (int x = 0; x < n_expert; x++)
        total += exp(logits[x] - max);
    qsort(ids, (size_t)a->top_k, sizeof *ids, by_id);
    if (a->renormalise) {
        total = 0;
        for (int i = 0; i < a->top_k; i++)
            total += exp(logits[ids[i]] - max);
    }
    for (int i = 0; i < a->top_k; i++)
        weights[i] = (float)(exp(logits[ids[i]] - max) / total);
}

/* The router always sees f32 activations: a choice of experts must not depend on the rounding of products. */
int ref_route(struct device *d, const struct route_args *a, struct err *e)
{
    (void)e;
    const struct ref_device *r = (const struct ref_device *)d;
    size_t n_expert = (size_t)a->router.rows, top_k = (size_t)a->top_k;
    for (size_t t = 0; t < (size_t)a->n_rows; t++) {
        const float *x = a->x + t * (size_t)a->router.cols; /* [d_model] */
        float *logits = a->logits + t * n_expert;           /* [n_expert] */
        for (size_t i = 0; i < n_expert; i++) {
            qmat_decode(&a->router, (int64_t)i, 1, r->row);
            logits[i] = (float)ref_dot(r->row, x, a->router.cols);
        }
        route_row(a, logits, a->ids + t * top_k, a->weights + t * top_k);
    }
    return 0;
}

/* hidden[d_ff] = silu(gate x) * up x */
static void hidden_row(const struct ref_device *r, const struct mlp_weights *w, const float *x, float *hidden)
{
    int64_t d_ff = w->gate.rows;
    double *gate = r->wide, *up = r->wide + d_ff;              /* [d_ff] each */
    ref_activation(r, w->gate.type, x, w->gate.cols, r->acts); /* [d_model] */
    ref_matvec(r, &w->gate, r->acts, gate);
    ref_activation(r, w->up.type, x, w->up.cols, r->acts);
    ref_matvec(r, &w->up, r->acts, up);
    for (int64_t i = 0; i < d_ff; i++)
        hidden[i] = (float)(ref_silu(gate[i]) * up[i]);
}

/* out[d_model] = down hidden */
static void down_row(const struct ref_device *r, const struct mlp_weights *w, const float *hidden,
                     double *out)
{
    ref_activation(r, w->down.type, hidden, w->down.cols, r->acts); /* [d_ff] */
    ref_matvec(r, &w->down, r->acts, out);
}

int ref_mlp(struct device *d, const struct mlp_args *a, struct err *e)
{
    (void)e;
    const struct ref_device *r = (const struct ref_device *)d;
    size_t d_model = (size_t)a->w->down.rows;
    for (size_t t = 0; t < (size_t)a->n_rows; t++) {
        hidden_row(r, a->w, a->x + t * d_model, r->hidden);
        down_row(r, a->w, r->hidden, r->narrow);
        for (size_t i = 0; i < d_model; i++)
            a->h[t * d_model + i] = (float)(a->h[t * d_model + i] + r->narrow[i]);
    }
    return 0;
}

/* sum[d_model] += scale * down hidden */
static void add_row(const struct ref_device *r, const struct mlp_weights *w, const float *hidden,
                    double scale, double *sum)
{
    down_row(r, w, hidden, r->narrow);
    for (int64_t i = 0; i < w->down.rows; i++)
        sum[i] += scale * r->narrow[i];
}

static bool is_listed(const struct moe_args *a, int32_t id)
{
    bool listed = a->parts == MOE_WHOLE;
    for (int i = 0; i < a->n_list && !listed; i++)
        listed = a->list[i] == id;
    return listed;
}

/* The shared expert of row t: hidden values are made when they are read. */
static void end_row(const struct ref_device *r, const struct moe_args *a, const float *x, double *sum,
                    float *h)
{
    int64_t d_model = a->w->expert[0].down.rows;
    if (a->w->shared.gate.data) {
        double scale = a->w->shared_gate ? ref_sigmoid(ref_dot(a->w->shared_gate, x, d_model)) : 1;
        hidden_row(r, &a->w->shared, x, r->hidden);
        add_row(r, &a->w->shared, r->hidden, scale, sum);
    }
    for (int64_t i = 0; i < d_model; i++)
        h[i] = (float)(h[i] + sum[i]);
}

static void moe_row(const struct ref_device *r, const struct moe_args *a, int parts, size_t t)
{
    size_t d_model = (size_t)a->w->expert[0].down.rows, d_ff = (size_t)a->w->expert[0].gate.rows;
    const float *x = a->x + t * d_model; /* [d_model] */
    double *sum = r->sum + t * d_model;  /* [d_model] */
    for (size_t i = 0; i < d_model && parts & MOE_BEGIN; i++)
        sum[i] = 0;
    for (size_t slot = t * (size_t)a->top_k; slot < (t + 1) * (size_t)a->top_k; slot++) {
        const struct mlp_weights *w = &a->w->expert[a->ids[slot]];
        float *hidden = r->chosen + slot * d_ff; /* [d_ff] */
        if (!is_listed(a, a->ids[slot]))
            continue;
        if (parts & MOE_HIDDEN)
            hidden_row(r, w, x, hidden);
        if (parts & MOE_ADD)
            add_row(r, w, hidden, a->weights[slot], sum);
    }
    if (parts & MOE_END)
        end_row(r, a, x, sum, a->h + t * d_model);
}

int ref_moe(struct device *d, const struct moe_args *a, struct err *e)
{
    (void)e;
    int parts = a->parts == MOE_WHOLE ? MOE_BEGIN | MOE_HIDDEN | MOE_ADD | MOE_END : a->parts;
    for (size_t t = 0; t < (size_t)a->n_rows; t++)
        moe_row((const struct ref_device *)d, a, parts, t);
    return 0;
}
