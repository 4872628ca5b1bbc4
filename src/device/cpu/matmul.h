/*
 * matmul.h: what project.c and moe.c share: how a matrix is multiplied (a kernel for its format, or decoded
 * panels), the activations in the forms the kernels read, and who computes which rows.
 *
 * Work is cut into panels of weight rows. A panel stays in the cache while all columns pass over it, in
 * groups of DOT_MAX_COLS. Kernels give the same bits in every tile shape, so no cut shows in a result.
 */
#ifndef TONNE_DEVICE_CPU_MATMUL_H
#define TONNE_DEVICE_CPU_MATMUL_H

#include "device/cpu/cpu.h"

enum {
    PANEL_ROWS = 32, /* weight rows of a panel; a block of activations when they become hidden values */
    SHARE_ROWS = 16, /* static shares begin at multiples: a cache line of results */
};

enum act_form {
    ACT_F32,    /* as they are */
    ACT_Q8,     /* struct q8_row */
    ACT_ROUNDED /* f32, rounded to int8 blocks and back: formats with integer products but no kernel for them
                 */
};

struct matmul {
    const struct qmat *w;
    dot_fn run;
    enum act_form form;
    bool decoded; /* run takes panels of f32 */
};

struct matmul matmul_plan(const struct cpu_device *c, const struct qmat *w);

/* Rows [row, row + n_rows) of m in the form m->run takes; n_rows <= PANEL_ROWS. Decoded panels live in the
 * thread's slot 0 or 1 (slot 1: matrices of d_model columns only) until it is used again. */
struct qmat matmul_panel(const struct cpu_device *c, const struct matmul *m, int thread, int slot,
                         int64_t row, int n_rows);

/* The activations of a call: rows of f32, and the other forms where a matrix needs them. */
struct matmul_acts {
    const float *x;
    size_t x_stride;
    int64_t cols;
    char *q8;
    float *rounded; /* [rows][cols] */
    bool need_q8, need_rounded;
};

struct matmul_acts matmul_acts_of(const struct cpu_device *c, const float *x, size_t x_stride, int64_t cols);
void matmul_acts_need(struct matmul_acts *a, const struct matmul *m);
/* Makes the other forms of rows [begin, end). */
void matmul_acts_fill(const struct cpu_device *c, const struct matmul_acts *a, int64_t begin, int64_t end);
const void *matmul_acts_row(const struct matmul_acts *a, enum act_form form, int64_t row);
/* As matmul_acts_fill, for one block of 32 values: v becomes values i.. of a row of n in this form. */
void matmul_store_block(const struct cpu_device *c, enum act_form form, void *row, int64_t n, int64_t i,
                        const float *v, int n_v);
/* Bytes of a row that can hold any form. */
size_t matmul_row_bytes(int64_t cols);

/* Few rows of activations are made by the caller before the job; many by all threads. */
static inline bool matmul_is_few(int n_rows)
{
    return n_rows <= DOT_MAX_COLS;
}

/* A thread's share of a list of parts by weight bytes, contiguous: walk the parts in order. */
struct byte_share {
    int64_t begin, end, at;
};
struct byte_share byte_share_of(const struct threads *t, int thread, int64_t total_bytes);
/* The next part's rows that are the thread's. */
struct range byte_share_rows(struct byte_share *s, int64_t n_rows, int64_t row_bytes, int step);

#endif
