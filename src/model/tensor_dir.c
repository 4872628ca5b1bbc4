/*
 * tensor_dir.c: the directory of tensors that all container readers fill, lookup by name, and reading data.
 *
 * Lives elsewhere: what a header looks like (safetensors.c, gguf.c), what a tensor means (model.c).
 * Threads:         a finished directory is read-only; tensor_read uses pread.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/checked.h"
#include "base/file.h"
#include "model/tensor_build.h"

enum { MAX_TENSORS = 4 << 20 }; /* 397B with every expert and scale on its own has 0.2 million */

int tensor_file_broken(struct err *e, const char *fmt, ...)
{
    char what[320];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    err_set(e, ERR_FORMAT, "%s", what);
    err_hint(e, "download the file again, and compare its length or checksum with the publisher's");
    return ERR_FORMAT;
}

bool tensor_count_elements(const int64_t *dim, int n, int64_t *elements)
{
    int64_t product = 1;
    bool empty = false;
    for (int i = 0; i < n; i++) {
        if (dim[i] < 0)
            return false;
        empty |= dim[i] == 0;
    }
    for (int i = 0; i < n && !empty; i++)
        if (__builtin_mul_overflow(product, dim[i], &product))
            return false;
    *elements = empty ? 0 : product;
    return true;
}

/* ---- building ---- */

int tensor_build_open(struct tensor_build *b, struct err *e)
{
    *b = (struct tensor_build){ .dir = calloc(1, sizeof *b->dir) };
    return b->dir ? 0 : err_set(e, ERR_MEMORY, "no memory for a tensor directory");
}

int tensor_build_file(struct tensor_build *b, const char *path, int fd, uint64_t bytes, struct err *e)
{
    struct tensor_dir *d = b->dir;
    struct tensor_file *more = realloc(d->file, ((size_t)d->n_file + 1) * sizeof *more);
    char *copy = strdup(path);
    if (more)
        d->file = more;
    if (!more || !copy) {
        free(copy);
        if (fd >= 0)
            close(fd);
        return err_set(e, ERR_MEMORY, "no memory for a tensor directory");
    }
    d->file[d->n_file++] = (struct tensor_file){ copy, fd, bytes };
    return 0;
}

/* Appends text[0..n) and a terminator to the string storage; gives its offset. */
static int keep_string(struct tensor_build *b, const char *text, size_t n, size_t *at, struct err *e)
{
    if (b->strings_used + n + 1 > b->strings_room) {
        size_t room = 2 * (b->strings_room + n + 1024);
        char *more = realloc(b->dir->strings, room);
        if (!more)
            return err_set(e, ERR_MEMORY, "no memory for tensor names");
        b->dir->strings = more;
        b->strings_room = room;
    }
    *at = b->strings_used;
    memcpy(b->dir->strings + *at, text, n);
    b->dir->strings[*at + n] = '\0';
    b->strings_used += n + 1;
    return 0;
}

static int room_for_one(struct tensor_build *b, struct err *e)
{
    struct tensor_dir *d = b->dir;
    if ((size_t)d->n_tensor < b->tensor_room)
        return 0;
    if (d->n_tensor >= MAX_TENSORS)
        return tensor_file_broken(e, "the checkpoint lists more than %d tensors", MAX_TENSORS);
    size_t room = b->tensor_room ? 2 * b->tensor_room : 512;
    struct tensor *tensor = realloc(d->tensor, room * sizeof *tensor);
    if (tensor)
        d->tensor = tensor;
    size_t *name_at = realloc(b->name_at, room * sizeof *name_at);
    if (name_at)
        b->name_at = name_at;
    size_t *type_name_at = realloc(b->type_name_at, room * sizeof *type_name_at);
    if (type_name_at)
        b->type_name_at = type_name_at;
    if (!tensor || !name_at || !type_name_at)
        return err_set(e, ERR_MEMORY, "no memory for %zu tensors", room);
    b->tensor_room = room;
    return 0;
}

int tensor_build_add(struct tensor_build *b, const struct tensor *t, const char *name, size_t name_len,
                     const char *type_name, struct err *e)
{
    int rc = room_for_one(b, e);
    if (rc)
        return rc;
    struct tensor_dir *d = b->dir;
    int i = d->n_tensor;
    rc = keep_string(b, name, name_len, &b->name_at[i], e);
    if (rc)
        return rc;
    /* Neighbours mostly have the same type: keep its name once. */
    if (i > 0 && !strcmp(d->strings + b->type_name_at[i - 1], type_name))
        b->type_name_at[i] = b->type_name_at[i - 1];
    else
        rc = keep_string(b, type_name, strlen(type_name), &b->type_name_at[i], e);
    if (rc)
        return rc;
    d->tensor[i] = *t;
    d->tensor[i].file = d->n_file - 1;
    d->n_tensor++;
    return 0;
}

static int by_place(const void *pa, const void *pb)
{
    const struct tensor *a = pa, *b = pb;
    if (a->file != b->file)
        return a->file < b->file ? -1 : 1;
    if (a->offset != b->offset)
        return a->offset < b->offset ? -1 : 1;
    if (a->bytes != b->bytes)
        return a->bytes < b->bytes ? -1 : 1;
    return strcmp(a->name, b->name);
}

static int by_name(const void *pa, const void *pb, void *user)
{
    const struct tensor *t = user;
    return strcmp(t[*(const int *)pa].name, t[*(const int *)pb].name);
}

static int index_names(struct tensor_dir *d, struct err *e)
{
    d->by_name = malloc(((size_t)d->n_tensor + 1) * sizeof *d->by_name);
    if (!d->by_name)
        return err_set(e, ERR_MEMORY, "no memory for %d tensor names", d->n_tensor);
    for (int i = 0; i < d->n_tensor; i++)
        d->by_name[i] = i;
    qsort_r(d->by_name, (size_t)d->n_tensor, sizeof *d->by_name, by_name, d->tensor);
    for (int i = 1; i < d->n_tensor; i++) {
        const struct tensor *a = &d->tensor[d->by_name[i - 1]], *b = &d->tensor[d->by_name[i]];
        if (strcmp(a->name, b->name))
            continue;
        if (a->file == b->file)
            tensor_file_broken(e, "tensor \"%.200s\" is listed twice", a->name);
        else
            err_set(e, ERR_FORMAT, "tensor \"%.200s\" is in two files", a->name);
        err_hint(e, "remove the file that does not belong to the model: %.200s", d->file[b->file].path);
        err_where(e, "%s", d->file[a->file].path);
        return ERR_FORMAT;
    }
    return 0;
}

int tensor_build_finish(struct tensor_build *b, struct tensor_dir **out, struct err *e)
{
    struct tensor_dir *d = b->dir;
    for (int i = 0; i < d->n_tensor; i++) {
        d->tensor[i].name = d->strings + b->name_at[i];
        d->tensor[i].type_name = d->strings + b->type_name_at[i];
    }
    if (d->n_tensor > 1)
        qsort(d->tensor, (size_t)d->n_tensor, sizeof *d->tensor, by_place);
    int rc = index_names(d, e);
    if (!rc) {
        *out = d;
        b->dir = NULL;
    }
    tensor_build_abort(b);
    return rc;
}

void tensor_build_abort(struct tensor_build *b)
{
    tensor_dir_close(&b->dir);
    free(b->name_at);
    free(b->type_name_at);
    *b = (struct tensor_build){ 0 };
}

/* ---- using ---- */

const struct tensor *tensor_dir_find(const struct tensor_dir *d, const char *name)
{
    int low = 0, high = d->n_tensor;
    while (low < high) {
        int mid = low + (high - low) / 2;
        const struct tensor *t = &d->tensor[d->by_name[mid]];
        int order = strcmp(name, t->name);
        if (order == 0)
            return t;
        if (order < 0)
            high = mid;
        else
            low = mid + 1;
    }
    return NULL;
}

int64_t tensor_elements(const struct tensor *t)
{
    int64_t n = 0;
    tensor_count_elements(t->dim, t->n_dims, &n);
    return n;
}

int tensor_read(const struct tensor_dir *d, const struct tensor *t, uint64_t offset, void *dst, uint64_t n,
                struct err *e)
{
    const struct tensor_file *f = &d->file[t->file];
    int rc;
    if (!checked_range(offset, n, t->bytes))
        rc = err_set(e, ERR_FORMAT, "bytes %llu..%llu asked of a tensor of %llu", (unsigned long long)offset,
                     (unsigned long long)(offset + n), (unsigned long long)t->bytes);
    else
        rc = file_read(f->fd, dst, n, t->offset + offset, e);
    if (rc) {
        err_where(e, "%s, tensor \"%s\"", f->path, t->name);
        err_hint(e, "check the drive, then download the file again");
    }
    return rc;
}

void tensor_dir_close(struct tensor_dir **dp)
{
    struct tensor_dir *d = *dp;
    *dp = NULL;
    if (!d)
        return;
    for (int i = 0; i < d->n_file; i++) {
        if (d->file[i].fd >= 0)
            close(d->file[i].fd);
        free(d->file[i].path);
    }
    free(d->file);
    free(d->tensor);
    free(d->by_name);
    free(d->strings);
    free(d);
}
