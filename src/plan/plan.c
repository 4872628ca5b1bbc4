/*
 * plan.c: sizes, the budget, and what gives way when the budget is short.
 *
 * Order of decisions where the user left them open: everything in RAM with 32K of context (or what the model
 * was trained on) and passes of 512 tokens; a shorter context, down to 4,096; smaller passes, down to 32;
 * then routed experts on disk with a cache in RAM. On disk, a quarter of what is left above the minimum goes
 * to context and batch and the rest to the cache, so that more RAM never means fewer cached experts.
 */
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "plan/plan_private.h"

/* Measured on vocabularies of 152,000 and 248,000 tokens: 159 and 130 bytes each stay, and tokenizer.json
 * takes 640 while it is read, before loading. */
enum {
    PROGRAM_BYTES = 7 << 20,
    TOKEN_BYTES = 160,
    TOKEN_JSON_BYTES = 660,
    TENSOR_BYTES = 256,
    EXPERT_BYTES = 160,
    THREAD_BYTES = 64 << 10
};

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

static int smaller_int(int a, int b)
{
    return a < b ? a : b;
}

/* ---- what the settings need ---- */

/* The program, its tokenizer and its records: tensor directory, list of items, the weights' and threads'
 * records. */
static size_t other_bytes(const struct plan *p)
{
    const struct model *m = p->model;
    return PROGRAM_BYTES + (size_t)m->shape.n_vocab * TOKEN_BYTES + (size_t)m->dir->n_tensor * TENSOR_BYTES +
           (size_t)p->n_item * sizeof *p->item + (size_t)p->n_experts * EXPERT_BYTES +
           (size_t)p->opt.threads * THREAD_BYTES;
}

/* While the tokenizer is read, and nothing else is there yet. */
static size_t text_peak(const struct model *m)
{
    return m->kind == MODEL_GGUF ? 0 : PROGRAM_BYTES + (size_t)m->shape.n_vocab * TOKEN_JSON_BYTES;
}

/* Panels wait in a ring (load/pipeline.h), each thread has a strip. Matrices are open while some of their
 * panels are done: at most two of any size, the rest of those in the ring are smaller than a panel. */
static size_t staging_bytes(const struct plan *p)
{
    const struct plan_staging *s = &p->staging;
    size_t threads = (size_t)p->opt.threads, ring = threads + PLAN_READERS + PLAN_PANELS_READ;
    size_t small = PLAN_PANEL_FLOATS / 64 * 3 * sizeof(float);
    size_t open = s->absmax + s->plane, extent = p->experts_on_disk && p->pack ? p->expert_bytes : 0;
    return ring * (align_up(s->scratch, PLAN_PAGE) + PLAN_PAGE) + threads * align_up(s->panel, PLAN_ALIGN) +
           2 * open + ring * (open < small ? open : small) + (threads + 1) * extent;
}

/* Fills every total from the settings in p->opt, experts_on_disk and cache_slots; gives the RAM that they
 * need. */
static size_t add_up(struct plan *p, const struct plan_sums *sums)
{
    size_t sessions = (size_t)p->opt.sessions, state = 0, session = 0;
    if (p->opt.session_bytes)
        session = p->opt.session_bytes(&p->model->shape, p->has_mtp, &p->opt, &state);
    p->state_bytes = sessions * state;
    p->kv_bytes = sessions * (session - state);
    p->work_bytes = p->opt.work_bytes ? p->opt.work_bytes(&p->model->shape, p->has_mtp, &p->opt) : 0;
    p->weights_bytes = sums->dense_bytes + (p->experts_on_disk ? 0 : sums->expert_bytes);
    p->cache_bytes = p->experts_on_disk ? (size_t)p->cache_slots * p->expert_bytes : 0;
    p->disk_bytes = p->experts_on_disk && p->pack ? sums->extents_bytes : 0;
    p->staging_bytes = staging_bytes(p);
    p->other_bytes = other_bytes(p);
    p->total_bytes =
        p->weights_bytes + p->cache_bytes + p->kv_bytes + p->state_bytes + p->work_bytes + p->other_bytes;
    p->peak_load_bytes = larger(p->weights_bytes + p->staging_bytes + p->other_bytes, text_peak(p->model));
    return larger(p->total_bytes, p->peak_load_bytes);
}

/* ---- choosing ---- */

struct choice {
    struct plan *p;
    const struct plan_sums *sums;
    int ctx_min, ctx_max, batch_min, batch_max;
};

static size_t needs(const struct choice *c, int ctx, int batch)
{
    c->p->opt.ctx = ctx;
    c->p->opt.batch = batch;
    return add_up(c->p, c->sums);
}

/* The largest context, in steps of 1,024, that stays within the limit; the smallest one does. */
static void longest_context(const struct choice *c, size_t limit)
{
    int low = c->ctx_min, high = c->ctx_max;
    while (high - low > 1024) {
        int middle = low + (high - low) / 2 / 1024 * 1024;
        middle = middle > low ? middle : low + 1024;
        *(needs(c, middle, c->batch_max) <= limit ? &low : &high) = middle;
    }
    needs(c, low, c->batch_max);
}

/* Sets context and batch as large as the limit allows; false when the smallest ones exceed it. */
static bool choose_settings(const struct choice *c, size_t limit)
{
    if (needs(c, c->ctx_max, c->batch_max) <= limit)
        return true;
    if (needs(c, c->ctx_min, c->batch_max) <= limit) {
        longest_context(c, limit);
        return true;
    }
    for (int batch = c->batch_max / 2; batch >= c->batch_min; batch /= 2)
        if (needs(c, c->ctx_min, batch) <= limit)
            return true;
    return needs(c, c->ctx_min, c->batch_min) <= limit;
}

/* Fewer slots than a step can hold, and the streaming of one layer would wait for the computing of the same
 * layer. */
static int least_slots(const struct plan *p)
{
    int k = p->model->shape.top_k, n = 2 * k > k + 4 ? 2 * k : k + 4;
    return (uint64_t)n < p->n_experts ? n : (int)p->n_experts;
}

static bool disk_possible(const struct plan *p, const struct plan_sums *sums)
{
    if (p->n_experts == 0 || p->asked.no_disk || (!p->machine.here && p->machine.disk_free == 0))
        return false;
    return !sums->pack || (!p->asked.no_pack && sums->extents_bytes <= p->machine.disk_free);
}

/* Experts on disk: context and batch from a quarter of what the least settings leave, the rest for the cache.
 */
static bool choose_on_disk(const struct choice *c)
{
    struct plan *p = c->p;
    p->experts_on_disk = true;
    p->cache_slots = least_slots(p);
    size_t least = needs(c, c->ctx_min, c->batch_min), budget = p->budget_bytes;
    if (least > budget)
        return false;
    size_t spare = budget - least;
    choose_settings(c, least + spare / 4);
    bool all = p->opt.ctx == c->ctx_max && p->opt.batch == c->batch_max;
    size_t room = all ? budget - larger(p->total_bytes, p->peak_load_bytes) : spare - spare / 4;
    uint64_t more = room / p->expert_bytes, most = p->n_experts - (uint64_t)p->cache_slots;
    p->cache_slots += (int)(more < most ? more : most);
    add_up(p, c->sums);
    return true;
}

static void fill_options(struct plan *p)
{
    struct plan_options *o = &p->opt;
    o->sessions = o->sessions ? o->sessions : 1;
    o->logits = o->logits ? o->logits : 1;
    o->kv_type = o->kv_type ? o->kv_type : QTYPE_F16;
    o->threads = o->threads ? o->threads : p->machine.usable_cores > 0 ? p->machine.usable_cores : 1;
    size_t ram = machine_ram(&p->machine);
    p->budget_bytes = o->ram_budget ? o->ram_budget : ram ? ram : SIZE_MAX;
}

static struct choice range_of(struct plan *p, const struct plan_sums *sums)
{
    int train = p->model->shape.n_ctx_train > 0 ? p->model->shape.n_ctx_train : PLAN_CTX_DEFAULT;
    int ctx = p->asked.ctx, batch = p->asked.batch;
    return (struct choice){ .p = p,
                            .sums = sums,
                            .ctx_min = ctx ? ctx : smaller_int(train, PLAN_CTX_MIN),
                            .ctx_max = ctx ? ctx : smaller_int(train, PLAN_CTX_DEFAULT),
                            .batch_min = batch ? batch : PLAN_BATCH_MIN,
                            .batch_max = batch ? batch : PLAN_BATCH_DEFAULT };
}

static void decide(struct plan *p, const struct plan_sums *sums)
{
    const struct choice c = range_of(p, sums);
    bool disk = disk_possible(p, sums);
    bool pack_asked = p->n_experts && !p->asked.no_disk && !p->asked.no_pack && sums->pack;
    p->pack_too_large = pack_asked && sums->extents_bytes > p->machine.disk_free ? sums->extents_bytes : 0;
    p->pack = sums->pack;
    p->expert_bytes = sums->slot_bytes;
    p->experts_on_disk = disk;
    p->cache_slots = disk ? least_slots(p) : 0;
    p->minimum_ram_bytes = needs(&c, c.ctx_min, c.batch_min);
    p->experts_on_disk = false;
    p->cache_slots = 0;
    p->fits = choose_settings(&c, p->budget_bytes) || (disk && choose_on_disk(&c));
    if (!p->fits) { /* the table shows the least that was tried */
        p->experts_on_disk = disk;
        p->cache_slots = disk ? least_slots(p) : 0;
        needs(&c, c.ctx_min, c.batch_min);
    }
    p->pack = p->pack && p->experts_on_disk;
}

/* ---- the whole ---- */

static int complete(struct plan *p, struct err *e)
{
    struct plan_sums sums;
    fill_options(p);
    int rc = plan_size(p, &sums, e);
    if (rc)
        return rc;
    decide(p, &sums);
    plan_place(p);
    plan_expect(p);
    return 0;
}

static struct plan *start(const struct model *m, const struct machine *machine,
                          const struct plan_options *opt, struct err *e)
{
    struct plan *p = calloc(1, sizeof *p);
    if (!p) {
        err_set(e, ERR_MEMORY, "no memory for the plan");
        return NULL;
    }
    p->model = m;
    p->machine = *machine;
    p->opt = p->asked = *opt;
    p->has_mtp = m->shape.n_mtp > 0 && !opt->skip_mtp;
    return p;
}

static int finish(struct plan **out, struct plan *p, int rc)
{
    if (rc)
        plan_close(&p);
    *out = p;
    return rc;
}

int plan_build(struct plan **out, const struct model *m, const struct machine *machine,
               const struct plan_options *opt, struct err *e)
{
    struct plan *p = *out = start(m, machine, opt, e);
    if (!p)
        return ERR_MEMORY;
    int rc = plan_list(p, e);
    return finish(out, p, rc ? rc : complete(p, e));
}

int plan_vary(struct plan **out, const struct plan *p, const struct plan_options *opt, struct err *e)
{
    if (opt->skip_mtp != p->asked.skip_mtp)
        return plan_build(out, p->model, &p->machine, opt, e);
    struct plan *v = *out = start(p->model, &p->machine, opt, e);
    if (!v)
        return ERR_MEMORY;
    v->n_item = p->n_item;
    v->n_dense = p->n_dense;
    v->n_experts = p->n_experts;
    v->item = malloc((size_t)p->n_item * sizeof *v->item);
    if (v->item)
        memcpy(v->item, p->item, (size_t)p->n_item * sizeof *v->item);
    int rc =
        v->item ? complete(v, e) : err_set(e, ERR_MEMORY, "no memory for a list of %d weights", p->n_item);
    return finish(out, v, rc);
}

void plan_close(struct plan **pp)
{
    struct plan *p = *pp;
    *pp = NULL;
    if (!p)
        return;
    free(p->item);
    free(p);
}
