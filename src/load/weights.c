/*
 * weights.c: see weights.h. Loading walks the shape once and makes a list of items (a weight and where its matrix or
 * vector must be written down), sizes and places them all in one block of the device's memory, and then lets all
 * threads fill it, a panel of rows at a time: read, decode, transform, encode. Memory beyond the result is a few
 * panels per thread.
 */
#include "load/weights.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/clock.h"
#include "load/convert.h"

enum { ALIGN = 64, PANEL_FLOATS = 1 << 20 };

struct item {
    enum role     role;
    int           layer, expert;
    struct qmat  *mat;    /* either a matrix ... */
    const float **vector; /* ... or a plain f32 array */
    struct weight_source src;
    enum qtype    target;
    size_t        data_at, scale_at; /* offsets in the block; scale_at == data end when there is no plane */
    size_t        data_bytes, scale_bytes;
};

struct plan {
    const struct model *m;
    struct item *item;
    int          n, capacity;
    size_t       bytes;
};

struct task { /* rows [row, row + n_rows) of an item */
    int     item;
    int64_t row, n_rows;
};

struct load_job {
    struct plan *plan;
    struct task *task;
    int64_t      n_task;
    char        *base;
    size_t       scratch_bytes, absmax_floats, panel_floats;
    const struct weights_options *opt;
    uint64_t     total_bytes;
    _Atomic uint64_t done_bytes;
    _Atomic int  failed;     /* the first error code */
    struct err   err;        /* written by the thread that set failed */
    double       last_report; /* thread 0 only */
};

/* ---- the list of items ---- */

static int add(struct plan *p, enum role role, int layer, int expert, struct qmat *mat, const float **vector,
               struct err *e)
{
    if (p->n == p->capacity) {
        int more = p->capacity ? 2 * p->capacity : 256;
        struct item *grown = realloc(p->item, (size_t)more * sizeof *grown);
        if (!grown)
            return err_set(e, ERR_MEMORY, "no memory for a list of %d weights", more);
        p->item = grown;
        p->capacity = more;
    }
    p->item[p->n++] = (struct item){ .role = role, .layer = layer, .expert = expert, .mat = mat, .vector = vector };
    return 0;
}

struct slot { /* where a role's result is written down */
    enum role     role;
    struct qmat  *mat;
    const float **vector;
};

static int add_slots(struct plan *p, int layer, const struct slot *slot, int n, struct err *e)
{
    for (int i = 0; i < n; i++) {
        if (!model_has(&p->m->shape, slot[i].role, layer))
            continue;
        int rc = add(p, slot[i].role, layer, -1, slot[i].mat, slot[i].vector, e);
        if (rc)
            return rc;
    }
    return 0;
}

static int add_layer(struct plan *p, int layer, struct layer_weights *w, struct mlp_weights *experts, struct err *e)
{
    struct attention_weights *at = &w->attention;
    struct delta_net_weights *dn = &w->delta_net;
    const struct slot slots[] = {
        { ROLE_NORM_MIXER, NULL, &w->norm_mixer },
        { ROLE_NORM_MLP, NULL, &w->norm_mlp },
        { ROLE_Q, &at->q, NULL },
        { ROLE_K, &at->k, NULL },
        { ROLE_V, &at->v, NULL },
        { ROLE_O, &at->o, NULL },
        { ROLE_Q_BIAS, NULL, &at->q_bias },
        { ROLE_K_BIAS, NULL, &at->k_bias },
        { ROLE_V_BIAS, NULL, &at->v_bias },
        { ROLE_Q_NORM, NULL, &at->q_norm },
        { ROLE_K_NORM, NULL, &at->k_norm },
        { ROLE_DN_QKV, &dn->qkv, NULL },
        { ROLE_DN_Z, &dn->z, NULL },
        { ROLE_DN_B, &dn->b, NULL },
        { ROLE_DN_A, &dn->a, NULL },
        { ROLE_DN_CONV, NULL, &dn->conv },
        { ROLE_DN_DT_BIAS, NULL, &dn->dt_bias },
        { ROLE_DN_A_LOG, NULL, &dn->a_neg },
        { ROLE_DN_NORM, NULL, &dn->norm },
        { ROLE_DN_OUT, &dn->out, NULL },
        { ROLE_GATE, &w->mlp.gate, NULL },
        { ROLE_UP, &w->mlp.up, NULL },
        { ROLE_DOWN, &w->mlp.down, NULL },
        { ROLE_ROUTER, &w->moe.router, NULL },
        { ROLE_SHARED_GATE_PROJ, &w->moe.shared.gate, NULL },
        { ROLE_SHARED_UP, &w->moe.shared.up, NULL },
        { ROLE_SHARED_DOWN, &w->moe.shared.down, NULL },
        { ROLE_SHARED_GATE, NULL, &w->moe.shared_gate },
    };
    int rc = add_slots(p, layer, slots, sizeof slots / sizeof *slots, e);
    if (rc || !model_has(&p->m->shape, ROLE_ROUTER, layer))
        return rc;
    w->moe.expert = experts;
    for (int i = 0; i < p->m->shape.n_expert; i++) {
        rc = add(p, ROLE_EXPERT_GATE, layer, i, &experts[i].gate, NULL, e);
        if (!rc)
            rc = add(p, ROLE_EXPERT_UP, layer, i, &experts[i].up, NULL, e);
        if (!rc)
            rc = add(p, ROLE_EXPERT_DOWN, layer, i, &experts[i].down, NULL, e);
        if (rc)
            return rc;
    }
    return 0;
}

static int list_items(struct plan *p, struct weights *w, bool mtp, struct err *e)
{
    const struct shape *s = &p->m->shape;
    const struct slot top[] = { { ROLE_EMBED, &w->embed, NULL }, { ROLE_OUT_NORM, NULL, &w->out_norm } };
    int rc = add_slots(p, -1, top, 2, e);
    for (int i = 0; i < s->n_layer && !rc; i++)
        rc = add_layer(p, i, &w->layer[i], w->experts + (size_t)i * (size_t)s->n_expert, e);
    if (!rc && !s->tied)
        rc = add(p, ROLE_HEAD, -1, -1, &w->head, NULL, e);
    if (rc || !mtp)
        return rc;
    const struct slot head[] = { { ROLE_MTP_FC, &w->mtp.fc, NULL },
                                 { ROLE_MTP_NORM_EMBED, NULL, &w->mtp.norm_embed },
                                 { ROLE_MTP_NORM_HIDDEN, NULL, &w->mtp.norm_hidden },
                                 { ROLE_MTP_OUT_NORM, NULL, &w->mtp.out_norm } };
    rc = add_slots(p, s->n_layer, head, 4, e);
    if (!rc)
        rc = add_layer(p, s->n_layer, &w->mtp.layer, w->experts + (size_t)s->n_layer * (size_t)s->n_expert, e);
    return rc;
}

/* ---- sizes and places ---- */

static int place_item(struct plan *p, struct item *it, enum mix mix, struct err *e)
{
    int rc = model_find(p->m, it->role, it->layer, it->expert, &it->src, e);
    if (rc)
        return rc;
    it->target = convert_target(p->m, it->role, it->layer, mix, &it->src);
    uint64_t end;
    if (!qtype_sizes(it->target, it->src.rows, it->src.cols, &it->data_bytes, &it->scale_bytes) ||
        !checked_add(p->bytes, it->data_bytes, &end) || !checked_add(end, it->scale_bytes + 2 * ALIGN, &end))
        return err_set(e, ERR_FORMAT, "tensor %s is too large or does not fit the format %s", it->src.tensor->name,
                       qtype_info(it->target)->name);
    it->data_at = p->bytes;
    it->scale_at = align_up(it->data_at + it->data_bytes, ALIGN);
    p->bytes = align_up(it->scale_at + it->scale_bytes, ALIGN);
    return 0;
}

static void write_down(const struct item *it, char *base)
{
    if (it->vector)
        *it->vector = (const float *)(base + it->data_at);
    else
        *it->mat = (struct qmat){ .type = it->target, .rows = it->src.rows, .cols = it->src.cols,
                                  .data = base + it->data_at,
                                  .scale = it->scale_bytes ? base + it->scale_at : NULL };
}

/* ---- filling, all threads ---- */

static uint64_t stored_row_bytes(const struct weight_source *src)
{
    return src->blocks_cross_rows ? (uint64_t)src->cols / 2 : qtype_row_bytes(src->type, src->cols);
}

static int64_t panel_rows(const struct item *it)
{
    if (qtype_needs_absmax(it->target))
        return it->src.rows; /* its scales depend on all rows */
    int64_t rows = PANEL_FLOATS / it->src.cols;
    return rows < 1 ? 1 : rows < it->src.rows ? rows : it->src.rows;
}

static int make_tasks(struct load_job *job, struct err *e)
{
    struct plan *p = job->plan;
    for (int pass = 0; pass < 2; pass++) {
        int64_t n = 0;
        for (int i = 0; i < p->n; i++) {
            const struct item *it = &p->item[i];
            int64_t rows = panel_rows(it);
            for (int64_t r = 0; r < it->src.rows; r += rows, n++)
                if (pass)
                    job->task[n] = (struct task){ i, r, rows < it->src.rows - r ? rows : it->src.rows - r };
        }
        job->n_task = n;
        if (!pass && !(job->task = calloc((size_t)n, sizeof *job->task)))
            return err_set(e, ERR_MEMORY, "no memory for %lld loading tasks", (long long)n);
    }
    for (int i = 0; i < p->n; i++) {
        const struct item *it = &p->item[i];
        int64_t rows = PANEL_FLOATS / it->src.cols;
        rows = rows < 1 ? 1 : rows < it->src.rows ? rows : it->src.rows;
        size_t scratch = convert_scratch_bytes(&it->src, rows), panel = (size_t)(rows * it->src.cols);
        size_t absmax = qtype_needs_absmax(it->target) ? (size_t)(it->src.rows * it->src.cols / 64) : 0;
        job->scratch_bytes = scratch > job->scratch_bytes ? scratch : job->scratch_bytes;
        job->panel_floats = panel > job->panel_floats ? panel : job->panel_floats;
        job->absmax_floats = absmax > job->absmax_floats ? absmax : job->absmax_floats;
        job->total_bytes += (uint64_t)it->src.rows * stored_row_bytes(&it->src);
    }
    return 0;
}

struct thread_buffers {
    float *panel, *absmax;
    void  *scratch;
};

static int convert_task(const struct load_job *job, const struct task *t, const struct convert_source *c,
                        const struct thread_buffers *b, struct err *e)
{
    const struct item *it = &job->plan->item[t->item];
    struct qmat_encoder enc = { it->target, it->src.rows, it->src.cols, job->base + it->data_at,
                                job->base + it->scale_at, b->absmax };
    int64_t step = PANEL_FLOATS / it->src.cols;
    step = step < 1 ? 1 : step;
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
    const struct item *it = &job->plan->item[t->item];
    struct convert_source *c;
    int rc = convert_open(&c, job->plan->m, &it->src, e);
    if (rc)
        return rc;
    if (convert_is_copy(&it->src, it->target)) {
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

static void report(struct load_job *job, const struct item *it)
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
    struct thread_buffers b = { malloc(job->panel_floats * sizeof(float) + 64),
                                malloc(job->absmax_floats * sizeof(float) + 64), malloc(job->scratch_bytes + 64) };
    if (!b.panel || !b.absmax || !b.scratch) {
        err_set(&why, ERR_MEMORY, "no memory for the loading buffers");
        fail(job, &why);
    }
    int64_t i;
    while (!atomic_load(&job->failed) && (i = threads_next(threads)) < job->n_task) {
        const struct item *it = &job->plan->item[job->task[i].item];
        if (run_task(job, &job->task[i], &b, &why)) {
            err_where(&why, "%s", job->plan->m->path);
            fail(job, &why);
        }
        atomic_fetch_add(&job->done_bytes, (uint64_t)job->task[i].n_rows * stored_row_bytes(&it->src));
        if (thread == 0)
            report(job, it);
    }
    free(b.panel);
    free(b.absmax);
    free(b.scratch);
}

static int fill(struct plan *p, char *base, const struct weights_options *opt, struct err *e)
{
    struct load_job job = { .plan = p, .base = base, .opt = opt };
    int rc = make_tasks(&job, e);
    if (!rc) {
        threads_run(opt->threads, load_thread, &job);
        rc = job.failed;
        if (rc && e)
            *e = job.err;
    }
    free(job.task);
    return rc;
}

/* ---- the whole ---- */

int weights_load(struct weights **out, const struct model *m, struct device *d, const struct weights_options *opt,
                 struct err *e)
{
    struct plan p = { .m = m };
    const struct shape *s = &m->shape;
    struct weights *w = calloc(1, sizeof *w);
    if (!w)
        return err_set(e, ERR_MEMORY, "no memory for the weights' records");
    w->shape = *s;
    w->device = d;
    w->has_mtp = s->n_mtp > 0 && !opt->skip_mtp;
    size_t n_layer = (size_t)s->n_layer, n_expert = (size_t)s->n_expert;
    w->layer = calloc(n_layer, sizeof *w->layer);
    w->experts = calloc((n_layer + 1) * n_expert + 1, sizeof *w->experts);
    int rc = w->layer && w->experts ? 0 : err_set(e, ERR_MEMORY, "no memory for the weights' records");
    if (!rc)
        rc = list_items(&p, w, w->has_mtp, e);
    for (int i = 0; i < p.n && !rc; i++) {
        rc = place_item(&p, &p.item[i], opt->mix, e);
        w->n_weights += rc ? 0 : (uint64_t)(p.item[i].src.rows * p.item[i].src.cols);
    }
    if (!rc)
        rc = d->ops->alloc(d, &w->block, p.bytes, "the weights", e);
    w->bytes = p.bytes;
    if (!rc)
        rc = fill(&p, w->block.ptr, opt, e);
    for (int i = 0; i < p.n && !rc; i++)
        write_down(&p.item[i], w->block.ptr);
    if (!rc && s->tied)
        w->head = w->embed;
    free(p.item);
    if (rc) {
        weights_close(&w);
        return rc;
    }
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
    free(w->layer);
    free(w->experts);
    free(w);
}
