/* bench_print.c: what was measured, for people (a table and a few lines), for programs (JSON) and for sheets
 * (CSV). */
#include <stdlib.h>
#include <string.h>

#include "base/size.h"
#include "cmd/bench.h"
#include "cmd/terminal.h"

static const char *const tiers[TIER_COUNT] = {
    [TIER_RAM] = "ram", [TIER_DISK] = "disk", [TIER_VRAM] = "vram"
};

static const char *type_name(const struct bench *b)
{
    return b->plan->opt.mix == MIX_NONE ? "as stored" : mix_name(b->plan->opt.mix);
}

/* GB/s of weights; generated tokens only, a prompt's tokens share what is read. */
static double read_gbs(const struct bench *b, const struct bench_row *r)
{
    return r->prompt ? 0 : 1e-9 * r->median * bench_all_bytes(b->plan);
}

static double hit_share(const struct bench_routing *r, int64_t n)
{
    return r->choices ? (double)n / (double)r->choices : 0;
}

/* ---- for people ---- */

static void print_head(const struct bench *b)
{
    const struct shape *s = &b->model->shape;
    int threads;
    double gbs = machine_best_ram_gbs(&b->machine, &threads);
    printf("%s%s: %d", b->name, b->synthetic ? ", SYNTHETIC WEIGHTS" : "", s->n_layer);
    if (b->whole_layers)
        printf(" of %d", b->whole_layers);
    printf(" layers, %.3g billion weights, %s\n", 1e-9 * (double)b->weights->n_weights, type_name(b));
    printf("%s; %d of %d cores usable\n", b->machine.cpu, b->machine.usable_cores, b->machine.cores);
    if (gbs > 0)
        printf("RAM reads %.1f GB/s with %d thread%s (%s)\n", gbs, threads, threads == 1 ? "" : "s",
               b->ram_measured_now ? "measured just now" : "measured by doctor");
    printf("prompts: %s\n\n", b->text);
}

static void print_rows(const struct bench *b)
{
    printf("%-26s %7s %6s %10s  %-19s %7s %7s  %s\n", "test", "threads", "batch", "tokens/s", "min .. max",
           "MAD", "GB/s", "of the limit");
    for (int i = 0; i < b->n_row; i++) {
        const struct bench_row *r = &b->row[i];
        char test[40], range[40], batch[16] = "", gbs[16] = "", share[32] = "";
        if (r->prompt)
            snprintf(test, sizeof test, "prompt of %d", r->n);
        else
            snprintf(test, sizeof test, "%d tokens at depth %d", r->n, r->depth);
        snprintf(range, sizeof range, "%.4g .. %.4g", r->least, r->most);
        if (r->prompt)
            snprintf(batch, sizeof batch, "%d", r->batch);
        else
            snprintf(gbs, sizeof gbs, "%.1f", read_gbs(b, r));
        if (bench_share(b, r) > 0)
            snprintf(share, sizeof share, "%.0f %% of %s", 100 * bench_share(b, r),
                     r->prompt ? "int8" : "RAM");
        printf("%-26s %7d %6s %10.4g  %-19s %6.1f%% %7s  %s\n", test, r->threads, batch, r->median, range,
               100 * r->mad / r->median, gbs, share);
    }
    printf(
        "Median of %d run%s in interleaved order, one more dropped as warm-up; MAD: median distance from the "
        "median.\n",
        b->runs, b->runs == 1 ? "" : "s");
}

/* A limit that is exceeded was measured while other programs took a part of it. */
static void print_doubt(const struct bench *b)
{
    for (int i = 0; i < b->n_row; i++)
        if (bench_share(b, &b->row[i]) > 1.02) {
            printf("More than the limit: it was measured on a busy machine; measure it again with tonne "
                   "doctor.\n");
            return;
        }
}

static void print_bytes(const struct bench *b)
{
    char text[SIZE_TEXT];
    printf("\nA generated token reads %s of weights", size_text(text, (uint64_t)bench_all_bytes(b->plan)));
    if (b->model->shape.n_expert)
        printf(" (%d of %d experts)", b->model->shape.top_k, b->model->shape.n_expert);
    printf(":\n");
    for (int g = 0; g < PLAN_GROUPS; g++)
        for (int t = 0; t < TIER_COUNT; t++) {
            double n = bench_token_bytes(b->plan, (enum plan_group)g, (enum tier)t);
            if (n > 0)
                printf("  %-14s %-5s %12s  %5.1f %%  %s\n", plan_group_name((enum plan_group)g), tiers[t],
                       size_text(text, (uint64_t)n), 100 * n / bench_all_bytes(b->plan),
                       b->plan->part[g].types);
        }
}

static void print_routing(const struct bench *b)
{
    const struct bench_routing *r = &b->routing;
    if (r->choices == 0)
        return;
    printf("Routing: %.0f %% of a token's experts were the last one's, too; a recency cache of",
           100 * hit_share(r, r->again));
    for (int c = 0; c < BENCH_CACHES; c++)
        printf("%s %.0f %%", c ? "," : "", 100 * bench_cache_share[c]);
    printf(" of the experts\nholds");
    for (int c = 0; c < BENCH_CACHES; c++)
        printf("%s %.0f %%", c ? "," : "", 100 * hit_share(r, r->hits[c]));
    printf("; the busiest tenth gets %.0f %%.\n", 100 * bench_routing_busiest(r));
}

static void print_memory(const struct bench *b)
{
    const struct plan *p = b->plan;
    char weights[SIZE_TEXT], session[SIZE_TEXT], peak[SIZE_TEXT], own[SIZE_TEXT];
    printf("Memory: %s of weights, %s for %d positions; %s at most", size_text(weights, b->weights->bytes),
           size_text(session, p->kv_bytes + p->state_bytes), p->opt.ctx, size_text(peak, b->peak_rss));
    if (b->snapshot_bytes)
        printf(", of which %s are states that bench keeps", size_text(own, b->snapshot_bytes));
    printf(".\nReady after %.1f s, of which the weights took %.1f s", b->ready, b->weights->loaded.seconds);
    if (b->synthetic)
        printf(" (%.1f GB/s)", 1e-9 * (double)b->weights->bytes / b->weights->loaded.seconds);
    printf(".\n");
}

int bench_print_text(const struct bench *b, struct err *e)
{
    print_head(b);
    print_rows(b);
    print_doubt(b);
    print_bytes(b);
    print_routing(b);
    print_memory(b);
    if (b->synthetic)
        printf("The weights are synthetic: speeds and memory are real, the text is noise.\n");
    return terminal_flush(e);
}

/* ---- for programs ---- */

/* A share or rate that is unknown is null. */
static json_t *known(double v)
{
    return v > 0 ? json_real(v) : json_null();
}

static json_t *rows_json(const struct bench *b)
{
    json_t *list = json_array();
    for (int i = 0; i < b->n_row; i++) {
        const struct bench_row *r = &b->row[i];
        json_t *runs = json_array();
        for (int k = 0; k < r->n_run; k++)
            json_array_append_new(runs, json_real(r->run[k]));
        json_array_append_new(
            list, json_pack("{s:s, s:i, s:i, s:i, s:o, s:f, s:f, s:f, s:f, s:o, s:o, s:o}", "test",
                            r->prompt ? "prompt" : "generate", "tokens", r->n, "depth", r->depth, "threads",
                            r->threads, "batch", r->prompt ? json_integer(r->batch) : json_null(), "median",
                            r->median, "min", r->least, "max", r->most, "mad", r->mad, "gbs",
                            known(read_gbs(b, r)), "limit_share", known(bench_share(b, r)), "runs", runs));
    }
    return list;
}

static json_t *bytes_json(const struct bench *b)
{
    json_t *list = json_array();
    for (int g = 0; g < PLAN_GROUPS; g++)
        for (int t = 0; t < TIER_COUNT; t++) {
            double n = bench_token_bytes(b->plan, (enum plan_group)g, (enum tier)t);
            if (n > 0)
                json_array_append_new(list,
                                      json_pack("{s:s, s:s, s:I, s:s}", "group",
                                                plan_group_name((enum plan_group)g), "tier", tiers[t],
                                                "bytes", (json_int_t)n, "types", b->plan->part[g].types));
        }
    return json_pack("{s:I, s:o}", "total", (json_int_t)bench_all_bytes(b->plan), "groups", list);
}

static json_t *routing_json(const struct bench *b)
{
    const struct bench_routing *r = &b->routing;
    if (r->choices == 0)
        return json_null();
    json_t *caches = json_array();
    for (int c = 0; c < BENCH_CACHES; c++)
        json_array_append_new(
            caches, json_pack("{s:f, s:f}", "share", bench_cache_share[c], "hits", hit_share(r, r->hits[c])));
    return json_pack("{s:I, s:f, s:f, s:o}", "choices", (json_int_t)r->choices, "as_last_token",
                     hit_share(r, r->again), "busiest_tenth", bench_routing_busiest(r), "recency_cache",
                     caches);
}

static json_t *model_json(const struct bench *b)
{
    const struct shape *s = &b->model->shape;
    return json_pack("{s:s, s:b, s:s, s:i, s:o, s:I, s:i, s:i}", "name", b->name, "synthetic", b->synthetic,
                     "type", type_name(b), "layers", s->n_layer, "whole_layers",
                     b->whole_layers ? json_integer(b->whole_layers) : json_null(), "weights",
                     (json_int_t)b->weights->n_weights, "experts", s->n_expert, "experts_per_token",
                     s->top_k);
}

static json_t *machine_part(const struct bench *b)
{
    int threads;
    double gbs = machine_best_ram_gbs(&b->machine, &threads);
    return json_pack("{s:s, s:i, s:o, s:s, s:o}", "cpu", b->machine.cpu, "usable_cores",
                     b->machine.usable_cores, "ram_gbs", known(gbs), "ram_measured",
                     b->ram_measured_now ? "now" : "doctor", "int8_gmacs", known(b->machine.int8_gmacs));
}

int bench_print_json(const struct bench *b, struct err *e)
{
    json_t *memory = json_pack("{s:I, s:I, s:I, s:I}", "weights", (json_int_t)b->weights->bytes, "planned",
                               (json_int_t)b->plan->total_bytes, "peak", (json_int_t)b->peak_rss,
                               "kept_states", (json_int_t)b->snapshot_bytes);
    json_t *seconds = json_pack("{s:f, s:f}", "ready", b->ready, "weights", b->weights->loaded.seconds);
    json_t *root =
        json_pack("{s:i, s:o, s:o, s:s, s:o, s:o, s:o, s:o, s:o}", "tonne_bench", 1, "model", model_json(b),
                  "machine", machine_part(b), "prompts", b->text, "rows", rows_json(b), "bytes_per_token",
                  bytes_json(b), "routing", routing_json(b), "memory", memory, "seconds", seconds);
    char *text = root ? json_dumps(root, JSON_INDENT(1) | JSON_REAL_PRECISION(6)) : NULL;
    json_decref(root);
    if (!text)
        return err_set(e, ERR_MEMORY, "no memory for the JSON text");
    puts(text);
    free(text);
    return terminal_flush(e);
}

/* ---- for sheets ---- */

int bench_print_csv(const struct bench *b, struct err *e)
{
    puts("model,synthetic,type,layers,test,tokens,depth,threads,batch,runs,median_tps,min_tps,max_tps,mad_"
         "tps,gbs,"
         "limit_share");
    for (int i = 0; i < b->n_row; i++) {
        const struct bench_row *r = &b->row[i];
        char name[256];
        snprintf(name, sizeof name, "%s", b->name);
        for (char *c = name; *c; c++) /* a path; what would need quotes is rare */
            if (*c == ',' || *c == '"' || (unsigned char)*c < 0x20)
                *c = '_';
        printf("%s,%d,%s,%d,%s,%d,%d,%d,%d,%d,%.6g,%.6g,%.6g,%.6g,%.6g,%.4g\n", name, b->synthetic,
               type_name(b), b->model->shape.n_layer, r->prompt ? "prompt" : "generate", r->n, r->depth,
               r->threads, r->batch, r->n_run, r->median, r->least, r->most, r->mad, read_gbs(b, r),
               bench_share(b, r));
    }
    return terminal_flush(e);
}
