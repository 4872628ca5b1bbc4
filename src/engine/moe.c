/*
 * moe.c: the experts of a layer: routing, then one call of the device when they are in memory. Experts on
 * disk are computed as they arrive: hits while misses are read, each miss when it lands. Sums are made in
 * ascending order of ids whatever arrives first, so placement never shows in a result.
 *
 * A long prompt uses more experts than the cache may hold. Then the layer's experts pass through a window of
 * slots in ascending order: the lowest are added up and leave while the next are being read.
 *
 * Lives elsewhere: whom to evict (expert_cache.c), reading (expert_stream.c), arithmetic (device/).
 */
#include <stdlib.h>
#include <string.h>

#include "engine/internal.h"

enum { STREAM_WINDOW = 32, MAX_AHEAD = 16 }; /* experts of a stream in slots at once; of the next layer */

struct moe_disk {
    struct expert_cache *cache;
    struct mlp_weights *expert; /* [n_expert] of the layer: shapes of all, data of those in the window */
    int32_t *ids;               /* [max_batch][top_k] host copy of the routing */
    int32_t *used, *list;       /* [n_expert] chosen ones, ascending; those of one call */
    bool *hidden;               /* [n_expert] of used[i]: its hidden values are computed */
    int n_slot, n_moe_layer;
    int32_t ahead[MAX_AHEAD]; /* experts of ahead_layer that are pinned before it is routed */
    int n_ahead, ahead_layer;
};

/* ---- opening ---- */

static int open_cache(struct engine *en, struct err *e)
{
    struct moe_disk *k = en->disk;
    const struct shape *s = &en->w->shape;
    size_t n_expert = (size_t)s->n_expert;
    struct expert_cache_options opt = { .source = en->w->disk,
                                        .io = en->opt.read_io,
                                        .slots = en->opt.expert_slots ? en->opt.expert_slots : s->top_k };
    if (opt.slots < 1)
        return err_set(e, ERR_USAGE, "a cache of %d experts; at least one is needed", opt.slots);
    k->expert = calloc(n_expert, sizeof *k->expert);
    k->ids = calloc((size_t)en->opt.max_batch * (size_t)s->top_k, sizeof *k->ids);
    k->used = calloc(n_expert, sizeof *k->used);
    k->list = calloc(n_expert, sizeof *k->list);
    k->hidden = calloc(n_expert, sizeof *k->hidden);
    if (!k->expert || !k->ids || !k->used || !k->list || !k->hidden)
        return err_set(e, ERR_MEMORY, "no memory for the records of experts on disk");
    for (int i = 0; i < s->n_layer; i++)
        k->n_moe_layer += s->moe[i];
    int rc = expert_cache_open(&k->cache, &opt, e);
    if (!rc)
        k->n_slot = expert_cache_stats(k->cache).slots;
    return rc;
}

int moe_open(struct engine *en, struct err *e)
{
    if (!en->w->disk)
        return 0;
    en->disk = calloc(1, sizeof *en->disk);
    if (!en->disk)
        return err_set(e, ERR_MEMORY, "no memory for the records of experts on disk");
    return open_cache(en, e); /* moe_close follows also when this fails */
}

void moe_close(struct engine *en)
{
    struct moe_disk *k = en->disk;
    if (!k)
        return;
    expert_cache_close(&k->cache);
    free(k->expert);
    free(k->ids);
    free(k->used);
    free(k->list);
    free(k->hidden);
    free(k);
    en->disk = NULL;
}

void moe_step(struct engine *en)
{
    if (en->disk)
        expert_cache_step(en->disk->cache);
}

struct expert_cache_stats engine_expert_stats(const struct engine *en)
{
    return en->disk ? expert_cache_stats(en->disk->cache) : (struct expert_cache_stats){ 0 };
}

/* ---- one layer's experts from disk ---- */

struct walk {
    struct engine *en;
    struct moe_args args;
    int layer;
    enum cache_use use;
    int n_used;
    int pinned, added; /* used[0..added) are done with, used[added..pinned) in slots or on their way */
    bool begun;
};

static int find_used(struct engine *en, const struct moe_args *a, int *n_used, struct err *e)
{
    struct moe_disk *k = en->disk;
    size_t n = (size_t)a->n_rows * (size_t)a->top_k;
    int rc = en->d->ops->download(en->d, k->ids, a->ids, n * sizeof *k->ids, e);
    if (rc)
        return rc;
    memset(k->hidden, 0, (size_t)a->n_expert * sizeof *k->hidden);
    for (size_t i = 0; i < n; i++)
        k->hidden[k->ids[i]] = true;
    *n_used = 0;
    for (int x = 0; x < a->n_expert; x++)
        if (k->hidden[x])
            k->used[(*n_used)++] = x;
    memset(k->hidden, 0, (size_t)a->n_expert * sizeof *k->hidden);
    return 0;
}

static void release_ahead(struct moe_disk *k)
{
    expert_cache_unpin(k->cache, k->ahead_layer, k->ahead, k->n_ahead);
    k->n_ahead = 0;
}

/* A batch that uses most experts of this layer will use most of the next one's: the first of these are read
 * while this layer ends and the next one mixes. */
static void read_ahead(const struct walk *w)
{
    struct moe_disk *k = w->en->disk;
    const struct shape *s = &w->en->w->shape;
    int next = w->layer + 1, most = k->n_slot / 4 < MAX_AHEAD ? k->n_slot / 4 : MAX_AHEAD, n = 0;
    if (w->use != CACHE_STREAM || 2 * w->n_used <= s->n_expert || next >= s->n_layer || !s->moe[next] ||
        k->n_ahead)
        return;
    for (int32_t x = 0; x < s->n_expert && n < most; x++)
        if (!expert_cache_has(k->cache, next, x))
            k->ahead[n++] = x;
    k->ahead_layer = next;
    k->n_ahead = expert_cache_pin(k->cache, next, k->ahead, n, CACHE_AHEAD);
}

static void pin_more(struct walk *w)
{
    struct moe_disk *k = w->en->disk;
    int end =
        w->use == CACHE_STREAM && w->added + STREAM_WINDOW < w->n_used ? w->added + STREAM_WINDOW : w->n_used;
    if (w->pinned < end)
        w->pinned += expert_cache_pin(k->cache, w->layer, k->used + w->pinned, end - w->pinned, w->use);
    if (w->pinned == w->n_used)
        read_ahead(w);
}

/* Fills list with the experts of the window that have arrived since the last time. */
static int take_arrived(struct walk *w)
{
    struct moe_disk *k = w->en->disk;
    int n = 0;
    for (int i = w->added; i < w->pinned; i++) {
        int32_t id = k->used[i];
        if (k->hidden[i] || !expert_cache_get(k->cache, w->layer, id, &k->expert[id]))
            continue;
        k->hidden[i] = true;
        k->list[n++] = id;
    }
    return n;
}

static int call_parts(struct walk *w, int parts, const int32_t *list, int n, struct err *e)
{
    struct engine *en = w->en;
    w->args.parts = parts;
    w->args.list = list;
    w->args.n_list = n;
    return en->d->ops->moe(en->d, &w->args, e);
}

/* Computes what has arrived, and adds up and lets go the lowest ids where all is there or slots are wanted.
 * Fills *idle when nothing could be done. */
static int compute(struct walk *w, bool *idle, struct err *e)
{
    struct moe_disk *k = w->en->disk;
    int n = take_arrived(w), to = w->added, rc = 0;
    while (to < w->pinned && k->hidden[to])
        to++;
    bool add = to == w->n_used || (to > w->added && w->pinned < w->n_used);
    int first = MOE_HIDDEN | (w->begun ? 0 : MOE_BEGIN), last = MOE_ADD | (to == w->n_used ? MOE_END : 0);
    *idle = n == 0 && w->begun && !add;
    bool together = add && n && n == to - w->added && k->list[n - 1] == k->used[to - 1];
    if (together)
        rc = call_parts(w, first | last, k->list, n, e);
    else if (n || !w->begun)
        rc = call_parts(w, first, k->list, n, e);
    w->begun = true;
    if (!rc && add && !together)
        rc = call_parts(w, last, k->used + w->added, to - w->added, e);
    if (!rc && add)
        rc = w->en->d->ops->sync(w->en->d, e); /* slots are read until here */
    if (!rc && add) {
        expert_cache_unpin(k->cache, w->layer, k->used + w->added, to - w->added);
        w->added = to;
    }
    return rc;
}

static int walk_experts(struct walk *w, struct err *e)
{
    struct expert_cache *cache = w->en->disk->cache;
    int rc = 0;
    while (w->added < w->n_used && !rc) {
        bool idle;
        pin_more(w);
        rc = expert_cache_poll(cache, false, e);
        if (!rc)
            rc = compute(w, &idle, e);
        if (!rc && idle)
            rc = expert_cache_poll(cache, true, e);
    }
    return rc;
}

static int moe_from_disk(struct engine *en, const struct moe_args *args, int layer, struct err *e)
{
    struct moe_disk *k = en->disk;
    struct moe_weights weights = *args->w;
    struct walk w = { .en = en, .args = *args, .layer = layer };
    release_ahead(k);
    int rc = find_used(en, args, &w.n_used, e);
    for (int x = 0; x < args->n_expert; x++)
        k->expert[x] = en->w->disk->layout[layer].shape;
    weights.expert = k->expert;
    w.args.w = &weights;
    w.use = (int64_t)w.n_used * k->n_moe_layer > k->n_slot ? CACHE_STREAM : CACHE_KEEP;
    if (!rc)
        rc = walk_experts(&w, e);
    if (rc) {
        expert_cache_drop_pins(k->cache);
        k->n_ahead = 0;
    }
    return rc;
}

int moe_forward(struct engine *en, const struct moe_weights *w, int layer, int n_rows, struct err *e)
{
    const struct shape *s = &en->w->shape;
    struct work *k = &en->work;
    struct route_args route = { .ids = k->ids,
                                .weights = k->weights,
                                .logits = k->router,
                                .x = k->normed,
                                .router = w->router,
                                .n_rows = n_rows,
                                .top_k = s->top_k,
                                .renormalise = s->norm_topk };
    int rc = en->d->ops->route(en->d, &route, e);
    if (rc)
        return rc;
    engine_show(en, "router", layer, k->router, n_rows, s->n_expert);
    struct moe_args a = { .h = k->hidden,
                          .x = k->normed,
                          .ids = k->ids,
                          .weights = k->weights,
                          .w = w,
                          .n_rows = n_rows,
                          .top_k = s->top_k,
                          .n_expert = s->n_expert };
    return en->disk ? moe_from_disk(en, &a, layer, e) : en->d->ops->moe(en->d, &a, e);
}
