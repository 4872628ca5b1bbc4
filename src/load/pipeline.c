/*
 * pipeline.c: see pipeline.h. Task i uses buffer i % n. A reader takes the next task and waits until its
 * buffer is done with the task before; a worker takes the next task in order and waits until it is read. All
 * under one lock, which tasks of megabytes hardly feel.
 */
#include "load/pipeline.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "base/mem.h"
#include "load/direct.h"

struct buffer {
    char *memory;
    const char *bytes; /* of the task, in memory */
    int64_t turn;      /* the task it belongs to */
    int64_t read;      /* the last task that has been read into it; -1: none */
};

struct pipeline {
    const struct pipeline_job *job;
    struct direct_file *file; /* [job->n_file] */
    struct mem memory;
    struct buffer *buffer;
    int n_buffer;
    pthread_t reader[PLAN_READERS];
    int n_reader;
    uint64_t total_bytes;
    double reported; /* thread 0 only */

    pthread_mutex_t lock; /* of the rest */
    pthread_cond_t read, freed;
    int64_t next_read, next_work; /* tasks */
    uint64_t done_bytes;
    struct err first; /* the first failure */
};

int pipeline_buffers(int threads)
{
    return threads + PLAN_READERS + PLAN_PANELS_READ;
}

size_t pipeline_bytes(int threads, size_t most_bytes)
{
    return (size_t)pipeline_buffers(threads) * direct_room(most_bytes);
}

static void fail(struct pipeline *p, const struct err *why)
{
    pthread_mutex_lock(&p->lock);
    if (!p->first.code)
        p->first = *why;
    pthread_cond_broadcast(&p->read);
    pthread_cond_broadcast(&p->freed);
    pthread_mutex_unlock(&p->lock);
}

/* ---- readers ---- */

/* The next task to be read, once its buffer is free; -1: no more. */
static int64_t take_read(struct pipeline *p)
{
    int64_t i = -1;
    pthread_mutex_lock(&p->lock);
    if (p->next_read < p->job->n_task && !p->first.code) {
        i = p->next_read++;
        while (p->buffer[i % p->n_buffer].turn != i && !p->first.code)
            pthread_cond_wait(&p->freed, &p->lock);
    }
    if (p->first.code)
        i = -1;
    pthread_mutex_unlock(&p->lock);
    return i;
}

static int read_task(struct pipeline *p, int64_t i, struct buffer *b, struct err *e)
{
    struct pipeline_need need = p->job->need(p->job->user, i);
    if (need.n == 0)
        return 0;
    const struct direct_file *f = &p->file[need.file];
    int rc = direct_read(f, need.offset, need.n, b->memory, &b->bytes, e);
    if (rc) {
        err_where(e, "%s, tensor \"%s\"", f->path, need.name);
        err_hint(e, "check the drive, then download the file again");
    }
    return rc;
}

static void *reader(void *arg)
{
    struct pipeline *p = arg;
    struct err why = { 0 };
    for (int64_t i; (i = take_read(p)) >= 0;) {
        struct buffer *b = &p->buffer[i % p->n_buffer];
        if (read_task(p, i, b, &why)) {
            fail(p, &why);
            break;
        }
        pthread_mutex_lock(&p->lock);
        b->read = i;
        pthread_cond_broadcast(&p->read);
        pthread_mutex_unlock(&p->lock);
    }
    return NULL;
}

/* ---- workers ---- */

static void report(struct pipeline *p, int64_t task)
{
    const struct pipeline_job *job = p->job;
    double now = clock_seconds();
    if (!job->progress || now - p->reported < 0.05)
        return;
    p->reported = now;
    struct pipeline_need need = job->need(job->user, task);
    pthread_mutex_lock(&p->lock);
    struct progress state = { p->done_bytes, p->total_bytes, job->doing, need.name };
    pthread_mutex_unlock(&p->lock);
    if (job->progress(job->progress_user, &state)) {
        struct err why = { 0 };
        err_set(&why, ERR_CANCELED, "%s was interrupted", job->doing);
        fail(p, &why);
    }
}

/* Waits until task i is read, or the end; thread 0 looks around 20 times a second, so that an interrupt is
 * heard when a drive stalls. */
static bool wait_read(struct pipeline *p, int64_t i, int thread)
{
    const struct buffer *b = &p->buffer[i % p->n_buffer];
    pthread_mutex_lock(&p->lock);
    while (b->read != i && !p->first.code) {
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_nsec += 50000000;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        if (thread != 0) {
            pthread_cond_wait(&p->read, &p->lock);
        } else if (pthread_cond_timedwait(&p->read, &p->lock, &until) == ETIMEDOUT) {
            pthread_mutex_unlock(&p->lock);
            report(p, i);
            pthread_mutex_lock(&p->lock);
        }
    }
    bool there = !p->first.code;
    pthread_mutex_unlock(&p->lock);
    return there;
}

/* The next task to be done; -1: no more. */
static int64_t take_work(struct pipeline *p)
{
    pthread_mutex_lock(&p->lock);
    int64_t i = p->next_work < p->job->n_task && !p->first.code ? p->next_work++ : -1;
    pthread_mutex_unlock(&p->lock);
    return i;
}

static void worker(void *arg, struct threads *threads, int thread)
{
    struct pipeline *p = arg;
    const struct pipeline_job *job = p->job;
    struct err why = { 0 };
    (void)threads;
    for (int64_t i; (i = take_work(p)) >= 0;) {
        struct buffer *b = &p->buffer[i % p->n_buffer];
        if (!wait_read(p, i, thread))
            break;
        if (job->work(job->user, i, thread, b->bytes, &why)) {
            fail(p, &why);
            break;
        }
        size_t n = job->need(job->user, i).n;
        pthread_mutex_lock(&p->lock);
        b->turn = i + p->n_buffer;
        p->done_bytes += n;
        pthread_cond_broadcast(&p->freed);
        pthread_mutex_unlock(&p->lock);
        if (thread == 0)
            report(p, i);
    }
}

/* ---- the whole ---- */

static int prepare(struct pipeline *p, struct err *e)
{
    const struct pipeline_job *job = p->job;
    int threads = threads_count(job->threads);
    size_t room = direct_room(job->most_bytes);
    p->n_buffer = pipeline_buffers(threads);
    p->buffer = calloc((size_t)p->n_buffer, sizeof *p->buffer);
    if (!p->buffer)
        return err_set(e, ERR_MEMORY, "no memory for the loading buffers");
    int rc = mem_ram(&p->memory, pipeline_bytes(threads, job->most_bytes), "the loading buffers", e);
    for (int i = 0; i < p->n_buffer && !rc; i++)
        p->buffer[i] = (struct buffer){ (char *)p->memory.ptr + (size_t)i * room, NULL, i, -1 };
    if (!rc)
        rc = direct_open_all(&p->file, job->file, job->n_file, e);
    for (int64_t i = 0; i < job->n_task && !rc; i++)
        p->total_bytes += job->need(job->user, i).n;
    return rc;
}

static int start_readers(struct pipeline *p, struct err *e)
{
    while (p->n_reader < PLAN_READERS) {
        if (pthread_create(&p->reader[p->n_reader], NULL, reader, p))
            return err_set(e, ERR_MEMORY, "no thread can be started for reading");
        p->n_reader++;
    }
    return 0;
}

int pipeline_run(const struct pipeline_job *job, struct err *e)
{
    struct pipeline p = { .job = job, .lock = PTHREAD_MUTEX_INITIALIZER, .freed = PTHREAD_COND_INITIALIZER };
    struct err why = { 0 };
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&p.read, &monotonic);
    int rc = prepare(&p, &why);
    if (!rc)
        rc = start_readers(&p, &why);
    if (rc)
        fail(&p, &why); /* readers that run end */
    else
        threads_run(job->threads, worker, &p);
    if (!p.first.code && p.reported == 0 && job->n_task > 0) /* the pool's other threads did all the work */
        report(&p, job->n_task - 1);
    for (int i = 0; i < p.n_reader; i++)
        pthread_join(p.reader[i], NULL);
    if (!p.first.code) /* what was read is only right if nobody wrote meanwhile */
        direct_all_unchanged(p.file, job->n_file, &p.first);
    direct_close_all(&p.file, job->n_file);
    free(p.buffer);
    mem_free(&p.memory);
    pthread_cond_destroy(&p.read);
    pthread_condattr_destroy(&monotonic);
    if (p.first.code && e)
        *e = p.first;
    return p.first.code;
}
