/*
 * file.h: reading at offsets and writing whole files. Short reads and EINTR are handled here; an output file
 * appears under its name only when it is complete.
 */
#ifndef TONNE_BASE_FILE_H
#define TONNE_BASE_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* Opens path for reading and fills *fd and *bytes. ERR_FILE with a hint for what is missing, a directory,
 * or not readable; where = path. */
int file_open(const char *path, int *fd, uint64_t *bytes, struct err *e);

/* Fills dst with exactly n bytes from offset. ERR_FILE on error or when the file ends before (it was
 * truncated after opening). Thread-safe: uses pread. */
int file_read(int fd, void *dst, size_t n, uint64_t offset, struct err *e);

/* Gives the whole file, malloc'ed with a 0 byte appended (not counted in *bytes); refuses more than
 * max_bytes with ERR_FORMAT. The caller frees *out. */
int file_slurp(const char *path, size_t max_bytes, char **out, size_t *bytes, struct err *e);

struct file_writer; /* a file being written beside its final name */

/* Creates "PATH.tmp-PID-N" in the same folder, locked as long as it is being written (file_sweep). Any number
 * may be open for the same path, in any processes; the last one committed stays. ERR_IO when that cannot be
 * done. Gives *out. */
int file_writer_open(struct file_writer **out, const char *path, struct err *e);
/* Takes room for n bytes on the drive now, so that a full one fails early (ERR_IO); where the filesystem
 * cannot do that, nothing happens. */
int file_writer_reserve(struct file_writer *w, uint64_t n, struct err *e);
/* Appends n bytes (buffered). */
int file_writer_append(struct file_writer *w, const void *data, size_t n, struct err *e);
/* Writes n bytes at an absolute offset without moving the append position; thread-safe. What is written goes
 * to the drive meanwhile and leaves the page cache again, so that a large file does not fill the memory. */
int file_writer_at(struct file_writer *w, const void *data, size_t n, uint64_t offset, struct err *e);
/* Bytes appended so far. */
uint64_t file_writer_size(const struct file_writer *w);
/* Flushes, syncs, renames to the final name and frees. On failure the temporary file is removed. *w = NULL.
 */
int file_writer_commit(struct file_writer **w, struct err *e);
/* Removes the temporary file and frees; NULL is fine. *w = NULL. */
void file_writer_abort(struct file_writer **w);

/* Removes what writers of dead processes left in folder. */
void file_sweep(const char *folder);

#endif
