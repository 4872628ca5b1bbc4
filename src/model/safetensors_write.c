/*
 * safetensors_write.c: see safetensors_write.h. Inside a shard tensors of large elements come first, so that
 * each lies at a multiple of its element size, as the official writer does.
 */
#include "model/safetensors_write.h"

#include <endian.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/file.h"
#include "base/json.h"
#include "model/tensor_build.h"

enum { HEADER_ALIGN = 8, MAX_SHARDS = 99999 };

struct slot { /* a tensor's place */
    char *name;
    const char *dtype; /* borrowed: a literal */
    int item_bytes, n_dims;
    int64_t dim[TENSOR_MAX_DIMS];
    uint64_t bytes;
    int shard;
    uint64_t offset; /* from the beginning of the shard's data */
    _Atomic uint64_t done;
};

struct shard {
    struct file_writer *file;
    uint64_t data_begin;
};

struct safetensors_writer {
    char *folder;
    uint64_t shard_bytes;
    struct slot *slot;
    size_t slot_room;
    int n_slot, n_shard;
    struct shard *shard;
    bool begun;
    int failed; /* first ERR_ code of a call without an error argument */
};

static int item_bytes(const char *dtype)
{
    const struct qtype_info *info = qtype_info(qtype_from_st(dtype));
    return info->st_name && info->block == 1 ? info->block_bytes : 0;
}

int safetensors_writer_open(struct safetensors_writer **out, const char *folder, uint64_t shard_bytes,
                            struct err *e)
{
    struct safetensors_writer *w = calloc(1, sizeof *w);
    if (w)
        w->folder = strdup(folder);
    if (!w || !w->folder) {
        free(w);
        return err_set(e, ERR_MEMORY, "no memory for a safetensors writer");
    }
    w->shard_bytes = shard_bytes;
    *out = w;
    return 0;
}

static bool room_for_one(struct safetensors_writer *w)
{
    if ((size_t)w->n_slot < w->slot_room)
        return true;
    size_t room = w->slot_room ? 2 * w->slot_room : 512;
    struct slot *more = realloc(w->slot, room * sizeof *more);
    if (!more)
        return false;
    w->slot = more;
    w->slot_room = room;
    return true;
}

int safetensors_write_tensor(struct safetensors_writer *w, const char *name, const char *dtype,
                             const int64_t *dim, int n_dims)
{
    struct slot s = { .dtype = dtype, .n_dims = n_dims, .item_bytes = item_bytes(dtype) };
    int64_t elements;
    if (w->failed)
        return 0; /* said by begin; a name would belong to nobody */
    if (!s.item_bytes || n_dims > TENSOR_MAX_DIMS || !tensor_count_elements(dim, n_dims, &elements) ||
        !checked_mul((uint64_t)elements, (uint64_t)s.item_bytes, &s.bytes))
        w->failed = ERR_FORMAT;
    else if (!room_for_one(w) || !(s.name = strdup(name)))
        w->failed = ERR_MEMORY;
    if (w->failed)
        return 0;
    memcpy(s.dim, dim, (size_t)n_dims * sizeof *dim);
    atomic_init(&s.done, 0);
    memcpy(&w->slot[w->n_slot], &s, sizeof s);
    return w->n_slot++;
}

uint64_t safetensors_writer_bytes(const struct safetensors_writer *w, int tensor)
{
    return tensor < w->n_slot ? w->slot[tensor].bytes : 0;
}

/* ---- shards ---- */

/* Fills shards in the order of announcement; inside a shard by element size. */
static void distribute(struct safetensors_writer *w)
{
    uint64_t used = 0;
    w->n_shard = 1;
    for (int i = 0; i < w->n_slot; i++) {
        struct slot *s = &w->slot[i];
        if (used && s->bytes > w->shard_bytes - used) {
            w->n_shard++;
            used = 0;
        }
        s->shard = w->n_shard - 1;
        used = s->bytes > w->shard_bytes ? w->shard_bytes : used + s->bytes;
    }
    for (int begin = 0, end; begin < w->n_slot; begin = end) {
        uint64_t at = 0;
        for (end = begin; end < w->n_slot && w->slot[end].shard == w->slot[begin].shard;)
            end++;
        for (int size = 8; size > 0; size /= 2)
            for (int i = begin; i < end; i++)
                if (w->slot[i].item_bytes == size) {
                    w->slot[i].offset = at;
                    at += w->slot[i].bytes;
                }
    }
}

static json_t *describe(const struct slot *s)
{
    json_t *shape = json_array();
    for (int i = 0; i < s->n_dims; i++)
        json_array_append_new(shape, json_integer(s->dim[i]));
    return json_pack("{s:s, s:o, s:[I, I]}", "dtype", s->dtype, "shape", shape, "data_offsets",
                     (json_int_t)s->offset, (json_int_t)(s->offset + s->bytes));
}

/* The header text of one shard, padded with spaces; malloc'ed. NULL without memory or when a name is there
 * twice. */
static char *header_text(const struct safetensors_writer *w, int shard, size_t *n)
{
    json_t *header = json_pack("{s:{s:s}}", "__metadata__", "format", "pt");
    bool bad = !header;
    for (int i = 0; i < w->n_slot && !bad; i++)
        if (w->slot[i].shard == shard)
            bad = json_object_get(header, w->slot[i].name) ||
                  json_object_set_new(header, w->slot[i].name, describe(&w->slot[i]));
    char *text = bad ? NULL : json_dumps(header, JSON_COMPACT);
    json_decref(header);
    if (!text)
        return NULL;
    size_t length = strlen(text), padded = (size_t)align_up(length, HEADER_ALIGN);
    char *out = malloc(padded + 1);
    if (out) {
        memcpy(out, text, length);
        memset(out + length, ' ', padded - length);
        *n = padded;
    }
    free(text);
    return out;
}

static void shard_name(const struct safetensors_writer *w, int shard, char *out, size_t room)
{
    snprintf(out, room, "model-%05d-of-%05d.safetensors", shard + 1, w->n_shard);
}

static int begin_shard(struct safetensors_writer *w, int i, struct err *e)
{
    char name[64], path[4096];
    size_t n;
    shard_name(w, i, name, sizeof name);
    snprintf(path, sizeof path, "%s/%s", w->folder, name);
    int rc = file_writer_open(&w->shard[i].file, path, e);
    if (rc)
        return rc;
    char *text = header_text(w, i, &n);
    if (!text)
        return err_set(e, ERR_MEMORY, "the header of %s cannot be made", name);
    uint64_t length = htole64((uint64_t)n);
    rc = file_writer_append(w->shard[i].file, &length, sizeof length, e);
    if (!rc)
        rc = file_writer_append(w->shard[i].file, text, n, e);
    free(text);
    w->shard[i].data_begin = sizeof length + n;
    return rc;
}

int safetensors_writer_begin(struct safetensors_writer *w, struct err *e)
{
    if (w->failed == ERR_MEMORY)
        return err_set(e, ERR_MEMORY, "no memory for the list of tensors");
    if (w->failed)
        return err_set(e, ERR_FORMAT, "a tensor's type or shape cannot be stored in safetensors");
    distribute(w);
    if (w->n_shard > MAX_SHARDS)
        return err_set(e, ERR_FORMAT, "the model needs more than %d shards", MAX_SHARDS);
    w->shard = calloc((size_t)w->n_shard, sizeof *w->shard);
    if (!w->shard)
        return err_set(e, ERR_MEMORY, "no memory for %d shards", w->n_shard);
    int rc = 0;
    for (int i = 0; i < w->n_shard && !rc; i++)
        rc = begin_shard(w, i, e);
    w->begun = !rc;
    return rc;
}

int safetensors_writer_put(struct safetensors_writer *w, int tensor, uint64_t offset, const void *data,
                           size_t n, struct err *e)
{
    if (!w->begun || tensor < 0 || tensor >= w->n_slot || !checked_range(offset, n, w->slot[tensor].bytes))
        return err_set(e, ERR_USAGE, "data outside what the tensor's header announced");
    struct slot *s = &w->slot[tensor];
    const struct shard *shard = &w->shard[s->shard];
    atomic_fetch_add_explicit(&s->done, n, memory_order_relaxed);
    return file_writer_at(shard->file, data, n, shard->data_begin + s->offset + offset, e);
}

/* ---- the end ---- */

static int write_index(const struct safetensors_writer *w, struct err *e)
{
    char path[4096], name[64];
    uint64_t total = 0;
    json_t *map = json_object();
    for (int i = 0; i < w->n_slot; i++) {
        shard_name(w, w->slot[i].shard, name, sizeof name);
        json_object_set_new(map, w->slot[i].name, json_string(name));
        total += w->slot[i].bytes;
    }
    json_t *index =
        json_pack("{s:{s:I}, s:o}", "metadata", "total_size", (json_int_t)total, "weight_map", map);
    char *text = index ? json_dumps(index, JSON_INDENT(2) | JSON_SORT_KEYS) : NULL;
    json_decref(index);
    if (!text)
        return err_set(e, ERR_MEMORY, "no memory for the index");
    struct file_writer *f = NULL;
    snprintf(path, sizeof path, "%s/model.safetensors.index.json", w->folder);
    int rc = file_writer_open(&f, path, e);
    if (!rc)
        rc = file_writer_append(f, text, strlen(text), e);
    if (!rc)
        rc = file_writer_commit(&f, e);
    file_writer_abort(&f);
    free(text);
    return rc;
}

int safetensors_writer_commit(struct safetensors_writer **wp, struct err *e)
{
    struct safetensors_writer *w = *wp;
    int missing = !w->begun, rc = 0;
    for (int i = 0; i < w->n_slot; i++)
        missing += atomic_load(&w->slot[i].done) != w->slot[i].bytes;
    if (missing)
        rc = err_set(e, ERR_USAGE, "%d of %d tensors are not written completely", missing, w->n_slot);
    for (int i = 0; i < w->n_shard && !rc; i++)
        rc = file_writer_commit(&w->shard[i].file, e);
    if (!rc)
        rc = write_index(w, e);
    safetensors_writer_abort(wp);
    return rc;
}

void safetensors_writer_abort(struct safetensors_writer **wp)
{
    struct safetensors_writer *w = *wp;
    *wp = NULL;
    if (!w)
        return;
    for (int i = 0; i < w->n_shard && w->shard; i++)
        file_writer_abort(&w->shard[i].file);
    for (int i = 0; i < w->n_slot; i++)
        free(w->slot[i].name);
    free(w->shard);
    free(w->slot);
    free(w->folder);
    free(w);
}
