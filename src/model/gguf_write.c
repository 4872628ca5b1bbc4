/*
 * gguf_write.c: writes a GGUF v3 file: keys and tensor headers are collected, then tensor data stream through.
 *
 * Lives elsewhere: which keys and tensors a model has (load/export_gguf.c), temporary file and rename (base/file.c).
 * Invariant: data arrive in the order of the headers, each tensor with exactly the bytes its header promises.
 */
#include <endian.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/file.h"
#include "model/gguf_private.h"

enum { VERSION = 3, ALIGNMENT = 32 };

struct bytes { /* a growing buffer */
    uint8_t *at;
    size_t   used, room;
};

struct gguf_writer {
    struct file_writer *file;
    struct bytes        pairs, infos; /* as they will stand in the file */
    uint64_t            n_pair, n_tensor;
    uint64_t           *tensor_bytes; /* [n_tensor] without padding */
    size_t              tensor_room;
    uint64_t            data_bytes;   /* offset of the next tensor to be announced */
    uint64_t            current, done; /* tensor being written, its bytes so far */
    bool                begun;
    int                 failed;       /* first ERR_ code of a call without an error argument */
};

static void put(struct gguf_writer *w, struct bytes *b, const void *data, size_t n)
{
    if (w->failed)
        return;
    if (n > b->room - b->used) {
        size_t room = 2 * (b->room + n) + 4096;
        uint8_t *more = realloc(b->at, room);
        if (!more) {
            w->failed = ERR_MEMORY;
            return;
        }
        b->at = more;
        b->room = room;
    }
    if (n)
        memcpy(b->at + b->used, data, n);
    b->used += n;
}

static void put_u32(struct gguf_writer *w, struct bytes *b, uint32_t v)
{
    v = htole32(v);
    put(w, b, &v, sizeof v);
}

static void put_u64(struct gguf_writer *w, struct bytes *b, uint64_t v)
{
    v = htole64(v);
    put(w, b, &v, sizeof v);
}

static void put_string(struct gguf_writer *w, struct bytes *b, const char *s, size_t n)
{
    put_u64(w, b, n);
    put(w, b, s, n);
}

/* ---- keys ---- */

static void put_key(struct gguf_writer *w, const char *key, enum gguf_type type)
{
    put_string(w, &w->pairs, key, strlen(key));
    put_u32(w, &w->pairs, (uint32_t)type);
    w->n_pair++;
}

int gguf_writer_open(struct gguf_writer **out, const char *path, struct err *e)
{
    struct gguf_writer *w = calloc(1, sizeof *w);
    if (!w)
        return err_set(e, ERR_MEMORY, "no memory for a GGUF writer");
    int rc = file_writer_open(&w->file, path, e);
    if (rc) {
        free(w);
        return rc;
    }
    *out = w;
    return 0;
}

void gguf_write_u32(struct gguf_writer *w, const char *key, uint32_t v)
{
    put_key(w, key, GGUF_U32);
    put_u32(w, &w->pairs, v);
}

void gguf_write_f32(struct gguf_writer *w, const char *key, float v)
{
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    put_key(w, key, GGUF_F32);
    put_u32(w, &w->pairs, bits);
}

void gguf_write_bool(struct gguf_writer *w, const char *key, bool v)
{
    uint8_t byte = v;
    put_key(w, key, GGUF_BOOL);
    put(w, &w->pairs, &byte, 1);
}

void gguf_write_str(struct gguf_writer *w, const char *key, const char *s, size_t len)
{
    put_key(w, key, GGUF_STRING);
    put_string(w, &w->pairs, s, len);
}

static void put_array_head(struct gguf_writer *w, const char *key, enum gguf_type elem, uint64_t count)
{
    put_key(w, key, GGUF_ARRAY);
    put_u32(w, &w->pairs, (uint32_t)elem);
    put_u64(w, &w->pairs, count);
}

void gguf_write_array(struct gguf_writer *w, const char *key, enum gguf_type elem, const void *elems,
                      uint64_t count)
{
    put_array_head(w, key, elem, count);
    put(w, &w->pairs, elems, (size_t)count * (size_t)gguf_type_bytes(elem));
}

void gguf_write_strings(struct gguf_writer *w, const char *key, const struct gguf_string *s, uint64_t count)
{
    put_array_head(w, key, GGUF_STRING, count);
    for (uint64_t i = 0; i < count; i++)
        put_string(w, &w->pairs, s[i].data, s[i].len);
}

void gguf_write_value(struct gguf_writer *w, const char *key, const struct gguf_value *v)
{
    if (v->type == GGUF_STRING) {
        gguf_write_str(w, key, v->s.data, v->s.len);
    } else if (v->type == GGUF_ARRAY && v->elem_type == GGUF_STRING) {
        gguf_write_strings(w, key, v->array, v->count);
    } else if (v->type == GGUF_ARRAY) {
        gguf_write_array(w, key, v->elem_type, v->array, v->count);
    } else {
        float single = (float)v->f;
        uint64_t raw = v->u; /* all integers and f64: their low bytes are the stored ones */
        if (v->type == GGUF_F32) {
            uint32_t bits;
            memcpy(&bits, &single, sizeof bits);
            raw = bits;
        }
        raw = htole64(raw);
        put_key(w, key, v->type);
        put(w, &w->pairs, &raw, (size_t)gguf_type_bytes(v->type));
    }
}

/* ---- tensors ---- */

static bool room_for_one(struct gguf_writer *w)
{
    if (w->n_tensor < w->tensor_room)
        return true;
    size_t room = w->tensor_room ? 2 * w->tensor_room : 256;
    uint64_t *more = realloc(w->tensor_bytes, room * sizeof *more);
    if (!more)
        return false;
    w->tensor_bytes = more;
    w->tensor_room = room;
    return true;
}

void gguf_write_tensor(struct gguf_writer *w, const char *name, enum qtype type, const int64_t *dim, int n_dims)
{
    struct tensor t = { .n_dims = n_dims };
    int id = qtype_info(type)->ggml_id;
    for (int i = 0; i < n_dims && i < TENSOR_MAX_DIMS; i++)
        t.dim[i] = dim[i];
    if (!w->failed && (id < 0 || n_dims > 4 || gguf_tensor_type(&t, (uint32_t)id, NULL)))
        w->failed = ERR_FORMAT;
    if (!w->failed && !room_for_one(w))
        w->failed = ERR_MEMORY;
    if (w->failed)
        return;
    put_string(w, &w->infos, name, strlen(name));
    put_u32(w, &w->infos, (uint32_t)n_dims);
    for (int i = n_dims - 1; i >= 0; i--)
        put_u64(w, &w->infos, (uint64_t)dim[i]);
    put_u32(w, &w->infos, (uint32_t)id);
    put_u64(w, &w->infos, w->data_bytes);
    w->tensor_bytes[w->n_tensor++] = t.bytes;
    w->data_bytes += align_up(t.bytes, ALIGNMENT);
}

static int put_padding(struct gguf_writer *w, struct err *e)
{
    static const uint8_t zero[ALIGNMENT];
    uint64_t at = file_writer_size(w->file);
    return file_writer_append(w->file, zero, (size_t)(align_up(at, ALIGNMENT) - at), e);
}

/* Steps over tensors that have all their bytes (also empty ones). */
static int finish_full_tensors(struct gguf_writer *w, struct err *e)
{
    int rc = 0;
    while (!rc && w->current < w->n_tensor && w->done == w->tensor_bytes[w->current]) {
        w->current++;
        w->done = 0;
        rc = put_padding(w, e);
    }
    return rc;
}

int gguf_writer_begin(struct gguf_writer *w, struct err *e)
{
    struct bytes head = { 0 };
    put(w, &head, "GGUF", 4);
    put_u32(w, &head, VERSION);
    put_u64(w, &head, w->n_tensor);
    put_u64(w, &head, w->n_pair);
    int rc = 0;
    if (w->failed == ERR_MEMORY)
        rc = err_set(e, ERR_MEMORY, "no memory for the header");
    else if (w->failed)
        rc = err_set(e, ERR_FORMAT, "a tensor's type or shape cannot be stored in a GGUF file");
    if (!rc)
        rc = file_writer_append(w->file, head.at, head.used, e);
    if (!rc && w->n_pair)
        rc = file_writer_append(w->file, w->pairs.at, w->pairs.used, e);
    if (!rc && w->n_tensor)
        rc = file_writer_append(w->file, w->infos.at, w->infos.used, e);
    if (!rc && w->n_tensor)
        rc = put_padding(w, e);
    free(head.at);
    w->begun = !rc;
    return rc ? rc : finish_full_tensors(w, e);
}

int gguf_writer_data(struct gguf_writer *w, const void *data, size_t n, struct err *e)
{
    if (!w->begun || w->current >= w->n_tensor || n > w->tensor_bytes[w->current] - w->done)
        return err_set(e, ERR_USAGE, "more data than the tensor's header announced");
    int rc = file_writer_append(w->file, data, n, e);
    w->done += n;
    return rc ? rc : finish_full_tensors(w, e);
}

int gguf_writer_commit(struct gguf_writer **wp, struct err *e)
{
    struct gguf_writer *w = *wp;
    int rc = 0;
    if (!w->begun || w->current < w->n_tensor)
        rc = err_set(e, ERR_USAGE, "the data of %llu tensors are missing",
                     (unsigned long long)(w->n_tensor - w->current));
    else
        rc = file_writer_commit(&w->file, e);
    gguf_writer_abort(wp);
    return rc;
}

void gguf_writer_abort(struct gguf_writer **wp)
{
    struct gguf_writer *w = *wp;
    *wp = NULL;
    if (!w)
        return;
    file_writer_abort(&w->file);
    free(w->pairs.at);
    free(w->infos.at);
    free(w->tensor_bytes);
    free(w);
}
