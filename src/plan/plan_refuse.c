/* plan_refuse.c: says that a model does not fit, and which settings near the asked ones would. */
#include <stdio.h>
#include <string.h>

#include "base/size.h"
#include "plan/plan_private.h"

/* Appends "A", "A, or B", ... */
static void suggest(char *list, size_t room, const char *text)
{
    size_t at = strlen(list);
    snprintf(list + at, room - at, "%s%s", at ? ", or " : "", text);
}

/* Whether the model fits with these options; *ctx: the context that the plan then has. 0 also without memory
 * to plan. */
static bool would_fit(const struct plan *p, const struct plan_options *opt, int *ctx)
{
    struct plan *v;
    if (plan_vary(&v, p, opt, NULL))
        return false;
    bool fits = v->fits;
    *ctx = v->opt.ctx;
    plan_close(&v);
    return fits;
}

static void suggest_shorter(const struct plan *p, char *list, size_t room)
{
    struct plan_options opt = p->asked;
    char text[64];
    int ctx;
    opt.ctx = 0;
    if (p->asked.ctx > PLAN_CTX_MIN && would_fit(p, &opt, &ctx) && ctx < p->asked.ctx) {
        snprintf(text, sizeof text, "--ctx %d", ctx);
        suggest(list, room, text);
        return;
    }
    opt = p->asked;
    opt.batch = 0;
    if (p->asked.batch > PLAN_BATCH_MIN && would_fit(p, &opt, &ctx))
        suggest(list, room, "a smaller --batch");
}

/* The largest of a few formats that fits. */
static void suggest_type(const struct plan *p, char *list, size_t room)
{
    static const enum mix mixes[] = { MIX_Q8_0, MIX_Q4_K_M, MIX_NF4_DQ };
    for (size_t i = 0; i < sizeof mixes / sizeof *mixes; i++) {
        struct plan_options opt = p->asked;
        char text[64];
        int ctx;
        opt.mix = mixes[i];
        if (opt.mix == p->asked.mix || !would_fit(p, &opt, &ctx))
            continue;
        snprintf(text, sizeof text, "--type %s", mix_name(mixes[i]));
        suggest(list, room, text);
        return;
    }
}

int plan_refuse(const struct plan *p, struct err *e)
{
    char need[SIZE_TEXT], have[SIZE_TEXT], list[240] = "", text[96];
    size_t ram = machine_ram(&p->machine);
    if (p->fits)
        return 0;
    bool given = p->opt.ram_budget > 0;
    size_text(need, p->minimum_ram_bytes);
    err_set(e, ERR_NO_ROOM, "the model needs %s of RAM with these settings; %s %s", need,
            size_text(have, p->budget_bytes),
            given             ? "are allowed (--ram)"
            : p->machine.here ? "are free"
                              : "are there");
    err_where(e, "%s", p->model->path);
    if (given && ram >= p->minimum_ram_bytes) {
        snprintf(text, sizeof text, "--ram %zuM", (p->minimum_ram_bytes >> 20) + 1);
        suggest(list, sizeof list, text);
    }
    if (p->pack_too_large) {
        snprintf(text, sizeof text, "free %s on the drive, for experts that stay there",
                 size_text(have, p->pack_too_large));
        suggest(list, sizeof list, text);
    }
    suggest_shorter(p, list, sizeof list);
    suggest_type(p, list, sizeof list);
    snprintf(text, sizeof text, "%s machine with %s of free RAM", *list ? "a" : "use a", need);
    suggest(list, sizeof list, text);
    err_hint(e, "%s", list);
    return ERR_NO_ROOM;
}
