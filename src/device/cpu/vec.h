/*
 * vec.h: the vector loops of everything that is not a weight product: norms, SiLU, softmax, attention,
 * DeltaNet, quantizing activations. One table per instruction set, in vec_plain.c, x86/vec_avx2.c and
 * x86/vec_avx512.c.
 *
 * Each result element is computed in an order that depends on lengths only, never on how a call is cut into
 * pieces at multiples of VEC_LANES columns, or on neighbouring rows. Pointers need no alignment beyond their
 * type's. exp is good to about 2 units in the last place; below e^-87 it gives 0.
 */
#ifndef TONNE_DEVICE_CPU_VEC_H
#define TONNE_DEVICE_CPU_VEC_H

#include "device/device.h"

enum { VEC_LANES = 16 };

/* c[i][j] = scale * c[i][j] + the sum over l < depth, ascending, of a[i][l] * b[l][j]; scale 0: c is only
 * written. b comes in panels of 16 columns: element (l, j) is b[j / 16 * b_panel + l * b_row + j % 16]; a
 * plain row-major matrix has b_panel 16. Strides count elements. */
struct vec_tile {
    float *c;
    const float *a;
    const void *b;
    size_t c_row, a_row, b_row, b_panel;
    int rows, cols, depth;
    float scale;
};

/* One token of the gated delta rule on columns [0, cols) of one head's state:
 *   m = (decay S)^T k; d = beta (v - m); S = decay S + k d^T; out = S^T q */
struct vec_delta_step {
    float *state; /* [d_k][row] of which cols are used */
    size_t row;
    const float *q, *k;    /* [d_k] */
    const float *v;        /* [cols] */
    float *out;            /* [cols] */
    float decay, beta, qk; /* qk = q . k */
    int d_k, cols;
};

struct vec_kernels {
    const char *name;
    enum cpu_isa needs;
    void (*q8_quantize)(void *row, const float *x, int64_t n); /* same bits as quant/act.h */

    float (*dot)(const float *a, const float *b, int64_t n);
    float (*max)(const float *x, int64_t n);                    /* -INFINITY for n = 0 */
    void (*scale)(float *x, float s, int64_t n);                /* x *= s */
    void (*axpy)(float *y, float s, const float *x, int64_t n); /* y += s * x */
    void (*rms_norm)(float *y, const float *x, const float *w, int64_t n, float eps); /* y may be x */
    float (*exp_sum)(float *x, float max, int64_t n); /* x = exp(x - max); their sum */
    void (*silu_mul)(float *y, const float *g, const float *u,
                     int64_t n);                              /* y = silu(g) * u; y may be g or u */
    void (*sigmoid_mul)(float *y, const float *g, int64_t n); /* y *= sigmoid(g) */
    /* y = silu(w[..][0] x0 + .. + w[..][3] x3); w [n][4]; y may be x3 */
    void (*conv4_silu)(float *y, const float *x0, const float *x1, const float *x2, const float *x3,
                       const float *w, int64_t n);

    void (*tile_f32)(const struct vec_tile *t);
    void (*tile_f16)(const struct vec_tile *t);  /* b is f16; cols % 16 == 0 */
    void (*tile_bf16)(const struct vec_tile *t); /* b is bf16; cols % 16 == 0 */
    void (*delta_step)(const struct vec_delta_step *s);
};

/* What the tables' files share: the last cols % 16 columns, in plain C. */
void vec_tile_tail(const struct vec_tile *t); /* of an f32 tile */
void vec_delta_step_tail(const struct vec_delta_step *s);

/* The best table at or below isa. */
const struct vec_kernels *vec_pick(enum cpu_isa isa);

extern const struct vec_kernels vec_plain;
extern const struct vec_kernels vec_avx2;   /* x86-64 only */
extern const struct vec_kernels vec_avx512; /* x86-64 only */

#endif
