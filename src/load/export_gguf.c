/*
 * export_gguf.c: writes a model as one GGUF file.
 *
 * From safetensors: names, keys and values as llama.cpp's converter makes them (norms + 1, -exp(A_log), V
 * heads tiled, gate and up apart). From GGUF: keys and tensors are copied, only types change; tensors that we
 * know nothing about are kept as they are.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "load/export_job.h"
#include "load/export_keys.h"
#include "load/export_roles.h"
#include "plan/plan.h"

struct listing {
    const struct model *m;
    const struct export_options *opt;
    struct gguf_writer *w;
    struct export_job job;
    int n_tensor;         /* announced so far */
    int i_value, n_value; /* attn_v and attn_qkv: seen so far, in all */
};

static int put(void *writer, int tensor, uint64_t offset, const void *data, size_t n, struct err *e)
{
    return gguf_writer_put(writer, tensor, offset, data, n, e);
}

/* ---- from safetensors ---- */

static int list_role(void *user, enum role role, int layer, struct err *e)
{
    struct listing *l = user;
    const struct model *m = l->m;
    int n;
    int64_t rows, cols, dim[4];
    struct weight_source src;
    char name[64];
    role_dims(&m->shape, role, &n, &rows, &cols);
    int rc = model_find(m, role, layer, n > 1 ? 0 : -1, &src, e);
    if (rc)
        return rc;
    enum qtype type = plan_target(m, role, layer, l->opt->mix, &src);
    role_gguf_name(&m->shape, role, layer, name);
    gguf_write_tensor(l->w, name, type, dim, export_role_dims(m, role, false, dim));
    uint64_t bytes = (uint64_t)rows * qtype_row_bytes(type, cols);
    for (int i = 0; i < n && !rc; i++) {
        rc = model_find(m, role, layer, n > 1 ? i : -1, &src, e);
        struct export_item item = export_item_new(&src, type, l->n_tensor, (uint64_t)i * bytes);
        item.order = export_head_order(m, role, true);
        if (!rc)
            rc = export_job_add(&l->job, &item, e);
    }
    l->n_tensor++;
    return rc;
}

static int list_checkpoint(struct listing *l, struct err *e)
{
    int rc = export_model_keys(l->w, l->m, l->opt->mix, e);
    if (!rc)
        rc = export_tokenizer_keys(l->w, l->m, e);
    return rc ? rc : export_each_role(l->m, list_role, l, e);
}

/* ---- from GGUF ---- */

static bool is_key(const struct gguf_pair *p, const char *key)
{
    return p->key.len == strlen(key) && !memcmp(p->key.data, key, p->key.len);
}

/* What describes the old file, not the model. */
static bool is_dropped(const struct gguf_pair *p)
{
    return is_key(p, "general.alignment") || (p->key.len > 6 && !memcmp(p->key.data, "split.", 6));
}

static int copy_keys(struct listing *l, struct err *e)
{
    const struct gguf_meta *meta = l->m->gguf;
    bool has_type = false;
    for (int i = 0; i < meta->n_pair; i++) {
        const struct gguf_pair *p = &meta->pair[i];
        char *key = strndup(p->key.data, p->key.len);
        if (!key)
            return err_set(e, ERR_MEMORY, "no memory for a key");
        if (is_key(p, "general.file_type")) {
            gguf_write_u32(l->w, key, mix_file_type(l->opt->mix));
            has_type = true;
        } else if (!is_dropped(p)) {
            gguf_write_value(l->w, key, &p->value);
        }
        free(key);
    }
    if (!has_type)
        gguf_write_u32(l->w, "general.file_type", mix_file_type(l->opt->mix));
    return 0;
}

static bool is_value(const char *name)
{
    return strstr(name, "attn_v.weight") || strstr(name, "attn_qkv.weight");
}

/* The type by the mix's rules, which go by name and shape. */
static enum qtype pick(const struct listing *l, const struct tensor *t, int64_t rows, int64_t cols)
{
    const struct shape *s = &l->m->shape;
    int layer = -1, n_dims = 0;
    if (!qtype_info(t->type)->decode)
        return t->type; /* integers: no weights */
    for (int i = 0; i < t->n_dims; i++)
        n_dims += t->dim[i] > 1;
    if (sscanf(t->name, "blk.%d.", &layer) != 1)
        layer = -1;
    struct mix_tensor mt = { .gguf_name = t->name,
                             .rows = rows,
                             .cols = cols,
                             .n_dims = n_dims,
                             .layer = layer,
                             .n_layer = s->n_layer + s->n_mtp,
                             .i_attn_v = l->i_value,
                             .n_attn_v = l->n_value,
                             .n_expert = s->n_expert,
                             .n_head = s->n_head,
                             .n_head_kv = s->n_head_kv,
                             .tied = s->tied };
    return mix_pick(l->opt->mix, &mt);
}

static int refuse_type(const struct listing *l, const struct tensor *t, struct err *e)
{
    err_set(e, ERR_FORMAT, "the tensor %s has the type %s, which cannot be converted", t->name, t->type_name);
    err_where(e, "%s", l->m->path);
    err_hint(e, "use a file quantized with llama.cpp's own types");
    return ERR_FORMAT;
}

/* Every matrix of a tensor as an item; higher dimensions count matrices. */
static int list_tensor(struct listing *l, const struct tensor *t, struct err *e)
{
    int64_t cols = t->n_dims ? t->dim[t->n_dims - 1] : 1, rows = t->n_dims > 1 ? t->dim[t->n_dims - 2] : 1,
            n = 1;
    for (int i = 0; i < t->n_dims - 2; i++)
        n *= t->dim[i];
    if (t->type == QTYPE_NONE || !qtype_fits(t->type, cols))
        return refuse_type(l, t, e);
    enum qtype type = pick(l, t, rows, cols);
    l->i_value += is_value(t->name);
    gguf_write_tensor(l->w, t->name, type, t->dim, t->n_dims);
    int rc = 0;
    for (int64_t i = 0; i < n && rows && cols && !rc; i++) {
        struct weight_source src = { .tensor = t,
                                     .type = t->type,
                                     .rows = rows,
                                     .cols = cols,
                                     .offset = (uint64_t)(i * rows) * qtype_row_bytes(t->type, cols) };
        struct export_item item =
            export_item_new(&src, type, l->n_tensor, (uint64_t)(i * rows) * qtype_row_bytes(type, cols));
        rc = export_job_add(&l->job, &item, e);
    }
    l->n_tensor++;
    return rc;
}

static int list_gguf(struct listing *l, struct err *e)
{
    const struct tensor_dir *d = l->m->dir;
    int rc = copy_keys(l, e);
    for (int i = 0; i < d->n_tensor; i++)
        l->n_value += is_value(d->tensor[i].name);
    for (int i = 0; i < d->n_tensor && !rc; i++)
        rc = list_tensor(l, &d->tensor[i], e);
    return rc;
}

/* ---- both ---- */

int export_gguf(const struct model *m, const char *out, const struct export_options *opt, struct err *e)
{
    struct listing l = { .m = m, .opt = opt };
    int rc = gguf_writer_open(&l.w, out, e);
    if (rc)
        return rc;
    l.job = (struct export_job){ .m = m, .put = put, .writer = l.w };
    rc = m->kind == MODEL_GGUF ? list_gguf(&l, e) : list_checkpoint(&l, e);
    if (!rc)
        rc = gguf_writer_begin(l.w, e);
    if (!rc)
        rc = export_job_run(&l.job, opt, e);
    if (!rc)
        rc = gguf_writer_commit(&l.w, e);
    gguf_writer_abort(&l.w);
    export_job_free(&l.job);
    return rc;
}
