/*
 * tensor_dir.h: one directory of every tensor in a checkpoint, whatever files it is spread over. Opening
 * reads headers only; every size was checked against the real file lengths.
 */
#ifndef TONNE_MODEL_TENSOR_DIR_H
#define TONNE_MODEL_TENSOR_DIR_H

#include <stdint.h>

#include "base/err.h"
#include "quant/qtype.h"

enum { TENSOR_MAX_DIMS = 8 };

struct tensor {
    const char *name;             /* owned by the directory */
    enum qtype type;              /* QTYPE_NONE: a type we do not know (type_name says which) */
    const char *type_name;        /* as the file spells it */
    int n_dims;                   /* 0: a scalar */
    int64_t dim[TENSOR_MAX_DIMS]; /* row-major: dim[n_dims - 1] is contiguous (GGUF's order reversed) */
    int file;                     /* index into tensor_dir.file */
    uint64_t offset;              /* absolute, in that file */
    uint64_t bytes;
};

struct tensor_file {
    char *path;
    int fd; /* open for reading as long as the directory */
    uint64_t bytes;
};

struct tensor_dir {
    struct tensor *tensor; /* in file order: by file, then offset */
    int n_tensor;
    struct tensor_file *file;
    int n_file;
    /* private: names sorted for lookup, string storage */
    int *by_name;
    char *strings;
};

/* The tensor of that name, or NULL. */
const struct tensor *tensor_dir_find(const struct tensor_dir *d, const char *name);

/* Elements; 1 for a scalar. Checked at opening, cannot overflow. */
int64_t tensor_elements(const struct tensor *t);

/* Fills dst with n bytes of t's data from byte `offset` on (offset + n <= t->bytes). Thread-safe. */
int tensor_read(const struct tensor_dir *d, const struct tensor *t, uint64_t offset, void *dst, uint64_t n,
                struct err *e);

void tensor_dir_close(struct tensor_dir **d); /* NULL is fine */

/* ---- container readers; model_open chooses ---- */

/* Opens the files of a safetensors checkpoint as one directory. A name in two files is an error. */
int safetensors_open(struct tensor_dir **out, const char *const *paths, int n, struct err *e);

#endif
