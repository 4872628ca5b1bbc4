/*
 * export_job.h: converts a list of matrices and writes each to its places in the output, on all threads. What
 * the output looks like is known before, so every thread writes what it has made, in no particular order.
 */
#ifndef TONNE_LOAD_EXPORT_JOB_H
#define TONNE_LOAD_EXPORT_JOB_H

#include "load/export.h"

/* V heads stand grouped by their key head in checkpoints, tiled over the key heads in GGUF. */
struct head_order {
    enum { HEADS_STAY, HEADS_ARE_ROWS, HEADS_ARE_COLS } kind;
    int64_t first; /* rows or columns before the first V head */
    int64_t unit;  /* rows or columns of one head */
    int n_k, n_v;
    bool to_tiled; /* false: back to grouped */
};

/* Undoes what convert_rows did or a GGUF holds; both files' values are the engine's own otherwise. */
enum undo { UNDO_NONE, UNDO_ADD_ONE, UNDO_NEG_EXP };

struct export_place { /* a byte of an output tensor; tensor -1: nowhere */
    int tensor;
    uint64_t offset;
};

struct export_item { /* one matrix */
    struct weight_source src;
    enum qtype target;
    struct head_order order;
    enum undo undo;
    struct export_place data; /* its row 0 */
    /* 4-bit targets */
    struct export_place absmax; /* f32, or u8 when double-quantized, of its block 0 */
    struct export_place nested_absmax, nested_offset;
    struct export_place nested_map; /* written with a tensor's first matrix only */
    struct export_place
        offset_text; /* or: EXPORT_NUMBER characters where the offset stands as decimal text */
};

enum { EXPORT_NUMBER = 24 };

struct export_job {
    const struct model *m;
    struct export_item *item;
    int64_t n_item, item_room;
    /* gguf_writer_put, safetensors_writer_put */
    int (*put)(void *writer, int tensor, uint64_t offset, const void *data, size_t n, struct err *e);
    void *writer;
};

/* An item without scales, reordering or transformation: src as target from byte `offset` of a tensor on. */
struct export_item export_item_new(const struct weight_source *src, enum qtype target, int tensor,
                                   uint64_t offset);

/* Appends an item; ERR_MEMORY. */
int export_job_add(struct export_job *job, const struct export_item *item, struct err *e);

/* Converts and writes all of them. */
int export_job_run(struct export_job *job, const struct export_options *opt, struct err *e);

void export_job_free(struct export_job *job);

/* How the heads of this role move between m's order and the output's. */
struct head_order export_head_order(const struct model *m, enum role role, bool to_tiled);

#endif
