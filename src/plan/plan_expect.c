/*
 * plan_expect.c: how fast a plan will run, from what the machine was measured to do: bytes over bandwidth,
 * products over arithmetic rate, and the share of either that the kernels reach.
 */
#include "plan/plan_private.h"

/* Shares of doctor's rates that whole passes reach, measured on 2 cores with AVX-512, one thread: generation
 * with q8_0 (97 % of what these constants say), prompts of 3,400 tokens with q8_0, q4_k_m and bf16. The
 * machine was not idle. */
static const double ram_share = 0.80;   /* of the read bandwidth: one row times all weights */
static const double drive_share = 0.90; /* of direct reads at the best depth; not measured yet */
struct arithmetic_share {
    double int8, f32; /* of the rates of each kind of product */
};
static const struct arithmetic_share prefill_share = { 0.22, 0.45 };
/* One row leaves unpacking with nothing to share it. A guess: RAM limited every run so far. */
static const struct arithmetic_share decode_share = { 0.25, 0.25 };
static const double layer_seconds = 20e-6; /* starting and ending the jobs of one layer */
enum { TYPICAL_POSITION = 1024 };          /* the KV cache that a generated token reads */

struct work {                         /* of one token, MTP not counted */
    double dense_bytes, expert_bytes; /* expert_bytes: of its top_k experts in every layer */
    double int8, f32;                 /* multiply-adds by kind of product */
};

static struct work work_of(const struct plan *p)
{
    const struct shape *s = &p->model->shape;
    double share = s->n_expert ? (double)s->top_k / s->n_expert : 0;
    struct work w = { 0 };
    for (int i = 0; i < p->n_item; i++) {
        const struct plan_item *it = &p->item[i];
        if (it->group == PLAN_MTP || (it->role == ROLE_EMBED && !s->tied))
            continue; /* of the embedding a token reads one row */
        double part = i < p->n_dense ? 1 : share;
        double macs = part * (double)it->src.rows * (double)it->src.cols;
        *(i < p->n_dense ? &w.dense_bytes : &w.expert_bytes) +=
            part * (double)(it->data_bytes + it->scale_bytes);
        *(qtype_info(it->target)->act == QACT_Q8 ? &w.int8 : &w.f32) += macs;
    }
    return w;
}

static int moe_layers(const struct shape *s)
{
    int n = 0;
    for (int i = 0; i < s->n_layer; i++)
        n += s->moe[i];
    return n;
}

double plan_hit_rate(double share)
{
    static const struct {
        double share, hits;
    } point[] = { { 0, 0 }, { 0.06, 0.59 }, { 0.12, 0.67 }, { 0.25, 0.80 }, { 0.50, 0.92 }, { 1, 1 } };
    int i = 1;
    if (!(share > 0))
        return 0;
    if (share >= 1)
        return 1;
    while (share > point[i].share)
        i++;
    double t = (share - point[i - 1].share) / (point[i].share - point[i - 1].share);
    return point[i - 1].hits + t * (point[i].hits - point[i - 1].hits);
}

/* Bytes per second of RAM with the plan's threads; 0: unknown. */
static double ram_rate(const struct plan *p)
{
    int n = p->machine.n_ram_gbs;
    if (n <= 0)
        return 0;
    return 1e9 * p->machine.ram_gbs[(p->opt.threads < n ? p->opt.threads : n) - 1];
}

/* Seconds of arithmetic at a share of the measured rates; 0: unknown. */
static double arithmetic(const struct plan *p, const struct work *w, const struct arithmetic_share *share)
{
    const struct machine *m = &p->machine;
    double all = m->usable_cores > 0 ? m->usable_cores : 1,
           cores = p->opt.threads < all ? p->opt.threads / all : 1;
    if ((w->int8 > 0 && m->int8_gmacs <= 0) || (w->f32 > 0 && m->f32_gmacs <= 0))
        return 0;
    double int8 = w->int8 > 0 ? w->int8 / (1e9 * m->int8_gmacs * share->int8) : 0;
    double f32 = w->f32 > 0 ? w->f32 / (1e9 * m->f32_gmacs * share->f32) : 0;
    return (int8 + f32) / cores;
}

/* What was measured with two sizes of reads, for an expert of this size. */
static double by_size(double small, double large, size_t bytes)
{
    double t =
        ((double)bytes - MACHINE_SMALL_EXPERT_BYTES) / (MACHINE_EXPERT_BYTES - MACHINE_SMALL_EXPERT_BYTES);
    if (small <= 0)
        return large;
    return t <= 0 ? small : t >= 1 ? large : small + t * (large - small);
}

/* Seconds in which n bytes of whole experts come from the drive in so many layers; their reads of one layer
 * are in flight together, so that a layer waits at least for one of them. */
static double drive_seconds(const struct plan *p, double bytes, double layers)
{
    const struct machine *m = &p->machine;
    double gbs = by_size(m->disk_small_gbs, m->disk_gbs, p->expert_bytes);
    double latency = 1e-6 * by_size(m->disk_small_latency_us, m->disk_latency_us, p->expert_bytes);
    double t = bytes / (drive_share * 1e9 * gbs), at_least = bytes > 0 ? layers * latency : 0;
    return t > at_least ? t : at_least;
}

struct seconds {
    double ram, arithmetic, drive; /* overlap */
    double starting;               /* does not */
};

/* What overlaps takes as long as the longest of it; *limit names that. */
static double longest(const struct seconds *t, const char **limit)
{
    *limit = t->arithmetic > t->ram ? "arithmetic" : "RAM bandwidth";
    double most = t->arithmetic > t->ram ? t->arithmetic : t->ram;
    *limit = t->drive > most ? "drive" : *limit;
    most = t->drive > most ? t->drive : most;
    *limit = t->starting > most ? "thread hand-offs" : *limit;
    return most + t->starting;
}

static void expect_decode(struct plan *p, const struct work *w, double ram)
{
    const struct shape *s = &p->model->shape;
    const struct machine *m = &p->machine;
    double sessions = p->opt.sessions, kv = (double)p->kv_bytes / sessions,
           state = (double)p->state_bytes / sessions;
    double seen = p->opt.ctx > TYPICAL_POSITION ? (double)TYPICAL_POSITION / p->opt.ctx : 1,
           layers = moe_layers(s);
    struct seconds t = { .arithmetic = arithmetic(p, w, &decode_share),
                         .starting = s->n_layer * layer_seconds };
    t.ram = (w->dense_bytes + w->expert_bytes + kv * seen + 2 * state) / (ram_share * ram);
    if (p->experts_on_disk) {
        double misses = 1 - p->hit_rate, all_hit = 1;
        for (int i = 0; i < s->top_k; i++)
            all_hit *= p->hit_rate;
        if (misses > 0 && m->disk_gbs <= 0)
            return;
        double missed = misses > 0 ? drive_seconds(p, misses * w->expert_bytes, layers * (1 - all_hit)) : 0;
        /* The dense part of a layer must wait for its experts; only experts that are there are computed
         * meanwhile. */
        t.drive = missed > 0 ? missed + w->dense_bytes / (ram_share * ram) : 0;
    }
    p->decode_tps = 1 / longest(&t, &p->decode_limit);
}

static void expect_prefill(struct plan *p, const struct work *w, double ram)
{
    const struct shape *s = &p->model->shape;
    double batch = p->opt.batch, unused = 1;
    for (int i = 0; i < p->opt.batch && s->n_expert; i++)
        unused *= 1 - (double)s->top_k / s->n_expert;
    double experts = s->n_expert ? (1 - unused) * w->expert_bytes * s->n_expert / s->top_k : 0;
    struct seconds t = { .arithmetic = batch * arithmetic(p, w, &prefill_share),
                         .starting = s->n_layer * layer_seconds };
    t.ram = (w->dense_bytes + experts) / (ram_share * ram);
    if (p->experts_on_disk) {
        /* A pass goes through all experts in order, which leaves a recency cache with nothing to hit. */
        bool all = (uint64_t)p->cache_slots >= p->n_experts;
        if (!all && p->machine.disk_gbs <= 0)
            return;
        t.drive = all ? 0 : drive_seconds(p, experts, moe_layers(s));
    }
    if (t.arithmetic > 0)
        p->prefill_tps = batch / longest(&t, &p->prefill_limit);
}

void plan_expect(struct plan *p)
{
    struct work w = work_of(p);
    double ram = ram_rate(p);
    p->decode_tps = p->prefill_tps = 0;
    p->decode_limit = p->prefill_limit = NULL;
    p->decode_bytes = (uint64_t)(w.dense_bytes + w.expert_bytes);
    p->hit_rate =
        p->experts_on_disk && p->n_experts ? plan_hit_rate((double)p->cache_slots / (double)p->n_experts) : 1;
    if (ram <= 0 || !p->fits)
        return;
    expect_decode(p, &w, ram);
    expect_prefill(p, &w, ram);
}
