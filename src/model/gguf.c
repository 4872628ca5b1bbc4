/*
 * gguf.c: reads the header of a GGUF file: metadata keys and the tensor directory. Split files are joined in
 * gguf_split.c, files are written by gguf_write.c, keys are read by value in gguf_keys.c.
 *
 * The header is walked through a window of the file's first bytes. A walk that needs more than the window
 * holds says how much, and the caller comes back with a larger one; nothing is allocated from a count before
 * the bytes it promises were seen to exist. Invariant: every length is compared with the real file before it
 * is used; tensors follow each other without holes and end inside the file.
 */
#include "model/gguf.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "model/gguf_private.h"

enum {
    MAX_KEY = 65535,
    MAX_NAME = 63,
    MAX_DIMS = 4,
    MAX_PAIRS = 1 << 20,
    MAX_TENSORS = 1 << 20,
    MAX_ALIGNMENT = 1 << 20,
    DEFAULT_ALIGNMENT = 32,
    NEED_MORE = 1 /* returned by a walk that left its window */
};

#define KEY_ALIGNMENT "general.alignment"

struct cursor {
    const uint8_t *bytes;
    size_t n, at; /* window and position */
    uint64_t file_bytes;
    size_t need; /* after NEED_MORE: a window that goes further */
};

/* ---- the window ---- */

/* Moves past n bytes and gives where they begin. */
static int take(struct cursor *c, uint64_t n, const uint8_t **out, struct err *e)
{
    if (!checked_range(c->at, n, c->file_bytes))
        return tensor_file_broken(e, "the header runs past the end of the file of %llu bytes",
                                  (unsigned long long)c->file_bytes);
    if (!checked_range(c->at, n, GGUF_MAX_HEADER))
        return tensor_file_broken(e, "the header is longer than %d MiB", GGUF_MAX_HEADER >> 20);
    if (!checked_range(c->at, n, c->n)) {
        c->need = c->at + (size_t)n;
        return NEED_MORE;
    }
    *out = c->bytes + c->at;
    c->at += (size_t)n;
    return 0;
}

static int take_u32(struct cursor *c, uint32_t *out, struct err *e)
{
    const uint8_t *p;
    int rc = take(c, 4, &p, e);
    if (rc)
        return rc;
    memcpy(out, p, 4);
    *out = le32toh(*out);
    return 0;
}

static int take_u64(struct cursor *c, uint64_t *out, struct err *e)
{
    const uint8_t *p;
    int rc = take(c, 8, &p, e);
    if (rc)
        return rc;
    memcpy(out, p, 8);
    *out = le64toh(*out);
    return 0;
}

static int take_string(struct cursor *c, struct gguf_string *out, struct err *e)
{
    const uint8_t *p;
    uint64_t n;
    int rc = take_u64(c, &n, e);
    if (!rc)
        rc = take(c, n, &p, e);
    if (rc)
        return rc;
    *out = (struct gguf_string){ (const char *)p, (size_t)n };
    return 0;
}

/* ---- values ---- */

int gguf_type_bytes(enum gguf_type t)
{
    static const int bytes[] = { 1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8 };
    return (unsigned)t <= GGUF_F64 ? bytes[t] : 0;
}

static bool is_signed(enum gguf_type t)
{
    return t == GGUF_I8 || t == GGUF_I16 || t == GGUF_I32 || t == GGUF_I64;
}

void gguf_decode_scalar(struct gguf_value *v, enum gguf_type type, const void *bytes)
{
    int n = gguf_type_bytes(type);
    uint64_t raw = 0;
    for (int i = n - 1; i >= 0; i--)
        raw = raw << 8 | ((const uint8_t *)bytes)[i];
    if (type == GGUF_F32) {
        uint32_t half = (uint32_t)raw;
        float f;
        memcpy(&f, &half, sizeof f);
        v->f = f;
    } else if (type == GGUF_F64) {
        memcpy(&v->f, &raw, sizeof v->f);
    } else if (is_signed(type)) {
        int shift = 64 - 8 * n;
        v->i = (int64_t)(raw << shift) >> shift;
    } else {
        v->u = raw;
    }
}

/* Walks over count packed strings. */
static int skip_strings(struct cursor *c, uint64_t count, struct err *e)
{
    struct gguf_string s;
    int rc = 0;
    for (uint64_t i = 0; i < count && !rc; i++)
        rc = take_string(c, &s, e);
    return rc;
}

static int read_array(struct cursor *c, struct gguf_value *v, struct err *e)
{
    uint32_t type = 0;
    uint64_t bytes;
    int rc = take_u32(c, &type, e);
    if (!rc)
        rc = take_u64(c, &v->count, e);
    if (rc)
        return rc;
    if (type == GGUF_ARRAY)
        return tensor_file_broken(e, "its value is an array of arrays");
    if (type > GGUF_F64)
        return tensor_file_broken(e, "its array elements have the unknown type %u", type);
    v->elem_type = (enum gguf_type)type;
    v->array = c->bytes + c->at;
    if (type == GGUF_STRING) {
        if (v->count > (c->file_bytes - c->at) / 8) /* each takes at least its length */
            return tensor_file_broken(e, "its array has %llu strings, more than the file has room for",
                                      (unsigned long long)v->count);
        return skip_strings(c, v->count, e);
    }
    const uint8_t *p;
    if (!checked_mul(v->count, (uint64_t)gguf_type_bytes(v->elem_type), &bytes))
        return tensor_file_broken(e, "its array has %llu elements", (unsigned long long)v->count);
    rc = take(c, bytes, &p, e);
    for (uint64_t i = 0; i < bytes && !rc && type == GGUF_BOOL; i++)
        if (p[i] > 1)
            rc = tensor_file_broken(e, "its array of bools holds the byte %u", p[i]);
    return rc;
}

/* A value of any type. Arrays stay packed where they are: v->array points at the first element. */
static int read_value(struct cursor *c, struct gguf_value *v, struct err *e)
{
    uint32_t type = 0;
    int rc = take_u32(c, &type, e);
    if (rc)
        return rc;
    if (type > GGUF_F64)
        return tensor_file_broken(e, "its value has the unknown type %u", type);
    *v = (struct gguf_value){ .type = (enum gguf_type)type, .count = 1 };
    if (type == GGUF_ARRAY)
        return read_array(c, v, e);
    if (type == GGUF_STRING)
        return take_string(c, &v->s, e);
    const uint8_t *p;
    rc = take(c, (uint64_t)gguf_type_bytes(v->type), &p, e);
    if (rc)
        return rc;
    gguf_decode_scalar(v, v->type, p);
    if (type == GGUF_BOOL && v->u > 1)
        return tensor_file_broken(e, "its bool is the byte %u", *p);
    return 0;
}

static int check_key(struct gguf_string key, struct err *e)
{
    if (key.len == 0 || key.len > MAX_KEY)
        return tensor_file_broken(e, "a key has %zu bytes; 1 to %d are allowed", key.len, MAX_KEY);
    for (size_t i = 0; i < key.len; i++)
        if ((uint8_t)key.data[i] < 0x20 || (uint8_t)key.data[i] > 0x7e)
            return tensor_file_broken(e, "a key holds the byte 0x%02x", (uint8_t)key.data[i]);
    return 0;
}

static int read_pair(struct cursor *c, struct gguf_pair *pair, struct err *e)
{
    int rc = take_string(c, &pair->key, e);
    if (!rc)
        rc = check_key(pair->key, e);
    if (rc)
        return rc;
    rc = read_value(c, &pair->value, e);
    if (rc < 0)
        err_where(e, "key \"%.*s\"", pair->key.len < 80 ? (int)pair->key.len : 80, pair->key.data);
    return rc;
}

/* ---- tensors ---- */

struct info { /* a tensor as listed */
    char name[MAX_NAME + 1];
    struct tensor t; /* offset: relative to the data */
    uint32_t ggml_id;
};

static int read_name(struct cursor *c, char *name, struct err *e)
{
    struct gguf_string s = { 0 };
    int rc = take_string(c, &s, e);
    if (rc)
        return rc;
    if (s.len == 0 || s.len > MAX_NAME || memchr(s.data, '\0', s.len))
        return tensor_file_broken(e, "a tensor's name has %zu bytes; 1 to %d without zeros are allowed",
                                  s.len, MAX_NAME);
    memcpy(name, s.data, s.len);
    name[s.len] = '\0';
    return 0;
}

static int read_dims(struct cursor *c, struct tensor *t, struct err *e)
{
    uint32_t n = 0;
    int rc = take_u32(c, &n, e);
    if (rc)
        return rc;
    if (n > MAX_DIMS)
        return tensor_file_broken(e, "it has %u dimensions; the format allows %d", n, MAX_DIMS);
    t->n_dims = (int)n;
    for (int i = t->n_dims - 1; i >= 0; i--) { /* the file lists the contiguous one first, we keep it last */
        uint64_t dim = 0;
        rc = take_u64(c, &dim, e);
        if (rc)
            return rc;
        if (dim > INT64_MAX)
            return tensor_file_broken(e, "it has a dimension of %llu", (unsigned long long)dim);
        t->dim[i] = (int64_t)dim;
    }
    return 0;
}

static int read_info(struct cursor *c, struct info *info, struct err *e)
{
    *info = (struct info){ 0 };
    int rc = read_name(c, info->name, e);
    if (rc)
        return rc;
    rc = read_dims(c, &info->t, e);
    if (!rc)
        rc = take_u32(c, &info->ggml_id, e);
    if (!rc)
        rc = take_u64(c, &info->t.offset, e);
    if (!rc)
        rc = gguf_tensor_type(&info->t, info->ggml_id, e);
    if (rc < 0)
        err_where(e, "tensor \"%s\"", info->name);
    return rc;
}

/* ---- the whole header ---- */

struct counts {
    uint32_t version;
    uint64_t n_tensor, n_pair;
};

static int read_counts(struct cursor *c, struct counts *k, struct err *e)
{
    const uint8_t *magic;
    int rc = take(c, 4, &magic, e);
    if (rc)
        return rc;
    if (memcmp(magic, "GGUF", 4))
        return tensor_file_broken(e, "the file does not begin with GGUF: this is not a GGUF file");
    rc = take_u32(c, &k->version, e);
    if (rc)
        return rc;
    if ((k->version & 0xffff) == 0) {
        err_set(e, ERR_FORMAT, "this is a big-endian GGUF file; only little-endian ones are supported");
        err_hint(e, "download the file made for ordinary (little-endian) machines");
        return ERR_FORMAT;
    }
    if (k->version < 2 || k->version > 3) {
        err_set(e, ERR_FORMAT, "this is GGUF version %u; versions 2 and 3 are supported", k->version);
        err_hint(e, "convert the model again with a current converter");
        return ERR_FORMAT;
    }
    rc = take_u64(c, &k->n_tensor, e);
    if (!rc)
        rc = take_u64(c, &k->n_pair, e);
    if (rc)
        return rc;
    uint64_t left = c->file_bytes - c->at; /* a pair takes at least 14 bytes, a tensor 25 */
    if (k->n_pair > MAX_PAIRS || k->n_pair > left / 14)
        return tensor_file_broken(e, "the file says it has %llu keys", (unsigned long long)k->n_pair);
    if (k->n_tensor > MAX_TENSORS || k->n_tensor > left / 25)
        return tensor_file_broken(e, "the file says it has %llu tensors", (unsigned long long)k->n_tensor);
    return 0;
}

static int check_alignment(struct gguf_meta *m, struct err *e)
{
    const struct gguf_value *v = gguf_find(m, KEY_ALIGNMENT);
    m->alignment = DEFAULT_ALIGNMENT;
    if (!v)
        return 0;
    if (v->type != GGUF_U32 || v->u < 8 || v->u > MAX_ALIGNMENT || (v->u & (v->u - 1)))
        return tensor_file_broken(e, KEY_ALIGNMENT " is not a u32 power of two from 8 to %d", MAX_ALIGNMENT);
    m->alignment = (uint32_t)v->u;
    return 0;
}

/* Moves the offsets of list[0..n) from the data to the file, after checking that they follow each other. A
 * type of unknown size reaches to the next tensor. */
static int place(struct info *list, uint64_t n, uint64_t data_begin, uint64_t align, uint64_t file_bytes,
                 struct err *e)
{
    uint64_t expected = 0, data_bytes = data_begin < file_bytes ? file_bytes - data_begin : 0;
    for (uint64_t i = 0; i < n; i++) {
        struct tensor *t = &list[i].t;
        uint64_t next = i + 1 < n ? list[i + 1].t.offset : data_bytes;
        int rc = 0;
        if (t->offset != expected)
            rc = tensor_file_broken(e, "its data begin at byte %llu, but the ones before end at %llu",
                                    (unsigned long long)t->offset, (unsigned long long)expected);
        else if (gguf_size_unknown(t) && (next < t->offset || (i + 1 < n && next % align)))
            rc = tensor_file_broken(e, "the data after it begin at byte %llu", (unsigned long long)next);
        else if (gguf_size_unknown(t))
            t->bytes = next - t->offset;
        if (!rc && !checked_range(t->offset, t->bytes, data_bytes))
            rc = tensor_file_broken(e, "a tensor lies outside the file: bytes %llu..%llu of %llu",
                                    (unsigned long long)t->offset, (unsigned long long)t->offset + t->bytes,
                                    (unsigned long long)data_bytes);
        if (rc) {
            err_where(e, "tensor \"%s\"", list[i].name);
            return rc;
        }
        expected = align_up(t->offset + t->bytes, align);
        t->offset += data_begin;
    }
    return 0;
}

static int add_tensors(struct tensor_build *b, const struct info *list, uint64_t n, struct err *e)
{
    int rc = 0;
    char number[48];
    for (uint64_t i = 0; i < n && !rc; i++)
        rc = tensor_build_add(b, &list[i].t, list[i].name, strlen(list[i].name),
                              gguf_ggml_name(list[i].ggml_id, number, sizeof number), e);
    return rc;
}

/* Walks pairs and tensors without keeping them: proves that the window holds the whole header. */
static int survey(struct cursor *c, struct counts *k, struct err *e)
{
    struct gguf_pair pair;
    struct info info;
    int rc = read_counts(c, k, e);
    for (uint64_t i = 0; i < k->n_pair && !rc; i++)
        rc = read_pair(c, &pair, e);
    for (uint64_t i = 0; i < k->n_tensor && !rc; i++)
        rc = read_info(c, &info, e);
    return rc;
}

/* Second walk, over a surveyed window: keeps pairs and tensors. */
static int collect(struct cursor *c, const struct counts *k, struct gguf_meta *m, struct info *list,
                   struct err *e)
{
    struct counts again;
    int rc = read_counts(c, &again, e);
    for (uint64_t i = 0; i < k->n_pair && !rc; i++) {
        rc = read_pair(c, &m->pair[i], e);
        m->n_pair += !rc;
    }
    for (uint64_t i = 0; i < k->n_tensor && !rc; i++)
        rc = read_info(c, &list[i], e);
    if (!rc)
        rc = gguf_index_keys(m, e);
    if (!rc)
        rc = gguf_unpack_strings(m, e);
    if (!rc)
        rc = check_alignment(m, e);
    return rc;
}

int gguf_parse(struct gguf_meta **out, struct tensor_build *b, char *window, size_t n, uint64_t file_bytes,
               size_t *need, struct err *e)
{
    struct cursor first = { (const uint8_t *)window, n, 0, file_bytes, 0 }, second = first;
    struct counts k = { 0 };
    int rc = survey(&first, &k, e);
    *need = first.need;
    if (rc)
        return rc;
    struct gguf_meta *m = gguf_meta_new(k.n_pair);
    struct info *list = calloc(k.n_tensor + 1, sizeof *list);
    if (!m || !list)
        rc = err_set(e, ERR_MEMORY, "no memory for %llu tensors and %llu keys",
                     (unsigned long long)k.n_tensor, (unsigned long long)k.n_pair);
    else
        rc = collect(&second, &k, m, list, e);
    if (!rc)
        rc = place(list, k.n_tensor, align_up(second.at, m->alignment), m->alignment, file_bytes, e);
    if (!rc)
        rc = add_tensors(b, list, k.n_tensor, e);
    free(list);
    if (rc) {
        gguf_meta_close(&m);
        return rc;
    }
    m->version = k.version;
    m->n_split = 1;
    gguf_meta_own(m, window);
    *out = m;
    return 0;
}
