/* file.c: see file.h. */
#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static int open_failed(const char *path, struct err *e)
{
    int why = errno;
    err_set(e, ERR_FILE, why == ENOENT ? "there is no such file" : "the file cannot be opened: %s",
            strerror(why));
    err_where(e, "%s", path);
    err_hint(e, why == EACCES ? "check its permissions: ls -l \"%s\"" : "check the path: ls \"%s\"", path);
    return ERR_FILE;
}

int file_open(const char *path, int *fd, uint64_t *bytes, struct err *e)
{
    int f = open(path, O_RDONLY | O_CLOEXEC);
    if (f < 0)
        return open_failed(path, e);
    struct stat st;
    if (fstat(f, &st) || !S_ISREG(st.st_mode)) {
        close(f);
        err_set(e, ERR_FILE, "this is not a regular file");
        err_where(e, "%s", path);
        err_hint(e, "name a model directory or a .gguf file");
        return ERR_FILE;
    }
    *fd = f;
    *bytes = (uint64_t)st.st_size;
    return 0;
}

int file_read(int fd, void *dst, size_t n, uint64_t offset, struct err *e)
{
    for (size_t done = 0; done < n;) {
        ssize_t got = pread(fd, (char *)dst + done, n - done, (off_t)(offset + done));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return err_set(e, ERR_FILE, "reading failed: %s", strerror(errno));
        if (got == 0)
            return err_set(e, ERR_FILE, "the file ends %zu bytes early", n - done);
        done += (size_t)got;
    }
    return 0;
}

int file_slurp(const char *path, size_t max_bytes, char **out, size_t *bytes, struct err *e)
{
    int fd;
    uint64_t size;
    int rc = file_open(path, &fd, &size, e);
    if (rc)
        return rc;
    char *text = NULL;
    if (size > max_bytes)
        rc = err_set(e, ERR_FORMAT, "the file has %llu bytes; at most %zu are accepted",
                     (unsigned long long)size, max_bytes);
    else if (!(text = malloc((size_t)size + 1)))
        rc = err_set(e, ERR_MEMORY, "no memory for a file of %llu bytes", (unsigned long long)size);
    else
        rc = file_read(fd, text, (size_t)size, 0, e);
    close(fd);
    if (rc) {
        err_where(e, "%s", path);
        free(text);
        return rc;
    }
    text[size] = '\0';
    *out = text;
    *bytes = (size_t)size;
    return 0;
}

enum { WRITE_BUFFER = 1 << 20, WRITE_BEHIND = 32 << 20, WRITE_WAIT = 128 << 20 };

struct file_writer {
    int fd;
    char *path;        /* the final name */
    char *tmp_path;    /* what exists meanwhile */
    uint64_t appended; /* bytes given to append */
    size_t pending;    /* of them still in buffer */
    char *buffer;
    _Atomic uint64_t written;
};

static int write_failed(const struct file_writer *w, struct err *e)
{
    int why = errno;
    err_set(e, ERR_IO, "writing failed: %s", strerror(why));
    err_where(e, "%s", w->path);
    err_hint(e, why == ENOSPC || why == EDQUOT
                    ? "free space on that drive (df -h), or name an output elsewhere"
                    : "name an output in a folder you can write to");
    return ERR_IO;
}

/* Every WRITE_BEHIND bytes the drive is told to begin; every WRITE_WAIT bytes somebody waits for it, which
 * keeps writers from running ahead of it, and what has been written is forgotten. */
static void write_behind(struct file_writer *w, size_t n)
{
    uint64_t before = atomic_fetch_add(&w->written, n), after = before + n;
    if (before / WRITE_BEHIND == after / WRITE_BEHIND)
        return;
    sync_file_range(w->fd, 0, 0, SYNC_FILE_RANGE_WRITE);
    if (before / WRITE_WAIT == after / WRITE_WAIT)
        return;
    sync_file_range(w->fd, 0, 0,
                    SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER);
    posix_fadvise(w->fd, 0, 0, POSIX_FADV_DONTNEED);
}

static int write_at(struct file_writer *w, const void *data, size_t n, uint64_t offset, struct err *e)
{
    for (size_t done = 0; done < n;) {
        ssize_t put = pwrite(w->fd, (const char *)data + done, n - done, (off_t)(offset + done));
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return write_failed(w, e);
        done += (size_t)put;
    }
    write_behind(w, n);
    return 0;
}

static int flush(struct file_writer *w, struct err *e)
{
    int rc = write_at(w, w->buffer, w->pending, w->appended - w->pending, e);
    w->pending = 0;
    return rc;
}

/* Creates and locks w's temporary file. A sweep may take a new file before it is locked: then there is
 * another. */
static int open_locked(struct file_writer *w, size_t room)
{
    for (int n = 0;; n++) {
        struct stat st;
        snprintf(w->tmp_path, room, "%s.tmp-%ld-%d", w->path, (long)getpid(), n);
        int fd = open(w->tmp_path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (fd < 0 && (errno != EEXIST || n == 1000000))
            return -1;
        if (fd < 0)
            continue;
        /* Without locks (some network drives) nothing is swept either. */
        if ((flock(fd, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK) && fstat(fd, &st) == 0 &&
            st.st_nlink > 0)
            return fd;
        close(fd);
    }
}

int file_writer_open(struct file_writer **out, const char *path, struct err *e)
{
    struct file_writer *w = calloc(1, sizeof *w);
    if (!w)
        return err_set(e, ERR_MEMORY, "no memory for a file writer");
    size_t room = strlen(path) + 48;
    w->fd = -1;
    w->path = strdup(path);
    w->tmp_path = malloc(room);
    w->buffer = malloc(WRITE_BUFFER);
    if (!w->path || !w->tmp_path || !w->buffer) {
        err_set(e, ERR_MEMORY, "no memory for a file writer");
        goto fail;
    }
    w->fd = open_locked(w, room);
    if (w->fd < 0) {
        write_failed(w, e);
        goto fail;
    }
    *out = w;
    return 0;
fail:;
    int code = w->fd < 0 && w->buffer ? ERR_IO : ERR_MEMORY;
    file_writer_abort(&w);
    return e ? e->code : code;
}

int file_writer_reserve(struct file_writer *w, uint64_t n, struct err *e)
{
    int rc;
    do
        rc = fallocate(w->fd, 0, 0, (off_t)n);
    while (rc && errno == EINTR);
    return rc && (errno == ENOSPC || errno == EDQUOT || errno == EFBIG) ? write_failed(w, e) : 0;
}

int file_writer_append(struct file_writer *w, const void *data, size_t n, struct err *e)
{
    if (w->pending + n > WRITE_BUFFER) {
        int rc = flush(w, e);
        if (rc)
            return rc;
    }
    if (n >= WRITE_BUFFER) {
        int rc = write_at(w, data, n, w->appended, e);
        w->appended += n;
        return rc;
    }
    memcpy(w->buffer + w->pending, data, n);
    w->pending += n;
    w->appended += n;
    return 0;
}

int file_writer_at(struct file_writer *w, const void *data, size_t n, uint64_t offset, struct err *e)
{
    return write_at(w, data, n, offset, e);
}

uint64_t file_writer_size(const struct file_writer *w)
{
    return w->appended;
}

int file_writer_commit(struct file_writer **wp, struct err *e)
{
    struct file_writer *w = *wp;
    int rc = flush(w, e);
    if (!rc && fsync(w->fd))
        rc = write_failed(w, e);
    if (!rc && rename(w->tmp_path, w->path))
        rc = write_failed(w, e);
    if (!rc)
        w->tmp_path[0] = '\0'; /* nothing left to remove */
    file_writer_abort(wp);
    return rc;
}

void file_writer_abort(struct file_writer **wp)
{
    struct file_writer *w = *wp;
    *wp = NULL;
    if (!w)
        return;
    if (w->fd >= 0) {
        close(w->fd);
        if (w->tmp_path[0])
            unlink(w->tmp_path);
    }
    free(w->path);
    free(w->tmp_path);
    free(w->buffer);
    free(w);
}

static bool is_temporary(const char *name)
{
    const char *at = strstr(name, ".tmp-");
    return at && at[5] && !at[5 + strspn(at + 5, "0123456789-")];
}

void file_sweep(const char *folder)
{
    DIR *d = opendir(folder);
    for (struct dirent *entry; d && (entry = readdir(d));) {
        if (!is_temporary(entry->d_name))
            continue;
        int fd = openat(dirfd(d), entry->d_name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
        if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0) /* nobody writes it any more */
            unlinkat(dirfd(d), entry->d_name, 0);
        if (fd >= 0)
            close(fd);
    }
    if (d)
        closedir(d);
}
