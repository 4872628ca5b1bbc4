/* check_qmat.c: random matrices in every format. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "support/check.h"

static bool all_finite(const float *x, int n)
{
    for (int i = 0; i < n; i++)
        if (!isfinite(x[i]))
            return false;
    return true;
}

/* Formats without an encoder: each block's bytes are drawn until what they decode to is finite. */
static void random_codes(struct check *c, const struct qmat *w, char *data)
{
    const struct qtype_info *info = qtype_info(w->type);
    float value[256], one = 1;
    size_t n_block = (size_t)(w->rows * w->cols / info->block), bytes = (size_t)info->block_bytes;
    for (size_t b = 0; b < n_block; b++) {
        char *block = data + b * bytes;
        struct qmat alone = { .type = w->type, .rows = 1, .cols = info->block, .data = block, .scale = &one };
        do {
            for (size_t i = 0; i < bytes; i++)
                block[i] = (char)check_bits(c);
            qmat_decode(&alone, 0, 1, value);
        } while (!all_finite(value, info->block));
    }
}

struct qmat check_qmat(struct check *c, enum qtype type, int64_t rows, int64_t cols, float deviation)
{
    size_t data_bytes = 0, scale_bytes = 0;
    if (!qtype_sizes(type, rows, cols, &data_bytes, &scale_bytes)) {
        fprintf(stderr, "%s: %s cannot be [%lld][%lld]\n", c->name, qtype_info(type)->name, (long long)rows,
                (long long)cols);
        exit(2);
    }
    char *data = check_alloc(c, data_bytes, 1);
    float *scale = scale_bytes ? check_alloc(c, scale_bytes, sizeof *scale) : NULL;
    struct qmat w = { .type = type, .rows = rows, .cols = cols, .data = data, .scale = scale };
    if (!qtype_info(type)->encode) {
        for (size_t i = 0; i < scale_bytes / sizeof *scale; i++)
            scale[i] = check_uniform(c, 0.01f, 0.02f);
        random_codes(c, &w, data);
        return w;
    }
    size_t n_absmax = (size_t)(rows * cols / 64);
    float *absmax = qtype_needs_absmax(type) ? check_alloc(c, n_absmax * sizeof *absmax, 4) : NULL;
    float *row = check_alloc(c, (size_t)cols * sizeof *row, sizeof *row);
    struct qmat_encoder m = { type, rows, cols, data, scale, absmax };
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t i = 0; i < cols; i++)
            row[i] = deviation * check_normal(c);
        qmat_encode(&m, r, 1, row);
    }
    qmat_encode_finish(&m);
    return w;
}
