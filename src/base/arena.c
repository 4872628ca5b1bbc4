/* arena.c: see arena.h. */
#include "base/arena.h"

#include "base/checked.h"

void *arena_take(struct arena *a, size_t bytes)
{
    size_t at = a->used;
    a->used = align_up(at + bytes, ARENA_ALIGN);
    if (!a->base || a->used > a->capacity)
        return NULL;
    return a->base + at;
}
