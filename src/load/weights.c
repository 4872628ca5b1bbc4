/*
 * weights.c: see weights.h. The plan says which weight goes where in one block of the device's memory; fill.c
 * brings them there, from a packed file when a valid one is there, else from the model's files, keeping the
 * result as one.
 */
#include "load/weights.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "load/fill.h"

/* ---- where results are written down ---- */

#define IN_LAYER(role, field) [role] = offsetof(struct layer_weights, field)
static const size_t in_layer[ROLE_COUNT] = {
    IN_LAYER(ROLE_NORM_MIXER, norm_mixer),
    IN_LAYER(ROLE_NORM_MLP, norm_mlp),
    IN_LAYER(ROLE_Q, attention.q),
    IN_LAYER(ROLE_K, attention.k),
    IN_LAYER(ROLE_V, attention.v),
    IN_LAYER(ROLE_O, attention.o),
    IN_LAYER(ROLE_Q_BIAS, attention.q_bias),
    IN_LAYER(ROLE_K_BIAS, attention.k_bias),
    IN_LAYER(ROLE_V_BIAS, attention.v_bias),
    IN_LAYER(ROLE_Q_NORM, attention.q_norm),
    IN_LAYER(ROLE_K_NORM, attention.k_norm),
    IN_LAYER(ROLE_DN_QKV, delta_net.qkv),
    IN_LAYER(ROLE_DN_Z, delta_net.z),
    IN_LAYER(ROLE_DN_B, delta_net.b),
    IN_LAYER(ROLE_DN_A, delta_net.a),
    IN_LAYER(ROLE_DN_CONV, delta_net.conv),
    IN_LAYER(ROLE_DN_DT_BIAS, delta_net.dt_bias),
    IN_LAYER(ROLE_DN_A_LOG, delta_net.a_neg),
    IN_LAYER(ROLE_DN_NORM, delta_net.norm),
    IN_LAYER(ROLE_DN_OUT, delta_net.out),
    IN_LAYER(ROLE_GATE, mlp.gate),
    IN_LAYER(ROLE_UP, mlp.up),
    IN_LAYER(ROLE_DOWN, mlp.down),
    IN_LAYER(ROLE_ROUTER, moe.router),
    IN_LAYER(ROLE_SHARED_GATE_PROJ, moe.shared.gate),
    IN_LAYER(ROLE_SHARED_UP, moe.shared.up),
    IN_LAYER(ROLE_SHARED_DOWN, moe.shared.down),
    IN_LAYER(ROLE_SHARED_GATE, moe.shared_gate),
};
#undef IN_LAYER

/* The struct qmat of a matrix, the const float * of a vector. */
static void *place_of(struct weights *w, const struct plan_item *it)
{
    struct mlp_weights *expert;
    switch (it->role) {
    case ROLE_EMBED:
        return &w->embed;
    case ROLE_OUT_NORM:
        return &w->out_norm;
    case ROLE_HEAD:
        return &w->head;
    case ROLE_MTP_FC:
        return &w->mtp.fc;
    case ROLE_MTP_NORM_EMBED:
        return &w->mtp.norm_embed;
    case ROLE_MTP_NORM_HIDDEN:
        return &w->mtp.norm_hidden;
    case ROLE_MTP_OUT_NORM:
        return &w->mtp.out_norm;
    case ROLE_EXPERT_GATE:
    case ROLE_EXPERT_UP:
    case ROLE_EXPERT_DOWN:
        expert = &w->experts[(size_t)it->layer * (size_t)w->shape.n_expert + (size_t)it->expert];
        return it->role == ROLE_EXPERT_GATE ? &expert->gate
               : it->role == ROLE_EXPERT_UP ? &expert->up
                                            : &expert->down;
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
        *(struct qmat *)to = (struct qmat){ .type = it->target,
                                            .rows = it->src.rows,
                                            .cols = it->src.cols,
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
            struct layer_weights *layer =
                it->layer == w->shape.n_layer ? &w->mtp.layer : &w->layer[it->layer];
            layer->moe.expert = w->experts + (size_t)it->layer * n_expert;
        }
        w->n_weights += (uint64_t)(it->src.rows * it->src.cols);
    }
    if (w->shape.tied)
        w->head = w->embed;
}

/* ---- the packed file ---- */

struct pack_work {
    const struct plan *p;
    const struct weights_options *opt;
    struct packed_item *item; /* [p->n_item]; NULL: no packed file is wanted */
    struct packed_key key;
    struct packed_writer *writer;
};

static void say(const struct pack_work *k, const char *what, const struct err *why)
{
    char line[sizeof why->what + sizeof why->where + 100];
    if (!k->opt->pack->say)
        return;
    snprintf(line, sizeof line, "%s: %s%s%s", what, why->what, why->where[0] ? ", " : "", why->where);
    k->opt->pack->say(k->opt->pack->say_user, line);
}

/* Reading it back must be less work than making the weights again: they were quantized, not only copied or
 * widened. */
static bool is_worth_keeping(const struct plan *p)
{
    uint64_t stored = 0, result = 0;
    for (int i = 0; i < p->n_item; i++) {
        const struct plan_item *it = &p->item[i];
        if (plan_is_copy(&it->src, it->target) || plan_is_vector(it->role))
            continue;
        stored += (uint64_t)it->src.rows * qtype_row_bytes(it->src.type, it->src.cols);
        result += it->data_bytes + it->scale_bytes;
    }
    return result < stored;
}

/* Lists what is to be packed and finds its key. Failing to do so only costs the packed file, unless it is
 * needed. */
static int want_pack(struct pack_work *k, struct err *e)
{
    const struct plan *p = k->p;
    struct err why = { 0 };
    if (!k->opt->pack && p->pack)
        return err_set(e, ERR_USAGE,
                       "experts of this model can only stay on disk in a packed file, and there is no "
                       "folder for it");
    if (!k->opt->pack || (!p->pack && (p->opt.no_pack || !is_worth_keeping(p))))
        return 0;
    k->item = calloc((size_t)p->n_item + 1, sizeof *k->item);
    if (!k->item)
        return err_set(e, ERR_MEMORY, "no memory for a list of %d weights", p->n_item);
    for (int i = 0; i < p->n_item; i++) {
        const struct plan_item *it = &p->item[i];
        k->item[i] = (struct packed_item){ .role = it->role,
                                           .layer = it->layer,
                                           .expert = it->expert,
                                           .type = it->target,
                                           .rows = it->src.rows,
                                           .cols = it->src.cols,
                                           .data_bytes = it->data_bytes,
                                           .scale_bytes = it->scale_bytes };
    }
    packed_layout(k->item, p->n_item);
    int rc = packed_key_of(&k->key, p->model, k->item, p->n_item, &why);
    if (!rc)
        return 0;
    if (p->pack) {
        *e = why;
        return rc;
    }
    say(k, "no packed model is kept", &why);
    free(k->item);
    k->item = NULL;
    return 0;
}

/* Fills the block from a packed file. *done: whether there was a right one. */
static int load_pack(struct pack_work *k, struct fill_job *job, bool *done, struct err *e)
{
    struct packed *pack;
    struct err why = { 0 };
    *done = false;
    int rc = packed_open(&pack, k->opt->pack, &k->key, k->item, k->p->n_item, e);
    if (rc || !pack)
        return rc;
    rc = fill_from_pack(job, pack, &why);
    *done = !rc;
    if (rc == ERR_FORMAT || rc == ERR_FILE) {
        packed_drop(&pack, why.what);
        return 0;
    }
    packed_close(&pack);
    if (rc)
        *e = why;
    return rc;
}

static int begin_pack(struct pack_work *k, struct err *e)
{
    struct err why = { 0 };
    int rc = packed_begin(&k->writer, k->opt->pack, &k->key, k->item, k->p->n_item, &why);
    if (rc && !k->p->pack) {
        say(k, "no packed model is kept", &why);
        return 0;
    }
    if (rc)
        *e = why;
    return rc;
}

static int end_pack(struct pack_work *k, const struct fill_job *job, struct err *e)
{
    struct err why = job->writer_failed;
    if (k->writer && why.code)
        packed_abort(&k->writer);
    else if (k->writer)
        packed_commit(&k->writer, &why);
    if (why.code && k->p->pack) {
        *e = why;
        return why.code;
    }
    if (why.code)
        say(k, "no packed model is kept", &why);
    return 0;
}

/* Where the experts lie that the plan leaves on disk. */
static int find_experts(struct weights *w, const struct pack_work *k, struct err *e)
{
    if (!k->p->experts_on_disk)
        return 0;
    if (!k->p->pack)
        return expert_source_open(&w->disk, k->p, NULL, NULL, e);
    struct packed *pack;
    int rc = packed_open(&pack, k->opt->pack, &k->key, k->item, k->p->n_item, e);
    if (rc)
        return rc;
    if (!pack)
        return err_set(e, ERR_FILE, "the packed model vanished after it was made");
    struct tensor_file file = packed_file(pack);
    rc = expert_source_open(&w->disk, k->p, &(struct expert_file){ file.path, file.bytes }, k->item, e);
    packed_close(&pack);
    return rc;
}

static int load_all(struct weights *w, const struct plan *p, const struct weights_options *opt, struct err *e)
{
    struct pack_work k = { .p = p, .opt = opt };
    struct fill_job job = { .plan = p,
                            .base = w->block.ptr,
                            .threads = opt->threads,
                            .progress = opt->progress,
                            .progress_user = opt->progress_user };
    bool done = false;
    int rc = want_pack(&k, e);
    if (!rc && k.item)
        rc = load_pack(&k, &job, &done, e);
    if (!rc && !done && k.item)
        rc = begin_pack(&k, e);
    job.writer = k.writer;
    if (!rc && !done)
        rc = fill_from_model(&job, e);
    if (!rc)
        rc = end_pack(&k, &job, e);
    if (!rc)
        rc = find_experts(w, &k, e);
    packed_abort(&k.writer);
    free(k.item);
    w->loaded.read_bytes = job.read_bytes;
    w->loaded.from_pack = done;
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
    struct weights *w = *out = calloc(1, sizeof *w);
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

int weights_load(struct weights **out, const struct plan *p, struct device *d,
                 const struct weights_options *opt, struct err *e)
{
    double begin = clock_seconds();
    struct err why = { 0 };
    struct weights *w;
    int rc = weights_reserve(&w, p, d, &why);
    if (!rc)
        rc = load_all(w, p, opt, &why);
    if (rc) {
        if (e)
            *e = why;
        weights_close(&w);
        return rc;
    }
    w->loaded.seconds = clock_seconds() - begin;
    w->loaded.peak_rss = mem_peak_rss();
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
