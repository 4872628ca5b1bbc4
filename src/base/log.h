/*
 * log.h: what the library may tell a user while it works. The library never prints: it calls a progress
 * function that its caller gave; cmd/ shows the line on a terminal and stays silent in a pipe.
 */
#ifndef TONNE_BASE_LOG_H
#define TONNE_BASE_LOG_H

#include <stdint.h>

struct progress {
    uint64_t done_bytes, total_bytes; /* total 0: unknown */
    const char *doing;                /* borrowed: "reading", "writing" */
    const char *item;                 /* borrowed: a tensor's or file's name */
};

/* Called from one thread at a time, at most some 20 times a second. Returning nonzero asks the work to stop
 * (it then fails with ERR_CANCELED and cleans up). */
typedef int (*progress_fn)(void *user, const struct progress *p);

#endif
