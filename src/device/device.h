/*
 * device.h: the one table of operations. The engine is written once against it; ref/ (scalar, the definition
 * of right), cpu/ (threads and SIMD) and cuda/ implement it. Operations are named by stage, not by
 * arithmetic.
 *
 * Rules for every operation:
 * - All activations are f32 in the device's memory, row-major, one row per token; strides are in floats.
 * - Rows of different sessions can share one call: spans say which rows belong to which state.
 * - Operations may run asynchronously, in order; results are valid after sync (or for the next operation).
 * - Nothing is allocated: reserve() sizes all scratch memory once, for the largest call that will come.
 * - A result never depends on the number of threads, and a row's result never on the other rows of the call
 *   (exception: delta_net may use the chunked rule, equal to rounding).
 * - 0 or ERR_DEVICE; the arguments are the engine's business and are not validated again.
 */
#ifndef TONNE_DEVICE_DEVICE_H
#define TONNE_DEVICE_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/mem.h"
#include "quant/qtype.h"

struct device; /* a struct of the implementation whose first member is `const struct device_ops *ops` */

/* ---- weights as operations see them; all borrowed, filled by load/ ---- */

struct attention_weights {
    struct qmat q, k, v, o; /* q: [n_head * d_head], with gate per head [q d_head | gate d_head] */
    const float *q_bias, *k_bias, *v_bias; /* NULL: none */
    const float *q_norm, *k_norm;          /* [d_head], plain multipliers (+1 already added); NULL: none */
};

struct delta_net_weights {
    struct qmat qkv, z, b, a, out; /* qkv rows: q heads, k heads, v heads */
    const float *conv;             /* [conv_dim][4], [..][3] is the current token's */
    const float *dt_bias;          /* [n_v_head] */
    const float *a_neg;            /* [n_v_head], -exp(A_log) */
    const float *norm;             /* [d_v] */
};

struct mlp_weights {
    struct qmat gate, up, down; /* gate, up [d_ff][d_model]; down [d_model][d_ff] */
};

struct moe_weights {
    struct qmat router;               /* [n_expert][d_model] */
    const struct mlp_weights *expert; /* [n_expert] */
    struct mlp_weights shared;        /* shared.gate.data NULL: none */
    const float *shared_gate;         /* [d_model]; NULL: the shared expert is not gated */
};

/* ---- arguments ---- */

struct embed_args {
    float *y; /* [n_rows][d_model] written */
    struct qmat table;
    const int32_t *ids; /* [n_rows] host memory, each within table.rows */
    int n_rows;
};

struct norm_args {  /* y = x / sqrt(mean(x^2) + eps) * w */
    float *y;       /* [n_rows][y_stride], first d written; may be x */
    const float *x; /* [n_rows][x_stride] */
    const float *w; /* [d] */
    size_t y_stride, x_stride;
    int n_rows, d;
    float eps;
};

struct linear { /* y = W x + bias, or y += W x + bias */
    struct qmat w;
    const float *bias; /* [w.rows]; NULL: none */
    float *y;          /* [n_rows][y_stride] */
    size_t y_stride;
};
enum { PROJECT_MAX = 6 };
struct project_args { /* several matrices applied to the same rows, one job */
    const float *x;   /* [n_rows][x_stride] */
    size_t x_stride;
    int n_rows, n_out;
    bool add; /* add to y instead of overwriting: the residual stream */
    struct linear out[PROJECT_MAX];
};

struct kv_cache {    /* one layer of one session */
    enum qtype type; /* F32, F16 or BF16 */
    void *data;   /* the device's own layout, but a cache of n positions is the first kv_bytes(n) bytes of any
                   * larger one: snapshots rely on this */
    int capacity; /* positions */
};
struct attention_span {
    int row, n_rows; /* these rows of the call ... */
    int pos;         /* ... are positions pos.. of this cache */
    struct kv_cache kv;
};
struct attention_args { /* norm q and k, rotate, append k and v to the cache, attend causally, gate */
    float *out;         /* [n_rows][n_head * d_head] written */
    float *q;           /* [n_rows][n_head * d_head * (gated ? 2 : 1)] overwritten */
    float *k, *v;       /* [n_rows][n_head_kv * d_head] overwritten */
    const struct attention_weights *w; /* q_norm and k_norm are read here */
    const struct attention_span *span;
    const float *rope_freq; /* [n_rot / 2], radians per position */
    float rope_scale;       /* multiplies cos and sin (YaRN); 1 */
    float eps;
    int n_span, n_rows, n_head, n_head_kv, d_head, n_rot;
    bool gated; /* out *= sigmoid(gate) */
};

struct delta_net_span {
    int row, n_rows;
    float *conv;  /* [conv_kernel - 1][conv_dim], oldest first: raw qkv rows before the first row; updated */
    float *state; /* [n_v_head][d_k][d_v]; updated; checkpoints copy these bytes */
};
struct delta_net_args { /* causal conv, SiLU, L2 norm, gated delta rule, gated RMS norm */
    float *out;         /* [n_rows][n_v_head * d_v] written */
    float *qkv;         /* [n_rows][conv_dim] overwritten; conv_dim = 2 * n_k_head * d_k + n_v_head * d_v */
    const float *z;     /* [n_rows][n_v_head * d_v] */
    const float *b, *a; /* [n_rows][n_v_head] */
    const struct delta_net_weights *w;
    const struct delta_net_span *span;
    float eps; /* of the gated norm; the L2 norm uses 1e-6 */
    int n_span, n_rows, n_k_head, n_v_head, d_k, d_v, conv_kernel;
    bool v_head_tiled; /* v head h reads key head h % n_k_head (GGUF); else h / (n_v_head / n_k_head) */
};

struct route_args { /* softmax over all experts, top_k largest (ties: lower id), renormalised or not */
    int32_t *ids;   /* [n_rows][top_k] written, ascending expert id within a row */
    float *weights; /* [n_rows][top_k] written */
    float *logits;  /* [n_rows][n_expert] written */
    const float *x; /* [n_rows][d_model] */
    struct qmat router;
    int n_rows, top_k;
    bool renormalise;
};

/* Experts that arrive one after another are computed in parts: calls with the same rows and no other
 * operation in between, whose parts are BEGIN once, HIDDEN and ADD once for each chosen expert, END once. One
 * call may do several parts, in this order. The bits are those of MOE_WHOLE, whatever the calls. */
enum moe_parts {
    MOE_WHOLE = 0,  /* all of them */
    MOE_BEGIN = 1,  /* the sums are 0; the shared expert's hidden values */
    MOE_HIDDEN = 2, /* silu(gate x) * up x of the listed experts, in any order over the calls */
    MOE_ADD = 4,    /* sums += weight * down(hidden) of the listed experts: ids ascend over all calls */
    MOE_END = 8     /* sums += shared expert; h += sums */
};
struct moe_args {   /* h += sum over chosen experts (ascending id) of weight * expert(x), then += shared */
    float *h;       /* [n_rows][d_model] */
    const float *x; /* [n_rows][d_model] */
    const int32_t *ids; /* from route */
    const float *weights;
    const struct moe_weights
        *w; /* types and shapes of all experts; parts read the data of the listed ones only */
    int n_rows, top_k, n_expert;
    int parts; /* of enum moe_parts */
    int n_list;
    const int32_t *list; /* [n_list] host memory, ascending, each chosen by some row; not read by MOE_WHOLE */
};

struct mlp_args { /* h += down(silu(gate x) * up x) */
    float *h;     /* [n_rows][d_model] */
    const float *x;
    const struct mlp_weights *w;
    int n_rows;
};

/* Upper limits of all later calls; reserve() allocates scratch for them. */
struct device_limits {
    int max_rows; /* tokens in one call */
    int max_ctx;  /* positions in one cache */
    int d_model, n_expert, top_k, d_expert, d_ff, d_shared;
    int n_head, n_head_kv, d_head;
    int n_k_head, n_v_head, d_k, d_v, conv_kernel; /* 0: no DeltaNet layers */
    int max_cols;                                  /* the longest row any product reads */
    int max_rows_out;                              /* the most outputs of any product (the vocabulary) */
};

/* Each limit, the larger of a's and b's. */
struct device_limits device_limits_larger(const struct device_limits *a, const struct device_limits *b);

struct device_ops {
    const char *name; /* "ref", "cpu", "cuda" */
    void (*close)(struct device *d);

    /* Memory in the device's home. alloc zeroes. upload/download copy n bytes and wait. */
    int (*alloc)(struct device *d, struct mem *out, size_t bytes, const char *purpose, struct err *e);
    void (*free)(struct device *d, struct mem *m);
    int (*upload)(struct device *d, void *dst, const void *src, size_t n, struct err *e);
    int (*download)(struct device *d, void *dst, const void *src, size_t n, struct err *e);
    void (*clear)(struct device *d, void *dst, size_t n); /* n zero bytes, in order with the operations */
    int (*sync)(struct device *d, struct err *e);
    /* Bytes of one layer's cache of `positions` positions (kv_cache). */
    size_t (*kv_bytes)(enum qtype type, int positions, int n_head_kv, int d_head);
    /* Allocates scratch for these limits (again: for the larger of old and new). */
    int (*reserve)(struct device *d, const struct device_limits *l, struct err *e);

    int (*embed)(struct device *d, const struct embed_args *a, struct err *e);
    int (*norm)(struct device *d, const struct norm_args *a, struct err *e);
    int (*project)(struct device *d, const struct project_args *a, struct err *e);
    int (*attention)(struct device *d, const struct attention_args *a, struct err *e);
    int (*delta_net)(struct device *d, const struct delta_net_args *a, struct err *e);
    int (*route)(struct device *d, const struct route_args *a, struct err *e);
    int (*moe)(struct device *d, const struct moe_args *a, struct err *e);
    int (*mlp)(struct device *d, const struct mlp_args *a, struct err *e);
};

struct device {
    const struct device_ops *ops;
};

/* How formats with QACT_Q8 meet their activations. */
enum act_mode {
    ACT_INT8 = 0, /* as the format table says: int8 blocks of 32, integer products */
    ACT_EXACT     /* f32 activations times the decoded weights, for every format: slower, the exact product */
};

/* Instruction sets the cpu device may use; a mask, for tests and diagnosis. */
enum cpu_isa { CPU_ISA_PLAIN = 0, CPU_ISA_AVX2 = 1, CPU_ISA_AVX512 = 2, CPU_ISA_BEST = 3 };

struct device_ref_options {
    enum act_mode act;
};
struct device_cpu_options {
    enum act_mode act;
    enum cpu_isa
        isa; /* at most this; CPU_ISA_BEST: what the machine has. A set the machine lacks: ERR_DEVICE */
    struct threads *threads; /* borrowed; must outlive the device */
};

/* Each gives *out; ended by (*out)->ops->close(*out). */
int device_ref_open(struct device **out, const struct device_ref_options *opt, struct err *e);
int device_cpu_open(struct device **out, const struct device_cpu_options *opt, struct err *e);
/* What reserve will allocate for these limits with so many threads, and kv_bytes, before there is a device:
 * for plans. */
size_t device_cpu_scratch_bytes(const struct device_limits *l, int threads);
size_t device_cpu_kv_bytes(enum qtype type, int positions, int n_head_kv, int d_head);
/* The best instruction set of this machine, and its name for people ("AVX-512 VNNI BF16"). */
enum cpu_isa device_cpu_isa(void);
const char *device_cpu_isa_name(enum cpu_isa isa);

#endif
