/*
 * plan_items.c: the list of weights: what there is, which format each gets, how large it becomes and where it
 * lies.
 *
 * Dense weights come first, in the order in which a token meets them, then the routed experts by layer; gate,
 * up and down of one expert stand together, so that an expert is one piece of memory and one read.
 */
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "plan/plan_private.h"

/* ---- listing ---- */

static bool is_expert(enum role role)
{
    return role >= ROLE_EXPERT_GATE && role <= ROLE_EXPERT_DOWN;
}

static enum plan_group group_of(enum role role)
{
    if (role >= ROLE_Q && role <= ROLE_K_NORM)
        return PLAN_ATTENTION;
    if (role >= ROLE_DN_QKV && role <= ROLE_DN_OUT)
        return PLAN_DELTA_NET;
    if (role >= ROLE_GATE && role <= ROLE_DOWN)
        return PLAN_DENSE_MLP;
    if (role >= ROLE_SHARED_GATE_PROJ && role <= ROLE_SHARED_GATE)
        return PLAN_SHARED;
    return role == ROLE_EMBED    ? PLAN_EMBED
           : role == ROLE_HEAD   ? PLAN_HEAD
           : role == ROLE_ROUTER ? PLAN_ROUTER
           : is_expert(role)     ? PLAN_EXPERTS
                                 : PLAN_NORMS;
}

static int add(struct plan *p, int *capacity, enum role role, int layer, int expert, struct err *e)
{
    if (p->n_item == *capacity) {
        int more = *capacity ? 2 * *capacity : 256;
        struct plan_item *grown = realloc(p->item, (size_t)more * sizeof *grown);
        if (!grown)
            return err_set(e, ERR_MEMORY, "no memory for a list of %d weights", more);
        p->item = grown;
        *capacity = more;
    }
    struct plan_item *it = &p->item[p->n_item];
    *it = (struct plan_item){ .role = role, .layer = layer, .expert = expert };
    it->group = layer == p->model->shape.n_layer ? PLAN_MTP : group_of(role);
    int rc = model_find(p->model, role, layer, expert, &it->src, e);
    p->n_item += rc ? 0 : 1;
    return rc;
}

static int add_dense(struct plan *p, int *capacity, int layer, enum role first, enum role last, struct err *e)
{
    int rc = 0;
    for (int role = (int)first; role <= (int)last && !rc; role++)
        if (!is_expert((enum role)role) && model_has(&p->model->shape, (enum role)role, layer))
            rc = add(p, capacity, (enum role)role, layer, -1, e);
    return rc;
}

static int add_experts(struct plan *p, int *capacity, int layer, struct err *e)
{
    int rc = 0;
    if (!model_has(&p->model->shape, ROLE_ROUTER, layer))
        return 0;
    for (int i = 0; i < p->model->shape.n_expert; i++)
        for (int role = ROLE_EXPERT_GATE; role <= ROLE_EXPERT_DOWN && !rc; role++)
            rc = add(p, capacity, (enum role)role, layer, i, e);
    return rc;
}

int plan_list(struct plan *p, struct err *e)
{
    const struct shape *s = &p->model->shape;
    int capacity = 0, n_layer = s->n_layer + (p->has_mtp ? 1 : 0);
    int rc = add_dense(p, &capacity, -1, ROLE_EMBED, ROLE_EMBED, e);
    for (int i = 0; i < n_layer && !rc; i++)
        rc = add_dense(p, &capacity, i, ROLE_NORM_MIXER, ROLE_MTP_OUT_NORM, e);
    if (!rc)
        rc = add_dense(p, &capacity, -1, ROLE_OUT_NORM, ROLE_HEAD, e);
    p->n_dense = p->n_item;
    for (int i = 0; i < n_layer && !rc; i++)
        rc = add_experts(p, &capacity, i, e);
    p->n_experts = (uint64_t)(p->n_item - p->n_dense) / 3;
    return rc;
}

/* ---- formats ---- */

bool plan_is_vector(enum role role)
{
    switch (role) {
    case ROLE_OUT_NORM:
    case ROLE_NORM_MIXER:
    case ROLE_NORM_MLP:
    case ROLE_Q_BIAS:
    case ROLE_K_BIAS:
    case ROLE_V_BIAS:
    case ROLE_Q_NORM:
    case ROLE_K_NORM:
    case ROLE_DN_CONV:
    case ROLE_DN_DT_BIAS:
    case ROLE_DN_A_LOG:
    case ROLE_DN_NORM:
    case ROLE_SHARED_GATE:
    case ROLE_MTP_NORM_EMBED:
    case ROLE_MTP_NORM_HIDDEN:
    case ROLE_MTP_OUT_NORM:
        return true;
    default:
        return false;
    }
}

/* Formats the engine multiplies with as they are stored; everything else that decodes becomes F32. */
static enum qtype as_stored(const struct weight_source *src)
{
    const struct qtype_info *info = qtype_info(src->type);
    if (src->blocks_cross_rows || src->type == QTYPE_F64 || src->type == QTYPE_Q8_K || !info->decode)
        return QTYPE_F32;
    return src->type;
}

enum qtype plan_target(const struct model *m, enum role role, int layer, enum mix mix,
                       const struct weight_source *src)
{
    if (plan_is_vector(role))
        return QTYPE_F32;
    if (mix == MIX_NONE)
        return as_stored(src);
    const struct shape *s = &m->shape;
    char name[64];
    role_gguf_name(s, role, layer, name);
    int n_mats;
    int64_t rows, cols;
    role_dims(s, role, &n_mats, &rows, &cols);
    /* Every layer has exactly one attn_v or attn_qkv tensor, so the running index is the layer. */
    struct mix_tensor t = { .gguf_name = name,
                            .rows = rows,
                            .cols = cols,
                            .n_dims = n_mats > 1 ? 3
                                      : rows > 1 ? 2
                                                 : 1,
                            .layer = layer,
                            .n_layer = s->n_layer + s->n_mtp,
                            .i_attn_v = layer,
                            .n_attn_v = s->n_layer + s->n_mtp,
                            .n_expert = s->n_expert,
                            .n_head = s->n_head,
                            .n_head_kv = s->n_head_kv,
                            .tied = s->tied };
    return mix_pick(mix, &t);
}

bool plan_is_copy(const struct weight_source *src, enum qtype target)
{
    return src->type == target && src->transform == TRANSFORM_NONE && !src->blocks_cross_rows;
}

int64_t plan_panel_rows(int64_t rows, int64_t cols)
{
    int64_t n = PLAN_PANEL_FLOATS / cols;
    return n < 1 ? 1 : n < rows ? n : rows;
}

/* ---- sizes ---- */

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

static bool is_4bit(enum qtype t)
{
    return t == QTYPE_NF4 || t == QTYPE_FP4 || t == QTYPE_NF4_DQ || t == QTYPE_FP4_DQ;
}

/* What a source's scales take in memory while its rows are read, and what reading them takes. */
static size_t plane_bytes(const struct weight_source *s)
{
    size_t weights = (size_t)(s->rows * s->cols), f = sizeof(float);
    if (s->type == QTYPE_FP8_E4M3 || s->type == QTYPE_FP8_E5M2)
        return 2 * f * (size_t)((s->rows + 127) / 128) * (size_t)((s->cols + 127) / 128);
    if (!is_4bit(s->type))
        return 0;
    size_t blocks = (weights + 63) / 64, groups = (blocks + 255) / 256;
    size_t nested = s->nested_map ? 8 + 256 * f + 2 * groups * f + blocks : 0;
    size_t whole = s->blocks_cross_rows ? blocks * 64 * f + blocks * 32 : 0;
    return blocks * f + larger(nested, blocks * f) + whole;
}

static void add_staging(struct plan_staging *st, const struct plan_item *it)
{
    const struct weight_source *src = &it->src;
    size_t rows = (size_t)plan_panel_rows(src->rows, src->cols), weights = (size_t)(src->rows * src->cols);
    size_t strip = src->cols < PLAN_STRIP_FLOATS ? PLAN_STRIP_FLOATS : (size_t)src->cols;
    st->plane = larger(st->plane, plane_bytes(src));
    if (!src->blocks_cross_rows)
        st->scratch = larger(st->scratch, rows * qtype_row_bytes(src->type, src->cols));
    if (plan_is_copy(src, it->target))
        return;
    size_t packed = it->data_bytes + it->scale_bytes;
    st->scratch = larger(st->scratch, packed < PLAN_PIECE_BYTES ? packed + PLAN_ALIGN : PLAN_PIECE_BYTES);
    st->panel = larger(st->panel, strip * sizeof(float));
    if (qtype_needs_absmax(it->target))
        st->absmax = larger(st->absmax, weights / 64 * sizeof(float));
}

/* One matrix in RAM: codes, then scales. */
static size_t item_bytes(const struct plan_item *it)
{
    return align_up(it->data_bytes, PLAN_ALIGN) + align_up(it->scale_bytes, PLAN_ALIGN);
}

/* Where the codes lie in the model's file. */
static uint64_t file_offset(const struct plan_item *it)
{
    return it->src.tensor->offset + it->src.offset;
}

/* The pages of the file that hold the codes. */
static size_t window_bytes(const struct plan_item *it)
{
    return align_up(file_offset(it) % PLAN_PAGE + it->data_bytes, PLAN_PAGE);
}

static size_t extent_bytes(const struct plan_item *gate, bool pack)
{
    size_t n = 0;
    for (int i = 0; i < 3; i++)
        n += pack ? item_bytes(&gate[i]) : window_bytes(&gate[i]);
    return align_up(n, PLAN_PAGE);
}

static int size_item(struct plan *p, struct plan_item *it, const struct plan_item *alike, struct err *e)
{
    /* The experts of a layer are alike; asking for every one of 92,160 would take most of the plan's time. */
    if (alike && alike->layer == it->layer && alike->src.type == it->src.type &&
        alike->src.blocks_cross_rows == it->src.blocks_cross_rows)
        it->target = alike->target;
    else
        it->target = plan_target(p->model, it->role, it->layer, p->opt.mix, &it->src);
    uint64_t both;
    if (!qtype_sizes(it->target, it->src.rows, it->src.cols, &it->data_bytes, &it->scale_bytes) ||
        !checked_add(it->data_bytes, it->scale_bytes, &both) || both > (uint64_t)1 << 50)
        return err_set(e, ERR_FORMAT, "tensor %s is too large or does not fit the format %s",
                       it->src.tensor->name, qtype_info(it->target)->name);
    add_staging(&p->staging, it);
    return 0;
}

int plan_size(struct plan *p, struct plan_sums *sums, struct err *e)
{
    *sums = (struct plan_sums){ 0 };
    p->staging = (struct plan_staging){ 0 };
    for (int i = 0; i < p->n_item; i++) {
        struct plan_item *it = &p->item[i];
        int rc = size_item(p, it, i >= p->n_dense + 3 ? it - 3 : NULL, e);
        if (rc)
            return rc;
        *(i < p->n_dense ? &sums->dense_bytes : &sums->expert_bytes) += item_bytes(it);
        if (sums->dense_bytes + sums->expert_bytes > (size_t)1 << 55)
            return err_set(e, ERR_FORMAT, "the weights are too large for any machine");
        sums->pack |= i >= p->n_dense && (it->scale_bytes > 0 || !plan_is_copy(&it->src, it->target));
    }
    for (int i = p->n_dense; i < p->n_item; i += 3) {
        size_t n = extent_bytes(&p->item[i], sums->pack);
        sums->slot_bytes = larger(sums->slot_bytes, n);
        sums->extents_bytes += n;
    }
    return 0;
}

/* ---- places ---- */

static uint64_t place(struct plan_item *it, uint64_t at)
{
    it->tier = TIER_RAM;
    it->data_at = at;
    it->scale_at = at + align_up(it->data_bytes, PLAN_ALIGN);
    return at + item_bytes(it);
}

static void place_on_disk(const struct plan *p, struct plan_item *gate)
{
    uint64_t at = 0;
    for (int i = 0; i < 3; i++) {
        if (p->pack) {
            at = place(&gate[i], at);
        } else {
            gate[i].data_at = gate[i].scale_at = at + file_offset(&gate[i]) % PLAN_PAGE;
            at += window_bytes(&gate[i]);
        }
        gate[i].tier = TIER_DISK;
    }
}

/* "q4_k q6_k": the types of a group, most bytes first. */
static void name_types(struct plan_part *part, size_t bytes[QTYPE_COUNT])
{
    size_t at = 0;
    part->types[0] = 0;
    for (;;) {
        int best = 0;
        for (int t = 1; t < QTYPE_COUNT; t++)
            if (bytes[t] > bytes[best])
                best = t;
        const char *name = qtype_info((enum qtype)best)->name;
        if (bytes[best] == 0 || at + strlen(name) + 2 > sizeof part->types)
            return;
        if (at)
            part->types[at++] = ' ';
        at = (size_t)(stpcpy(part->types + at, name) - part->types);
        bytes[best] = 0;
    }
}

static void fill_parts(struct plan *p)
{
    size_t by_type[PLAN_GROUPS][QTYPE_COUNT] = { 0 };
    memset(p->part, 0, sizeof p->part);
    for (int i = 0; i < p->n_item; i++) {
        const struct plan_item *it = &p->item[i];
        struct plan_part *part = &p->part[it->group];
        part->weights += (uint64_t)(it->src.rows * it->src.cols);
        part->bytes[it->tier] += item_bytes(it);
        by_type[it->group][it->target] += item_bytes(it);
    }
    for (int g = 0; g < PLAN_GROUPS; g++)
        name_types(&p->part[g], by_type[g]);
}

void plan_place(struct plan *p)
{
    uint64_t at = 0;
    for (int i = 0; i < p->n_item; i++)
        if (i < p->n_dense || !p->experts_on_disk)
            at = place(&p->item[i], at);
        else if ((i - p->n_dense) % 3 == 0)
            place_on_disk(p, &p->item[i]);
    p->weights_bytes = at;
    fill_parts(p);
}
