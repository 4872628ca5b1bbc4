/*
 * read_queue.c: see read_queue.h. A read is in one of three lists: todo (pushed), in the system (the ring's
 * `sent` ones the kernel may not have accepted yet, or a thread's hands), done.
 */
#include "engine/read_queue.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

enum { READ_THREADS = 8, MAX_REFUSALS = 2000 };

struct read_list {
    struct read *first, *last;
};

struct read_queue {
    const struct read_io *io;
    struct read_list todo, done;
    int depth;
    int in_system; /* reads neither todo nor done */
    bool has_ring;
    /* ring */
    struct io_uring ring;
    struct read_list sent; /* written into the ring, not yet accepted by the kernel */
    int refusals;          /* in a row, for want of memory */
    int broken;            /* -errno: the kernel accepts nothing any more */
    /* threads; the lists and in_system are under the lock then */
    pthread_mutex_t lock;
    pthread_cond_t work, ready;
    pthread_t thread[READ_THREADS];
    int n_threads;
    bool stop;
};

static void append(struct read_list *l, struct read *r)
{
    r->next = NULL;
    if (l->last)
        l->last->next = r;
    else
        l->first = r;
    l->last = r;
}

static struct read *remove_first(struct read_list *l)
{
    struct read *r = l->first;
    if (!r)
        return NULL;
    l->first = r->next;
    if (!l->first)
        l->last = NULL;
    return r;
}

/* ---- the system ---- */

static int system_open(void *user, const char *path, int flags)
{
    (void)user;
    int fd = open(path, flags);
    return fd < 0 ? -errno : fd;
}

static ssize_t system_read(void *user, int fd, void *to, size_t n, uint64_t offset)
{
    (void)user;
    ssize_t got = pread(fd, to, n, (off_t)offset);
    return got < 0 ? -errno : got;
}

static int system_ring_open(void *user, struct io_uring *ring, unsigned entries)
{
    (void)user;
    return io_uring_queue_init(entries, ring, 0);
}

static int system_ring_submit(void *user, struct io_uring *ring, unsigned wait_for)
{
    (void)user;
    return wait_for ? io_uring_submit_and_wait(ring, wait_for) : io_uring_submit(ring);
}

static int system_ring_result(void *user, int fd, uint64_t offset, size_t n, int res)
{
    (void)user, (void)fd, (void)offset, (void)n;
    return res;
}

const struct read_io read_io_system = {
    .open = system_open,
    .read = system_read,
    .ring_open = system_ring_open,
    .ring_submit = system_ring_submit,
    .ring_result = system_ring_result,
};

/* ---- ring ---- */

/* Accepted reads leave `sent`. After a lasting failure what was not accepted ends with it. */
static void ring_submit(struct read_queue *q, unsigned wait_for)
{
    int n = q->io->ring_submit(q->io->user, &q->ring, wait_for);
    if (n == -EINTR)
        return; /* the entries stay in the ring; the next call takes them along */
    if ((n == -EAGAIN || n == -EBUSY) && ++q->refusals < MAX_REFUSALS) {
        usleep(1000);
        return;
    }
    q->refusals = 0;
    for (; n > 0 && q->sent.first; n--)
        remove_first(&q->sent);
    if (n >= 0)
        return;
    q->broken = n;
    for (struct read *r; (r = remove_first(&q->sent));) {
        r->res = n;
        q->in_system--;
        append(&q->done, r);
    }
}

static void ring_start(struct read_queue *q)
{
    while (q->todo.first && (q->broken || q->in_system < q->depth)) {
        struct read *r = remove_first(&q->todo);
        if (q->broken) {
            r->res = q->broken;
            append(&q->done, r);
            continue;
        }
        struct io_uring_sqe *sqe = io_uring_get_sqe(&q->ring); /* never NULL: the ring has depth entries */
        io_uring_prep_read(sqe, r->fd, r->to, (unsigned)r->n, r->offset);
        io_uring_sqe_set_data(sqe, r);
        append(&q->sent, r);
        q->in_system++;
    }
    if (q->sent.first)
        ring_submit(q, 0);
}

static void ring_collect(struct read_queue *q)
{
    struct io_uring_cqe *cqe;
    while (io_uring_peek_cqe(&q->ring, &cqe) == 0) {
        struct read *r = io_uring_cqe_get_data(cqe);
        r->res = q->io->ring_result(q->io->user, r->fd, r->offset, r->n, cqe->res);
        io_uring_cqe_seen(&q->ring, cqe);
        q->in_system--;
        append(&q->done, r);
    }
}

static struct read *ring_take(struct read_queue *q, bool wait)
{
    for (;;) {
        struct read *r = remove_first(&q->done);
        if (r)
            return r;
        ring_collect(q);
        ring_start(q);
        if (q->done.first)
            continue;
        if (!wait || q->in_system == 0)
            return NULL;
        if (q->broken)
            io_uring_wait_cqe(&q->ring,
                              &(struct io_uring_cqe *){ NULL }); /* those accepted before still come */
        else
            ring_submit(q, 1);
    }
}

/* ---- threads ---- */

static void *read_thread(void *arg)
{
    struct read_queue *q = arg;
    pthread_mutex_lock(&q->lock);
    for (;;) {
        struct read *r = remove_first(&q->todo);
        if (!r && q->stop)
            break;
        if (!r) {
            pthread_cond_wait(&q->work, &q->lock);
            continue;
        }
        q->in_system++;
        pthread_mutex_unlock(&q->lock);
        r->res = q->io->read(q->io->user, r->fd, r->to, r->n, r->offset);
        pthread_mutex_lock(&q->lock);
        q->in_system--;
        append(&q->done, r);
        pthread_cond_signal(&q->ready);
    }
    pthread_mutex_unlock(&q->lock);
    return NULL;
}

static struct read *threads_take(struct read_queue *q, bool wait)
{
    pthread_mutex_lock(&q->lock);
    while (wait && !q->done.first && (q->in_system || q->todo.first))
        pthread_cond_wait(&q->ready, &q->lock);
    struct read *r = remove_first(&q->done);
    pthread_mutex_unlock(&q->lock);
    return r;
}

static int threads_begin(struct read_queue *q, struct err *e)
{
    while (q->n_threads < READ_THREADS && pthread_create(&q->thread[q->n_threads], NULL, read_thread, q) == 0)
        q->n_threads++;
    return q->n_threads ? 0 : err_set(e, ERR_MEMORY, "no thread could be started to read experts");
}

static void threads_end(struct read_queue *q)
{
    pthread_mutex_lock(&q->lock);
    q->stop = true;
    pthread_cond_broadcast(&q->work);
    pthread_mutex_unlock(&q->lock);
    while (q->n_threads > 0)
        pthread_join(q->thread[--q->n_threads], NULL);
}

/* ---- the queue ---- */

int read_queue_open(struct read_queue **out, int depth, const struct read_io *io, struct err *e)
{
    struct read_queue *q = calloc(1, sizeof *q);
    if (!q)
        return err_set(e, ERR_MEMORY, "no memory for a queue of reads");
    q->io = io;
    q->depth = depth;
    pthread_mutex_init(&q->lock, NULL);
    pthread_cond_init(&q->work, NULL);
    pthread_cond_init(&q->ready, NULL);
    q->has_ring = io->ring_open(io->user, &q->ring, (unsigned)depth) == 0;
    int rc = q->has_ring ? 0 : threads_begin(q, e);
    if (rc) {
        read_queue_close(&q);
        return rc;
    }
    *out = q;
    return 0;
}

void read_queue_close(struct read_queue **qp)
{
    struct read_queue *q = *qp;
    *qp = NULL;
    if (!q)
        return;
    threads_end(q);
    if (q->has_ring)
        io_uring_queue_exit(&q->ring);
    pthread_mutex_destroy(&q->lock);
    pthread_cond_destroy(&q->work);
    pthread_cond_destroy(&q->ready);
    free(q);
}

bool read_queue_has_ring(const struct read_queue *q)
{
    return q->has_ring;
}

void read_queue_push(struct read_queue *q, struct read *r)
{
    pthread_mutex_lock(&q->lock);
    append(&q->todo, r);
    pthread_mutex_unlock(&q->lock);
}

void read_queue_start(struct read_queue *q)
{
    if (q->has_ring) {
        ring_start(q);
        return;
    }
    pthread_mutex_lock(&q->lock);
    pthread_cond_broadcast(&q->work);
    pthread_mutex_unlock(&q->lock);
}

struct read *read_queue_take(struct read_queue *q, bool wait)
{
    return q->has_ring ? ring_take(q, wait) : threads_take(q, wait);
}
