/*
 * machine_drive.c: how fast the drive gives experts: reads of an expert's size at scattered places, so many
 * at once as the queue depth says. Through io_uring as the engine does it; where that is refused
 * (containers), with a thread for each read.
 */
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "plan/machine_private.h"

static const double RUN_SECONDS = 0.2, DRIVE_SECONDS = 6; /* one depth; all of them */
enum { MAX_DEPTH = 16, MAX_LATENCIES = 512 };

/* One measurement: reads of `bytes` each with `depth` in flight. */
struct drive_run {
    const struct drive_file *file;
    char *buffer; /* [depth][bytes] */
    size_t bytes;
    int depth;
    uint64_t n_extents, stride; /* the order in which extents are read: i * stride % n_extents */
    _Atomic uint64_t next;
    _Atomic uint64_t done_bytes;
    _Atomic int failed; /* errno */
    double begin;
    double latency[MAX_LATENCIES]; /* depth 1: seconds of each read */
    int n_latencies;
};

static uint64_t common_divisor(uint64_t a, uint64_t b)
{
    return b ? common_divisor(b, a % b) : a;
}

/* Some 0.6 of the file further each time, and every extent once before any comes again. */
static void set_order(struct drive_run *r)
{
    r->n_extents = r->file->bytes / r->bytes;
    r->stride = r->n_extents * 618 / 1000 + 1;
    while (common_divisor(r->stride, r->n_extents) != 1)
        r->stride++;
}

static bool over(const struct drive_run *r, uint64_t taken)
{
    bool seen_all = !r->file->direct && taken >= r->n_extents; /* again would be from the page cache */
    return seen_all || clock_seconds() - r->begin >= RUN_SECONDS;
}

static uint64_t extent_at(const struct drive_run *r, uint64_t i)
{
    return i % r->n_extents * r->stride % r->n_extents * r->bytes;
}

static void note_latency(struct drive_run *r, double since)
{
    if (r->depth == 1 && r->n_latencies < MAX_LATENCIES)
        r->latency[r->n_latencies++] = clock_seconds() - since;
}

/* ---- io_uring ---- */

static void submit(struct drive_run *r, struct io_uring *ring, uint64_t slot)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(ring); /* never NULL: the ring has depth entries */
    uint64_t i = r->next++;
    io_uring_prep_read(sqe, r->file->fd, r->buffer + slot * r->bytes, (unsigned)r->bytes, extent_at(r, i));
    io_uring_sqe_set_data(sqe, (void *)(uintptr_t)slot);
}

static void run_uring(struct drive_run *r, struct io_uring *ring)
{
    int in_flight = 0, rc = 0;
    for (int slot = 0; slot < r->depth; slot++, in_flight++)
        submit(r, ring, (uint64_t)slot);
    while (in_flight > 0) {
        double since = clock_seconds();
        struct io_uring_cqe *cqe;
        rc = io_uring_submit_and_wait(ring, 1);
        if (rc == -EINTR)
            continue;
        if (rc < 0 || (rc = io_uring_wait_cqe(ring, &cqe)) < 0)
            break;
        uint64_t slot = (uint64_t)(uintptr_t)io_uring_cqe_get_data(cqe);
        int got = cqe->res;
        io_uring_cqe_seen(ring, cqe);
        in_flight--;
        if (got != (int)r->bytes) {
            r->failed = got < 0 ? -got : EIO;
            continue; /* let the others end */
        }
        r->done_bytes += (uint64_t)got;
        note_latency(r, since);
        if (!r->failed && !over(r, r->next)) {
            submit(r, ring, slot);
            in_flight++;
        }
    }
    if (rc < 0)
        r->failed = -rc;
}

/* ---- threads ---- */

static void read_in_thread(void *arg, struct threads *t, int thread)
{
    struct drive_run *r = arg;
    (void)t;
    if (thread >= r->depth)
        return;
    char *into = r->buffer + (size_t)thread * r->bytes;
    do {
        double since = clock_seconds();
        ssize_t got = pread(r->file->fd, into, r->bytes, (off_t)extent_at(r, r->next++));
        if (got != (ssize_t)r->bytes) {
            r->failed = got < 0 ? errno : EIO;
            return;
        }
        r->done_bytes += (uint64_t)got;
        note_latency(r, since);
    } while (!r->failed && !over(r, r->next));
}

/* ---- one depth, all depths ---- */

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Reads with r->depth in flight; fills *gbs and, for depth 1, *latency_us. */
static int run_depth(struct drive_run *r, struct io_uring *ring, struct threads *t, double *gbs,
                     double *latency_us, struct err *e)
{
    r->next = r->done_bytes = 0;
    r->failed = r->n_latencies = 0;
    if (!r->file->direct)
        posix_fadvise(r->file->fd, 0, 0, POSIX_FADV_DONTNEED);
    r->begin = clock_seconds();
    if (ring)
        run_uring(r, ring);
    else
        threads_run(t, read_in_thread, r);
    if (r->failed)
        return err_set(e, ERR_FILE, "reading from the drive failed: %s", strerror(r->failed));
    *gbs = (double)r->done_bytes / (clock_seconds() - r->begin) / 1e9;
    if (r->n_latencies) {
        qsort(r->latency, (size_t)r->n_latencies, sizeof *r->latency, by_value);
        *latency_us = 1e6 * r->latency[r->n_latencies / 2];
    }
    return 0;
}

struct drive_result {
    double gbs, latency_us;
    int depth;
};

/* Depths 1, 2, 4, ... as long as one round of reads stays below a second and the time lasts. */
static int run_depths(struct drive_run *r, struct io_uring *ring, struct threads *t, double until,
                      struct drive_result *out, struct err *e)
{
    int most = ring ? MAX_DEPTH : threads_count(t) < MAX_DEPTH ? threads_count(t) : MAX_DEPTH;
    double gbs[MAX_DEPTH + 1] = { 0 };
    *out = (struct drive_result){ 0 };
    set_order(r);
    for (r->depth = 1; r->depth <= most; r->depth *= 2) {
        bool slow = out->latency_us * r->depth > 1e6 || clock_seconds() > until;
        if ((r->depth > 1 && slow) || (uint64_t)r->depth > r->n_extents)
            break;
        int rc = run_depth(r, ring, t, &gbs[r->depth], &out->latency_us, e);
        if (rc)
            return rc;
        out->gbs = gbs[r->depth] > out->gbs ? gbs[r->depth] : out->gbs;
    }
    for (int depth = MAX_DEPTH; depth >= 1; depth /= 2)
        if (gbs[depth] >= 0.95 * out->gbs)
            out->depth = depth;
    return 0;
}

int machine_measure_file(struct machine *m, const struct drive_file *f, struct threads *t, struct err *e)
{
    struct drive_run *r = calloc(1, sizeof *r);
    struct mem block;
    struct io_uring ring;
    struct drive_result large, small;
    if (!r)
        return err_set(e, ERR_MEMORY, "no memory for the drive measurement");
    int rc = mem_ram(&block, (size_t)MAX_DEPTH * MACHINE_EXPERT_BYTES, "the drive measurement", e);
    if (rc) {
        free(r);
        return rc;
    }
    memset(block.ptr, 1, block.bytes); /* pages are there before the clock runs */
    m->disk_direct = f->direct;
    m->disk_uring = io_uring_queue_init(MAX_DEPTH, &ring, 0) == 0;
    *r = (struct drive_run){ .file = f, .buffer = block.ptr, .bytes = MACHINE_EXPERT_BYTES };
    struct io_uring *used = m->disk_uring ? &ring : NULL;
    double begin = clock_seconds();
    rc = run_depths(r, used, t, begin + DRIVE_SECONDS / 2, &large, e);
    r->bytes = MACHINE_SMALL_EXPERT_BYTES;
    if (!rc)
        rc = run_depths(r, used, t, begin + DRIVE_SECONDS, &small, e);
    if (!rc) {
        m->disk_gbs = large.gbs, m->disk_latency_us = large.latency_us, m->disk_depth = large.depth;
        m->disk_small_gbs = small.gbs, m->disk_small_latency_us = small.latency_us;
    }
    if (m->disk_uring)
        io_uring_queue_exit(&ring);
    mem_free(&block);
    free(r);
    return rc;
}

int machine_measure_drive(struct machine *m, struct threads *t, const char *path, struct err *e)
{
    struct drive_file f;
    m->disk_gbs = m->disk_small_gbs = m->disk_latency_us = m->disk_small_latency_us = 0;
    m->disk_depth = 0;
    int rc = drive_file_open(&f, path, e);
    if (rc || f.fd < 0)
        return rc;
    rc = machine_measure_file(m, &f, t, e);
    drive_file_close(&f);
    if (rc)
        err_where(e, "%s", path);
    return rc;
}
