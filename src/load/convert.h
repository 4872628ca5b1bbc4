/*
 * convert.h: stored weights -> other formats, a panel of rows at a time. Used by loading and by `quantize`.
 */
#ifndef TONNE_LOAD_CONVERT_H
#define TONNE_LOAD_CONVERT_H

#include "model/model.h"
#include "quant/qtype.h"

/* Reads rows [row, row + n_rows) of src, decodes and transforms them: out[n_rows][cols] f32.
 * scratch holds the stored bytes of these rows: n_rows * qtype_row_bytes(type, cols) bytes at least. Thread-safe. */
struct convert_source; /* a weight_source with its scale plane read and checked (NaN, infinity: ERR_FORMAT) */
int  convert_open(struct convert_source **out, const struct model *m, const struct weight_source *src, struct err *e);
int  convert_rows(const struct convert_source *c, int64_t row, int64_t n_rows, float *out, void *scratch, struct err *e);
void convert_close(struct convert_source **c);

/* The storage type a weight gets: the mix's rule, or as stored (bitsandbytes, GGUF and plain formats alike). */
enum qtype convert_target(const struct model *m, enum role role, int layer, enum mix mix, const struct weight_source *src);

#endif
