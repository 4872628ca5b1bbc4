/*
 * read_queue.h: reads of files that go on while the caller computes: through io_uring, or, where the system
 * refuses that (containers, old kernels), by a few threads. Knows nothing of experts; expert_stream.c does.
 *
 * Threads: one thread at a time may call.
 */
#ifndef TONNE_ENGINE_READ_QUEUE_H
#define TONNE_ENGINE_READ_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

struct io_uring;
struct read_queue;

/* What is asked of the system; tests put failures here. All give -errno on failure. */
struct read_io {
    void *user;
    int (*open)(void *user, const char *path, int flags);
    ssize_t (*read)(void *user, int fd, void *to, size_t n, uint64_t offset);
    int (*ring_open)(void *user, struct io_uring *ring, unsigned entries);
    int (*ring_submit)(void *user, struct io_uring *ring, unsigned wait_for); /* reads taken by the kernel */
    int (*ring_result)(void *user, int fd, uint64_t offset, size_t n,
                       int res); /* gives res as it is believed */
};
extern const struct read_io read_io_system;

struct read { /* the caller's; lent to the queue from push until take gives it back */
    int fd;
    void *to;
    size_t n;
    uint64_t offset;
    ssize_t res; /* filled: bytes, may be fewer than n; or -errno */
    struct read *next;
};

/* Gives a queue with up to `depth` reads under way in the system. ERR_MEMORY. */
int read_queue_open(struct read_queue **out, int depth, const struct read_io *io, struct err *e);
/* Ends threads and ring; every read must have been taken. NULL is fine. */
void read_queue_close(struct read_queue **q);
bool read_queue_has_ring(const struct read_queue *q); /* false: threads */

void read_queue_push(struct read_queue *q, struct read *r);
/* Hands what was pushed to the system. */
void read_queue_start(struct read_queue *q);
/* A read that has ended, in any order; waits for one when none has yet, and NULL when none is left or !wait.
 */
struct read *read_queue_take(struct read_queue *q, bool wait);

#endif
