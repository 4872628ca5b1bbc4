/*
 * expert_cache.h: keeps routed experts that live on disk in slots of RAM between tokens.
 *
 * A caller pins the experts it is about to use, learns which are there, computes those, waits for more, and
 * unpins. Slots that are pinned or on their way from disk are never given to others. Nothing is allocated
 * after opening.
 *
 * Threads: one thread at a time may call.
 */
#ifndef TONNE_ENGINE_EXPERT_CACHE_H
#define TONNE_ENGINE_EXPERT_CACHE_H

#include "engine/expert_stream.h"

struct expert_cache;

struct expert_cache_options {
    const struct expert_source *source; /* borrowed; must outlive the cache */
    int slots;                /* experts held, all layers together, >= 1; more than there are is cut */
    const struct read_io *io; /* borrowed; NULL: the system */
};

struct expert_cache_stats {
    uint64_t pinned;       /* experts asked for */
    uint64_t hits, misses; /* of these; misses are the experts read for them */
    uint64_t ahead;        /* experts read before they were asked for */
    uint64_t bytes;        /* read from disk */
    double stall_seconds;  /* spent waiting in expert_cache_wait */
    int slots;
    size_t slot_bytes;
    bool direct, ring; /* as in expert_stream_stats */
};

/* Gives a cache with every slot free. ERR_MEMORY; ERR_FILE as expert_stream_open. */
int expert_cache_open(struct expert_cache **out, const struct expert_cache_options *opt, struct err *e);
/* Waits for what is on its way. NULL is fine. */
void expert_cache_close(struct expert_cache **c);

/* What a pin is for. */
enum cache_use {
    CACHE_KEEP,   /* likely to be used again: evicts the least recently used */
    CACHE_STREAM, /* one of a stream larger than the cache: after use it is the first to be evicted */
    CACHE_AHEAD   /* as STREAM, and not counted as use: expected to be pinned soon */
};

/* A new token, for what "recently" means: experts pinned since the last call are equally recent, and among
 * these the less often used goes first. */
void expert_cache_step(struct expert_cache *c);

/* Pins experts of a layer in this order as long as slots can be had, and begins to read those that are not
 * there. Returns how many were pinned; at least one when no slot is pinned or on its way. Each pin needs its
 * unpin. */
int expert_cache_pin(struct expert_cache *c, int layer, const int32_t *ids, int n, enum cache_use use);
void expert_cache_unpin(struct expert_cache *c, int layer, const int32_t *ids, int n);
bool expert_cache_has(const struct expert_cache *c, int layer,
                      int32_t id); /* in a slot, or on its way there */

/* Fills *w and returns true when a pinned expert is there; it stays until its unpin. */
bool expert_cache_get(struct expert_cache *c, int layer, int32_t id, struct mlp_weights *w);
/* Takes note of what has arrived; wait: waits for at least one expert. ERR_FILE when one could not be read:
 * its slot is free again when it is unpinned. */
int expert_cache_poll(struct expert_cache *c, bool wait, struct err *e);

/* After an error: waits for what is on its way and drops every pin. */
void expert_cache_drop_pins(struct expert_cache *c);

struct expert_cache_stats expert_cache_stats(const struct expert_cache *c);

#endif
