/*
 * expert_source.h: where routed experts lie that were left on disk, and how their bytes, once read, are an
 * expert. Made by the loader (a GGUF or safetensors file used in place, or a packed file); read by the
 * engine's expert_stream.c and expert_cache.c. Plain data; everything is owned by whoever made it.
 *
 * A slot is slot_bytes of memory, 4096-aligned. Each extent is read into a region of its own: reading is
 * widened to whole pages of 4096 bytes on both sides, so extent i's first byte lies at region + offset %
 * 4096. Data is used in place, therefore offset and the parts' `at` must suit the format's element size (2
 * for bf16, 4 for f32 scales).
 */
#ifndef TONNE_LOAD_EXPERT_SOURCE_H
#define TONNE_LOAD_EXPERT_SOURCE_H

#include "base/checked.h"
#include "device/device.h"

enum { EXPERT_EXTENTS = 4, EXPERT_PAGE = 4096 };

struct expert_file {
    const char *path;
    uint64_t bytes; /* of the file when it was looked at; another size at opening is an error */
};

struct expert_extent { /* a contiguous piece of one file */
    uint64_t offset, bytes;
    int file;
    size_t region; /* offset in the slot, a multiple of 4096; needs expert_region_bytes(offset, bytes) */
};
struct expert_place { /* one expert; its extents may lie in several files */
    int n_extent;
    struct expert_extent extent[EXPERT_EXTENTS];
};

struct expert_part { /* codes or scale plane of one matrix */
    int extent;      /* -1: there is none (scale planes) */
    uint64_t at;     /* from the extent's first byte */
};
struct expert_layout {
    struct mlp_weights shape; /* types, rows, cols, row0; data and scale NULL */
    struct expert_part gate, up, down, gate_scale, up_scale, down_scale;
};

struct expert_source {
    const struct expert_file *file;
    int n_file;
    int n_layer, n_expert;              /* rows of the tables below; n_layer counts the MTP layer */
    const struct expert_layout *layout; /* [n_layer] */
    const struct expert_place *place;   /* [n_layer][n_expert]; n_extent 0: no experts at this layer */
    size_t slot_bytes;                  /* the largest expert's regions; a multiple of 4096 */
};

struct plan;
struct packed_item;

/* The experts of a plan that leaves them on disk: in the model's files, or in the packed file `pack` whose
 * items are the plan's, one for one (item; both NULL: no pack). ERR_FORMAT when they cannot be used where
 * they lie. Gives *out, which needs neither plan nor model any more. */
int expert_source_open(struct expert_source **out, const struct plan *p, const struct expert_file *pack,
                       const struct packed_item *item, struct err *e);
void expert_source_close(struct expert_source **s); /* NULL is fine */

/* Bytes of a slot that an extent needs. */
static inline size_t expert_region_bytes(uint64_t offset, uint64_t bytes)
{
    return (size_t)align_up(offset % EXPERT_PAGE + bytes, EXPERT_PAGE);
}

static inline const struct expert_place *expert_place_of(const struct expert_source *s, int layer, int expert)
{
    return &s->place[(size_t)layer * (size_t)s->n_expert + (size_t)expert];
}

#endif
