/*
 * cpu.h: what the files of the cpu device share. One job per operation: the caller's thread and the pool's
 * workers run the same function, split by rows, heads or blocks of weights; nothing is allocated after
 * reserve().
 */
#ifndef TONNE_DEVICE_CPU_CPU_H
#define TONNE_DEVICE_CPU_CPU_H

#include "base/arena.h"
#include "base/threads.h"
#include "device/cpu/dot.h"
#include "device/cpu/vec.h"
#include "device/device.h"

struct matmul_scratch {  /* matmul.c, moe.c */
    char *act;           /* activations of the call as int8: max_rows rows of q8_row_bytes(max_cols) */
    float *act_rounded;  /* the same as f32 [max_rows][max_cols], where no integer kernel is there */
    float *panel;        /* per thread: decoded weight rows for formats without a kernel */
    size_t panel_floats; /* per thread */
    char *hidden;      /* silu(gate x) * up x of all rows and experts, in the form their down matrices read */
    float *sum;        /* [max_rows][d_model] the experts' sum */
    bool sum_is_empty; /* nothing was added since MOE_BEGIN: sum is not even zero yet */
    float *shared_scale;     /* [max_rows] sigmoid(shared_gate . x) */
    int *order;              /* (row, slot) pairs sorted by expert: [max_rows * top_k] */
    int *first;              /* [n_expert + 1]: where each expert's pairs begin in order */
    struct mlp_group *group; /* [n_expert + 1]: the experts that have rows, then the shared one */
};

struct attention_scratch { /* attention.c */
    float *partial;        /* results of blocks of positions: [partial_slots][n_head][output, max, sum] */
    size_t partial_slots;  /* (row, block) pairs */
    char *work;            /* per thread: queries, scores and outputs of a tile */
    size_t work_bytes;     /* per thread */
};

enum { CPU_MAX_TAPS = 16 }; /* the longest convolution of DeltaNet layers; reserve refuses more */

struct delta_net_scratch { /* delta_net.c */
    char *work;            /* per thread: the matrices of one chunk of 64 */
    size_t work_bytes;     /* per thread */
};

struct cpu_device {
    struct device base; /* first */
    enum act_mode act;
    enum cpu_isa isa;
    struct threads *threads; /* borrowed */
    int n_threads;
    const struct vec_kernels *vec;
    struct device_limits limits;
    struct mem scratch;
    struct matmul_scratch matmul;
    struct attention_scratch attention;
    struct delta_net_scratch delta_net;
};

/* Each file takes its own scratch; walked twice (arena.h). */
void matmul_carve(struct cpu_device *c, struct arena *a);
size_t moe_group_bytes(int n_expert); /* of matmul_scratch.group */
void attention_carve(struct cpu_device *c, struct arena *a);
void delta_net_carve(struct cpu_device *c, struct arena *a);

size_t cpu_kv_bytes(enum qtype type, int positions, int n_head_kv, int d_head);

int cpu_embed(struct device *d, const struct embed_args *a, struct err *e);
int cpu_norm(struct device *d, const struct norm_args *a, struct err *e);
int cpu_project(struct device *d, const struct project_args *a, struct err *e);
int cpu_attention(struct device *d, const struct attention_args *a, struct err *e);
int cpu_delta_net(struct device *d, const struct delta_net_args *a, struct err *e);
int cpu_route(struct device *d, const struct route_args *a, struct err *e);
int cpu_moe(struct device *d, const struct moe_args *a, struct err *e);
int cpu_mlp(struct device *d, const struct mlp_args *a, struct err *e);

#endif
