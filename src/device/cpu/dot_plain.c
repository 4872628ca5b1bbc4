/* dot_plain.c: products for any machine: f32 sums in 16 lanes that the compiler may put into whatever vectors
 * the target has. Every other format comes here as decoded panels of f32. */
#include "device/cpu/dot_plain.h"

#include "device/cpu/dot_tile.h"

enum { LANES = 16 };

typedef float (*load1_fn)(const uint8_t *row, int64_t i);

INLINED float load_f32(const uint8_t *row, int64_t i)
{
    return f32_from_bits(u32_at(row + 4 * i));
}

INLINED float load_bf16(const uint8_t *row, int64_t i)
{
    return bf16_to_f32(u16_at(row + 2 * i));
}

/* Lanes are added in halves, always in this order. */
INLINED float sum_lanes(float *lane)
{
    for (int n = LANES / 2; n > 0; n /= 2)
        for (int i = 0; i < n; i++)
            lane[i] += lane[i + n];
    return lane[0];
}

/* One output: lane i sums the products of columns i, i + 16, ... */
INLINED float plain_dot(const uint8_t *row, const float *x, int64_t cols, load1_fn load)
{
    float lane[LANES] = { 0 };
    int64_t i = 0;
    for (; i + LANES <= cols; i += LANES)
        for (int l = 0; l < LANES; l++)
            lane[l] += load(row, i + l) * x[i + l];
    for (int l = 0; i + l < cols; l++)
        lane[l] += load(row, i + l) * x[i + l];
    return sum_lanes(lane);
}

INLINED void plain_rows(const struct dot_tile *t, int n_cols, load1_fn load)
{
    for (int r = 0; r < t->n_rows; r++)
        for (int c = 0; c < n_cols; c++)
            t->y[(size_t)c * t->y_stride + (size_t)r] =
                plain_dot(t->data + (size_t)r * t->row_bytes, t->x[c], t->w->cols, load);
}

void dot_f32_plain(const struct qmat *w, int64_t row, int n_rows, const void *const *x, int n_cols, float *y,
                   size_t y_stride)
{
    struct dot_tile t = dot_tile_at(w, row, n_rows, x, y, y_stride);
    plain_rows(&t, n_cols, load_f32);
}

void dot_bf16_plain(const struct qmat *w, int64_t row, int n_rows, const void *const *x, int n_cols, float *y,
                    size_t y_stride)
{
    struct dot_tile t = dot_tile_at(w, row, n_rows, x, y, y_stride);
    plain_rows(&t, n_cols, load_bf16);
}
