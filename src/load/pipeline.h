/*
 * pipeline.h: tasks that each need some consecutive bytes of the model's files. Reader threads bring the
 * bytes of the next tasks into a ring of buffers while the pool's threads work on those that are there, in
 * the order of the list. Memory: the ring, whatever the files' size.
 */
#ifndef TONNE_LOAD_PIPELINE_H
#define TONNE_LOAD_PIPELINE_H

#include "base/log.h"
#include "base/threads.h"
#include "model/tensor_dir.h"
#include "plan/plan.h"

struct pipeline_need { /* n bytes at offset of a file; n 0: none */
    int file;
    uint64_t offset;
    size_t n;
    const char *name; /* of the tensor, for progress and errors */
};

struct pipeline_job {
    const struct tensor_file *file; /* open */
    int n_file;
    int64_t n_task;
    size_t most_bytes; /* that a task needs */
    /* What task i needs; from any thread. */
    struct pipeline_need (*need)(void *user, int64_t i);
    /* Does task i with the bytes it needs; on the pool's threads. */
    int (*work)(void *user, int64_t i, int thread, const void *bytes, struct err *e);
    void *user;
    struct threads *threads;
    const char *doing;    /* for progress */
    progress_fn progress; /* may be NULL */
    void *progress_user;
};

/* Buffers in the ring, and their bytes, for a pool of so many threads. */
int pipeline_buffers(int threads);
size_t pipeline_bytes(int threads, size_t most_bytes);

/* Returns when every task is done, or after the first failure, with no thread left. ERR_FILE also when a file
 * was changed meanwhile; ERR_CANCELED when progress asked for the end. */
int pipeline_run(const struct pipeline_job *job, struct err *e);

#endif
