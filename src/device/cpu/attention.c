/*
 * attention.c: norm, rotate, append to the cache, attend causally, gate.
 *
 * The cache of a layer is cut into blocks of 256 positions. A block holds, for each kv head, its keys and
 * then its values, both in panels that vec_tile reads: keys as [position / 16][component][16 positions],
 * values as [component / 16][position][16 components]. Lanes are positions (scores) or components (outputs),
 * so nothing is summed across lanes, and all query heads of a kv head share each decoded key.
 *
 * A query meets each block by itself: scores, their maximum, exp and sum, output. Blocks are merged in
 * ascending order. Whether one thread walks all blocks (prompts) or threads share the blocks and merge after
 * a barrier (few rows, long contexts), the arithmetic is the same, so neither threads nor batches change a
 * bit.
 */
#include <math.h>
#include <string.h>

#include "base/checked.h"
#include "base/half.h"
#include "device/cpu/cpu.h"

enum { KV_BLOCK = 256, TILE_QUERIES = 32, MIN_SLOTS = 64 };

/* One tile's memory: up to `queries` queries of one kv head against one block. */
struct tile_work {
    float *q;                 /* [queries][d] scaled */
    float *score;             /* [queries][KV_BLOCK] */
    float *part;              /* [queries][d] the block's output, not divided by its sum */
    float *out;               /* [queries][d] merged so far */
    float *max, *sum;         /* [queries] of the block */
    float *out_max, *out_sum; /* [queries] merged so far */
    float *turn;              /* [2][n_rot / 2] cos and sin of one position */
};

struct attention_job {
    struct cpu_device *c;
    const struct attention_args *a;
    size_t d;             /* d_head rounded up to whole panels */
    int group, tile_rows; /* query heads per kv head; rows of a span taken together */
    bool split;           /* blocks are tasks */
    int n_task;
};

/* What one task computes: rows of a span against one kv head, in all blocks or one. */
struct attention_task {
    const struct attention_span *span;
    int row, n_rows; /* of the call */
    int head;        /* kv head */
    int first, last; /* blocks [first, last) */
};

static size_t panel_width(int d_head)
{
    return align_up((size_t)d_head, VEC_LANES);
}

static int block_count(int positions)
{
    return (positions + KV_BLOCK - 1) / KV_BLOCK;
}

static size_t element_bytes(enum qtype type)
{
    return type == QTYPE_F32 ? sizeof(float) : sizeof(uint16_t);
}

size_t cpu_kv_bytes(enum qtype type, int positions, int n_head_kv, int d_head)
{
    size_t elements = 2 * KV_BLOCK * panel_width(d_head);
    return (size_t)block_count(positions) * (size_t)n_head_kv * elements * element_bytes(type);
}

static void run_tile(const struct vec_kernels *vec, enum qtype type, const struct vec_tile *t)
{
    if (type == QTYPE_F32)
        vec->tile_f32(t);
    else if (type == QTYPE_F16)
        vec->tile_f16(t);
    else
        vec->tile_bf16(t);
}

static size_t max_queries(const struct device_limits *l)
{
    return l->n_head > TILE_QUERIES ? (size_t)l->n_head : TILE_QUERIES;
}

static void work_carve(struct tile_work *w, const struct device_limits *l, struct arena *a)
{
    size_t n = max_queries(l) * sizeof(float), d = panel_width(l->d_head);
    w->q = arena_take(a, n * d);
    w->score = arena_take(a, n * KV_BLOCK);
    w->part = arena_take(a, n * d);
    w->out = arena_take(a, n * d);
    w->max = arena_take(a, n);
    w->sum = arena_take(a, n);
    w->out_max = arena_take(a, n);
    w->out_sum = arena_take(a, n);
    w->turn = arena_take(a, d * sizeof(float));
}

static struct tile_work work_at(const struct cpu_device *c, int thread)
{
    const struct attention_scratch *s = &c->attention;
    struct arena a = { .base = s->work + (size_t)thread * s->work_bytes, .capacity = s->work_bytes };
    struct tile_work w;
    work_carve(&w, &c->limits, &a);
    return w;
}

void attention_carve(struct cpu_device *c, struct arena *a)
{
    const struct device_limits *l = &c->limits;
    size_t slots = (size_t)block_count(l->max_ctx), result = panel_width(l->d_head) + 2;
    struct arena one = { 0 };
    struct tile_work w;
    work_carve(&w, l, &one);
    c->attention.partial_slots = slots > MIN_SLOTS ? slots : MIN_SLOTS;
    c->attention.partial =
        arena_take(a, c->attention.partial_slots * (size_t)l->n_head * result * sizeof(float));
    c->attention.work_bytes = align_up(one.used, ARENA_ALIGN);
    c->attention.work = arena_take(a, (size_t)c->n_threads * c->attention.work_bytes);
}

/* ---- the cache ---- */

/* Element index of a (block, kv head)'s keys; its values follow KV_BLOCK * d elements later. */
static size_t block_at(const struct attention_job *j, int block, int head)
{
    return ((size_t)block * (size_t)j->a->n_head_kv + (size_t)head) * 2 * KV_BLOCK * j->d;
}

static void kv_put(const struct kv_cache *kv, size_t i, float value)
{
    if (kv->type == QTYPE_F32)
        ((float *)kv->data)[i] = value;
    else
        ((uint16_t *)kv->data)[i] = kv->type == QTYPE_F16 ? f32_to_f16(value) : f32_to_bf16(value);
}

static void kv_append(const struct attention_job *j, const struct kv_cache *kv, int pos, int head,
                      const float *k, const float *v)
{
    size_t d_head = (size_t)j->a->d_head, at = (size_t)pos % KV_BLOCK;
    size_t keys = block_at(j, pos / KV_BLOCK, head), values = keys + KV_BLOCK * j->d;
    size_t key = keys + at / VEC_LANES * d_head * VEC_LANES + at % VEC_LANES;
    for (size_t i = 0; i < d_head; i++)
        kv_put(kv, key + i * VEC_LANES, k[i]);
    for (size_t i = 0; i < d_head; i++)
        kv_put(kv, values + (i / VEC_LANES * KV_BLOCK + at) * VEC_LANES + i % VEC_LANES, v[i]);
}

/* ---- before attending ---- */

/* The angle is an f32 product, as in every implementation of RoPE. */
static void turn_of(const struct attention_args *a, int pos, float *turn)
{
    int half = a->n_rot / 2;
    for (int i = 0; i < half; i++) {
        double angle = (double)((float)pos * a->rope_freq[i]);
        turn[i] = (float)(cos(angle) * a->rope_scale);
        turn[half + i] = (float)(sin(angle) * a->rope_scale);
    }
}

/* Component i turns with component i + n_rot / 2. */
static void norm_and_rotate(const struct attention_job *j, float *x, const float *norm, const float *turn)
{
    const struct attention_args *a = j->a;
    int half = a->n_rot / 2;
    if (norm)
        j->c->vec->rms_norm(x, x, norm, a->d_head, a->eps);
    for (int i = 0; i < half; i++) {
        float u = x[i], v = x[i + half];
        x[i] = u * turn[i] - v * turn[half + i];
        x[i + half] = v * turn[i] + u * turn[half + i];
    }
}

static float *query_at(const struct attention_job *j, int row, int head)
{
    const struct attention_args *a = j->a;
    size_t stride = (size_t)a->d_head * (a->gated ? 2 : 1);
    return a->q + ((size_t)row * (size_t)a->n_head + (size_t)head) * stride;
}

/* Spans cover disjoint rows, in any order. */
static const struct attention_span *span_of(const struct attention_args *a, int row)
{
    const struct attention_span *s = a->span;
    while (row < s->row || row >= s->row + s->n_rows)
        s++;
    return s;
}

/* Units are (row, kv head): its key and value, and the query heads that read it. */
static void prepare(const struct attention_job *j, struct range units, float *turn)
{
    const struct attention_args *a = j->a;
    for (int64_t u = units.begin; u < units.end; u++) {
        int row = (int)(u / a->n_head_kv), head = (int)(u % a->n_head_kv);
        const struct attention_span *s = span_of(a, row);
        int pos = s->pos + row - s->row;
        if (u == units.begin || head == 0)
            turn_of(a, pos, turn);
        float *k = a->k + (size_t)u * (size_t)a->d_head, *v = a->v + (size_t)u * (size_t)a->d_head;
        norm_and_rotate(j, k, a->w->k_norm, turn);
        kv_append(j, &s->kv, pos, head, k, v);
        for (int h = head * j->group; h < (head + 1) * j->group; h++)
            norm_and_rotate(j, query_at(j, row, h), a->w->q_norm, turn);
    }
}

/* ---- one block ---- */

static void gather_queries(const struct attention_job *j, const struct attention_task *t, float *q)
{
    const struct attention_args *a = j->a;
    float scale = 1.0f / sqrtf((float)a->d_head);
    for (int r = 0; r < t->n_rows; r++)
        for (int h = 0; h < j->group; h++, q += j->d) {
            const float *from = query_at(j, t->row + r, t->head * j->group + h);
            for (int i = 0; i < a->d_head; i++)
                q[i] = from[i] * scale;
        }
}

/* How many positions of the block row r of the task sees; 0 or less: none. */
static int seen(const struct attention_task *t, int r, int block)
{
    int n = t->span->pos + t->row + r - t->span->row + 1 - block * KV_BLOCK;
    return n < KV_BLOCK ? n : KV_BLOCK;
}

/* score[queries from row r on][n] = q . keys, n positions of the block. */
static void score_keys(const struct attention_job *j, const struct attention_task *t, const void *keys, int r,
                       int n, const struct tile_work *w)
{
    size_t first = (size_t)(r * j->group);
    struct vec_tile tile = {
        .c = w->score + first * KV_BLOCK,
        .a = w->q + first * j->d,
        .b = keys,
        .c_row = KV_BLOCK,
        .a_row = j->d,
        .b_row = VEC_LANES,
        .b_panel = (size_t)j->a->d_head * VEC_LANES,
        .rows = (t->n_rows - r) * j->group,
        .cols = (int)align_up((size_t)n, VEC_LANES),
        .depth = j->a->d_head,
    };
    run_tile(j->c->vec, t->span->kv.type, &tile);
}

/* part[queries of rows r..r+n_rows) = exp(scores) . values, all rows seeing the same n positions. */
static void weigh_values(const struct attention_job *j, const struct attention_task *t, const void *values,
                         int r, int n_rows, int n, const struct tile_work *w)
{
    size_t first = (size_t)(r * j->group);
    struct vec_tile tile = {
        .c = w->part + first * j->d,
        .a = w->score + first * KV_BLOCK,
        .b = values,
        .c_row = j->d,
        .a_row = KV_BLOCK,
        .b_row = VEC_LANES,
        .b_panel = KV_BLOCK * VEC_LANES,
        .rows = n_rows * j->group,
        .cols = (int)j->d,
        .depth = n,
    };
    run_tile(j->c->vec, t->span->kv.type, &tile);
}

/* Fills part, max and sum of the queries that see something of the block; returns the first such row. */
static int attend_block(const struct attention_job *j, const struct attention_task *t, int block,
                        const struct tile_work *w)
{
    const struct vec_kernels *vec = j->c->vec;
    size_t bytes = element_bytes(t->span->kv.type);
    const char *keys = (const char *)t->span->kv.data + block_at(j, block, t->head) * bytes;
    const char *values = keys + KV_BLOCK * j->d * bytes;
    int first = 0, longest = seen(t, t->n_rows - 1, block);
    while (seen(t, first, block) <= 0)
        first++;
    score_keys(j, t, keys, first, longest, w);
    for (int i = first * j->group; i < t->n_rows * j->group; i++) {
        float *score = w->score + (size_t)i * KV_BLOCK;
        int n = seen(t, i / j->group, block);
        w->max[i] = vec->max(score, n);
        w->sum[i] = vec->exp_sum(score, w->max[i], n);
    }
    if (seen(t, first, block) == longest) {
        weigh_values(j, t, values, first, t->n_rows - first, longest, w);
        return first;
    }
    for (int r = first; r < t->n_rows; r++)
        weigh_values(j, t, values, r, 1, seen(t, r, block), w);
    return first;
}

/* ---- merging blocks ---- */

static void merge_begin(float *out, float *max, float *sum, size_t d)
{
    memset(out, 0, d * sizeof *out);
    *max = -INFINITY;
    *sum = 0;
}

static void merge(const struct vec_kernels *vec, float *out, float *max, float *sum, const float *part,
                  float part_max, float part_sum, size_t d)
{
    float high = part_max > *max ? part_max : *max;
    float keep = expf(*max - high), take = expf(part_max - high);
    vec->scale(out, keep, (int64_t)d);
    vec->axpy(out, take, part, (int64_t)d);
    *sum = *sum * keep + part_sum * take;
    *max = high;
}

/* Divides by the sum, gates, and writes the row's result of one query head. */
static void finish(const struct attention_job *j, int row, int head, const float *merged, float sum)
{
    const struct attention_args *a = j->a;
    size_t d = (size_t)a->d_head;
    float *out = a->out + ((size_t)row * (size_t)a->n_head + (size_t)head) * d;
    memcpy(out, merged, d * sizeof *out);
    j->c->vec->scale(out, 1.0f / sum, a->d_head);
    if (a->gated)
        j->c->vec->sigmoid_mul(out, query_at(j, row, head) + d, a->d_head);
}

/* ---- tasks ---- */

/* Blocks that rows up to `last` of the span see. */
static int blocks_seen(const struct attention_span *s, int last)
{
    return block_count(s->pos + last - s->row + 1);
}

/* Task number `index`; tiles of each span in turn, for each all kv heads, for each (when split) all blocks.
 * With index < 0 counts the tasks instead. */
static int find_task(const struct attention_job *j, int index, struct attention_task *t)
{
    const struct attention_args *a = j->a;
    int count = 0;
    for (int i = 0; i < a->n_span; i++) {
        const struct attention_span *s = &a->span[i];
        for (int row = s->row; row < s->row + s->n_rows; row += j->tile_rows) {
            int left = s->row + s->n_rows - row, n_rows = left < j->tile_rows ? left : j->tile_rows;
            int n_block = blocks_seen(s, row + n_rows - 1), pieces = j->split ? n_block : 1;
            int at = index - count;
            count += pieces * a->n_head_kv;
            if (index < 0 || index >= count)
                continue;
            int first = j->split ? at % pieces : 0;
            *t =
                (struct attention_task){ s, row, n_rows, at / pieces, first, j->split ? first + 1 : n_block };
            return count;
        }
    }
    return count;
}

/* (row, block) pairs of the rows before `row`. */
static size_t slots_before(const struct attention_args *a, int row)
{
    size_t n = 0;
    for (int i = 0; i < row; i++)
        n += (size_t)blocks_seen(span_of(a, i), i);
    return n;
}

/* Where (slot, head)'s output [d], maximum and sum lie. */
static float *partial_at(const struct attention_job *j, size_t slot, int head)
{
    return j->c->attention.partial + (slot * (size_t)j->a->n_head + (size_t)head) * (j->d + 2);
}

static void keep_partials(const struct attention_job *j, const struct attention_task *t, int first_row,
                          const struct tile_work *w)
{
    for (int r = first_row; r < t->n_rows; r++) {
        size_t slot = slots_before(j->a, t->row + r) + (size_t)t->first;
        for (int h = 0; h < j->group; h++) {
            size_t i = (size_t)(r * j->group + h);
            float *p = partial_at(j, slot, t->head * j->group + h);
            memcpy(p, w->part + i * j->d, j->d * sizeof *p);
            p[j->d] = w->max[i];
            p[j->d + 1] = w->sum[i];
        }
    }
}

static void run_task(const struct attention_job *j, const struct attention_task *t, const struct tile_work *w)
{
    int n = t->n_rows * j->group;
    gather_queries(j, t, w->q);
    if (j->split) {
        keep_partials(j, t, attend_block(j, t, t->first, w), w);
        return;
    }
    for (int i = 0; i < n; i++)
        merge_begin(w->out + (size_t)i * j->d, &w->out_max[i], &w->out_sum[i], j->d);
    for (int b = t->first; b < t->last; b++)
        for (int i = attend_block(j, t, b, w) * j->group; i < n; i++)
            merge(j->c->vec, w->out + (size_t)i * j->d, &w->out_max[i], &w->out_sum[i],
                  w->part + (size_t)i * j->d, w->max[i], w->sum[i], j->d);
    for (int i = 0; i < n; i++)
        finish(j, t->row + i / j->group, t->head * j->group + i % j->group, w->out + (size_t)i * j->d,
               w->out_sum[i]);
}

/* Split: merges the blocks of units (row, query head). */
static void merge_rows(const struct attention_job *j, struct range units, const struct tile_work *w)
{
    for (int64_t u = units.begin; u < units.end; u++) {
        int row = (int)(u / j->a->n_head), head = (int)(u % j->a->n_head);
        size_t slot = slots_before(j->a, row), n = (size_t)blocks_seen(span_of(j->a, row), row);
        merge_begin(w->out, w->out_max, w->out_sum, j->d);
        for (size_t b = 0; b < n; b++) {
            const float *p = partial_at(j, slot + b, head);
            merge(j->c->vec, w->out, w->out_max, w->out_sum, p, p[j->d], p[j->d + 1], j->d);
        }
        finish(j, row, head, w->out, *w->out_sum);
    }
}

static void attention_run(void *arg, struct threads *t, int thread)
{
    const struct attention_job *j = arg;
    const struct attention_args *a = j->a;
    struct tile_work w = work_at(j->c, thread);
    prepare(j, threads_share(t, thread, (int64_t)a->n_rows * a->n_head_kv, 1), w.turn);
    threads_barrier(t);
    struct attention_task task;
    for (int64_t i; (i = threads_next(t)) < j->n_task;) {
        find_task(j, j->n_task - 1 - (int)i, &task); /* the last tiles see the most */
        run_task(j, &task, &w);
    }
    if (!j->split)
        return;
    threads_barrier(t);
    merge_rows(j, threads_share(t, thread, (int64_t)a->n_rows * a->n_head, 1), &w);
}

int cpu_attention(struct device *d, const struct attention_args *a, struct err *e)
{
    (void)e;
    struct cpu_device *c = (struct cpu_device *)d;
    if (a->n_span == 0 || a->n_rows == 0)
        return 0;
    struct attention_job j = {
        .c = c, .a = a, .d = panel_width(a->d_head), .group = a->n_head / a->n_head_kv
    };
    j.tile_rows = j.group < TILE_QUERIES ? TILE_QUERIES / j.group : 1;
    j.n_task = find_task(&j, -1, NULL);
    int enough = 4 * c->n_threads;
    if (j.n_task < enough && slots_before(a, a->n_rows) <= c->attention.partial_slots) {
        j.split = true;
        j.n_task = find_task(&j, -1, NULL);
    }
    threads_run(c->threads, attention_run, &j);
    return 0;
}
