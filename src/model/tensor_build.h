/*
 * tensor_build.h: how the container readers (safetensors.c, gguf.c) fill a tensor directory. Not for the rest
 * of the program, which sees the finished directory (tensor_dir.h).
 */
#ifndef TONNE_MODEL_TENSOR_BUILD_H
#define TONNE_MODEL_TENSOR_BUILD_H

#include <stdbool.h>
#include <stddef.h>

#include "model/gguf.h"
#include "model/tensor_dir.h"

struct tensor_build {
    struct tensor_dir *dir; /* being filled; names are offsets until the end */
    size_t *name_at;        /* [n_tensor] offset of each tensor's name in strings */
    size_t *type_name_at;   /* [n_tensor] */
    size_t tensor_room;
    size_t strings_used, strings_room;
};

/* A directory with no files. ERR_MEMORY. */
int tensor_build_open(struct tensor_build *b, struct err *e);
/* Adds a file; takes fd, also on failure. fd -1: no file behind it (parsing from memory). */
int tensor_build_file(struct tensor_build *b, const char *path, int fd, uint64_t bytes, struct err *e);
/* Adds a tensor of the last file: type, n_dims, dim, offset and bytes from *t, the names from the texts. */
int tensor_build_add(struct tensor_build *b, const struct tensor *t, const char *name, size_t name_len,
                     const char *type_name, struct err *e);
/* Orders by file and offset, indexes the names and gives the directory; a name in use twice is ERR_FORMAT.
 * Ends the build, also on failure. */
int tensor_build_finish(struct tensor_build *b, struct tensor_dir **out, struct err *e);
void tensor_build_abort(struct tensor_build *b);

/* Product of dim[0..n) into *elements; false when it exceeds INT64_MAX or a dimension is negative. */
bool tensor_count_elements(const int64_t *dim, int n, int64_t *elements);

/* Starts "this file is broken": ERR_FORMAT, with the hint to fetch the file again. */
int tensor_file_broken(struct err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* ---- parsing from memory: what the readers do after reading a header, and what the fuzzers drive ---- */

/* A safetensors header: the JSON text between the length and the data of a file of file_bytes. */
int safetensors_parse(struct tensor_build *b, const char *json, size_t n, uint64_t file_bytes, struct err *e);

/* The first n bytes of a GGUF file of file_bytes, malloc'ed. Takes `window` when it gives *meta (which then
 * borrows from it); adds the tensors to b. When n is too small returns 1 and sets *need to how many bytes to
 * come back with; b is untouched then. */
int gguf_parse(struct gguf_meta **meta, struct tensor_build *b, char *window, size_t n, uint64_t file_bytes,
               size_t *need, struct err *e);

#endif
