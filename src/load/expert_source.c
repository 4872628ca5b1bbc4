/* expert_source.c: see expert_source.h: what a plan says about experts on disk, as the engine reads them. */
#include <stdlib.h>
#include <string.h>

#include "load/packed.h"
#include "load/weights.h"

struct owned_source {            /* what expert_source_open gives */
    struct expert_source source; /* first */
    struct expert_file *file;
    char **path;
    struct expert_layout *layout;
    struct expert_place *place;
};

static int add_file(struct owned_source *o, const char *path, uint64_t bytes, struct err *e)
{
    int i = o->source.n_file;
    o->path[i] = strdup(path);
    if (!o->path[i])
        return err_set(e, ERR_MEMORY, "no memory for the names of files");
    o->file[i] = (struct expert_file){ o->path[i], bytes };
    o->source.n_file++;
    return 0;
}

static int add_files(struct owned_source *o, const struct plan *p, const struct expert_file *pack,
                     struct err *e)
{
    const struct tensor_dir *dir = p->model->dir;
    int n = pack ? 1 : dir->n_file, rc = 0;
    o->file = calloc((size_t)n, sizeof *o->file);
    o->path = calloc((size_t)n, sizeof *o->path);
    o->source.file = o->file;
    if (!o->file || !o->path)
        return err_set(e, ERR_MEMORY, "no memory for the names of files");
    for (int i = 0; i < n && !rc; i++)
        rc = pack ? add_file(o, pack->path, pack->bytes, e)
                  : add_file(o, dir->file[i].path, dir->file[i].bytes, e);
    return rc;
}

static struct qmat form_of(const struct plan_item *it)
{
    return (struct qmat){ .type = it->target, .rows = it->src.rows, .cols = it->src.cols };
}

static bool is_like(const struct plan_item *it, const struct qmat *m)
{
    return it->target == m->type && it->src.rows == m->rows && it->src.cols == m->cols;
}

/* Kernels read these types as numbers of this many bytes; blocks have no alignment. */
static uint64_t alignment_of(enum qtype t)
{
    return t == QTYPE_F32 ? 4 : t == QTYPE_F16 || t == QTYPE_BF16 ? 2 : 1;
}

/* gate, up and down where they are stored, an extent for each. */
static int place_in_files(struct expert_place *x, const struct plan_item *gate, struct err *e)
{
    for (int i = 0; i < 3; i++) {
        const struct weight_source *src = &gate[i].src;
        uint64_t offset = src->tensor->offset + src->offset;
        if (offset % alignment_of(gate[i].target)) {
            err_set(e, ERR_FORMAT, "tensor %s lies at an odd place in its file, and cannot stay on disk",
                    src->tensor->name);
            err_hint(e, "write it anew: tonne quantize");
            return ERR_FORMAT;
        }
        x->extent[i] = (struct expert_extent){ offset, gate[i].data_bytes, src->tensor->file,
                                               (size_t)(gate[i].data_at - offset % EXPERT_PAGE) };
    }
    x->n_extent = 3;
    return 0;
}

/* One extent, from the gate's span to the end of down's. */
static void place_in_pack(struct expert_place *x, const struct packed_item *gate)
{
    uint64_t end = gate[2].at + gate[2].bytes;
    x->n_extent = 1;
    x->extent[0] = (struct expert_extent){ gate->at, end - gate->at, 0, 0 };
}

static struct expert_layout layout_of(const struct plan_item *gate, const struct packed_item *packed)
{
    struct expert_layout l = { .shape = { form_of(&gate[0]), form_of(&gate[1]), form_of(&gate[2]) } };
    struct expert_part *data[] = { &l.gate, &l.up, &l.down };
    struct expert_part *scale[] = { &l.gate_scale, &l.up_scale, &l.down_scale };
    for (int i = 0; i < 3; i++) {
        uint64_t at = packed ? packed[i].at - packed[0].at : 0;
        *data[i] = (struct expert_part){ packed ? 0 : i, at };
        *scale[i] = (struct expert_part){ -1, 0 };
        if (packed && gate[i].scale_bytes)
            *scale[i] = (struct expert_part){ 0, at + packed[i].scale_at };
    }
    return l;
}

static int place_expert(struct owned_source *o, const struct plan_item *gate,
                        const struct packed_item *packed, struct err *e)
{
    struct expert_layout *l = &o->layout[gate->layer];
    struct expert_place *x =
        &o->place[(size_t)gate->layer * (size_t)o->source.n_expert + (size_t)gate->expert];
    if (l->shape.gate.type == QTYPE_NONE)
        *l = layout_of(gate, packed);
    if (!is_like(&gate[0], &l->shape.gate) || !is_like(&gate[1], &l->shape.up) ||
        !is_like(&gate[2], &l->shape.down)) {
        err_set(e, ERR_FORMAT, "the experts of layer %d are not all stored alike, and cannot stay on disk",
                gate->layer);
        err_hint(e, "choose one format for them: --type q4_k_m");
        return ERR_FORMAT;
    }
    int rc = 0;
    if (packed)
        place_in_pack(x, packed);
    else
        rc = place_in_files(x, gate, e);
    for (int i = 0; i < x->n_extent; i++) {
        size_t end = x->extent[i].region + expert_region_bytes(x->extent[i].offset, x->extent[i].bytes);
        o->source.slot_bytes = end > o->source.slot_bytes ? end : o->source.slot_bytes;
    }
    return rc;
}

int expert_source_open(struct expert_source **out, const struct plan *p, const struct expert_file *pack,
                       const struct packed_item *item, struct err *e)
{
    const struct shape *s = &p->model->shape;
    size_t n_layer = (size_t)s->n_layer + 1, n_expert = (size_t)s->n_expert;
    struct owned_source *o = calloc(1, sizeof *o);
    if (!o)
        return err_set(e, ERR_MEMORY, "no memory for the places of experts");
    struct expert_source *source = &o->source;
    o->layout = calloc(n_layer, sizeof *o->layout);
    o->place = calloc(n_layer * n_expert + 1, sizeof *o->place);
    o->source.layout = o->layout;
    o->source.place = o->place;
    o->source.n_layer = (int)n_layer;
    o->source.n_expert = s->n_expert;
    int rc = o->layout && o->place ? 0 : err_set(e, ERR_MEMORY, "no memory for the places of experts");
    if (!rc)
        rc = add_files(o, p, pack, e);
    for (int i = p->n_dense; i + 2 < p->n_item && !rc; i += 3)
        rc = place_expert(o, &p->item[i], item ? &item[i] : NULL, e);
    if (rc) {
        expert_source_close(&source);
        return rc;
    }
    *out = source;
    return 0;
}

void expert_source_close(struct expert_source **sp)
{
    struct owned_source *o = (struct owned_source *)*sp;
    *sp = NULL;
    if (!o)
        return;
    for (int i = 0; i < o->source.n_file; i++)
        free(o->path[i]);
    free(o->path);
    free(o->file);
    free(o->layout);
    free(o->place);
    free(o);
}
