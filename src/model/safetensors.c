/*
 * safetensors.c: reads the headers of safetensors files into a tensor directory.
 *
 * A file is: u64 little-endian N; N bytes of JSON {name: {dtype, shape, data_offsets [begin, end]}}; data.
 * Everything is checked before any of it is used: lengths against the real file, sizes against shapes, and
 * the data must be covered exactly once, so a tensor can never reach outside its file or into another tensor.
 *
 * Lives elsewhere: which files belong to a model (model.c), what the names mean (model.c).
 */
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/file.h"
#include "base/json.h"
#include "model/tensor_build.h"

enum { LENGTH_BYTES = 8, MAX_HEADER = 100000000 };

/* Bits per element. Types we cannot compute with are listed too, so that their sizes are checked. */
static const struct {
    const char *name;
    int bits;
} dtypes[] = {
    { "BOOL", 8 },    { "U8", 8 },   { "I8", 8 },   { "F8_E5M2", 8 }, { "F8_E4M3", 8 },
    { "F8_E8M0", 8 }, { "I16", 16 }, { "U16", 16 }, { "F16", 16 },    { "BF16", 16 },
    { "I32", 32 },    { "U32", 32 }, { "F32", 32 }, { "F64", 64 },    { "I64", 64 },
    { "U64", 64 },    { "C64", 64 }, { "F4", 4 },   { "F6_E2M3", 6 }, { "F6_E3M2", 6 },
};

static int dtype_bits(const char *name)
{
    for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++)
        if (!strcmp(dtypes[i].name, name))
            return dtypes[i].bits;
    return 0;
}

/* Reads an array of n non-negative integers; false when it is anything else. */
static bool read_integers(const json_t *list, int64_t *out, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const json_t *v = json_array_get(list, i);
        if (!json_is_integer(v) || json_integer_value(v) < 0)
            return false;
        out[i] = json_integer_value(v);
    }
    return true;
}

static int read_shape(struct tensor *t, const json_t *entry, struct err *e)
{
    const json_t *shape = json_object_get(entry, "shape");
    if (!json_is_array(shape))
        return tensor_file_broken(e, "it has no shape");
    size_t n = json_array_size(shape);
    if (n > TENSOR_MAX_DIMS) {
        err_set(e, ERR_FORMAT, "it has %zu dimensions; at most %d are supported", n, TENSOR_MAX_DIMS);
        err_hint(e, "leave this file out: no language model has such a tensor");
        return ERR_FORMAT;
    }
    if (!read_integers(shape, t->dim, n))
        return tensor_file_broken(e, "its shape is not a list of sizes");
    t->n_dims = (int)n;
    return 0;
}

static int check_bytes(const struct tensor *t, const char *dtype, struct err *e)
{
    int64_t elements;
    uint64_t bits, bits_each = (uint64_t)dtype_bits(dtype);
    if (!tensor_count_elements(t->dim, t->n_dims, &elements) || !checked_mul((uint64_t)elements, 64, &bits))
        return tensor_file_broken(e, "its shape has more elements than any file");
    if (!bits_each)
        return 0;
    bits = (uint64_t)elements * bits_each;
    if (bits % 8 || bits / 8 != t->bytes)
        return tensor_file_broken(e, "its shape and dtype %s need %llu bytes, but it has %llu", dtype,
                                  (unsigned long long)(bits + 7) / 8, (unsigned long long)t->bytes);
    return 0;
}

/* One header entry into *t; offsets become absolute. */
static int read_entry(struct tensor *t, const json_t *entry, uint64_t data_begin, uint64_t file_bytes,
                      struct err *e)
{
    const char *dtype = json_get_str(entry, "dtype", NULL);
    const json_t *range = json_object_get(entry, "data_offsets");
    int64_t at[2];
    if (!dtype)
        return tensor_file_broken(e, "it has no dtype");
    if (json_array_size(range) != 2 || !read_integers(range, at, 2))
        return tensor_file_broken(e, "its data_offsets are not two offsets");
    if (at[0] > at[1])
        return tensor_file_broken(e, "its data end before they begin: bytes %lld..%lld", (long long)at[0],
                                  (long long)at[1]);
    uint64_t data_bytes = file_bytes - data_begin;
    if ((uint64_t)at[1] > data_bytes)
        return tensor_file_broken(e, "a tensor lies outside the file: bytes %lld..%lld of %llu",
                                  (long long)at[0], (long long)at[1], (unsigned long long)data_bytes);
    t->type = qtype_from_st(dtype);
    t->offset = data_begin + (uint64_t)at[0];
    t->bytes = (uint64_t)(at[1] - at[0]);
    int rc = read_shape(t, entry, e);
    return rc ? rc : check_bytes(t, dtype, e);
}

struct extent { /* one tensor's bytes, for the check that the data are covered exactly */
    uint64_t begin, end;
    const char *name;
};

static int by_begin(const void *pa, const void *pb)
{
    const struct extent *a = pa, *b = pb;
    if (a->begin != b->begin)
        return a->begin < b->begin ? -1 : 1;
    return a->end < b->end ? -1 : a->end > b->end;
}

static int check_cover(struct extent *x, size_t n, uint64_t data_begin, uint64_t file_bytes, struct err *e)
{
    uint64_t at = data_begin;
    qsort(x, n, sizeof *x, by_begin);
    for (size_t i = 0; i < n; i++) {
        if (x[i].begin != at) {
            tensor_file_broken(e, "the data %s: the tensor begins at byte %llu, the one before ends at %llu",
                               x[i].begin < at ? "overlap" : "have a hole", (unsigned long long)x[i].begin,
                               (unsigned long long)at);
            err_where(e, "tensor \"%s\"", x[i].name);
            return ERR_FORMAT;
        }
        at = x[i].end;
    }
    if (at != file_bytes)
        return tensor_file_broken(e, "the last tensor ends at byte %llu, but the file has %llu",
                                  (unsigned long long)at, (unsigned long long)file_bytes);
    return 0;
}

/* "__metadata__" is a map from string to string; we use none of it. */
static int check_metadata(json_t *map, struct err *e)
{
    const char *key;
    json_t *value;
    bool bad = !json_is_object(map);
    json_object_foreach(map, key, value) bad |= !json_is_string(value);
    return bad ? tensor_file_broken(e, "__metadata__ is not a map from string to string") : 0;
}

static int read_entries(struct tensor_build *b, json_t *header, struct extent *x, size_t *n,
                        uint64_t data_begin, uint64_t file_bytes, struct err *e)
{
    const char *name;
    json_t *entry;
    json_object_foreach(header, name, entry)
    {
        int rc = 0;
        if (!strcmp(name, "__metadata__")) {
            rc = check_metadata(entry, e);
            if (rc)
                return rc;
            continue;
        }
        struct tensor t = { 0 };
        rc = read_entry(&t, entry, data_begin, file_bytes, e);
        if (!rc)
            rc = tensor_build_add(b, &t, name, strlen(name), json_get_str(entry, "dtype", ""), e);
        if (rc) {
            err_where(e, "tensor \"%s\"", name);
            return rc;
        }
        x[(*n)++] = (struct extent){ t.offset, t.offset + t.bytes, name };
    }
    return 0;
}

int safetensors_parse(struct tensor_build *b, const char *text, size_t n, uint64_t file_bytes, struct err *e)
{
    uint64_t data_begin = LENGTH_BYTES + (uint64_t)n;
    if (data_begin > file_bytes)
        return tensor_file_broken(e, "the header of %zu bytes is longer than the file of %llu", n,
                                  (unsigned long long)file_bytes);
    if (n == 0 || text[0] != '{')
        return tensor_file_broken(e, "the header does not begin with {: this is not a safetensors file");
    json_t *header;
    int rc = json_parse(text, n, &header, e);
    if (rc) {
        err_hint(e, "download the file again: its header is damaged");
        return rc;
    }
    size_t n_extent = 0, room = json_object_size(header);
    struct extent *x = malloc((room + 1) * sizeof *x);
    if (!x)
        rc = err_set(e, ERR_MEMORY, "no memory for %zu tensors", room);
    else
        rc = read_entries(b, header, x, &n_extent, data_begin, file_bytes, e);
    if (!rc)
        rc = check_cover(x, n_extent, data_begin, file_bytes, e);
    free(x);
    json_decref(header);
    return rc;
}

/* Reads the length and the header text of an open file; gives *text. */
static int read_header(int fd, uint64_t file_bytes, char **text, size_t *n, struct err *e)
{
    uint8_t raw[LENGTH_BYTES];
    uint64_t length = 0;
    if (file_bytes < LENGTH_BYTES)
        return tensor_file_broken(e, "the file has only %llu bytes", (unsigned long long)file_bytes);
    int rc = file_read(fd, raw, sizeof raw, 0, e);
    if (rc)
        return rc;
    for (int i = LENGTH_BYTES - 1; i >= 0; i--)
        length = length << 8 | raw[i];
    if (length > MAX_HEADER)
        return tensor_file_broken(e, "the header's length, %llu bytes, is more than the format allows (%d)",
                                  (unsigned long long)length, MAX_HEADER);
    if (length > file_bytes - LENGTH_BYTES)
        return tensor_file_broken(e, "the header of %llu bytes is longer than the file of %llu",
                                  (unsigned long long)length, (unsigned long long)file_bytes);
    char *buffer = malloc(length + 1);
    if (!buffer)
        return err_set(e, ERR_MEMORY, "no memory for a header of %llu bytes", (unsigned long long)length);
    rc = file_read(fd, buffer, length, LENGTH_BYTES, e);
    if (rc) {
        free(buffer);
        return rc;
    }
    *text = buffer;
    *n = length;
    return 0;
}

static int add_file(struct tensor_build *b, const char *path, struct err *e)
{
    int fd;
    uint64_t bytes;
    char *text = NULL;
    size_t n = 0;
    int rc = file_open(path, &fd, &bytes, e);
    if (rc)
        return rc;
    rc = tensor_build_file(b, path, fd, bytes, e);
    if (!rc)
        rc = read_header(fd, bytes, &text, &n, e);
    if (!rc)
        rc = safetensors_parse(b, text, n, bytes, e);
    free(text);
    if (rc)
        err_where(e, "%s", path);
    return rc;
}

int safetensors_open(struct tensor_dir **out, const char *const *paths, int n, struct err *e)
{
    struct tensor_build b;
    int rc = tensor_build_open(&b, e);
    for (int i = 0; i < n && !rc; i++)
        rc = add_file(&b, paths[i], e);
    if (rc) {
        tensor_build_abort(&b);
        return rc;
    }
    return tensor_build_finish(&b, out, e);
}
