/* matmul.c: see matmul.h. */
#include "device/cpu/matmul.h"

#include <stdalign.h>
#include <string.h>

#include "base/checked.h"
#include "quant/act.h"

struct matmul matmul_plan(const struct cpu_device *c, const struct qmat *w)
{
    enum qact act = c->act == ACT_EXACT ? QACT_F32 : qtype_info(w->type)->act;
    const struct dot_kernel *k = dot_pick(w->type, act, c->isa);
    if (k)
        return (struct matmul){ .w = w, .run = k->run, .form = act == QACT_Q8 ? ACT_Q8 : ACT_F32 };
    k = dot_pick(QTYPE_F32, QACT_F32, c->isa);
    return (struct matmul){
        .w = w, .run = k->run, .form = act == QACT_Q8 ? ACT_ROUNDED : ACT_F32, .decoded = true
    };
}

struct qmat matmul_panel(const struct cpu_device *c, const struct matmul *m, int thread, int slot,
                         int64_t row, int n_rows)
{
    if (!m->decoded)
        return qmat_rows(m->w, row, n_rows);
    float *to = c->matmul.panel + (size_t)thread * c->matmul.panel_floats +
                (size_t)slot * PANEL_ROWS * (size_t)m->w->cols;
    qmat_decode(m->w, row, n_rows, to);
    return (struct qmat){ .type = QTYPE_F32, .rows = n_rows, .cols = m->w->cols, .data = to };
}

struct matmul_acts matmul_acts_of(const struct cpu_device *c, const float *x, size_t x_stride, int64_t cols)
{
    return (struct matmul_acts){
        .x = x, .x_stride = x_stride, .cols = cols, .q8 = c->matmul.act, .rounded = c->matmul.act_rounded
    };
}

void matmul_acts_need(struct matmul_acts *a, const struct matmul *m)
{
    a->need_q8 |= m->form != ACT_F32;
    a->need_rounded |= m->form == ACT_ROUNDED;
}

static void round_back(float *out, const void *row, int64_t n)
{
    struct q8_row q = q8_row_at(row, n);
    for (int64_t i = 0; i < n; i++)
        out[i] = q.d[i / Q8_BLOCK] * (float)q.q[i];
}

void matmul_acts_fill(const struct cpu_device *c, const struct matmul_acts *a, int64_t begin, int64_t end)
{
    for (int64_t r = begin; r < end && a->need_q8; r++) {
        char *row = a->q8 + (size_t)r * q8_row_bytes(a->cols);
        c->vec->q8_quantize(row, a->x + (size_t)r * a->x_stride, a->cols);
        if (a->need_rounded)
            round_back(a->rounded + r * a->cols, row, a->cols);
    }
}

const void *matmul_acts_row(const struct matmul_acts *a, enum act_form form, int64_t row)
{
    switch (form) {
    case ACT_Q8:
        return a->q8 + (size_t)row * q8_row_bytes(a->cols);
    case ACT_ROUNDED:
        return a->rounded + row * a->cols;
    default:
        return a->x + (size_t)row * a->x_stride;
    }
}

/* Where a part of a q8_row lies in memory that may be written. */
static void *writable(void *row, const void *part)
{
    return (char *)row + ((const char *)part - (const char *)row);
}

void matmul_store_block(const struct cpu_device *c, enum act_form form, void *row, int64_t n, int64_t i,
                        const float *v, int n_v)
{
    if (form == ACT_F32) {
        memcpy((float *)row + i, v, (size_t)n_v * sizeof *v);
        return;
    }
    alignas(64) char block[3 * 64]; /* q8_row_bytes(32) */
    c->vec->q8_quantize(block, v, Q8_BLOCK);
    if (form == ACT_ROUNDED) {
        round_back((float *)row + i, block, Q8_BLOCK);
        return;
    }
    struct q8_row from = q8_row_at(block, Q8_BLOCK), to = q8_row_at(row, n);
    memcpy(writable(row, to.q + i), from.q, Q8_BLOCK);
    memcpy(writable(row, to.d + i / Q8_BLOCK), from.d, sizeof *from.d);
    memcpy(writable(row, to.sum + i / Q8_BLOCK), from.sum, sizeof *from.sum);
}

size_t matmul_row_bytes(int64_t cols)
{
    int64_t blocks = (int64_t)align_up((uint64_t)cols, Q8_BLOCK);
    size_t f32 = align_up((size_t)cols * sizeof(float), ARENA_ALIGN), q8 = q8_row_bytes(blocks);
    return f32 > q8 ? f32 : q8;
}

struct byte_share byte_share_of(const struct threads *t, int thread, int64_t total_bytes)
{
    int64_t n = threads_count(t), piece = total_bytes / n, rest = total_bytes % n;
    return (struct byte_share){ .begin = piece * thread + rest * thread / n,
                                .end = piece * (thread + 1) + rest * (thread + 1) / n };
}

/* The first row, in steps, that begins at or after byte position at. */
static int64_t row_at(int64_t at, int64_t n_rows, int64_t row_bytes, int step)
{
    if (at <= 0)
        return 0;
    int64_t row = (at + row_bytes - 1) / row_bytes;
    row = (row + step - 1) / step * step;
    return row < n_rows ? row : n_rows;
}

struct range byte_share_rows(struct byte_share *s, int64_t n_rows, int64_t row_bytes, int step)
{
    struct range r = { row_at(s->begin - s->at, n_rows, row_bytes, step),
                       row_at(s->end - s->at, n_rows, row_bytes, step) };
    s->at += n_rows * row_bytes;
    return r;
}

static int larger(int a, int b)
{
    return a > b ? a : b;
}

void matmul_carve(struct cpu_device *c, struct arena *a)
{
    const struct device_limits *l = &c->limits;
    struct matmul_scratch *s = &c->matmul;
    size_t rows = (size_t)l->max_rows, top_k = (size_t)l->top_k;
    size_t cols = align_up(
        (size_t)larger(l->max_cols, larger(larger(l->d_model, l->d_ff), larger(l->d_expert, l->d_shared))),
        Q8_BLOCK);
    s->act = arena_take(a, rows * q8_row_bytes((int64_t)cols));
    s->act_rounded = arena_take(a, rows * cols * sizeof *s->act_rounded);
    s->panel_floats = cols > 2 * (size_t)l->d_model ? PANEL_ROWS * cols : 2 * PANEL_ROWS * (size_t)l->d_model;
    s->panel = arena_take(a, (size_t)c->n_threads * s->panel_floats * sizeof *s->panel);

    size_t moe = rows * top_k * matmul_row_bytes(l->d_expert) + rows * matmul_row_bytes(l->d_shared);
    size_t mlp = rows * matmul_row_bytes(l->d_ff);
    s->hidden = arena_take(a, moe > mlp ? moe : mlp);
    s->sum = arena_take(a, rows * (size_t)l->d_model * sizeof *s->sum);
    s->shared_scale = arena_take(a, rows * sizeof *s->shared_scale);
    s->order = arena_take(a, rows * top_k * sizeof *s->order);
    s->first = arena_take(a, ((size_t)l->n_expert + 1) * sizeof *s->first);
    s->group = arena_take(a, moe_group_bytes(l->n_expert));
}
