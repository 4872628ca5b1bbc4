/*
 * export_bnb.c: writes a model as safetensors with NF4 or FP4 matrices in the bitsandbytes layout; fused
 * experts in our extension of it (doc/formats.md 2.2). Everything else stays as the source stores it.
 *
 * Lives elsewhere: the folder and its small files (export_folder.c), shards (model/safetensors_write.c),
 * conversion and double quantization (export_job.c, quant/).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "load/export_folder.h"
#include "load/export_job.h"
#include "load/export_roles.h"
#include "model/safetensors_write.h"
#include "plan/plan.h"

enum { BNB_BLOCK = 64, NESTED_BLOCK = 256, NESTED_MAP = 256, CODES = 16, NAME_ROOM = 256 };

static const uint64_t default_shard_bytes = 5000000000u;

/* Bytes known before anything is converted: code tables and descriptions. */
struct constant {
    int tensor;
    uint64_t offset;
    char *data; /* owned */
    size_t n;
};

struct listing {
    const struct model *m;
    const struct export_options *opt;
    struct safetensors_writer *w;
    struct export_job job;
    struct constant *constant;
    size_t n_constant, constant_room;
    json_t *skipped; /* modules that stay plain */
    bool *used;      /* [dir->n_tensor] of the source */
};

/* One quantized tensor: M matrices of [rows][cols]; M = 1 and not fused: a linear layer. */
struct quantized {
    const char *name;
    enum qtype type;
    const char *dtype; /* what the weights were before: "bfloat16" */
    bool fused;
    int64_t n, rows, cols;
    int64_t dim[3]; /* the plain tensor */
    int n_dims;
    int64_t blocks, groups;                                             /* of each matrix */
    int codes, absmax, nested_absmax, nested_map, nested_offset, state; /* tensors; -1: none */
    int offset_text; /* where in state the decimal offset stands; -1: nowhere */
};

static bool is_double(enum qtype t)
{
    return t == QTYPE_NF4_DQ || t == QTYPE_FP4_DQ;
}

static bool is_4bit(enum qtype t)
{
    return t == QTYPE_NF4 || t == QTYPE_FP4 || is_double(t);
}

static const char *quant_name(enum qtype t)
{
    return t == QTYPE_NF4 || t == QTYPE_NF4_DQ ? "nf4" : "fp4";
}

static int put(void *writer, int tensor, uint64_t offset, const void *data, size_t n, struct err *e)
{
    return safetensors_writer_put(writer, tensor, offset, data, n, e);
}

/* Remembers n bytes for a tensor, to be written when the header stands. */
static int add_constant(struct listing *l, int tensor, uint64_t offset, const void *data, size_t n,
                        struct err *e)
{
    if (l->n_constant == l->constant_room) {
        size_t room = l->constant_room ? 2 * l->constant_room : 256;
        struct constant *more = realloc(l->constant, room * sizeof *more);
        if (!more)
            return err_set(e, ERR_MEMORY, "no memory for code tables");
        l->constant = more;
        l->constant_room = room;
    }
    char *copy = malloc(n + 1);
    if (!copy)
        return err_set(e, ERR_MEMORY, "no memory for code tables");
    memcpy(copy, data, n);
    l->constant[l->n_constant++] = (struct constant){ tensor, offset, copy, n };
    return 0;
}

/* ---- announcing a quantized tensor ---- */

static int announce(struct listing *l, const struct quantized *q, const char *suffix, const char *dtype,
                    int64_t a, int64_t b, bool matrix_first)
{
    char name[NAME_ROOM + 64];
    int64_t dim[2] = { a, b };
    snprintf(name, sizeof name, "%s%s", q->name, suffix);
    return matrix_first ? safetensors_write_tensor(l->w, name, dtype, dim, 2)
                        : safetensors_write_tensor(l->w, name, dtype, dim + 1, 1);
}

/* The JSON description; the offset is EXPORT_NUMBER blanks to be filled in. */
static int describe(struct listing *l, struct quantized *q, struct err *e)
{
    char text[512], suffix[64];
    int n = snprintf(text, sizeof text,
                     "{\"quant_type\": \"%s\", \"blocksize\": %d, \"dtype\": \"%s\", \"shape\": [",
                     quant_name(q->type), BNB_BLOCK, q->dtype);
    for (int i = 0; i < q->n_dims; i++)
        n += snprintf(text + n, sizeof text - (size_t)n, "%s%lld", i ? ", " : "", (long long)q->dim[i]);
    n += snprintf(text + n, sizeof text - (size_t)n, "]");
    if (q->fused)
        n += snprintf(text + n, sizeof text - (size_t)n, ", \"matrices\": %lld", (long long)q->n);
    if (is_double(q->type))
        n += snprintf(text + n, sizeof text - (size_t)n,
                      ", \"nested_blocksize\": %d, \"nested_dtype\": \"float32\"", NESTED_BLOCK);
    if (is_double(q->type) && !q->fused) {
        n += snprintf(text + n, sizeof text - (size_t)n, ", \"nested_offset\": ");
        q->offset_text = n;
        n += EXPORT_NUMBER;
    }
    text[n++] = '}';
    snprintf(suffix, sizeof suffix, ".quant_state.bitsandbytes__%s", quant_name(q->type));
    q->state = announce(l, q, suffix, "U8", 0, n, false);
    if (q->offset_text < 0)
        return add_constant(l, q->state, 0, text, (size_t)n, e);
    int rc = add_constant(l, q->state, 0, text, (size_t)q->offset_text, e);
    return rc ? rc : add_constant(l, q->state, (uint64_t)(q->offset_text + EXPORT_NUMBER), "}", 1, e);
}

static int add_code_table(struct listing *l, const struct quantized *q, struct err *e)
{
    static const uint8_t codes[BNB_BLOCK / 2] = { 0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef };
    float one = 1.0f, table[BNB_BLOCK];
    struct qmat probe = { q->type == QTYPE_NF4_DQ ? QTYPE_NF4 : q->type, 1, BNB_BLOCK, 0, codes, &one };
    qmat_decode(&probe, 0, 1, table);
    int tensor = announce(l, q, ".quant_map", "F32", 0, CODES, false);
    return add_constant(l, tensor, 0, table, CODES * sizeof *table, e);
}

static int announce_quantized(struct listing *l, struct quantized *q, struct err *e)
{
    q->blocks = q->rows * q->cols / BNB_BLOCK;
    q->groups = (q->blocks + NESTED_BLOCK - 1) / NESTED_BLOCK;
    q->nested_absmax = q->nested_map = q->nested_offset = q->offset_text = -1;
    int64_t packed[3] = { q->rows * q->cols / 2, 1, 0 };
    if (q->fused) {
        memcpy(packed, q->dim, sizeof packed);
        packed[2] /= 2;
    }
    q->codes = safetensors_write_tensor(l->w, q->name, "U8", packed, q->fused ? 3 : 2);
    q->absmax = announce(l, q, ".absmax", is_double(q->type) ? "U8" : "F32", q->n, q->blocks, q->fused);
    int rc = add_code_table(l, q, e);
    if (is_double(q->type)) {
        q->nested_absmax = announce(l, q, ".nested_absmax", "F32", q->n, q->groups, q->fused);
        q->nested_map = announce(l, q, ".nested_quant_map", "F32", 0, NESTED_MAP, false);
        if (q->fused)
            q->nested_offset = announce(l, q, ".nested_offset", "F32", 0, q->n, false);
    }
    return rc ? rc : describe(l, q, e);
}

/* ---- its matrices ---- */

/* What must be done to the engine's values to have the checkpoint's again. */
static void undo_gguf(const struct model *m, enum role role, struct export_item *item)
{
    if (m->kind != MODEL_GGUF)
        return;
    item->order = export_head_order(m, role, false);
    if (m->shape.arch != ARCH_QWEN35_MOE && m->shape.arch != ARCH_QWEN35)
        return;
    switch (role) {
    case ROLE_OUT_NORM:
    case ROLE_NORM_MIXER:
    case ROLE_NORM_MLP:
    case ROLE_Q_NORM:
    case ROLE_K_NORM:
    case ROLE_MTP_NORM_EMBED:
    case ROLE_MTP_NORM_HIDDEN:
    case ROLE_MTP_OUT_NORM:
        item->undo = UNDO_ADD_ONE;
        break;
    case ROLE_DN_A_LOG:
        item->undo = UNDO_NEG_EXP;
        break;
    default:
        break;
    }
}

static void mark_used(struct listing *l, const struct weight_source *src)
{
    const struct tensor *of[] = { src->tensor,        src->scale,      src->quant_map,
                                  src->nested_absmax, src->nested_map, src->nested_offset_tensor };
    for (size_t i = 0; i < sizeof of / sizeof *of; i++)
        if (of[i])
            l->used[of[i] - l->m->dir->tensor] = true;
}

static int add_quantized(struct listing *l, const struct quantized *q, enum role role, int layer, int expert,
                         int64_t index, struct err *e)
{
    struct weight_source src;
    int rc = model_find(l->m, role, layer, expert, &src, e);
    if (rc)
        return rc;
    mark_used(l, &src);
    struct export_item item =
        export_item_new(&src, q->type, q->codes, (uint64_t)(index * q->rows * q->cols / 2));
    undo_gguf(l->m, role, &item);
    size_t scale = is_double(q->type) ? 1 : sizeof(float);
    item.absmax = (struct export_place){ q->absmax, (uint64_t)(index * q->blocks) * scale };
    if (is_double(q->type)) {
        item.nested_absmax =
            (struct export_place){ q->nested_absmax, (uint64_t)(index * q->groups) * sizeof(float) };
        if (index == 0)
            item.nested_map = (struct export_place){ q->nested_map, 0 };
        if (q->fused)
            item.nested_offset = (struct export_place){ q->nested_offset, (uint64_t)index * sizeof(float) };
        else
            item.offset_text = (struct export_place){ q->state, (uint64_t)q->offset_text };
    }
    return export_job_add(&l->job, &item, e);
}

/* ---- plain tensors ---- */

static bool is_plain(enum qtype t)
{
    return t == QTYPE_F32 || t == QTYPE_F16 || t == QTYPE_BF16;
}

static enum qtype plain_type(enum qtype stored)
{
    return is_plain(stored) ? stored : QTYPE_BF16;
}

/* A matrix of a plain tensor; the checkpoint's own values, not the engine's. */
static int add_plain(struct listing *l, enum role role, int layer, int expert, int tensor, enum qtype type,
                     int64_t index, struct err *e)
{
    struct weight_source src;
    int rc = model_find(l->m, role, layer, expert, &src, e);
    if (rc)
        return rc;
    mark_used(l, &src);
    src.transform = TRANSFORM_NONE;
    uint64_t at = (uint64_t)(index * src.rows) * qtype_row_bytes(type, src.cols);
    struct export_item item = export_item_new(&src, type, tensor, at);
    undo_gguf(l->m, role, &item);
    return export_job_add(&l->job, &item, e);
}

/* ---- names ---- */

/* The name this weight gets: the source's own; for experts one that fits the source's other names. */
static int name_of(const struct listing *l, enum role role, int layer, int expert,
                   const struct weight_source *src, char name[NAME_ROOM], struct err *e)
{
    struct weight_source router;
    char released[192];
    role_hf_name(&l->m->shape, role, layer, expert, released);
    if (l->m->kind == MODEL_GGUF) {
        snprintf(name, NAME_ROOM, "%s", released);
        return 0;
    }
    if (expert < 0) {
        snprintf(name, NAME_ROOM, "%s", src->tensor->name);
        return 0;
    }
    int rc = model_find(l->m, ROLE_ROUTER, layer, -1, &router, e);
    if (rc)
        return rc;
    const char *prefix_end = strstr(router.tensor->name, "mlp."), *rest = strstr(released, "mlp.");
    if (prefix_end && rest)
        snprintf(name, NAME_ROOM, "%.*s%s", (int)(prefix_end - router.tensor->name), router.tensor->name,
                 rest);
    else
        snprintf(name, NAME_ROOM, "%s", released);
    return 0;
}

static const char *dtype_of(enum qtype stored)
{
    return stored == QTYPE_F32 ? "float32" : stored == QTYPE_F16 ? "float16" : "bfloat16";
}

/* ---- weights by role ---- */

static bool is_expert(enum role role)
{
    return role == ROLE_EXPERT_GATE || role == ROLE_EXPERT_UP || role == ROLE_EXPERT_DOWN;
}

/* A linear layer that stays plain has to be named in the configuration. Those of every model are listed there
 * by the end of their names (export_folder.c). */
static void note_skipped(struct listing *l, enum role role, const char *name)
{
    size_t n = strlen(name);
    if (plan_is_vector(role) || role == ROLE_EMBED || role == ROLE_HEAD || role == ROLE_ROUTER)
        return;
    if (n > 7 && !strcmp(name + n - 7, ".weight"))
        json_array_append_new(l->skipped, json_stringn(name, n - 7));
}

/* One matrix or vector with a tensor of its own. */
static int list_single(struct listing *l, enum role role, int layer, int expert, struct err *e)
{
    struct weight_source src;
    char name[NAME_ROOM];
    int rc = model_find(l->m, role, layer, expert, &src, e);
    if (!rc)
        rc = name_of(l, role, layer, expert, &src, name, e);
    if (rc)
        return rc;
    enum qtype target = plan_target(l->m, role, layer, l->opt->mix, &src);
    int64_t dim[4];
    if (!is_4bit(target)) {
        enum qtype type = plain_type(src.type);
        int n_dims = export_role_dims(l->m, role, true, dim);
        int64_t *d = is_expert(role) ? dim + 1 : dim;
        int tensor =
            safetensors_write_tensor(l->w, name, qtype_info(type)->st_name, d, n_dims - (int)(d - dim));
        note_skipped(l, role, name);
        return add_plain(l, role, layer, expert, tensor, type, 0, e);
    }
    struct quantized q = { .name = name,
                           .type = target,
                           .dtype = dtype_of(src.type),
                           .n = 1,
                           .rows = src.rows,
                           .cols = src.cols,
                           .dim = { src.rows, src.cols },
                           .n_dims = 2 };
    rc = announce_quantized(l, &q, e);
    return rc ? rc : add_quantized(l, &q, role, layer, expert, 0, e);
}

/* All experts of a layer in one tensor: [E][2I][H] with gate and up in turns, or [E][H][I]. */
static int list_fused(struct listing *l, enum role role, int layer, struct err *e)
{
    struct weight_source src;
    char name[NAME_ROOM];
    if (role == ROLE_EXPERT_UP)
        return 0; /* written with its gate */
    int rc = model_find(l->m, role, layer, 0, &src, e);
    if (!rc)
        rc = name_of(l, role, layer, 0, &src, name, e);
    if (rc)
        return rc;
    const enum role parts[2] = { role, ROLE_EXPERT_UP };
    int n_expert = l->m->shape.n_expert, n_parts = role == ROLE_EXPERT_GATE ? 2 : 1, tensor = 0;
    enum qtype target = plan_target(l->m, role, layer, l->opt->mix, &src), plain = plain_type(src.type);
    struct quantized q = { .name = name,
                           .type = target,
                           .dtype = dtype_of(src.type),
                           .fused = true,
                           .n = (int64_t)n_expert * n_parts,
                           .rows = src.rows,
                           .cols = src.cols,
                           .dim = { n_expert, n_parts * src.rows, src.cols },
                           .n_dims = 3 };
    if (is_4bit(target))
        rc = announce_quantized(l, &q, e);
    else
        tensor = safetensors_write_tensor(l->w, name, qtype_info(plain)->st_name, q.dim, 3);
    for (int i = 0; i < n_expert * n_parts && !rc; i++) {
        enum role part = parts[i % n_parts];
        rc = is_4bit(target) ? add_quantized(l, &q, part, layer, i / n_parts, i, e)
                             : add_plain(l, part, layer, i / n_parts, tensor, plain, i, e);
    }
    return rc;
}

static int list_role(void *user, enum role role, int layer, struct err *e)
{
    struct listing *l = user;
    int rc = 0;
    if (!is_expert(role))
        return list_single(l, role, layer, -1, e);
    if (l->m->shape.arch == ARCH_QWEN35_MOE)
        return list_fused(l, role, layer, e);
    for (int i = 0; i < l->m->shape.n_expert && !rc; i++)
        rc = list_single(l, role, layer, i, e);
    return rc;
}

/* ---- what no role names: the vision tower, for one ---- */

static bool ends_with(const char *name, const char *end)
{
    size_t n = strlen(name), n_end = strlen(end);
    return n >= n_end && !strcmp(name + n - n_end, end);
}

/* Belongs to a quantized weight of the source, which is written anew. */
static bool describes_quantization(const char *name)
{
    return strstr(name, ".quant_state.") || strstr(name, ".nested_") || ends_with(name, ".absmax") ||
           ends_with(name, ".quant_map") || ends_with(name, "_scale") || ends_with(name, "_scale_inv");
}

static int list_rest(struct listing *l, struct err *e)
{
    const struct tensor_dir *d = l->m->dir;
    int rc = 0;
    for (int i = 0; i < d->n_tensor && !rc && l->m->kind == MODEL_SAFETENSORS; i++) {
        const struct tensor *t = &d->tensor[i];
        if (l->used[i] || describes_quantization(t->name))
            continue;
        const char *dtype = qtype_info(t->type)->st_name;
        if (!dtype) {
            err_set(e, ERR_FORMAT, "the tensor %s has the unknown type %s", t->name, t->type_name);
            err_hint(e, "only models of F32, F16, BF16, FP8 and 4-bit tensors can be rewritten");
            return ERR_FORMAT;
        }
        int tensor = safetensors_write_tensor(l->w, t->name, dtype, t->dim, t->n_dims);
        int64_t cols = t->n_dims ? t->dim[t->n_dims - 1] : 1, elements = tensor_elements(t);
        struct weight_source src = {
            .tensor = t, .type = t->type, .cols = cols, .rows = cols ? elements / cols : 0
        };
        struct export_item item = export_item_new(&src, t->type, tensor, 0);
        if (elements)
            rc = export_job_add(&l->job, &item, e);
    }
    return rc;
}

/* ---- the whole ---- */

static int write_weights(struct listing *l, struct err *e)
{
    int rc = export_each_role(l->m, list_role, l, e);
    if (!rc)
        rc = list_rest(l, e);
    if (!rc)
        rc = safetensors_writer_begin(l->w, e);
    for (size_t i = 0; i < l->n_constant && !rc; i++)
        rc =
            put(l->w, l->constant[i].tensor, l->constant[i].offset, l->constant[i].data, l->constant[i].n, e);
    if (!rc)
        rc = export_job_run(&l->job, l->opt, e);
    return rc ? rc : safetensors_writer_commit(&l->w, e);
}

static void listing_free(struct listing *l)
{
    safetensors_writer_abort(&l->w);
    export_job_free(&l->job);
    for (size_t i = 0; i < l->n_constant; i++)
        free(l->constant[i].data);
    free(l->constant);
    free(l->used);
    json_decref(l->skipped);
}

int export_safetensors(const struct model *m, const char *out, const struct export_options *opt,
                       struct err *e)
{
    struct listing l = { .m = m, .opt = opt, .skipped = json_array() };
    struct export_folder *folder = NULL;
    l.used = calloc((size_t)m->dir->n_tensor + 1, sizeof *l.used);
    int rc = l.used && l.skipped ? 0 : err_set(e, ERR_MEMORY, "no memory for the list of tensors");
    if (!rc)
        rc = export_folder_open(&folder, out, e);
    if (!rc)
        rc = safetensors_writer_open(&l.w, export_folder_path(folder),
                                     opt->shard_bytes ? opt->shard_bytes : default_shard_bytes, e);
    if (!rc) {
        l.job = (struct export_job){ .m = m, .put = put, .writer = l.w };
        rc = write_weights(&l, e);
    }
    if (!rc)
        rc = export_side_files(m, export_folder_path(folder), opt->mix, l.skipped, e);
    if (!rc)
        rc = export_folder_commit(&folder, e);
    export_folder_abort(&folder);
    listing_free(&l);
    return rc;
}
