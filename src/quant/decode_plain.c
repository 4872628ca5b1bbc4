/* decode_plain.c: floats of 64, 32, 16 and 8 bits. FP8 has a plane of one f32 scale per 128 x 128 tile. */
#include "quant/decode.h"

enum { FP8_TILE = 128 };

void decode_f32(const struct qmat *w, int64_t row, float *out)
{
    size_t bytes = (size_t)w->cols * sizeof *out;
    memcpy(out, (const uint8_t *)w->data + (size_t)row * bytes, bytes);
}

void decode_f16(const struct qmat *w, int64_t row, float *restrict out)
{
    const uint8_t *restrict h = (const uint8_t *)w->data + (size_t)row * (size_t)w->cols * 2;
    for (int64_t i = 0; i < w->cols; i++)
        out[i] = f16_at(h + 2 * i);
}

void decode_bf16(const struct qmat *w, int64_t row, float *restrict out)
{
    const uint8_t *restrict h = (const uint8_t *)w->data + (size_t)row * (size_t)w->cols * 2;
    for (int64_t i = 0; i < w->cols; i++)
        out[i] = bf16_to_f32(u16_at(h + 2 * i));
}

void decode_f64(const struct qmat *w, int64_t row, float *out)
{
    const uint8_t *from = (const uint8_t *)w->data + (size_t)row * (size_t)w->cols * sizeof(double);
    for (int64_t i = 0; i < w->cols; i++) {
        double v;
        memcpy(&v, from + (size_t)i * sizeof v, sizeof v);
        out[i] = (float)v;
    }
}

/* One row: the tile's scale times each code's value. */
__attribute__((always_inline)) static inline void decode_fp8(const struct qmat *w, int64_t row,
                                                             float *restrict out, float (*value)(uint8_t))
{
    const uint8_t *restrict code = (const uint8_t *)w->data + (size_t)row * (size_t)w->cols;
    int64_t n_tile = (w->cols + FP8_TILE - 1) / FP8_TILE;
    const uint8_t *scale = (const uint8_t *)w->scale + (size_t)(row / FP8_TILE * n_tile) * sizeof(float);
    for (int64_t tile = 0; tile < n_tile; tile++) {
        float s = f32_from_bits(u32_at(scale + (size_t)tile * sizeof s));
        int64_t end = (tile + 1) * FP8_TILE < w->cols ? (tile + 1) * FP8_TILE : w->cols;
        for (int64_t i = tile * FP8_TILE; i < end; i++)
            out[i] = value(code[i]) * s;
    }
}

void decode_fp8_e4m3(const struct qmat *w, int64_t row, float *out)
{
    decode_fp8(w, row, out, e4m3_to_f32);
}

void decode_fp8_e5m2(const struct qmat *w, int64_t row, float *out)
{
    decode_fp8(w, row, out, e5m2_to_f32);
}

void encode_f32(void *data, void *scale, float *absmax, int64_t row, int64_t n_rows, int64_t cols,
                const float *src)
{
    (void)scale, (void)absmax;
    size_t row_bytes = (size_t)cols * sizeof *src;
    memcpy((uint8_t *)data + (size_t)row * row_bytes, src, (size_t)n_rows * row_bytes);
}

void encode_f16(void *data, void *scale, float *absmax, int64_t row, int64_t n_rows, int64_t cols,
                const float *src)
{
    (void)scale, (void)absmax;
    uint8_t *to = (uint8_t *)data + (size_t)row * (size_t)cols * 2;
    for (int64_t i = 0; i < n_rows * cols; i++)
        f16_put(to + 2 * i, src[i]);
}

void encode_bf16(void *data, void *scale, float *absmax, int64_t row, int64_t n_rows, int64_t cols,
                 const float *src)
{
    (void)scale, (void)absmax;
    uint8_t *to = (uint8_t *)data + (size_t)row * (size_t)cols * 2;
    for (int64_t i = 0; i < n_rows * cols; i++) {
        uint16_t h = f32_to_bf16(src[i]);
        memcpy(to + 2 * i, &h, sizeof h);
    }
}
