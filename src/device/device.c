/* device.c: what every implementation of device.h does alike. */
#include "device/device.h"

static int larger(int a, int b)
{
    return a > b ? a : b;
}

struct device_limits device_limits_larger(const struct device_limits *a, const struct device_limits *b)
{
    return (struct device_limits){
        .max_rows = larger(a->max_rows, b->max_rows),
        .max_ctx = larger(a->max_ctx, b->max_ctx),
        .d_model = larger(a->d_model, b->d_model),
        .n_expert = larger(a->n_expert, b->n_expert),
        .top_k = larger(a->top_k, b->top_k),
        .d_expert = larger(a->d_expert, b->d_expert),
        .d_ff = larger(a->d_ff, b->d_ff),
        .d_shared = larger(a->d_shared, b->d_shared),
        .n_head = larger(a->n_head, b->n_head),
        .n_head_kv = larger(a->n_head_kv, b->n_head_kv),
        .d_head = larger(a->d_head, b->d_head),
        .n_k_head = larger(a->n_k_head, b->n_k_head),
        .n_v_head = larger(a->n_v_head, b->n_v_head),
        .d_k = larger(a->d_k, b->d_k),
        .d_v = larger(a->d_v, b->d_v),
        .conv_kernel = larger(a->conv_kernel, b->conv_kernel),
        .max_cols = larger(a->max_cols, b->max_cols),
        .max_rows_out = larger(a->max_rows_out, b->max_rows_out),
    };
}
