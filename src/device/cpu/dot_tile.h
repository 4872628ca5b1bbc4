/*
 * dot_tile.h: how a kernel becomes fast without being written eight times. The body of a kernel is one inline
 * function whose number of columns is a parameter; dot_tiles calls it with constants, so that the compiler
 * unrolls the columns and keeps their sums in registers. A weight is decoded once for all columns of a tile.
 */
#ifndef TONNE_DEVICE_CPU_DOT_TILE_H
#define TONNE_DEVICE_CPU_DOT_TILE_H

#include "device/cpu/dot.h"
#include "quant/act.h"
#include "quant/blocks.h"

#define INLINED static inline __attribute__((always_inline))
#if defined(__clang__)
#pragma clang diagnostic ignored "-Wpass-failed" /* a loop of one column has nothing to unroll */
#define UNROLLED _Pragma("unroll")
#else
#define UNROLLED _Pragma("GCC unroll 16")
#endif

struct dot_tile {
    const struct qmat *w;
    const uint8_t *data; /* codes of the tile's first row */
    size_t row_bytes;
    int64_t row; /* its number in the stored matrix */
    int n_rows;
    const void *const *x; /* [n_cols] */
    float *y;
    size_t y_stride;
};

typedef void (*dot_tile_fn)(const struct dot_tile *t, int n_cols);

INLINED struct dot_tile dot_tile_at(const struct qmat *w, int64_t row, int n_rows, const void *const *x,
                                    float *y, size_t y_stride)
{
    size_t row_bytes = qtype_row_bytes(w->type, w->cols);
    int64_t stored = w->row0 + row;
    return (struct dot_tile){
        w, (const uint8_t *)w->data + (size_t)stored * row_bytes, row_bytes, stored, n_rows, x, y, y_stride
    };
}

INLINED struct dot_tile dot_tile_skip(const struct dot_tile *t, int n_cols)
{
    struct dot_tile rest = *t;
    rest.x += n_cols;
    rest.y += (size_t)n_cols * t->y_stride;
    return rest;
}

INLINED void dot_tiles_upto4(dot_tile_fn run, const struct dot_tile *t, int n_cols)
{
    switch (n_cols) {
    case 1:
        run(t, 1);
        break;
    case 2:
        run(t, 2);
        break;
    case 3:
        run(t, 3);
        break;
    case 4:
        run(t, 4);
        break;
    default:
        break;
    }
}

/* For kernels whose sums of 8 columns fit the registers. */
INLINED void dot_tiles8(dot_tile_fn run, const struct dot_tile *t, int n_cols)
{
    if (n_cols == 8) {
        run(t, 8);
        return;
    }
    struct dot_tile part = *t;
    if (n_cols > 4) {
        part = dot_tile_skip(t, n_cols - 4);
        dot_tiles_upto4(run, t, n_cols - 4);
        n_cols = 4;
    }
    dot_tiles_upto4(run, &part, n_cols);
}

/* For kernels that can hold 4. */
INLINED void dot_tiles4(dot_tile_fn run, const struct dot_tile *t, int n_cols)
{
    struct dot_tile part = *t;
    for (; n_cols > 4; n_cols -= 4) {
        run(&part, 4);
        part = dot_tile_skip(&part, 4);
    }
    dot_tiles_upto4(run, &part, n_cols);
}

/* The columns of a tile as int8 rows. */
INLINED void dot_tile_q8(const struct dot_tile *t, int n_cols, struct q8_row *x)
{
    UNROLLED
    for (int c = 0; c < n_cols; c++)
        x[c] = q8_row_at(t->x[c], t->w->cols);
}

/* The 8 scales and 8 minimums of a Q4_K or Q5_K block, one byte each, first one lowest. */
INLINED void dot_k_scales(const uint8_t *packed, uint64_t *scale, uint64_t *min)
{
    const uint32_t low6 = 0x3f3f3f3f, low4 = 0x0f0f0f0f, low2 = 0x03030303;
    uint32_t a = u32_at(packed), b = u32_at(packed + 4), c = u32_at(packed + 8);
    uint32_t scale_high = (c & low4) | (a >> 6 & low2) << 4;
    uint32_t min_high = (c >> 4 & low4) | (b >> 6 & low2) << 4;
    *scale = (a & low6) | (uint64_t)scale_high << 32;
    *min = (b & low6) | (uint64_t)min_high << 32;
}

#endif
