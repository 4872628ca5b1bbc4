/*
 * convert.h: stored weights -> f32 rows. Used by loading and by `quantize`; plan/ says which format each
 * weight gets.
 */
#ifndef TONNE_LOAD_CONVERT_H
#define TONNE_LOAD_CONVERT_H

#include "model/model.h"
#include "quant/qtype.h"

struct convert_source; /* one matrix of the checkpoint, its scale plane read and checked */

/* Gives *out. m and its files are borrowed. A scale that is NaN or infinite, or a 4-bit code table that is
 * not the format's own, is ERR_FORMAT. */
int convert_open(struct convert_source **out, const struct model *m, const struct weight_source *src,
                 struct err *e);
void convert_close(struct convert_source **c);

struct direct_file;
/* From now on rows are read past the page cache, from file[tensor->file] (load/direct.h; borrowed): scratch
 * must then be direct_room(convert_scratch_bytes) long and DIRECT_PAGE aligned. */
void convert_read_direct(struct convert_source *c, const struct direct_file *file);

/* Bytes of scratch that convert_rows needs for n_rows rows; of the stored codes, if their blocks do not cross
 * rows. */
size_t convert_scratch_bytes(const struct weight_source *src, int64_t n_rows);

/* Reads rows [row, row + n_rows), decodes and transforms them into out[n_rows][cols]. A weight that is NaN or
 * infinite is ERR_FORMAT. Thread-safe. */
int convert_rows(const struct convert_source *c, int64_t row, int64_t n_rows, float *out, void *scratch,
                 struct err *e);

/* The same from the stored codes of these rows (convert_scratch_bytes of them, no alignment needed), which
 * the caller has read. */
int convert_stored_rows(const struct convert_source *c, int64_t row, int64_t n_rows, const void *stored,
                        float *out, struct err *e);

/* Where the stored bytes are already what the target needs (plan_is_copy): reads the stored codes of these
 * rows to dst, checking the scales inside the blocks, */
int convert_copy_rows(const struct convert_source *c, int64_t row, int64_t n_rows, void *dst, void *scratch,
                      struct err *e);
/* (or takes them from `stored`,) */
int convert_copy_stored(const struct convert_source *c, int64_t n_rows, const void *stored, void *dst,
                        struct err *e);
/* and fills the whole scale plane (qtype_sizes); nothing for formats without one. */
void convert_copy_plane(const struct convert_source *c, void *plane);

#endif
