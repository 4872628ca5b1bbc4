/*
 * expert_cache.c: see expert_cache.h. Each token uses some 10 of 512 experts in each of 60 layers, and the
 * next one many of the same. A hit is a pointer; a miss is a read from disk that the step may have to wait
 * for.
 *
 * Lives here:      slots, whom to evict, counts.
 * Lives elsewhere: reading (expert_stream.c), order of computing (moe.c), how many slots (plan/).
 * Invariant:       a slot that index[] names is LOADING, READY or FAILED; the list holds all slots but the
 * pinned and loading ones, least recently used first.
 */
#include "engine/expert_cache.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/clock.h"
#include "base/mem.h"

enum { NONE = -1, MAX_COMPARED = 64, MAX_USES = 1 << 30, MAX_COMING = 1024, FRESH_STEPS = 16 };

enum slot_state { SLOT_FREE, SLOT_LOADING, SLOT_READY, SLOT_FAILED };

struct slot {
    int layer, expert;
    enum slot_state state;
    int pins;
    bool cold;      /* one of a stream: the next to be evicted, unless it is pinned again */
    bool ahead;     /* read ahead and not asked for yet */
    uint64_t step;  /* of the last use; 0: cold */
    int prev, next; /* in the list; both NONE and not `listed`: not in it */
    bool listed;
};

struct expert_cache {
    const struct expert_source *source;
    struct expert_stream *stream;
    struct mem data; /* [n_slot][slot_bytes] */
    struct slot *slot;
    int n_slot;
    int coming, max_coming; /* experts on their way from disk */
    int32_t *index;         /* [n_layer][n_expert] slot or NONE */
    uint32_t *uses;         /* [n_layer][n_expert] how often pinned; outlives the slot */
    int n_begun;            /* slots [n_begun, n_slot) were never used and are not in the list */
    int first, last;        /* the list: next to be evicted .. most recently used */
    uint64_t step;
    struct expert_cache_stats stats;
    pthread_t filler; /* see fill_pages */
    bool has_filler;
    atomic_bool stop_filler;
};

/* ---- the list ---- */

static void unlink_slot(struct expert_cache *c, int i)
{
    struct slot *s = &c->slot[i];
    if (!s->listed)
        return;
    *(s->prev == NONE ? &c->first : &c->slot[s->prev].next) = s->next;
    *(s->next == NONE ? &c->last : &c->slot[s->next].prev) = s->prev;
    s->listed = false;
}

static void link_slot(struct expert_cache *c, int i, bool at_front)
{
    struct slot *s = &c->slot[i];
    s->prev = at_front ? NONE : c->last;
    s->next = at_front ? c->first : NONE;
    *(s->prev == NONE ? &c->first : &c->slot[s->prev].next) = i;
    *(s->next == NONE ? &c->last : &c->slot[s->next].prev) = i;
    s->listed = true;
}

static size_t entry(const struct expert_cache *c, int layer, int expert)
{
    return (size_t)layer * (size_t)c->source->n_expert + (size_t)expert;
}

static size_t entry_of(const struct expert_cache *c, const struct slot *s)
{
    return entry(c, s->layer, s->expert);
}

/* The slot to be given away: the least recently used; among those of the same step the least often used. */
static int victim(struct expert_cache *c)
{
    if (c->n_begun < c->n_slot)
        return c->n_begun++;
    int best = c->first;
    if (best == NONE || c->slot[best].state != SLOT_READY || c->slot[best].step == 0)
        return best;
    int n = 0;
    for (int i = best; i != NONE && n < MAX_COMPARED && c->slot[i].step == c->slot[c->first].step; n++) {
        if (c->uses[entry_of(c, &c->slot[i])] < c->uses[entry_of(c, &c->slot[best])])
            best = i;
        i = c->slot[i].next;
    }
    return best;
}

static void forget(struct expert_cache *c, struct slot *s)
{
    if (s->state != SLOT_FREE)
        c->index[entry_of(c, s)] = NONE;
    s->state = SLOT_FREE;
    s->step = 0;
}

/* ---- opening ---- */

enum { FILL_BYTES = 32 << 20 };

/* The system clears a page when it is first used; reads into fresh slots would wait for that, gigabytes of
 * it, with the step waiting for them. So a thread asks for all pages from the first slot on. Where it cannot,
 * nothing is lost. */
static void *fill_pages(void *arg)
{
    struct expert_cache *c = arg;
    size_t end = (size_t)c->n_slot * c->source->slot_bytes;
    for (size_t at = 0, n; at < end && !atomic_load(&c->stop_filler); at += n) {
        n = end - at < FILL_BYTES ? end - at : FILL_BYTES;
        if (madvise((char *)c->data.ptr + at, n, MADV_POPULATE_WRITE))
            break;
    }
    return NULL;
}

int expert_cache_open(struct expert_cache **out, const struct expert_cache_options *opt, struct err *e)
{
    const struct expert_source *src = opt->source;
    size_t n_expert = (size_t)src->n_layer * (size_t)src->n_expert;
    struct expert_cache *c = calloc(1, sizeof *c);
    if (!c)
        return err_set(e, ERR_MEMORY, "no memory for the expert cache");
    c->source = src;
    c->n_slot = (size_t)opt->slots < n_expert ? opt->slots : (int)n_expert;
    c->max_coming = c->n_slot < MAX_COMING ? c->n_slot : MAX_COMING;
    c->first = c->last = NONE;
    c->slot = calloc((size_t)c->n_slot, sizeof *c->slot);
    c->index = malloc(n_expert * sizeof *c->index);
    c->uses = calloc(n_expert, sizeof *c->uses);
    uint64_t bytes = 0;
    int rc = c->slot && c->index && c->uses ? 0 : err_set(e, ERR_MEMORY, "no memory for the expert cache");
    if (!rc && !checked_mul((uint64_t)c->n_slot, src->slot_bytes, &bytes))
        rc = err_set(e, ERR_MEMORY, "%d experts of %zu bytes are more than memory can be", c->n_slot,
                     src->slot_bytes);
    if (!rc)
        rc = mem_ram(&c->data, (size_t)bytes, "the expert cache", e);
    struct expert_stream_options stream = { .source = src, .max_experts = c->max_coming, .io = opt->io };
    if (!rc)
        rc = expert_stream_open(&c->stream, &stream, e);
    if (rc) {
        expert_cache_close(&c);
        return rc;
    }
    for (size_t i = 0; i < n_expert; i++)
        c->index[i] = NONE;
    c->has_filler = pthread_create(&c->filler, NULL, fill_pages, c) == 0;
    *out = c;
    return 0;
}

void expert_cache_close(struct expert_cache **cp)
{
    struct expert_cache *c = *cp;
    *cp = NULL;
    if (!c)
        return;
    if (c->has_filler) {
        atomic_store(&c->stop_filler, true);
        pthread_join(c->filler, NULL);
    }
    expert_stream_close(&c->stream);
    mem_free(&c->data);
    free(c->slot);
    free(c->index);
    free(c->uses);
    free(c);
}

/* ---- pins ---- */

void expert_cache_step(struct expert_cache *c)
{
    c->step++;
}

bool expert_cache_has(const struct expert_cache *c, int layer, int32_t id)
{
    return c->index[entry(c, layer, id)] != NONE;
}

static void *slot_data(const struct expert_cache *c, int i)
{
    return (char *)c->data.ptr + (size_t)i * c->source->slot_bytes;
}

static int pin_hit(struct expert_cache *c, int i, enum cache_use use)
{
    struct slot *s = &c->slot[i];
    unlink_slot(c, i);
    s->pins++;
    if (use == CACHE_AHEAD)
        return i;
    c->stats.hits++;
    s->cold = s->ahead && use == CACHE_STREAM; /* asked for again: no longer one that passes by */
    s->ahead = false;
    s->step = s->cold ? 0 : c->step;
    return i;
}

/* The slot the expert is read into, or NONE. */
static int pin_miss(struct expert_cache *c, int layer, int32_t id, enum cache_use use)
{
    int i = c->coming < c->max_coming ? victim(c) : NONE;
    if (i == NONE)
        return NONE;
    struct slot *s = &c->slot[i];
    unlink_slot(c, i);
    forget(c, s);
    s->layer = layer;
    s->expert = id;
    s->state = SLOT_LOADING;
    s->pins = 1;
    s->cold = use != CACHE_KEEP;
    s->ahead = use == CACHE_AHEAD;
    s->step = s->cold ? 0 : c->step;
    c->index[entry(c, layer, id)] = i;
    *(use == CACHE_AHEAD ? &c->stats.ahead : &c->stats.misses) += 1;
    c->coming++;
    expert_stream_start(c->stream, layer, id, slot_data(c, i), i);
    return i;
}

int expert_cache_pin(struct expert_cache *c, int layer, const int32_t *ids, int n, enum cache_use use)
{
    int done = 0;
    for (; done < n; done++) {
        int i = c->index[entry(c, layer, ids[done])];
        i = i == NONE ? pin_miss(c, layer, ids[done], use) : pin_hit(c, i, use);
        if (i == NONE)
            break;
        if (use == CACHE_AHEAD)
            continue;
        c->stats.pinned++;
        uint32_t *uses = &c->uses[entry(c, layer, ids[done])];
        *uses += *uses < MAX_USES;
    }
    expert_stream_submit(c->stream);
    return done;
}

/* Whether all that is kept was used lately: then a stream has no business in the cache. */
static bool all_fresh(const struct expert_cache *c)
{
    int i = c->first, n = 0;
    while (i != NONE && c->slot[i].step == 0 && n++ < MAX_COMPARED)
        i = c->slot[i].next;
    return i == NONE || c->slot[i].step == 0 || c->step - c->slot[i].step <= FRESH_STEPS;
}

/* A slot that nobody holds goes back to the list: behind the recently used, or to be given away next. */
static void release(struct expert_cache *c, int i)
{
    struct slot *s = &c->slot[i];
    if (s->pins || s->state == SLOT_LOADING)
        return;
    if (s->state == SLOT_FAILED)
        forget(c, s);
    if (s->cold && !s->ahead && !all_fresh(c)) {
        s->cold = false;
        s->step = c->step;
    }
    link_slot(c, i, s->cold || s->state == SLOT_FREE);
}

void expert_cache_unpin(struct expert_cache *c, int layer, const int32_t *ids, int n)
{
    for (int k = 0; k < n; k++) {
        int i = c->index[entry(c, layer, ids[k])];
        c->slot[i].pins--;
        release(c, i);
    }
}

/* Takes note of one expert that has arrived. Returns false when there is none. */
static bool take_arrival(struct expert_cache *c, bool wait, int *rc, struct err *e)
{
    int i;
    *rc = expert_stream_next(c->stream, wait, &i, e);
    if (i < 0)
        return false;
    c->coming--;
    c->slot[i].state = *rc ? SLOT_FAILED : SLOT_READY;
    release(c, i);
    return true;
}

void expert_cache_drop_pins(struct expert_cache *c)
{
    int rc;
    while (take_arrival(c, true, &rc, NULL))
        ;
    for (int i = 0; i < c->n_begun; i++) {
        if (c->slot[i].listed)
            continue;
        c->slot[i].pins = 0;
        release(c, i);
    }
}

/* ---- what is there ---- */

static struct qmat placed(struct qmat m, const struct expert_place *p, const char *slot,
                          struct expert_part data, struct expert_part scale)
{
    const struct expert_extent *x = &p->extent[data.extent];
    m.data = slot + x->region + x->offset % EXPERT_PAGE + data.at;
    m.scale = NULL;
    if (scale.extent >= 0) {
        x = &p->extent[scale.extent];
        m.scale = slot + x->region + x->offset % EXPERT_PAGE + scale.at;
    }
    return m;
}

bool expert_cache_get(struct expert_cache *c, int layer, int32_t id, struct mlp_weights *w)
{
    int i = c->index[entry(c, layer, id)];
    if (i == NONE || c->slot[i].state != SLOT_READY)
        return false;
    const struct expert_layout *l = &c->source->layout[layer];
    const struct expert_place *p = expert_place_of(c->source, layer, id);
    const char *slot = slot_data(c, i);
    w->gate = placed(l->shape.gate, p, slot, l->gate, l->gate_scale);
    w->up = placed(l->shape.up, p, slot, l->up, l->up_scale);
    w->down = placed(l->shape.down, p, slot, l->down, l->down_scale);
    return true;
}

int expert_cache_poll(struct expert_cache *c, bool wait, struct err *e)
{
    double since = wait ? clock_seconds() : 0;
    int rc;
    bool any = take_arrival(c, wait, &rc, e);
    if (wait)
        c->stats.stall_seconds += clock_seconds() - since;
    while (any && !rc)
        any = take_arrival(c, false, &rc, e);
    return rc;
}

struct expert_cache_stats expert_cache_stats(const struct expert_cache *c)
{
    struct expert_cache_stats s = c->stats;
    struct expert_stream_stats stream = expert_stream_stats(c->stream);
    s.bytes = stream.bytes;
    s.direct = stream.direct;
    s.ring = stream.ring;
    s.slots = c->n_slot;
    s.slot_bytes = c->source->slot_bytes;
    return s;
}
