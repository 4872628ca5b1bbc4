/* direct.c: see direct.h. */
#include "load/direct.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/checked.h"
#include "base/file.h"

enum { SAMPLES = 64 };

static int file_failed(const struct direct_file *f, struct err *e, const char *what)
{
    err_set(e, ERR_FILE, "%s", what);
    err_where(e, "%s", f->path);
    err_hint(e, "try again when nothing writes to this file any more, and check its drive (dmesg)");
    return ERR_FILE;
}

/* True when nearly all of the file lies in the page cache: looked up for some pages all over it. The kernel
 * answers truly only those who may write the file. */
static bool is_cached(const struct direct_file *f, const struct stat *st)
{
    unsigned char there;
    int n = 0;
    if (st->st_uid != geteuid() || f->bytes == 0)
        return false;
    char *map = mmap(NULL, (size_t)f->bytes, PROT_READ, MAP_SHARED, f->fd, 0);
    if (map == MAP_FAILED)
        return false;
    for (uint64_t i = 0; i < SAMPLES; i++)
        if (mincore(map + f->bytes / SAMPLES * i / DIRECT_PAGE * DIRECT_PAGE, 1, &there) == 0)
            n += there & 1;
    munmap(map, (size_t)f->bytes);
    return n >= SAMPLES - SAMPLES / 16;
}

int direct_open(struct direct_file *f, const char *path, int fd, uint64_t bytes, struct err *e)
{
    struct stat st;
    char name[64];
    *f = (struct direct_file){
        .path = path, .fd = fd, .direct_fd = -1, .bytes = bytes, .way = DIRECT_DROPPED
    };
    if (fstat(fd, &st))
        return file_failed(f, e, "the file cannot be examined");
    if ((uint64_t)st.st_size != bytes)
        return file_failed(f, e, "the file's length has changed since it was opened");
    f->changed = st.st_mtim;
    if (is_cached(f, &st)) {
        f->way = DIRECT_CACHED;
        return 0;
    }
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd); /* this very file, whatever its name is by now */
    f->direct_fd = open(name, O_RDONLY | O_CLOEXEC | O_DIRECT);
    if (f->direct_fd >= 0)
        f->way = DIRECT_PAST_CACHE;
    return 0;
}

void direct_close(struct direct_file *f)
{
    if (f->direct_fd >= 0)
        close(f->direct_fd);
    f->direct_fd = -1;
}

int direct_open_all(struct direct_file **out, const struct tensor_file *file, int n, struct err *e)
{
    struct direct_file *f = calloc((size_t)n + 1, sizeof *f);
    int rc = f ? 0 : err_set(e, ERR_MEMORY, "no memory for the records of %d files", n);
    int opened = 0;
    while (opened < n && !rc) {
        rc = direct_open(&f[opened], file[opened].path, file[opened].fd, file[opened].bytes, e);
        opened++;
    }
    if (rc)
        direct_close_all(&f, opened);
    *out = f;
    return rc;
}

void direct_close_all(struct direct_file **f, int n)
{
    for (int i = 0; *f && i < n; i++)
        direct_close(&(*f)[i]);
    free(*f);
    *f = NULL;
}

size_t direct_room(size_t n)
{
    return align_up(n, DIRECT_PAGE) + DIRECT_PAGE;
}

static int read_buffered(const struct direct_file *f, uint64_t offset, size_t n, char *buffer, struct err *e)
{
    int rc = file_read(f->fd, buffer, n, offset, e);
    if (f->way == DIRECT_DROPPED)
        posix_fadvise(f->fd, (off_t)offset, (off_t)n, POSIX_FADV_DONTNEED);
    return rc;
}

/* Whole pages around the wanted bytes; at the file's end a read gives fewer. */
static int read_pages(const struct direct_file *f, uint64_t begin, uint64_t wanted_end, char *buffer,
                      struct err *e)
{
    uint64_t end = align_up(wanted_end, DIRECT_PAGE);
    for (uint64_t at = begin; at < wanted_end;) {
        ssize_t got = pread(f->direct_fd, buffer + (at - begin), (size_t)(end - at), (off_t)at);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return err_set(e, ERR_FILE, "reading failed: %s", strerror(errno));
        at += (uint64_t)got;
        if (at < wanted_end &&
            (got == 0 || at % DIRECT_PAGE)) /* the end, or a short read in the middle of a page */
            return file_read(f->fd, buffer + (at - begin), (size_t)(wanted_end - at), at, e);
    }
    return 0;
}

int direct_read(const struct direct_file *f, uint64_t offset, size_t n, char *buffer, const char **at,
                struct err *e)
{
    if (f->way != DIRECT_PAST_CACHE) {
        *at = buffer;
        return read_buffered(f, offset, n, buffer, e);
    }
    uint64_t begin = offset / DIRECT_PAGE * DIRECT_PAGE;
    *at = buffer + (offset - begin);
    return read_pages(f, begin, offset + n, buffer, e);
}

int direct_unchanged(const struct direct_file *f, struct err *e)
{
    struct stat st;
    if (fstat(f->fd, &st))
        return file_failed(f, e, "the file cannot be examined");
    if ((uint64_t)st.st_size != f->bytes || st.st_mtim.tv_sec != f->changed.tv_sec ||
        st.st_mtim.tv_nsec != f->changed.tv_nsec)
        return file_failed(f, e, "the file was changed while it was read");
    return 0;
}

int direct_all_unchanged(const struct direct_file *f, int n, struct err *e)
{
    int rc = 0;
    for (int i = 0; i < n && !rc; i++)
        rc = direct_unchanged(&f[i], e);
    return rc;
}
