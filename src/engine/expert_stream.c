/*
 * expert_stream.c: see expert_stream.h. An expert on its way is a job of one read for each of its extents,
 * widened to whole pages. A read that gives fewer bytes than are needed goes on where it stopped; one that
 * gives none has met the end of a file that shrank.
 */
#include "engine/expert_stream.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_DEPTH = 256 };

struct job;

struct extent_read {
    struct read read; /* first: the queue gives it back */
    struct job *job;
    int file;
    uint64_t begin; /* page in the file */
    char *region;
    size_t need, span; /* bytes from begin on to the extent's end, and to the page's */
    size_t got;
};

struct job {
    int tag, pending;
    int error, error_file; /* -errno of the first read that failed; 0 with failed set: the file ended */
    bool failed;
    uint64_t error_at, bytes;
    struct job *next_free;
    struct extent_read extent[EXPERT_EXTENTS];
};

struct expert_stream {
    const struct expert_source *source;
    const struct read_io *io;
    struct read_queue *queue;
    struct stream_file {
        int fd;
        bool direct;
    } * file;
    struct job *job, *free;
    struct expert_stream_stats stats;
};

/* ---- files ---- */

static int open_error(const char *path, int error, struct err *e)
{
    err_set(e, ERR_FILE, "a file with experts cannot be opened: %s", strerror(error));
    err_where(e, "%s", path);
    return ERR_FILE;
}

/* Some filesystems accept the flag and then refuse every read. */
static bool direct_works(const struct read_io *io, int fd, void *page)
{
    ssize_t got = io->read(io->user, fd, page, EXPERT_PAGE, 0);
    return got != -EINVAL && got != -EOPNOTSUPP;
}

static int open_file(struct expert_stream *s, int i, void *page, struct err *e)
{
    const struct expert_file *from = &s->source->file[i];
    struct stream_file *f = &s->file[i];
    const int flags = O_RDONLY | O_CLOEXEC;
    f->fd = s->io->open(s->io->user, from->path, flags | O_DIRECT);
    f->direct = f->fd >= 0 && direct_works(s->io, f->fd, page);
    if (!f->direct) {
        if (f->fd >= 0)
            close(f->fd);
        f->fd = s->io->open(s->io->user, from->path, flags);
        s->stats.direct = false;
    }
    if (f->fd < 0)
        return open_error(from->path, -f->fd, e);
    struct stat st;
    if (fstat(f->fd, &st))
        return open_error(from->path, errno, e);
    if ((uint64_t)st.st_size != from->bytes) {
        err_set(e, ERR_FILE, "the file has changed: it has %lld bytes, and had %llu", (long long)st.st_size,
                (unsigned long long)from->bytes);
        err_where(e, "%s", from->path);
        return ERR_FILE;
    }
    if (!f->direct)
        posix_fadvise(f->fd, 0, 0, POSIX_FADV_RANDOM);
    return 0;
}

static int open_files(struct expert_stream *s, struct err *e)
{
    void *page = aligned_alloc(EXPERT_PAGE, EXPERT_PAGE);
    int rc = page ? 0 : err_set(e, ERR_MEMORY, "no memory to read experts");
    s->stats.direct = true;
    for (int i = 0; i < s->source->n_file && !rc; i++)
        rc = open_file(s, i, page, e);
    free(page);
    return rc;
}

int expert_stream_open(struct expert_stream **out, const struct expert_stream_options *opt, struct err *e)
{
    struct expert_stream *s = calloc(1, sizeof *s);
    if (!s)
        return err_set(e, ERR_MEMORY, "no memory to read experts");
    s->source = opt->source;
    s->io = opt->io ? opt->io : &read_io_system;
    s->file = calloc((size_t)s->source->n_file + 1, sizeof *s->file);
    s->job = calloc((size_t)opt->max_experts, sizeof *s->job);
    int rc = s->file && s->job ? 0 : err_set(e, ERR_MEMORY, "no memory to read experts");
    for (int i = 0; i < s->source->n_file && s->file; i++)
        s->file[i].fd = -1;
    for (int i = 0; i < opt->max_experts && s->job; i++) {
        s->job[i].next_free = s->free;
        s->free = &s->job[i];
    }
    if (!rc)
        rc = open_files(s, e);
    int depth = opt->max_experts * EXPERT_EXTENTS;
    if (!rc)
        rc = read_queue_open(&s->queue, depth < MAX_DEPTH ? depth : MAX_DEPTH, s->io, e);
    if (rc) {
        expert_stream_close(&s);
        return rc;
    }
    s->stats.ring = read_queue_has_ring(s->queue);
    *out = s;
    return 0;
}

void expert_stream_close(struct expert_stream **sp)
{
    struct expert_stream *s = *sp;
    *sp = NULL;
    if (!s)
        return;
    for (int tag = 0; s->queue && tag >= 0;)
        expert_stream_next(s, true, &tag, NULL);
    read_queue_close(&s->queue);
    for (int i = 0; i < s->source->n_file && s->file; i++)
        if (s->file[i].fd >= 0)
            close(s->file[i].fd);
    free(s->file);
    free(s->job);
    free(s);
}

/* ---- reading ---- */

static void push_rest(struct expert_stream *s, struct extent_read *x)
{
    x->read = (struct read){ .fd = s->file[x->file].fd,
                             .to = x->region + x->got,
                             .n = x->span - x->got,
                             .offset = x->begin + x->got };
    read_queue_push(s->queue, &x->read);
}

void expert_stream_start(struct expert_stream *s, int layer, int expert, void *slot, int tag)
{
    const struct expert_place *p = expert_place_of(s->source, layer, expert);
    struct job *j = s->free;
    s->free = j->next_free;
    *j = (struct job){ .tag = tag, .pending = p->n_extent };
    for (int i = 0; i < p->n_extent; i++) {
        const struct expert_extent *from = &p->extent[i];
        struct extent_read *x = &j->extent[i];
        uint64_t skip = from->offset % EXPERT_PAGE;
        *x = (struct extent_read){ .job = j,
                                   .file = from->file,
                                   .begin = from->offset - skip,
                                   .region = (char *)slot + from->region,
                                   .need = (size_t)(skip + from->bytes),
                                   .span = expert_region_bytes(from->offset, from->bytes) };
        j->bytes += from->bytes;
        push_rest(s, x);
    }
}

void expert_stream_submit(struct expert_stream *s)
{
    read_queue_start(s->queue);
}

static void fail(struct extent_read *x, int error)
{
    struct job *j = x->job;
    if (j->failed)
        return;
    j->failed = true;
    j->error = error;
    j->error_file = x->file;
    j->error_at = x->begin + x->got;
}

/* True when the extent is complete, or will never be. Direct reads go on from a whole page only. */
static bool has_ended(struct expert_stream *s, struct extent_read *x)
{
    ssize_t res = x->read.res;
    if (res == -EINTR || res == -EAGAIN) {
        push_rest(s, x);
        return false;
    }
    size_t got = x->got + (res > 0 ? (size_t)res : 0), before = x->got;
    if (res < 0 || got >= x->need) {
        if (res < 0)
            fail(x, (int)-res);
        return true;
    }
    x->got = s->file[x->file].direct ? got / EXPERT_PAGE * EXPERT_PAGE : got;
    if (x->got == before) {
        fail(x, 0);
        return true;
    }
    push_rest(s, x);
    return false;
}

static int job_error(const struct expert_stream *s, const struct job *j, struct err *e)
{
    unsigned long long at = (unsigned long long)j->error_at;
    if (j->error)
        err_set(e, ERR_FILE, "an expert could not be read at byte %llu: %s", at, strerror(j->error));
    else
        err_set(e, ERR_FILE, "the file ended at byte %llu, in the middle of an expert: it has become shorter",
                at);
    err_where(e, "%s", s->source->file[j->error_file].path);
    return ERR_FILE;
}

int expert_stream_next(struct expert_stream *s, bool wait, int *tag, struct err *e)
{
    struct extent_read *x;
    *tag = -1;
    while ((x = (struct extent_read *)read_queue_take(s->queue, wait))) {
        struct job *j = x->job;
        if (!has_ended(s, x)) {
            read_queue_start(s->queue);
            continue;
        }
        if (!s->file[x->file].direct)
            posix_fadvise(s->file[x->file].fd, (off_t)x->begin, (off_t)x->span, POSIX_FADV_DONTNEED);
        if (--j->pending)
            continue;
        *tag = j->tag;
        j->next_free = s->free;
        s->free = j;
        s->stats.experts += !j->failed;
        s->stats.failures += j->failed;
        s->stats.bytes += j->failed ? 0 : j->bytes;
        return j->failed ? job_error(s, j, e) : 0;
    }
    return 0;
}

struct expert_stream_stats expert_stream_stats(const struct expert_stream *s)
{
    return s->stats;
}
