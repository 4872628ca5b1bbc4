/* disk_source.c: see disk_source.h. */
#include "support/disk_source.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void need(bool ok, const char *what)
{
    if (ok)
        return;
    fprintf(stderr, "disk_source: %s\n", what);
    abort();
}

/* One matrix, one extent; regions follow each other. */
static size_t add_extent(struct expert_place *p, const struct model *m, enum role role, int layer, int expert,
                         const struct qmat *in_memory, size_t region)
{
    struct weight_source src;
    struct err e = { 0 };
    need(model_find(m, role, layer, expert, &src, &e) == 0, e.what);
    need(!src.scale && src.type == in_memory->type, "experts are not in memory as they are stored");
    uint64_t offset = src.tensor->offset + src.offset;
    uint64_t bytes = (uint64_t)src.rows * qtype_row_bytes(src.type, src.cols);
    p->extent[p->n_extent++] = (struct expert_extent){ offset, bytes, src.tensor->file, region };
    return region + expert_region_bytes(offset, bytes);
}

static struct qmat without_data(struct qmat m)
{
    m.data = m.scale = NULL;
    return m;
}

static void add_layer(struct disk_weights *d, const struct model *m, int layer, const struct moe_weights *w)
{
    const struct mlp_weights *first = &w->expert[0];
    const struct expert_part none = { -1, 0 };
    d->layout[layer] = (struct expert_layout){
        .shape = { without_data(first->gate), without_data(first->up), without_data(first->down) },
        .gate = { 0, 0 },
        .up = { 1, 0 },
        .down = { 2, 0 },
        .gate_scale = none,
        .up_scale = none,
        .down_scale = none,
    };
    for (int x = 0; x < d->source.n_expert; x++) {
        struct expert_place *p = &d->place[(size_t)layer * (size_t)d->source.n_expert + (size_t)x];
        size_t end = add_extent(p, m, ROLE_EXPERT_GATE, layer, x, &w->expert[x].gate, 0);
        end = add_extent(p, m, ROLE_EXPERT_UP, layer, x, &w->expert[x].up, end);
        end = add_extent(p, m, ROLE_EXPERT_DOWN, layer, x, &w->expert[x].down, end);
        if (end > d->source.slot_bytes)
            d->source.slot_bytes = end;
        for (int i = 0; i < p->n_extent; i++)
            d->bytes += p->extent[i].bytes;
    }
}

void disk_weights_open(struct disk_weights *d, const struct weights *w, const struct model *m)
{
    const struct shape *s = &w->shape;
    size_t n_layer = (size_t)s->n_layer + 1, n_expert = (size_t)s->n_expert;
    memset(d, 0, sizeof *d);
    d->weights = *w;
    d->weights.disk = &d->source;
    d->file = calloc((size_t)m->dir->n_file, sizeof *d->file);
    d->layout = calloc(n_layer, sizeof *d->layout);
    d->place = calloc(n_layer * n_expert, sizeof *d->place);
    d->weights.layer = calloc(n_layer, sizeof *d->weights.layer);
    need(d->file && d->layout && d->place && d->weights.layer, "no memory");
    memcpy(d->weights.layer, w->layer, (size_t)s->n_layer * sizeof *w->layer);
    for (int i = 0; i < m->dir->n_file; i++)
        d->file[i] = (struct expert_file){ m->dir->file[i].path, m->dir->file[i].bytes };
    d->source = (struct expert_source){ .file = d->file,
                                        .n_file = m->dir->n_file,
                                        .n_layer = (int)n_layer,
                                        .n_expert = s->n_expert,
                                        .layout = d->layout,
                                        .place = d->place };
    for (int i = 0; i < s->n_layer; i++) {
        if (!s->moe[i])
            continue;
        add_layer(d, m, i, &w->layer[i].moe);
        d->weights.layer[i].moe.expert = NULL;
    }
    if (w->has_mtp) {
        add_layer(d, m, s->n_layer, &w->mtp.layer.moe);
        d->weights.mtp.layer.moe.expert = NULL;
    }
}

void disk_weights_close(struct disk_weights *d)
{
    free(d->file);
    free(d->layout);
    free(d->place);
    free(d->weights.layer);
    memset(d, 0, sizeof *d);
}
