/* odd_io.c: see odd_io.h. */
#include "support/odd_io.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

static int odd_open(void *user, const char *path, int flags)
{
    const struct odd_io *o = user;
    if (o->no_direct && flags & O_DIRECT)
        return -EINVAL;
    return read_io_system.open(NULL, path, flags);
}

static bool is_direct(int fd)
{
    return fcntl(fd, F_GETFL) & O_DIRECT;
}

/* Half of what was asked; whole pages where reads must begin at pages. */
static size_t part_of(int fd, size_t n)
{
    size_t half = n / 2;
    return !is_direct(fd) ? half : half < 4096 ? n : half / 4096 * 4096;
}

static ssize_t odd_read(void *user, int fd, void *to, size_t n, uint64_t offset)
{
    struct odd_io *o = user;
    pthread_mutex_lock(&o->lock);
    o->seed = o->seed * 1103515245 + 12345;
    unsigned r = o->seed >> 16;
    bool fails = ++o->reads == o->fail_at;
    pthread_mutex_unlock(&o->lock);
    if (o->direct_refused && is_direct(fd))
        return -EINVAL;
    if (o->slow && r % 3 == 0)
        usleep(r % 300);
    if (fails)
        return o->fail_with;
    return read_io_system.read(NULL, fd, to, o->cut && r % 2 && n > 1 ? part_of(fd, n) : n, offset);
}

static int odd_ring_open(void *user, struct io_uring *ring, unsigned entries)
{
    const struct odd_io *o = user;
    return o->no_ring ? -EPERM : read_io_system.ring_open(NULL, ring, entries);
}

static int odd_ring_submit(void *user, struct io_uring *ring, unsigned wait_for)
{
    struct odd_io *o = user;
    int i = ++o->submits - o->submit_fails_at;
    if (o->submit_fails_at && i >= 0 && i < o->submit_times)
        return o->submit_with;
    return read_io_system.ring_submit(NULL, ring, wait_for);
}

static int odd_ring_result(void *user, int fd, uint64_t offset, size_t n, int res)
{
    struct odd_io *o = user;
    (void)offset;
    o->seed = o->seed * 1103515245 + 12345;
    if (++o->reads == o->fail_at)
        return o->fail_with;
    if (o->cut && o->seed >> 31 && res == (int)n && n > 1)
        return (int)part_of(fd, n);
    return res;
}

struct odd_io *odd_io_new(void)
{
    struct odd_io *o = calloc(1, sizeof *o);
    if (!o)
        abort();
    pthread_mutex_init(&o->lock, NULL);
    o->seed = 7;
    o->io = (struct read_io){ o, odd_open, odd_read, odd_ring_open, odd_ring_submit, odd_ring_result };
    return o;
}

void odd_io_free(struct odd_io **o)
{
    pthread_mutex_destroy(&(*o)->lock);
    free(*o);
    *o = NULL;
}
