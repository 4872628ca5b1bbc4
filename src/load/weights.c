/*
 * weights.c: see weights.h. The plan says which weight goes where in one block of the device's memory; all threads
 * fill it, a panel of rows at a time: read, decode, transform, encode. Memory beyond the result is what the plan calls
 * staging: one panel, its stored form and a scale plane per thread.
 */
#include "load/weights.h"

#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/clock.h"
#include "load/convert.h"

struct task { /* rows [row, row + n_rows) of an item */
    int     item;
    int64_t row, n_rows;
};

struct load_job {
    const struct plan *plan;
    struct task *task;
    int64_t      n_task;
    char        *base;
    struct mem   staging;
    size_t       staging_bytes; /* of each thread */
    const struct weights_options *opt;
    uint64_t     total_bytes;
    _Atomic uint64_t done_bytes;
    _Atomic int  failed;     /* the first error code */
    struct err   err;        /* written by the thread that set failed */
    double       last_report; /* thread 0 only */
};

/* ---- where results are written down ---- */

#define IN_LAYER(role, field) [role] = offsetof(struct layer_weights, field)
static const size_t in_layer[ROLE_COUNT] = {
    IN_LAYER(ROLE_NORM_MIXER, norm_mixer), IN_LAYER(ROLE_NORM_MLP, norm_mlp),
    IN_LAYER(ROLE_Q, attention.q), IN_LAYER(ROLE_K, attention.k), IN_LAYER(ROLE_V, attention.v),
    IN_LAYER(ROLE_O, attention.o), IN_LAYER(ROLE_Q_BIAS, attention.q_bias),
    IN_LAYER(ROLE_K_BIAS, attention.k_bias), IN_LAYER(ROLE_V_BIAS, attention.v_bias),
    IN_LAYER(ROLE_Q_NORM, attention.q_norm), IN_LAYER(ROLE_K_NORM, attention.k_norm),
    IN_LAYER(ROLE_DN_QKV, delta_net.qkv), IN_LAYER(ROLE_DN_Z, delta_net.z), IN_LAYER(ROLE_DN_B, delta_net.b),
    IN_LAYER(ROLE_DN_A, delta_net.a), IN_LAYER(ROLE_DN_CONV, delta_net.conv),
    IN_LAYER(ROLE_DN_DT_BIAS, delta_net.dt_bias), IN_LAYER(ROLE_DN_A_LOG, delta_net.a_neg),
    IN_LAYER(ROLE_DN_NORM, delta_net.norm), IN_LAYER(ROLE_DN_OUT, delta_net.out),
    IN_LAYER(ROLE_GATE, mlp.gate), IN_LAYER(ROLE_UP, mlp.up), IN_LAYER(ROLE_DOWN, mlp.down),
    IN_LAYER(ROLE_ROUTER, moe.router), IN_LAYER(ROLE_SHARED_GATE_PROJ, moe.shared.gate),
    IN_LAYER(ROLE_SHARED_UP, moe.shared.up), IN_LAYER(ROLE_SHARED_DOWN, moe.shared.down),
    IN_LAYER(ROLE_SHARED_GATE, moe.shared_gate),
};
#undef IN_LAYER

/* The struct qmat of a matrix, the const float * of a vector. */
static void *place_of(struct weights *w, const struct plan_item *it)
{
    struct mlp_weights *expert;
    switch (it->role) {
    case ROLE_EMBED: return &w->embed;
    case ROLE_OUT_NORM: return &w->out_norm;
    case ROLE_HEAD: return &w->head;
    case ROLE_MTP_FC: return &w->mtp.fc;
    case ROLE_MTP_NORM_EMBED: return &w->mtp.norm_embed;
    case ROLE_MTP_NORM_HIDDEN: return &w->mtp.norm_hidden;
    case ROLE_MTP_OUT_NORM: return &w->mtp.out_norm;
    case ROLE_EXPERT_GATE:
    case ROLE_EXPERT_UP:
    case ROLE_EXPERT_DOWN:
        expert = &w->experts[(size_t)it->layer * (size_t)w->shape.n_expert + (size_t)it->expert];
        return it->role == ROLE_EXPERT_GATE ? &expert->gate : it->role == ROLE_EXPERT_UP ? &expert->up : &expert->down;
    default: {
        struct layer_weights *layer = it->layer == w->shape.n_layer ? &w->mtp.layer : &w->layer[it->layer];
        return (char *)layer + in_layer[it->role];
    }
    }
}

static void write_down(struct weights *w, const struct plan_item *it)
{
    char *base = w->block.ptr;
    void *to = place_of(w, it);
    if (plan_is_vector(it->role))
        *(const float **)to = (const float *)(base + it->data_at);
    else
        *(struct qmat *)to = (struct qmat){ .type = it->target, .rows = it->src.rows, .cols = it->src.cols,
                                            .data = base + it->data_at,
                                            .scale = it->scale_bytes ? base + it->scale_at : NULL };
}

static void write_all_down(struct weights *w, const struct plan *p)
{
    size_t n_expert = (size_t)w->shape.n_expert;
    for (int i = 0; i < p->n_item; i++) {
        const struct plan_item *it = &p->item[i];
        if (it->tier == TIER_RAM)
            write_down(w, it);
        if (it->role == ROLE_EXPERT_GATE && it->expert == 0) {
            struct layer_weights *layer = it->layer == w->shape.n_layer ? &w->mtp.layer : &w->layer[it->layer];
            layer->moe.expert = w->experts + (size_t)it->layer * n_expert;
        }
        w->n_weights += (uint64_t)(it->src.rows * it->src.cols);
    }
    if (w->shape.tied)
        w->head = w->embed;
}

/* ---- filling, all threads ---- */

static uint64_t stored_row_bytes(const struct weight_source *src)
{
    return src->blocks_cross_rows ? (uint64_t)src->cols / 2 : qtype_row_bytes(src->type, src->cols);
}

/* Rows of one task: a panel, or all where scales depend on all rows. */
static int64_t task_rows(const struct plan_item *it)
{
    return qtype_needs_absmax(it->target) ? it->src.rows : plan_panel_rows(it->src.rows, it->src.cols);
}

static int make_tasks(struct load_job *job, struct err *e)
{
    const struct plan *p = job->plan;
    for (int pass = 0; pass < 2; pass++) {
        int64_t n = 0;
        for (int i = 0; i < p->n_item; i++) {
            const struct plan_item *it = &p->item[i];
            int64_t rows = task_rows(it);
            for (int64_t r = 0; r < it->src.rows && it->tier == TIER_RAM; r += rows, n++)
                if (pass)
                    job->task[n] = (struct task){ i, r, rows < it->src.rows - r ? rows : it->src.rows - r };
        }
        job->n_task = n;
        if (!pass && !(job->task = calloc((size_t)n, sizeof *job->task)))
            return err_set(e, ERR_MEMORY, "no memory for %lld loading tasks", (long long)n);
    }
    for (int i = 0; i < p->n_item; i++)
        if (p->item[i].tier == TIER_RAM)
            job->total_bytes += (uint64_t)p->item[i].src.rows * stored_row_bytes(&p->item[i].src);
    return 0;
}

struct thread_buffers {
    float *panel, *absmax;
    void  *scratch;
};

/* A thread's share of the staging memory. */
static struct thread_buffers buffers_of(const struct load_job *job, int thread)
{
    const struct plan_staging *s = &job->plan->staging;
    if (job->staging_bytes == 0)
        return (struct thread_buffers){ 0 }; /* everything is copied as it is */
    char *at = (char *)job->staging.ptr + (size_t)thread * job->staging_bytes;
    char *absmax = at + align_up(s->panel, PLAN_ALIGN);
    return (struct thread_buffers){ (float *)at, (float *)absmax, absmax + align_up(s->absmax, PLAN_ALIGN) };
}

static int convert_task(const struct load_job *job, const struct task *t, const struct convert_source *c,
                        const struct thread_buffers *b, struct err *e)
{
    const struct plan_item *it = &job->plan->item[t->item];
    struct qmat_encoder enc = { it->target, it->src.rows, it->src.cols, job->base + it->data_at,
                                job->base + it->scale_at, b->absmax };
    int64_t step = plan_panel_rows(it->src.rows, it->src.cols);
    for (int64_t r = t->row; r < t->row + t->n_rows; r += step) {
        int64_t n = t->row + t->n_rows - r < step ? t->row + t->n_rows - r : step;
        int rc = convert_rows(c, r, n, b->panel, b->scratch, e);
        if (rc)
            return rc;
        qmat_encode(&enc, r, n, b->panel);
    }
    if (qtype_needs_absmax(it->target))
        qmat_encode_finish(&enc);
    return 0;
}

static int run_task(struct load_job *job, const struct task *t, const struct thread_buffers *b, struct err *e)
{
    const struct plan_item *it = &job->plan->item[t->item];
    struct convert_source *c;
    int rc = convert_open(&c, job->plan->model, &it->src, e);
    if (rc)
        return rc;
    if (plan_is_copy(&it->src, it->target)) {
        size_t row_bytes = qtype_row_bytes(it->target, it->src.cols);
        rc = convert_copy_rows(c, t->row, t->n_rows, job->base + it->data_at + (size_t)t->row * row_bytes, e);
        if (!rc && t->row == 0)
            convert_copy_plane(c, job->base + it->scale_at);
    } else {
        rc = convert_task(job, t, c, b, e);
    }
    convert_close(&c);
    return rc;
}

static void fail(struct load_job *job, const struct err *why)
{
    int none = 0;
    if (atomic_compare_exchange_strong(&job->failed, &none, why->code))
        job->err = *why;
}

static void report(struct load_job *job, const struct plan_item *it)
{
    double now = clock_seconds();
    if (!job->opt->progress || now - job->last_report < 0.05)
        return;
    job->last_report = now;
    struct progress p = { atomic_load(&job->done_bytes), job->total_bytes, "loading", it->src.tensor->name };
    if (job->opt->progress(job->opt->progress_user, &p)) {
        struct err why = { 0 };
        err_set(&why, ERR_CANCELED, "loading was interrupted");
        fail(job, &why);
    }
}

static void load_thread(void *arg, struct threads *threads, int thread)
{
    struct load_job *job = arg;
    struct err why = { 0 };
    const struct thread_buffers b = buffers_of(job, thread);
    int64_t i;
    while (!atomic_load(&job->failed) && (i = threads_next(threads)) < job->n_task) {
        const struct plan_item *it = &job->plan->item[job->task[i].item];
        if (run_task(job, &job->task[i], &b, &why)) {
            err_where(&why, "%s", job->plan->model->path);
            fail(job, &why);
        }
        atomic_fetch_add(&job->done_bytes, (uint64_t)job->task[i].n_rows * stored_row_bytes(&it->src));
        if (thread == 0)
            report(job, it);
    }
}

static int fill(struct load_job *job, struct err *e)
{
    const struct plan_staging *s = &job->plan->staging;
    job->staging_bytes = align_up(s->panel, PLAN_ALIGN) + align_up(s->absmax, PLAN_ALIGN) +
                         align_up(s->scratch, PLAN_ALIGN);
    size_t n = (size_t)threads_count(job->opt->threads);
    int rc = make_tasks(job, e);
    if (!rc)
        rc = mem_ram(&job->staging, n * job->staging_bytes, "the loading buffers", e);
    if (!rc) {
        threads_run(job->opt->threads, load_thread, job);
        rc = job->failed;
        if (rc && e)
            *e = job->err;
    }
    mem_free(&job->staging);
    free(job->task);
    return rc;
}

/* ---- the whole ---- */

static int open_records(struct weights *w, const struct plan *p, struct device *d, struct err *e)
{
    size_t n_layer = (size_t)p->model->shape.n_layer, n_expert = (size_t)p->model->shape.n_expert;
    w->shape = p->model->shape;
    w->device = d;
    w->has_mtp = p->has_mtp;
    w->bytes = p->weights_bytes;
    w->layer = calloc(n_layer, sizeof *w->layer);
    w->experts = calloc((n_layer + 1) * n_expert + 1, sizeof *w->experts);
    return w->layer && w->experts ? 0 : err_set(e, ERR_MEMORY, "no memory for the weights' records");
}

int weights_reserve(struct weights **out, const struct plan *p, struct device *d, struct err *e)
{
    struct weights *w = calloc(1, sizeof *w);
    if (!w)
        return err_set(e, ERR_MEMORY, "no memory for the weights' records");
    int rc = open_records(w, p, d, e);
    if (!rc)
        rc = d->ops->alloc(d, &w->block, p->weights_bytes, "the weights", e);
    if (rc)
        weights_close(&w);
    else
        write_all_down(w, p);
    *out = w;
    return rc;
}

int weights_load(struct weights **out, const struct plan *p, struct device *d, const struct weights_options *opt,
                 struct err *e)
{
    double begin = clock_seconds();
    struct weights *w;
    int rc = weights_reserve(&w, p, d, e);
    if (rc)
        return rc;
    struct load_job job = { .plan = p, .base = w->block.ptr, .opt = opt };
    rc = fill(&job, e);
    if (!rc && p->experts_on_disk && !p->pack)
        rc = expert_source_open(&w->disk, p, NULL, NULL, e);
    if (rc) {
        weights_close(&w);
        return rc;
    }
    w->loaded = (struct load_facts){ job.total_bytes, clock_seconds() - begin, mem_peak_rss() };
    *out = w;
    return 0;
}

void weights_close(struct weights **wp)
{
    struct weights *w = *wp;
    *wp = NULL;
    if (!w)
        return;
    w->device->ops->free(w->device, &w->block);
    expert_source_close(&w->disk);
    free(w->layer);
    free(w->experts);
    free(w);
}
