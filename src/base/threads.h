/*
 * threads.h: one pool of workers, started once, pinned to cores, used by kernels, loading and quantizing.
 *
 * A job is one function that all threads run together (the caller is thread 0). Inside a job, threads meet at
 * threads_barrier and share work through a threads_next counter. Waiting spins briefly, then yields, then
 * sleeps, so that an idle pool costs nothing and an oversubscribed machine does not stall for milliseconds.
 */
#ifndef TONNE_BASE_THREADS_H
#define TONNE_BASE_THREADS_H

#include <stdatomic.h>
#include <stdint.h>

#include "base/err.h"

struct threads;

/* One job: thread is 0..threads_count(t)-1. */
typedef void (*threads_fn)(void *arg, struct threads *t, int thread);

/* Gives a pool of n threads (n - 1 workers and the caller), pinned one to a physical core where the topology
 * is known and the process may use that many; n <= 0: threads_default(). ERR_MEMORY when threads cannot
 * start. */
int threads_open(struct threads **out, int n, struct err *e);
void threads_close(struct threads **t); /* joins the workers; NULL is fine */

int threads_count(const struct threads *t);

/* Physical cores this process may use: affinity mask and cgroup CPU quota considered; at least 1. */
int threads_default(void);

/* Runs fn on every thread and returns when all are done. One job at a time; not from inside a job. */
void threads_run(struct threads *t, threads_fn fn, void *arg);

/* Inside a job: returns when every thread has arrived. */
void threads_barrier(struct threads *t);

/* Inside a job: a shared counter that hands out 0, 1, 2, ... each once; every job starts at 0. After a
 * barrier at which thread 0 called threads_rewind, it starts at 0 again: threads_barrier(t); if (thread == 0)
 * threads_rewind(t); threads_barrier(t);                          */
int64_t threads_next(struct threads *t);
void threads_rewind(struct threads *t);

/* The contiguous share of [0, n) that thread gets when all threads get the same; rounded to multiples of
 * step. */
struct range {
    int64_t begin, end;
};
struct range threads_share(const struct threads *t, int thread, int64_t n, int64_t step);

#endif
