/*
 * arena.h: one block carved in a fixed order. Walk the same carving function twice: over an empty arena it
 * measures, over a real one it places, so the size and the placement cannot disagree.
 */
#ifndef TONNE_BASE_ARENA_H
#define TONNE_BASE_ARENA_H

#include <stddef.h>

struct arena {
    char *base;      /* NULL: measuring */
    size_t used;     /* bytes taken so far */
    size_t capacity; /* of base */
};

enum { ARENA_ALIGN = 64 }; /* a cache line and an AVX-512 vector */

/* Takes bytes, 64-byte aligned. NULL while measuring, or when a real arena is too small (a programming
 * error: measure with the same function). base must be 64-byte aligned. */
void *arena_take(struct arena *a, size_t bytes);

#endif
