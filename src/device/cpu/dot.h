/*
 * dot.h: every way the CPU multiplies stored weight rows with activation columns: a table of kernels per
 * format and instruction set (dot.c), slowest first. One kernel call computes a small tile.
 */
#ifndef TONNE_DEVICE_CPU_DOT_H
#define TONNE_DEVICE_CPU_DOT_H

#include "device/device.h"
#include "quant/qtype.h"

enum { DOT_MAX_COLS = 8 };

/* y[c * y_stride + r] = w row (row + r) . x[c], for r < n_rows, c < n_cols <= DOT_MAX_COLS.
 * row counts from w's row 0 (the kernel adds w->row0). x[c] is float[cols] for QACT_F32 formats and a q8_row
 * (quant/act.h) for QACT_Q8. Each sum's order depends on cols only: the same bits in every tile shape. */
typedef void dot_kernel_fn(const struct qmat *w, int64_t row, int n_rows, const void *const *x, int n_cols,
                           float *y, size_t y_stride);
typedef dot_kernel_fn *dot_fn;

struct dot_kernel {
    const char *name; /* "dot_q4_k_avx512" */
    enum qtype type;
    enum qact act;
    enum cpu_isa needs;
    dot_fn run;
};
extern const struct dot_kernel dot_kernels[];
extern const int dot_kernel_count;

/* The best kernel for the format's activations at or below isa; NULL: decode a panel and use
 * dot_pick(QTYPE_F32). */
const struct dot_kernel *dot_pick(enum qtype type, enum qact act, enum cpu_isa isa);

#endif
