/*
 * check_attention.c: attention of every cpu device against ref: several sessions, prompts in pieces and
 * single tokens, every cache type; and that neither threads nor the cutting into calls change a bit.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "support/check.h"

enum { MAX_CTX = 1400, MAX_SPAN = 3 };

/* One layer and what its sessions are fed with, the same for every device. */
struct layer {
    int n_head, n_head_kv, d_head, n_rot;
    bool gated;
    enum qtype type;
    struct attention_weights w;
    const float *freq;
    int n_session, length[MAX_SPAN];                      /* positions of each session */
    const float *q[MAX_SPAN], *k[MAX_SPAN], *v[MAX_SPAN]; /* [length] rows of each session */
};

static size_t q_row(const struct layer *l)
{
    return (size_t)l->n_head * (size_t)l->d_head * (l->gated ? 2 : 1);
}

static size_t kv_row(const struct layer *l)
{
    return (size_t)l->n_head_kv * (size_t)l->d_head;
}

static size_t out_row(const struct layer *l)
{
    return (size_t)l->n_head * (size_t)l->d_head;
}

static struct layer draw_layer(struct check *c, enum qtype type, bool exact_keys, int max_length)
{
    static const int heads[][2] = { { 1, 1 },  { 2, 1 },  { 4, 2 }, { 8, 8 },
                                    { 16, 1 }, { 28, 4 }, { 6, 2 }, { 40, 1 } };
    static const int width[] = { 64, 128, 256, 8, 16, 24, 80, 10 };
    struct layer l = { .type = type, .gated = check_int(c, 0, 1) };
    int h = check_int(c, 0, 7);
    l.n_head = heads[h][0], l.n_head_kv = heads[h][1], l.d_head = width[check_int(c, 0, 7)];
    l.n_rot = exact_keys ? 0 : check_int(c, 0, 1) ? l.d_head : l.d_head / 4 * 2;
    float *freq = check_alloc(c, (size_t)l.n_rot / 2 * sizeof *freq, 4);
    for (int i = 0; i < l.n_rot / 2; i++)
        freq[i] = powf(10000, -2 * (float)i / (float)l.n_rot);
    l.freq = freq;
    if (!exact_keys && check_int(c, 0, 2)) {
        l.w.q_norm = check_floats_in(c, (size_t)l.d_head, 0.5f, 1.5f);
        l.w.k_norm = check_floats_in(c, (size_t)l.d_head, 0.5f, 1.5f);
    }
    l.n_session = check_int(c, 1, MAX_SPAN);
    for (int i = 0; i < l.n_session; i++) {
        size_t n = (size_t)(l.length[i] = check_count(c, max_length));
        l.q[i] = check_floats(c, n * q_row(&l));
        l.k[i] = check_floats(c, n * kv_row(&l));
        l.v[i] = check_floats(c, n * kv_row(&l));
    }
    return l;
}

/* How sessions' rows are cut into calls. */
enum cut { CUT_WHOLE, CUT_SINGLE, CUT_RANDOM };

static void copy_rows(float *to, const float *from, size_t row, size_t begin, size_t n, size_t at)
{
    memcpy(to + at * row, from + begin * row, n * row * sizeof *to);
}

/* As a snapshot does: the beginning of the cache goes to another one, here of another capacity. */
static void move_cache(struct check *c, struct device *dev, const struct layer *l, struct kv_cache *kv,
                       int used)
{
    int capacity = kv->capacity + check_int(c, 0, 300);
    size_t bytes = dev->ops->kv_bytes(l->type, capacity, l->n_head_kv, l->d_head);
    void *to = check_alloc(c, bytes, 4);
    memset(to, 0xff, bytes);
    memcpy(to, kv->data, dev->ops->kv_bytes(l->type, used, l->n_head_kv, l->d_head));
    *kv = (struct kv_cache){ l->type, to, capacity };
}

/* Feeds all sessions to the device, some rows of each in every call; out[i] are the results of session i. */
static void feed(struct check *c, struct device *dev, const struct layer *l, enum cut cut, float *const *out)
{
    struct err e = { 0 };
    struct kv_cache kv[MAX_SPAN];
    int done[MAX_SPAN] = { 0 }, total = 0;
    for (int i = 0; i < l->n_session; i++) {
        size_t bytes = dev->ops->kv_bytes(l->type, l->length[i], l->n_head_kv, l->d_head);
        kv[i] = (struct kv_cache){ l->type, check_alloc(c, bytes, 4), l->length[i] };
        memset(kv[i].data, 0xff, bytes); /* NaN: what was never appended must not matter */
        total += l->length[i];
    }
    float *q = check_out(c, (size_t)total * q_row(l)), *k = check_out(c, (size_t)total * kv_row(l));
    float *v = check_out(c, (size_t)total * kv_row(l)), *y = check_out(c, (size_t)total * out_row(l));
    for (int left = total; left > 0;) {
        struct attention_span span[MAX_SPAN];
        int n_span = 0, rows = 0;
        for (int i = 0; i < l->n_session; i++) {
            int rest = l->length[i] - done[i], n = cut == CUT_WHOLE    ? rest
                                                   : cut == CUT_SINGLE ? 1
                                                                       : check_int(c, 0, 70);
            n = n < rest ? n : rest;
            if (n == 0)
                continue;
            span[n_span++] = (struct attention_span){ rows, n, done[i], kv[i] };
            copy_rows(q, l->q[i], q_row(l), (size_t)done[i], (size_t)n, (size_t)rows);
            copy_rows(k, l->k[i], kv_row(l), (size_t)done[i], (size_t)n, (size_t)rows);
            copy_rows(v, l->v[i], kv_row(l), (size_t)done[i], (size_t)n, (size_t)rows);
            rows += n;
        }
        struct attention_args a = { y,        q,       k,      v,    &l->w,     span,         l->freq,
                                    1,        1e-6f,   n_span, rows, l->n_head, l->n_head_kv, l->d_head,
                                    l->n_rot, l->gated };
        if (!check_ok(c, dev->ops->attention(dev, &a, &e), &e))
            return;
        for (int s = 0, i = 0; i < l->n_session && s < n_span; i++) {
            if (span[s].kv.data != kv[i].data)
                continue;
            copy_rows(out[i] + (size_t)done[i] * out_row(l), y, out_row(l), (size_t)span[s].row,
                      (size_t)span[s].n_rows, 0);
            done[i] += span[s++].n_rows;
        }
        left -= rows;
        int moved = check_int(c, 0, 3 * l->n_session);
        if (cut == CUT_RANDOM && moved < l->n_session)
            move_cache(c, dev, l, &kv[moved], done[moved]);
    }
}

static void new_outputs(struct check *c, const struct layer *l, float **out)
{
    for (int i = 0; i < l->n_session; i++)
        out[i] = check_out(c, (size_t)l->length[i] * out_row(l));
}

/* An output is a mean of values weighted by exp(scores). In f32 everything together stays within 1e-5 of the
 * values' size. A 16-bit cache can round a normed or rotated key component the other way, one unit in the
 * last place: that moves a score by ulp * |q_i k_i| / sqrt(d), and an output by at most twice that times the
 * largest value. */
static double bound_of(const struct layer *l, bool exact_keys)
{
    double value = 0, q = 4, k = 4, ulp = l->type == QTYPE_F16 ? 0x1p-10 : 0x1p-7;
    for (int i = 0; i < l->n_session; i++) {
        value = fmax(value, check_max(l->v[i], (size_t)l->length[i] * kv_row(l)));
        q = fmax(q, check_max(l->q[i], (size_t)l->length[i] * q_row(l)));
        k = fmax(k, check_max(l->k[i], (size_t)l->length[i] * kv_row(l)));
    }
    double flip = exact_keys || l->type == QTYPE_F32 ? 0 : 2 * ulp * 1.5 * q * 1.5 * k / sqrt(l->d_head);
    return value * (1e-5 + flip);
}

static void check_layer(struct check *c, struct device *ref, const struct check_cpu *cpu, int n_cpu,
                        const struct layer *l, bool exact_keys)
{
    float *want[MAX_SPAN], *first[MAX_SPAN] = { NULL }, *got[MAX_SPAN];
    new_outputs(c, l, want);
    feed(c, ref, l, CUT_RANDOM, want);
    double bound = bound_of(l, exact_keys);
    for (int i = 0; i < n_cpu; i++) {
        new_outputs(c, l, got);
        feed(c, cpu[i].dev, l, (enum cut)(i % 3), got);
        for (int s = 0; s < l->n_session; s++) {
            size_t n = (size_t)l->length[s] * out_row(l);
            if (i % 3 == 0)
                first[s] = got[s];
            check_close(c, cpu[i].name, want[s], got[s], n, bound);
            check_same(c, "other threads, other calls", first[s], got[s], n * sizeof(float));
        }
    }
}

struct timed {
    struct device *dev;
    struct attention_args a;
};

static void run_timed(void *arg)
{
    struct timed *t = arg;
    t->dev->ops->attention(t->dev, &t->a, NULL);
}

/* 397B's heads: one row at position 4095, and 256 rows from position 0. */
static void bench(struct check *c, const struct check_cpu *cpu)
{
    enum { HEADS = 32, KV = 2, D = 256, CTX = 4096, ROWS = 256 };
    char name[96];
    struct attention_weights w = { 0 };
    float *q = check_floats(c, ROWS * HEADS * D * 2), *k = check_floats(c, ROWS * KV * D);
    float *v = check_floats(c, ROWS * KV * D), *y = check_out(c, ROWS * HEADS * D), freq[32] = { 1 };
    size_t bytes = cpu->dev->ops->kv_bytes(QTYPE_F16, CTX, KV, D);
    struct kv_cache kv = { QTYPE_F16, check_alloc(c, bytes, 4), CTX };
    memset(kv.data, 0, bytes);
    for (int i = 0; i < 2; i++) {
        struct attention_span span = { 0, i ? ROWS : 1, i ? 0 : CTX - 1, kv };
        struct timed t = {
            cpu->dev, { y, q, k, v, &w, &span, freq, 1, 1e-6f, 1, span.n_rows, HEADS, KV, D, 64, true }
        };
        snprintf(name, sizeof name, "%s, %d row(s) at %d", cpu->name, span.n_rows, span.pos);
        check_time(c, name, run_timed, &t, i ? 0 : (double)bytes);
    }
}

int main(int argc, char **argv)
{
    static struct check c;
    struct check_cpu cpu[CHECK_CPU_MAX];
    struct device_limits limits = {
        .max_rows = 3 * MAX_CTX, .max_ctx = 4096, .n_head = 40, .n_head_kv = 8, .d_head = 256
    };
    static const enum qtype type[] = { QTYPE_F32, QTYPE_F16, QTYPE_BF16 };
    check_begin(&c, argc, argv);
    struct device *ref = check_ref(&c, ACT_INT8, &limits);
    int n_cpu = check_cpus(&c, cpu, ACT_INT8, &limits);
    for (int i = 0; i < 24; i++) {
        enum qtype t = type[i % 3];
        bool exact_keys = t != QTYPE_F32 && i % 2;
        if (!check_case(&c, "attention %s%s %d", qtype_info(t)->name, exact_keys ? " exact keys" : "", i))
            continue;
        struct layer l = draw_layer(&c, t, exact_keys, i < 20 ? 80 : 600);
        check_layer(&c, ref, cpu, n_cpu, &l, exact_keys);
        check_done(&c);
    }
    for (int i = 0; i < n_cpu && c.bench; i++)
        if (check_case(&c, "attention bench %s", cpu[i].name)) {
            bench(&c, &cpu[i]);
            check_done(&c);
        }
    check_cpus_close(cpu, n_cpu);
    ref->ops->close(ref);
    return check_end(&c);
}
