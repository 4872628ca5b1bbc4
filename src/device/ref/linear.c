/*
 * linear.c: embedding rows and matrix products. The stored row is decoded to f32; the activation row is taken
 * as it is, or rounded to int8 blocks and back where the format's products are defined so (qtype.h, enum
 * qact). Integer kernels multiply the same numbers, so they differ from this only by the rounding of their
 * f32 sums.
 */
#include "device/ref/ref.h"

#include <string.h>

#include "quant/act.h"

void ref_activation(const struct ref_device *r, enum qtype type, const float *x, int64_t n, float *out)
{
    if (r->act == ACT_EXACT || qtype_info(type)->act == QACT_F32) {
        memcpy(out, x, (size_t)n * sizeof *out);
        return;
    }
    q8_quantize(r->q8, x, n);
    struct q8_row row = q8_row_at(r->q8, n);
    for (int64_t i = 0; i < n; i++)
        out[i] = row.d[i / Q8_BLOCK] * (float)row.q[i];
}

double ref_dot(const float *a, const float *b, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)a[i] * b[i];
    return sum;
}

void ref_matvec(const struct ref_device *r, const struct qmat *w, const float *x, double *y)
{
    for (int64_t i = 0; i < w->rows; i++) {
        qmat_decode(w, i, 1, r->row); /* [cols] */
        y[i] = ref_dot(r->row, x, w->cols);
    }
}

int ref_embed(struct device *d, const struct embed_args *a, struct err *e)
{
    (void)d, (void)e;
    for (int t = 0; t < a->n_rows; t++)
        qmat_decode(&a->table, a->ids[t], 1, a->y + (size_t)t * (size_t)a->table.cols);
    return 0;
}

static void project_one(const struct ref_device *r, const struct project_args *a, const struct linear *o)
{
    const struct qmat *w = &o->w;
    size_t cols = (size_t)w->cols;
    for (int t = 0; t < a->n_rows; t++)
        ref_activation(r, w->type, a->x + (size_t)t * a->x_stride, w->cols, r->acts + (size_t)t * cols);
    for (int64_t i = 0; i < w->rows; i++) {
        qmat_decode(w, i, 1, r->row);
        for (int t = 0; t < a->n_rows; t++) {
            float *y = &o->y[(size_t)t * o->y_stride + (size_t)i];
            double sum = ref_dot(r->row, r->acts + (size_t)t * cols, w->cols);
            if (o->bias)
                sum += o->bias[i];
            *y = (float)(a->add ? *y + sum : sum);
        }
    }
}

int ref_project(struct device *d, const struct project_args *a, struct err *e)
{
    (void)e;
    for (int i = 0; i < a->n_out; i++)
        project_one((const struct ref_device *)d, a, &a->out[i]);
    return 0;
}
