/* ref.c: the reference device itself: opening, memory, scratch. The operations are in the files beside it. */
#include "device/ref/ref.h"

#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "quant/act.h"

static int ref_alloc(struct device *d, struct mem *out, size_t bytes, const char *purpose, struct err *e)
{
    (void)d;
    return mem_ram(out, bytes, purpose, e);
}

static void ref_free(struct device *d, struct mem *m)
{
    (void)d;
    mem_free(m);
}

static int ref_copy(struct device *d, void *dst, const void *src, size_t n, struct err *e)
{
    (void)d, (void)e;
    if (n)
        memcpy(dst, src, n);
    return 0;
}

static void ref_clear(struct device *d, void *dst, size_t n)
{
    (void)d;
    memset(dst, 0, n);
}

static int ref_sync(struct device *d, struct err *e)
{
    (void)d, (void)e;
    return 0;
}

static int max_int(int a, int b)
{
    return a > b ? a : b;
}

static void ref_carve(struct ref_device *r, struct arena *a)
{
    const struct device_limits *l = &r->limits;
    size_t cols = (size_t)max_int(l->max_cols, l->d_model);
    size_t wide = (size_t)max_int(max_int(l->d_expert, l->d_ff), l->d_shared);
    size_t head = (size_t)max_int(l->d_head, max_int(l->d_k, l->d_v));
    if (cols < wide)
        cols = wide;
    cols = (cols + Q8_BLOCK - 1) / Q8_BLOCK * Q8_BLOCK;
    r->row = arena_take(a, cols * sizeof *r->row);
    r->acts = arena_take(a, (size_t)l->max_rows * cols * sizeof *r->acts);
    r->q8 = arena_take(a, q8_row_bytes((int64_t)cols));
    r->hidden = arena_take(a, wide * sizeof *r->hidden);
    r->wide = arena_take(a, 2 * wide * sizeof *r->wide);
    r->narrow = arena_take(a, (size_t)l->d_model * sizeof *r->narrow);
    r->sum = arena_take(a, (size_t)l->max_rows * (size_t)l->d_model * sizeof *r->sum);
    r->chosen =
        arena_take(a, (size_t)l->max_rows * (size_t)l->top_k * (size_t)l->d_expert * sizeof *r->chosen);
    r->scores = arena_take(a, (size_t)l->max_ctx * sizeof *r->scores);
    r->heads = arena_take(a, 4 * head * sizeof *r->heads);
}

static int ref_reserve(struct device *d, const struct device_limits *l, struct err *e)
{
    struct ref_device *r = (struct ref_device *)d;
    struct device_limits before = r->limits;
    r->limits = device_limits_larger(&before, l);
    struct arena a = { 0 };
    ref_carve(r, &a);
    struct mem block;
    int rc = mem_ram(&block, a.used, "scratch memory", e);
    if (rc < 0) {
        r->limits = before;
    } else {
        mem_free(&r->scratch);
        r->scratch = block;
    }
    a = (struct arena){ .base = r->scratch.ptr, .capacity = r->scratch.bytes };
    ref_carve(r, &a);
    return rc;
}

static void ref_close(struct device *d)
{
    struct ref_device *r = (struct ref_device *)d;
    if (!r)
        return;
    mem_free(&r->scratch);
    free(r);
}

static const struct device_ops ref_ops = {
    .name = "ref",
    .close = ref_close,
    .alloc = ref_alloc,
    .free = ref_free,
    .upload = ref_copy,
    .download = ref_copy,
    .clear = ref_clear,
    .sync = ref_sync,
    .kv_bytes = ref_kv_bytes,
    .reserve = ref_reserve,
    .embed = ref_embed,
    .norm = ref_norm,
    .project = ref_project,
    .attention = ref_attention,
    .delta_net = ref_delta_net,
    .route = ref_route,
    .moe = ref_moe,
    .mlp = ref_mlp,
};

int device_ref_open(struct device **out, const struct device_ref_options *opt, struct err *e)
{
    struct ref_device *r = calloc(1, sizeof *r);
    if (!r)
        return err_set(e, ERR_MEMORY, "no memory for the reference device");
    r->base.ops = &ref_ops;
    r->act = opt->act;
    *out = &r->base;
    return 0;
}
