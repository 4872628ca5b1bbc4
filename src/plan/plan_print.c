/* plan_print.c: a plan as a table for people, at most 100 columns, and as one line. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/size.h"
#include "plan/plan_private.h"

/* ---- the table ---- */

/* "386.5 B" parameters into out[16]. */
static const char *count_text(char *out, uint64_t n)
{
    static const char *const unit[] = { "", " K", " M", " B", " T" };
    double v = (double)n;
    int u = 0;
    while (v >= 1000 && u < 4)
        v /= 1000, u++;
    snprintf(out, 16, u ? "%.1f%s" : "%.0f%s", v, unit[u]);
    return out;
}

static void print_heading(FILE *to, const struct plan *p)
{
    const struct shape *s = &p->model->shape;
    const struct machine *m = &p->machine;
    char size[SIZE_TEXT];
    fprintf(to, "%s: %s, %d layers", p->model->path, arch_hf_name(s->arch), s->n_layer);
    if (s->n_expert)
        fprintf(to, ", %d experts, %d for a token", s->n_expert, s->top_k);
    fprintf(to, "\n%s: ", m->here ? "this machine" : "as described");
    if (m->here && m->cpu[0])
        fprintf(to, "%s, ", m->cpu);
    if (m->usable_cores)
        fprintf(to, "%d cores, ", m->usable_cores);
    fprintf(to, "%s of RAM\n", m->ram_total ? size_text(size, m->ram_total) : "unknown");
}

static void print_weights(FILE *to, const struct plan *p)
{
    char n[16], size[SIZE_TEXT];
    fprintf(to, "\nweights              parameters        size  where  format\n");
    for (int g = 0; g < PLAN_GROUPS; g++) {
        const struct plan_part *part = &p->part[g];
        bool first = true;
        for (int t = 0; t < TIER_COUNT; t++) {
            if (part->bytes[t] == 0)
                continue;
            fprintf(to, "  %-18s %10s  %10s  %-5s  %s\n", first ? plan_group_name((enum plan_group)g) : "",
                    first ? count_text(n, part->weights) : "", size_text(size, part->bytes[t]),
                    tier_name((enum tier)t), first ? part->types : "");
            first = false;
        }
        if (g == PLAN_HEAD && p->model->shape.tied)
            fprintf(to, "  %-18s %10s  %10s  %-5s  the embeddings serve as the head\n", "head", "-", "-", "");
    }
}

static void print_bytes(FILE *to, const char *label, size_t bytes, const char *note)
{
    char size[SIZE_TEXT];
    if (bytes)
        fprintf(to, "  %-29s  %10s%s%s\n", label, size_text(size, bytes), *note ? "  " : "", note);
}

static const char *budget_source(const struct plan *p)
{
    return p->asked.ram_budget ? "--ram" : p->machine.here ? "free now" : "as described";
}

static void print_memory(FILE *to, const struct plan *p)
{
    char note[96], size[SIZE_TEXT];
    fprintf(to, "\nRAM\n");
    print_bytes(to, "weights", p->weights_bytes, "");
    snprintf(note, sizeof note, "%d of %llu experts, %s each", p->cache_slots,
             (unsigned long long)p->n_experts, size_text(size, p->expert_bytes));
    print_bytes(to, "expert cache", p->cache_bytes, note);
    snprintf(note, sizeof note, "%d tokens, %s%s", p->opt.ctx, qtype_info(p->opt.kv_type)->name,
             p->opt.sessions > 1 ? ", every session" : "");
    print_bytes(to, "keys and values", p->kv_bytes, note);
    print_bytes(to, "recurrent states", p->state_bytes, "");
    snprintf(note, sizeof note, "passes of %d tokens, %d thread%s", p->opt.batch, p->opt.threads,
             p->opt.threads > 1 ? "s" : "");
    print_bytes(to, "work buffers", p->work_bytes, note);
    print_bytes(to, "program, tokenizer, records", p->other_bytes, "");
    print_bytes(to, "total at run time", p->total_bytes, "");
    snprintf(note, sizeof note, "%s of it staging", size_text(size, p->staging_bytes));
    print_bytes(to, "at most while loading", p->peak_load_bytes, note);
    if (p->budget_bytes != SIZE_MAX)
        print_bytes(to, "allowed", p->budget_bytes, budget_source(p));
    print_bytes(to, "least that would do", p->minimum_ram_bytes, "");
    if (p->disk_bytes) {
        fprintf(to, "\ndrive\n");
        snprintf(note, sizeof note, "%s free", size_text(size, p->machine.disk_free));
        print_bytes(to, "packed experts, to be written", p->disk_bytes, p->machine.here ? note : "");
    }
}

/* ---- sentences ---- */

static void print_expected(FILE *to, const struct plan *p)
{
    double mb = 1e-6 * (double)p->decode_bytes;
    char decode[PLAN_RATE], prefill[PLAN_RATE], read[PLAN_RATE];
    fprintf(to, "\nexpected\n");
    if (p->decode_tps <= 0) {
        fprintf(to, "  %s\n",
                !p->fits          ? "nothing: it does not fit"
                : p->machine.here ? "unknown: measure this machine with `tonne doctor`"
                                  : "unknown: describe rambw= (and disk= for experts on disk)");
        return;
    }
    fprintf(to, "  generation  %s tokens/s, limited by %s; a token reads %s %s of weights\n",
            plan_rate(decode, p->decode_tps), p->decode_limit, plan_rate(read, mb < 1000 ? mb : mb / 1000),
            mb < 1000 ? "MB" : "GB");
    if (p->experts_on_disk)
        fprintf(to, "              %.0f %% of the experts are found in the cache\n", 100 * p->hit_rate);
    if (p->prefill_tps > 0)
        fprintf(to, "  prompt      %s tokens/s, limited by %s\n", plan_rate(prefill, p->prefill_tps),
                p->prefill_limit);
    else
        fprintf(to, "  prompt      unknown: int8= and f32= of the described machine are not given\n");
}

static void print_reasons(FILE *to, const struct plan *p)
{
    int train = p->model->shape.n_ctx_train, ctx = p->opt.ctx;
    char size[SIZE_TEXT];
    fprintf(to, "\nwhy\n");
    fprintf(to, "  formats     %s%s\n", p->asked.mix ? "--type " : "",
            p->asked.mix ? mix_name(p->asked.mix) : "as stored; --type quantizes while loading");
    fprintf(to, "  context     %d: %s\n", ctx,
            p->asked.ctx              ? "--ctx"
            : !p->fits                ? "the least that was tried"
            : ctx == PLAN_CTX_DEFAULT ? "the default; --ctx N allows more"
            : ctx == train            ? "what the model was trained on"
                                      : "what fits; --ctx N asks for more, at the cost of something else");
    fprintf(to, "  batch       %d: %s\n", p->opt.batch,
            p->asked.batch                       ? "--batch"
            : !p->fits                           ? "the least that was tried"
            : p->opt.batch == PLAN_BATCH_DEFAULT ? "the default"
                                                 : "what fits");
    if (p->n_experts && !p->experts_on_disk && p->pack_too_large && !p->fits)
        fprintf(to, "  experts     in RAM: the drive has no room for %s of them\n",
                size_text(size, p->pack_too_large));
    else if (p->n_experts && !p->experts_on_disk)
        fprintf(to, "  experts     in RAM: %s\n",
                p->fits ? "all of them fit" : "they may not stay on the drive");
    if (p->experts_on_disk)
        fprintf(
            to,
            "  experts     on disk: they need %s of RAM otherwise; what is free above the rest caches them\n",
            size_text(size, p->part[PLAN_EXPERTS].bytes[TIER_DISK] + p->part[PLAN_MTP].bytes[TIER_DISK]));
    if (p->experts_on_disk)
        fprintf(to, "              %s\n",
                p->pack ? "packed into a file of their own first: their stored form is not "
                          "what is computed with"
                        : "read from the model's own files");
}

static int print_changes(FILE *to, const struct plan *p, struct err *e)
{
    struct plan_changes c;
    int rc = plan_what_if(p, &c, e);
    if (!rc && c.n)
        fprintf(to, "\nwhat would change it\n");
    for (int i = 0; i < c.n && !rc; i++)
        fprintf(to, "  %s\n", c.line[i]);
    return rc;
}

int plan_text(const struct plan *p, char **out, struct err *e)
{
    size_t n;
    *out = NULL;
    FILE *to = open_memstream(out, &n);
    if (!to)
        return err_set(e, ERR_MEMORY, "no memory for the table");
    print_heading(to, p);
    print_weights(to, p);
    print_memory(to, p);
    print_expected(to, p);
    print_reasons(to, p);
    int rc = print_changes(to, p, e);
    if (fclose(to) && !rc)
        rc = err_set(e, ERR_MEMORY, "no memory for the table");
    if (rc) {
        free(*out);
        *out = NULL;
    }
    return rc;
}

const char *plan_summary(const struct plan *p, char *out)
{
    char total[SIZE_TEXT], budget[SIZE_TEXT], weights[SIZE_TEXT], cache[48] = "", speed[48] = "",
                                                                  rate[PLAN_RATE], of[SIZE_TEXT + 8] = "";
    if (p->budget_bytes != SIZE_MAX)
        snprintf(of, sizeof of, " of %s", size_text(budget, p->budget_bytes));
    if (p->experts_on_disk)
        snprintf(cache, sizeof cache, ", %.0f %% of the experts cached",
                 100.0 * p->cache_slots / (double)p->n_experts);
    if (p->decode_tps > 0)
        snprintf(speed, sizeof speed, ", about %s tokens/s", plan_rate(rate, p->decode_tps));
    snprintf(out, PLAN_SUMMARY, "%s%s of RAM: weights %s%s, context %d, batch %d, %d thread%s%s",
             size_text(total, p->total_bytes), of, size_text(weights, p->weights_bytes), cache, p->opt.ctx,
             p->opt.batch, p->opt.threads, p->opt.threads > 1 ? "s" : "", speed);
    return out;
}
