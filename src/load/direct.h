/*
 * direct.h: reading large files once, so that their pages do not fill the memory. Past the page cache where
 * the filesystem can do that; buffered, and forgotten behind the read position, where it cannot; buffered and
 * left alone where the file lies in the page cache already, which is then the fastest way.
 */
#ifndef TONNE_LOAD_DIRECT_H
#define TONNE_LOAD_DIRECT_H

#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "base/err.h"
#include "model/tensor_dir.h"

enum { DIRECT_PAGE = 4096 };

enum direct_way { DIRECT_CACHED, DIRECT_PAST_CACHE, DIRECT_DROPPED };

struct direct_file {
    const char *path; /* borrowed, for errors */
    int fd;           /* borrowed */
    int direct_fd;    /* -1: none */
    enum direct_way way;
    uint64_t bytes; /* length and time when it was opened */
    struct timespec changed;
};

/* Looks at the file behind fd. ERR_FILE when it no longer has `bytes` bytes. Ended by direct_close, also on
 * failure. */
int direct_open(struct direct_file *f, const char *path, int fd, uint64_t bytes, struct err *e);
void direct_close(struct direct_file *f);

/* The same for n files, in an array. Gives *out. */
int direct_open_all(struct direct_file **out, const struct tensor_file *file, int n, struct err *e);
void direct_close_all(struct direct_file **f, int n);

/* Bytes that buffer must have for n bytes wanted. */
size_t direct_room(size_t n);
/* Reads [offset, offset + n) into buffer, which is DIRECT_PAGE aligned; the wanted bytes begin at *at in it.
 * Thread-safe. ERR_FILE when it cannot be read or ends early; e says what, not where. */
int direct_read(const struct direct_file *f, uint64_t offset, size_t n, char *buffer, const char **at,
                struct err *e);

/* ERR_FILE when the file has another length or was written to since direct_open. */
int direct_unchanged(const struct direct_file *f, struct err *e);
int direct_all_unchanged(const struct direct_file *f, int n, struct err *e);

#endif
