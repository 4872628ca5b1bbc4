/*
 * model_find.c: from a role to the bytes of its matrix: which tensor, at what offset, in which format, with
 * which scales, and what must be done to the values. Also the check that a checkpoint has everything its
 * shape asks for.
 *
 * 397B has 92,160 expert matrices, so a lookup is a few binary searches by name and no allocation.
 */
#include <stdio.h>
#include <string.h>

#include "model/bnb.h"
#include "model/names.h"

enum { FP8_TILE = 128 };

/* What is being looked for, and how it lies in the tensor that holds it. */
struct wanted {
    const struct model *m;
    enum role role;
    int layer, expert;
    const struct tensor *t;
    int64_t rows, cols; /* of the matrix */
    int64_t n_matrices; /* such matrices in the tensor; gate and up of fused experts count separately */
    int64_t index;      /* which of them */
    int64_t dim[3];     /* the tensor as a whole, dimensions of 1 left out of comparisons */
};

/* ---- errors ---- */

static int fail(const struct wanted *w, struct err *e)
{
    err_where(e, "%s", w->m->path);
    return ERR_FORMAT;
}

static int fail_missing(const struct wanted *w, const char *name, struct err *e)
{
    err_set(e, ERR_FORMAT, "the tensor %s is missing", name);
    err_hint(e, "download all files of the model again; one of them may be missing or of another model");
    return fail(w, e);
}

/* "[256, 1024, 2048]" */
static void print_dims(char *out, size_t room, const int64_t *dim, int n)
{
    size_t at = (size_t)snprintf(out, room, "[");
    for (int i = 0; i < n && at < room; i++)
        at += (size_t)snprintf(out + at, room - at, "%s%lld", i ? ", " : "", (long long)dim[i]);
    if (at < room)
        snprintf(out + at, room - at, "]");
}

static int fail_dims(const struct wanted *w, const struct tensor *t, const int64_t *want, int n,
                     struct err *e)
{
    char have[80], need[80];
    print_dims(have, sizeof have, t->dim, t->n_dims);
    while (n > 1 && want[0] == 1) {
        want++;
        n--;
    }
    print_dims(need, sizeof need, want, n);
    err_set(e, ERR_FORMAT, "the tensor %s has the shape %s; the configuration asks for %s", t->name, have,
            need);
    err_hint(e, "check that the configuration and the weights belong to the same model");
    return fail(w, e);
}

static int fail_mlx(const struct wanted *w, struct err *e)
{
    err_set(e, ERR_FORMAT, "this is an MLX conversion, whose norms and convolutions are stored differently");
    err_hint(e, "use the original safetensors release, or a GGUF");
    return fail(w, e);
}

static int fail_type(const struct wanted *w, const struct tensor *t, struct err *e)
{
    char name[HF_NAME_ROOM + 8];
    size_t n = strlen(t->name);
    if (t->type == QTYPE_U32 && n > 7 && n < sizeof name && !strcmp(t->name + n - 7, ".weight")) {
        snprintf(name, sizeof name, "%.*s.scales", (int)(n - 7), t->name);
        if (tensor_dir_find(w->m->dir, name))
            return fail_mlx(w, e);
    }
    err_set(e, ERR_FORMAT, "the tensor %s has the type %s, which is no weight format here", t->name,
            t->type_name);
    err_hint(e, w->m->kind == MODEL_GGUF ? "use a file quantized with llama.cpp's own types"
                                         : "supported: F32, F16, BF16, FP8 with scales, bitsandbytes 4-bit");
    return fail(w, e);
}

/* ---- shapes and types ---- */

/* Equal when dimensions of 1 are left out on both sides: [C, 1, 4] is [C, 4], and a [1, H] gate is a vector.
 */
static bool same_dims(const int64_t *a, int na, const int64_t *b, int nb)
{
    int i = 0, j = 0;
    for (;;) {
        while (i < na && a[i] == 1)
            i++;
        while (j < nb && b[j] == 1)
            j++;
        if (i == na || j == nb)
            return i == na && j == nb;
        if (a[i++] != b[j++])
            return false;
    }
}

static int check_plain(const struct wanted *w, struct err *e)
{
    const struct tensor *t = w->t;
    if (w->role == ROLE_DN_CONV && t->n_dims == 3 && t->dim[1] == w->cols && t->dim[2] == 1)
        return fail_mlx(w, e);
    if (t->type == QTYPE_NONE || !qtype_info(t->type)->decode || !qtype_fits(t->type, w->cols))
        return fail_type(w, t, e);
    if (!same_dims(t->dim, t->n_dims, w->dim, 3))
        return fail_dims(w, t, w->dim, 3, e);
    return 0;
}

static void place(const struct wanted *w, struct weight_source *out)
{
    out->tensor = w->t;
    out->type = w->t->type;
    out->rows = w->rows;
    out->cols = w->cols;
}

/* ---- FP8 ---- */

static const struct tensor *companion(const struct wanted *w, const char *suffix)
{
    char name[2 * HF_NAME_ROOM];
    if (strlen(w->t->name) + strlen(suffix) >= sizeof name)
        return NULL;
    stpcpy(stpcpy(name, w->t->name), suffix);
    return tensor_dir_find(w->m->dir, name);
}

static int64_t tiles(int64_t n)
{
    return (n + FP8_TILE - 1) / FP8_TILE;
}

/* X_scale_inv [rows / 128][cols / 128], with a leading dimension for fused experts, or one scale for the
 * tensor. */
static int find_fp8_scale(const struct wanted *w, struct weight_source *out, struct err *e)
{
    static const char *const suffixes[] = { "_scale_inv", "_scales_inv", "_scale" };
    for (size_t i = 0; i < sizeof suffixes / sizeof *suffixes && !out->scale; i++)
        out->scale = companion(w, suffixes[i]);
    const struct tensor *scale = out->scale;
    if (!scale) {
        char name[HF_NAME_ROOM + 16];
        snprintf(name, sizeof name, "%.*s_scale_inv", HF_NAME_ROOM, w->t->name);
        return fail_missing(w, name, e);
    }
    if (scale->type != QTYPE_F32 && scale->type != QTYPE_BF16 && scale->type != QTYPE_F16)
        return fail_type(w, scale, e);
    if (tensor_elements(scale) == 1)
        return 0;
    int64_t stored_rows = w->dim[1]; /* fused: of one expert, gate and up together */
    int64_t want[3] = { w->dim[0], tiles(stored_rows), tiles(w->cols) };
    if (!same_dims(scale->dim, scale->n_dims, want, 3)) {
        fail_dims(w, scale, want, 3, e);
        err_hint(e, "only scales of 128 x 128 blocks, or one for the tensor, are supported");
        return ERR_FORMAT;
    }
    int64_t halves = stored_rows / w->rows; /* 2: gate and up */
    if (halves > 1 && w->rows % FP8_TILE) {
        err_set(e, ERR_FORMAT,
                "the experts of %s are %lld wide, so that scale blocks of 128 rows mix gate and up",
                w->t->name, (long long)w->rows);
        err_hint(e, "use a release with separate experts, or the one that is not FP8");
        return fail(w, e);
    }
    out->scale_first = w->index / halves * want[1] + w->index % halves * (w->rows / FP8_TILE);
    return 0;
}

/* ---- bitsandbytes ---- */

static int place_4bit(const struct wanted *w, const struct quant_state *s, struct weight_source *out,
                      struct err *e)
{
    if (!same_dims(s->dim, s->n_dims, w->dim, 3)) {
        struct tensor as_plain = *w->t;
        as_plain.n_dims = s->n_dims;
        memcpy(as_plain.dim, s->dim, sizeof s->dim);
        return fail_dims(w, &as_plain, w->dim, 3, e);
    }
    if (s->n_matrices != w->n_matrices) {
        err_set(e, ERR_FORMAT, "the 4-bit tensor %s is quantized as %lld matrices instead of %lld",
                w->t->name, (long long)s->n_matrices, (long long)w->n_matrices);
        err_hint(e, "quantize the original again: tonne quantize MODEL OUT --type nf4");
        return fail(w, e);
    }
    place(w, out);
    out->type = s->type;
    out->offset = (uint64_t)(w->index * w->rows * w->cols / 2);
    out->scale = s->absmax;
    out->scale_first = w->index * s->blocks;
    out->quant_map = s->quant_map;
    out->nested_absmax = s->nested_absmax;
    out->nested_map = s->nested_map;
    out->nested_offset_tensor = s->nested_offset_tensor;
    out->nested_index = w->index;
    out->nested_offset = s->nested_offset;
    out->blocks_cross_rows = w->cols % 64 != 0;
    return 0;
}

/* ---- finding the tensor ---- */

/* The matrix is one of n in the tensor, in `halves` per expert. */
static void is_part(struct wanted *w, int64_t n_experts, int64_t halves, int64_t half)
{
    w->n_matrices = n_experts * halves;
    w->index = w->expert * halves + half;
    w->dim[0] = n_experts;
    w->dim[1] = w->rows * halves;
}

static int find_safetensors(struct wanted *w, struct err *e)
{
    const struct model *m = w->m;
    char name[HF_NAME_ROOM];
    hf_name(&m->shape, &m->prefix, w->role, w->layer, -1, name);
    w->t = tensor_dir_find(m->dir, name);
    if (!role_is_expert(w->role))
        return w->t ? 0 : fail_missing(w, name, e);
    if (w->t) {
        bool joined = w->role != ROLE_EXPERT_DOWN;
        is_part(w, m->shape.n_expert, joined ? 2 : 1, w->role == ROLE_EXPERT_UP);
        return 0;
    }
    hf_name(&m->shape, &m->prefix, w->role, w->layer, w->expert, name);
    w->t = tensor_dir_find(m->dir, name);
    if (w->t)
        return 0;
    hf_name(&m->shape, &m->prefix, w->role, w->layer, m->shape.arch == ARCH_QWEN35_MOE ? -1 : w->expert,
            name);
    return fail_missing(w, name, e);
}

static int find_gguf(struct wanted *w, struct err *e)
{
    const struct model *m = w->m;
    char name[GGUF_NAME_ROOM];
    role_gguf_name(&m->shape, w->role, w->layer, name);
    w->t = tensor_dir_find(m->dir, name);
    if (role_is_expert(w->role)) {
        is_part(w, m->shape.n_expert, 1, 0);
        if (!w->t && w->role != ROLE_EXPERT_DOWN) {
            char joined[GGUF_NAME_ROOM];
            snprintf(joined, sizeof joined, "blk.%d.ffn_gate_up_exps.weight", w->layer);
            w->t = tensor_dir_find(m->dir, joined);
            is_part(w, m->shape.n_expert, 2, w->role == ROLE_EXPERT_UP);
        }
    }
    return w->t ? 0 : fail_missing(w, name, e);
}

/* NVFP4 files keep one more scale per matrix outside the tensor, which the block format has no place for. */
static int check_nvfp4(const struct wanted *w, struct err *e)
{
    size_t n = strlen(w->t->name);
    char name[HF_NAME_ROOM];
    if (n < 7 || n >= sizeof name || strcmp(w->t->name + n - 7, ".weight"))
        return 0;
    snprintf(name, sizeof name, "%.*s.scale", (int)(n - 7), w->t->name);
    if (!tensor_dir_find(w->m->dir, name))
        return 0;
    err_set(e, ERR_FORMAT, "the NVFP4 tensor %s has a second scale (%s), which is not supported", w->t->name,
            name);
    err_hint(e, "use the model in another quantization, such as q4_k_m or mxfp4");
    return fail(w, e);
}

static enum transform transform_of(const struct model *m, enum role role)
{
    bool qwen35 = m->shape.arch == ARCH_QWEN35_MOE || m->shape.arch == ARCH_QWEN35;
    if (m->kind == MODEL_GGUF || !qwen35)
        return TRANSFORM_NONE; /* GGUF converters have done both */
    switch (role) {
    case ROLE_OUT_NORM:
    case ROLE_NORM_MIXER:
    case ROLE_NORM_MLP:
    case ROLE_Q_NORM:
    case ROLE_K_NORM:
    case ROLE_MTP_NORM_EMBED:
    case ROLE_MTP_NORM_HIDDEN:
    case ROLE_MTP_OUT_NORM:
        return TRANSFORM_ADD_ONE;
    case ROLE_DN_A_LOG:
        return TRANSFORM_NEG_EXP;
    default:
        return TRANSFORM_NONE;
    }
}

int model_find(const struct model *m, enum role role, int layer, int expert, struct weight_source *out,
               struct err *e)
{
    if (role == ROLE_HEAD && m->shape.tied)
        role = ROLE_EMBED;
    bool is_expert = role < ROLE_COUNT && role_is_expert(role);
    if (!model_has(&m->shape, role, layer) || (is_expert && (expert < 0 || expert >= m->shape.n_expert)))
        return err_set(e, ERR_USAGE, "the model has no weight of role %d at layer %d, expert %d", (int)role,
                       layer, expert);
    struct wanted w = { .m = m, .role = role, .layer = layer, .expert = expert, .n_matrices = 1 };
    int n;
    role_dims(&m->shape, role, &n, &w.rows, &w.cols);
    w.dim[0] = 1;
    w.dim[1] = w.rows;
    w.dim[2] = w.cols;
    int rc = m->kind == MODEL_GGUF ? find_gguf(&w, e) : find_safetensors(&w, e);
    if (rc)
        return rc;
    memset(out, 0, sizeof *out);
    out->transform = transform_of(m, role);
    const struct quant_state *state = quant_state_of(m->quant, m->dir, w.t);
    if (state)
        return place_4bit(&w, state, out, e);
    rc = check_plain(&w, e);
    if (rc)
        return rc;
    place(&w, out);
    out->offset = (uint64_t)w.index * (uint64_t)w.rows * qtype_row_bytes(w.t->type, w.cols);
    if (w.t->type == QTYPE_FP8_E4M3 || w.t->type == QTYPE_FP8_E5M2)
        return find_fp8_scale(&w, out, e);
    return w.t->type == QTYPE_NVFP4 ? check_nvfp4(&w, e) : 0;
}

/* ---- everything at once ---- */

/* Fused and separate experts in one checkpoint: it would be a guess which of them counts. */
static int check_one_spelling(const struct model *m, enum role role, int layer, struct err *e)
{
    char fused[HF_NAME_ROOM], single[HF_NAME_ROOM];
    if (m->kind == MODEL_GGUF) {
        role_gguf_name(&m->shape, role, layer, single);
        snprintf(fused, sizeof fused, "blk.%d.ffn_gate_up_exps.weight", layer);
    } else {
        hf_name(&m->shape, &m->prefix, role, layer, -1, fused);
        hf_name(&m->shape, &m->prefix, role, layer, 0, single);
    }
    if ((m->kind == MODEL_GGUF && role == ROLE_EXPERT_DOWN) || !tensor_dir_find(m->dir, fused) ||
        !tensor_dir_find(m->dir, single))
        return 0;
    err_set(e, ERR_FORMAT, "the same weight is there twice: as %s and as %s", fused, single);
    err_where(e, "%s", m->path);
    err_hint(e, "remove the files of one of the two forms, with its index");
    return ERR_FORMAT;
}

static int check_role(const struct model *m, enum role role, int layer, struct err *e)
{
    struct weight_source first, other;
    int rc = role_is_expert(role) ? check_one_spelling(m, role, layer, e) : 0;
    if (!rc)
        rc = model_find(m, role, layer, 0, &first, e);
    if (rc || !role_is_expert(role))
        return rc;
    /* One tensor for all experts was checked whole; separate ones one by one. */
    rc = model_find(m, role, layer, m->shape.n_expert - 1, &other, e);
    for (int i = 1; !rc && other.tensor != first.tensor && i < m->shape.n_expert - 1; i++)
        rc = model_find(m, role, layer, i, &other, e);
    return rc;
}

int model_check(const struct model *m, struct err *e)
{
    for (int layer = -1; layer < m->shape.n_layer + m->shape.n_mtp; layer++) {
        for (int role = 0; role < ROLE_COUNT; role++) {
            int rc =
                model_has(&m->shape, (enum role)role, layer) ? check_role(m, (enum role)role, layer, e) : 0;
            if (rc)
                return rc;
        }
    }
    return 0;
}
