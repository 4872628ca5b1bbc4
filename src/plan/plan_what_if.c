/* plan_what_if.c: what would change a plan: more RAM, another format. Each answer is a plan of its own. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/size.h"
#include "plan/plan_private.h"

/* Appends text to line, after a comma when something stands there already. */
static void also(char *line, size_t room, const char *text)
{
    size_t at = strlen(line);
    snprintf(line + at, room - at, "%s%s", at ? ", " : "", text);
}

static bool differs(double a, double b)
{
    return a > 0 && b > 0 && fabs(a - b) > 0.05 * fmin(a, b);
}

static double cached(const struct plan *p)
{
    return p->experts_on_disk && p->n_experts ? 100.0 * p->cache_slots / (double)p->n_experts : 100;
}

/* Fills out with how v differs from p; empty when it does not. */
static void differences(const struct plan *p, const struct plan *v, char *out, size_t room)
{
    char text[80], from[PLAN_RATE], to[PLAN_RATE];
    *out = 0;
    if (p->fits != v->fits) {
        also(out, room, v->fits ? "fits" : "does not fit");
        if (!v->fits)
            return;
    }
    if (differs(p->decode_tps, v->decode_tps)) {
        snprintf(text, sizeof text, "%s -> %s tokens/s", plan_rate(from, p->decode_tps),
                 plan_rate(to, v->decode_tps));
        also(out, room, text);
    } else if (p->fits && p->experts_on_disk && v->experts_on_disk && cached(v) >= cached(p) + 1) {
        snprintf(text, sizeof text, "%.0f -> %.0f %% of the experts cached", cached(p), cached(v));
        also(out, room, text);
    }
    if (p->fits && p->experts_on_disk != v->experts_on_disk)
        also(out, room, v->experts_on_disk ? "experts on disk" : "all experts in RAM");
    if (differs(p->prefill_tps, v->prefill_tps)) {
        snprintf(text, sizeof text, "prompt %s -> %s", plan_rate(from, p->prefill_tps),
                 plan_rate(to, v->prefill_tps));
        also(out, room, text);
    }
    if (p->fits && p->opt.ctx != v->opt.ctx) {
        snprintf(text, sizeof text, "context %d -> %d", p->opt.ctx, v->opt.ctx);
        also(out, room, text);
    }
}

static void add_line(struct plan_changes *c, const char *what, const char *change)
{
    if (*change && c->n < PLAN_CHANGES)
        snprintf(c->line[c->n++], PLAN_CHANGE, "%s: %s", what, change);
}

static int try_more_ram(const struct plan *p, struct plan_changes *c, struct err *e)
{
    char last[PLAN_CHANGE] = "", change[PLAN_CHANGE - 44], size[SIZE_TEXT], what[40];
    for (int half = 1; half <= 2 && p->budget_bytes < SIZE_MAX / 4; half++) {
        struct plan_options opt = p->asked;
        struct plan *v;
        size_t more = p->budget_bytes / 2 * (size_t)half;
        opt.ram_budget = p->budget_bytes + more;
        int rc = plan_vary(&v, p, &opt, e);
        if (rc)
            return rc;
        differences(p, v, change, sizeof change);
        plan_close(&v);
        snprintf(what, sizeof what, "%s more RAM", size_text(size, more));
        if (strcmp(change, last) != 0)
            add_line(c, what, change);
        snprintf(last, sizeof last, "%s", change);
    }
    return 0;
}

static int try_types(const struct plan *p, struct plan_changes *c, struct err *e)
{
    static const enum mix mixes[] = { MIX_Q8_0, MIX_Q4_K_M, MIX_NF4_DQ };
    char change[PLAN_CHANGE - 44], size[SIZE_TEXT], what[40];
    for (size_t i = 0; i < sizeof mixes / sizeof *mixes; i++) {
        struct plan_options opt = p->asked;
        struct plan *v;
        opt.mix = mixes[i];
        if (opt.mix == p->asked.mix)
            continue;
        int rc = plan_vary(&v, p, &opt, e);
        if (rc)
            return rc;
        differences(p, v, change, sizeof change);
        snprintf(what, sizeof what, "--type %s, %s of RAM", mix_name(mixes[i]),
                 size_text(size, v->total_bytes));
        /* Another format is worth a line when it decides whether or where the model fits, or makes it faster.
         */
        bool better = p->fits
                          ? v->fits && (p->experts_on_disk > v->experts_on_disk ||
                                        v->decode_tps > 1.05 * p->decode_tps || cached(v) >= cached(p) + 1)
                          : v->fits;
        if (better)
            add_line(c, what, change);
        plan_close(&v);
    }
    return 0;
}

int plan_what_if(const struct plan *p, struct plan_changes *out, struct err *e)
{
    out->n = 0;
    int rc = try_more_ram(p, out, e);
    return rc ? rc : try_types(p, out, e);
}
