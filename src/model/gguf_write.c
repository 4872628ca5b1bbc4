/*
 * gguf_write.c: writes a GGUF v3 file: keys and tensor headers are collected; then every tensor has its
 * place, and data may come in any order from any thread.
 *
 * Lives elsewhere: which keys and tensors a model has (load/export_gguf.c), temporary file and rename
 * (base/file.c). Invariant: a file is renamed only when each tensor got exactly the bytes its header
 * promises.
 */
#include <endian.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/file.h"
#include "model/gguf_private.h"

enum { VERSION = 3, ALIGNMENT = 32 };

struct bytes { /* a growing buffer */
    uint8_t *at;
    size_t used, room;
};

struct slot {        /* a tensor's place */
    uint64_t offset; /* from the beginning of the data */
    uint64_t bytes;  /* without padding */
    _Atomic uint64_t done;
};

struct gguf_writer {
    struct file_writer *file;
    struct bytes pairs, infos; /* as they will stand in the file */
    uint64_t n_pair, n_tensor;
    struct slot *slot; /* [n_tensor] */
    size_t slot_room;
    uint64_t data_begin; /* in the file; 0: the header is not written */
    uint64_t data_bytes; /* all tensors with their padding */
    int failed;          /* first ERR_ code of a call without an error argument */
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
    if (w->n_tensor < w->slot_room)
        return true;
    size_t room = w->slot_room ? 2 * w->slot_room : 256;
    struct slot *more = realloc(w->slot, room * sizeof *more);
    if (!more)
        return false;
    w->slot = more;
    w->slot_room = room;
    return true;
}

void gguf_write_tensor(struct gguf_writer *w, const char *name, enum qtype type, const int64_t *dim,
                       int n_dims)
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
    struct slot *slot = &w->slot[w->n_tensor++];
    slot->offset = w->data_bytes;
    slot->bytes = t.bytes;
    atomic_init(&slot->done, 0);
    w->data_bytes += align_up(t.bytes, ALIGNMENT);
}

int gguf_writer_begin(struct gguf_writer *w, struct err *e)
{
    static const uint8_t zero[ALIGNMENT];
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
    free(head.at);
    uint64_t header = file_writer_size(w->file), begin = align_up(header, ALIGNMENT);
    if (!rc && w->n_tensor)
        rc = file_writer_append(w->file, zero, (size_t)(begin - header), e);
    w->data_begin = rc ? 0 : begin;
    return rc;
}

int gguf_writer_put(struct gguf_writer *w, int tensor, uint64_t offset, const void *data, size_t n,
                    struct err *e)
{
    if (!w->data_begin || tensor < 0 || (uint64_t)tensor >= w->n_tensor ||
        !checked_range(offset, n, w->slot[tensor].bytes))
        return err_set(e, ERR_USAGE, "data outside what the tensor's header announced");
    struct slot *s = &w->slot[tensor];
    atomic_fetch_add_explicit(&s->done, n, memory_order_relaxed);
    return file_writer_at(w->file, data, n, w->data_begin + s->offset + offset, e);
}

/* The last tensor is padded too: the reference reader expects the whole of it. The others' padding are holes.
 */
static int pad_end(struct gguf_writer *w, struct err *e)
{
    static const uint8_t zero[ALIGNMENT];
    if (w->n_tensor == 0)
        return 0;
    const struct slot *last = &w->slot[w->n_tensor - 1];
    uint64_t end = last->offset + last->bytes;
    if (end == w->data_bytes)
        return 0;
    return file_writer_at(w->file, zero, (size_t)(w->data_bytes - end), w->data_begin + end, e);
}

int gguf_writer_commit(struct gguf_writer **wp, struct err *e)
{
    struct gguf_writer *w = *wp;
    uint64_t missing = w->data_begin ? 0 : w->n_tensor + 1;
    for (uint64_t i = 0; i < w->n_tensor && w->data_begin; i++)
        missing += atomic_load(&w->slot[i].done) != w->slot[i].bytes;
    int rc = 0;
    if (missing)
        rc = err_set(e, ERR_USAGE, "%llu of %llu tensors are not written completely",
                     (unsigned long long)missing, (unsigned long long)w->n_tensor);
    if (!rc)
        rc = pad_end(w, e);
    if (!rc)
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
    free(w->slot);
    free(w);
}
