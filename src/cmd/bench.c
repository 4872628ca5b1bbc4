/*
 * bench.c: `tonne bench MODEL` and `tonne bench --like NAME`: how fast this machine reads prompts and
 * generates. Sets up the model, or weights synthesized in memory, and shows what bench_run.c measures.
 */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "cmd/bench.h"
#include "cmd/session_setup.h"
#include "cmd/terminal.h"
#include "load/synth.h"
#include "model/geometry.h"

enum { DEFAULT_GENERATE = 64, DEFAULT_RUNS = 5, DEFAULT_BATCH = 512, SEED = 1 };

/* ---- lists ---- */

static int bad_list(const char *option, const char *text, int min, int max, struct err *e)
{
    err_set(e, ERR_USAGE, "%s \"%.60s\" is not a list of at most %d numbers from %d to %d", option, text,
            BENCH_MAX_LIST, min, max);
    err_hint(e, "numbers with commas between: %s %d,%d", option, min > 0 ? min : 1, min > 0 ? 2 * min : 2);
    return ERR_USAGE;
}

/* "128,512,2K"; NULL leaves the list as it is; "0" as a whole empties it where min is 1. */
static int parse_list(struct bench_list *l, const char *option, const char *text, int min, int max,
                      struct err *e)
{
    if (!text)
        return 0;
    l->n = 0;
    if (min == 1 && strcmp(text, "0") == 0)
        return 0;
    for (const char *at = text;; at++) {
        char *end;
        errno = 0;
        long v = strtol(at, &end, 10);
        if (end == at || *at < '0' || *at > '9' || errno || v > INT_MAX / 1024)
            return bad_list(option, text, min, max, e);
        if (*end == 'K' || *end == 'k') {
            v *= 1024;
            end++;
        }
        bool known = false;
        for (int i = 0; i < l->n; i++)
            known |= l->v[i] == v;
        if ((*end && *end != ',') || v < min || v > max || (!known && l->n == BENCH_MAX_LIST))
            return bad_list(option, text, min, max, e);
        if (!known)
            l->v[l->n++] = (int)v;
        if (!*end)
            return 0;
        at = end;
    }
}

static int largest(const struct bench_list *l)
{
    int most = 0;
    for (int i = 0; i < l->n; i++)
        most = l->v[i] > most ? l->v[i] : most;
    return most;
}

/* Drops defaults that the model's context cannot hold. */
static void drop_longer(struct bench_list *l, int most)
{
    int n = 0;
    for (int i = 0; i < l->n; i++)
        if (l->v[i] <= most)
            l->v[n++] = l->v[i];
    l->n = n;
}

static int read_lists(struct bench *b, const struct args *a, struct err *e)
{
    enum { MOST = 1 << 24 };
    b->prompts = (struct bench_list){ 3, { 128, 512, 2048 } };
    b->depths = (struct bench_list){ 3, { 0, 4096, 16384 } };
    b->threads = (struct bench_list){ 1, { threads_default() } };
    b->batches = (struct bench_list){ 1, { DEFAULT_BATCH } };
    b->generate = a->generate < 0 ? DEFAULT_GENERATE : a->generate;
    b->runs = a->runs ? a->runs : DEFAULT_RUNS;
    int rc = parse_list(&b->prompts, "-p", a->prompt_list, 1, MOST, e);
    if (!rc)
        rc = parse_list(&b->depths, "-d", a->depth_list, 0, MOST, e);
    if (!rc)
        rc = parse_list(&b->threads, "--threads", a->thread_list, 1, 1024, e);
    if (!rc)
        rc = parse_list(&b->batches, "--batch", a->batch_list, 1, 1 << 20, e);
    if (rc || (b->threads.n && b->batches.n))
        return rc;
    return err_set(e, ERR_USAGE, "--threads and --batch need at least 1");
}

/* ---- model, plan, weights ---- */

static int open_model(struct bench *b, const struct args *a, struct err *e)
{
    struct shape s, whole;
    if (!a->like) {
        b->name = a->word[0];
        return model_open(&b->model, a->word[0], e);
    }
    b->synthetic = true;
    int rc = geometry_shape(&whole, a->like, 0, e);
    if (!rc)
        rc = geometry_shape(&s, a->like, a->layers, e);
    if (rc)
        return rc;
    for (int i = 0; geometry_name(i); i++)
        if (strcasecmp(geometry_name(i), a->like) == 0)
            b->name = geometry_name(i);
    b->whole_layers = s.n_layer < whole.n_layer ? whole.n_layer : 0;
    return geometry_model(&b->model, b->name, &s, e);
}

static int open_tokens(struct bench *b, const struct args *a, struct err *e)
{
    struct tokenizer *k;
    if (b->synthetic) {
        bench_tokens_walk(&b->tokens, b->model->shape.n_vocab);
        b->text = "random walks over the vocabulary, another one for every run";
        return 0;
    }
    int rc = tokenizer_open(&k, b->model, e);
    if (rc)
        return rc;
    rc = bench_tokens_text(&b->tokens, k, a->file, e);
    tokenizer_close(&k);
    b->text = a->file ? "from the given text, begun at another place for every run"
                      : "from \"Alice's Adventures in Wonderland\", begun at another place for every run";
    for (size_t i = 0; i < b->tokens.n_text && !rc; i++)
        if (b->tokens.text[i] >= b->model->shape.n_vocab)
            rc = err_set(e, ERR_FORMAT, "the tokenizer has more tokens than the model");
    return rc;
}

/* The longest context that the rows need; defaults that the model was not trained for go. */
static int context_of(struct bench *b, const struct args *a)
{
    int most = b->model->shape.n_ctx_train;
    if (!a->prompt_list)
        drop_longer(&b->prompts, most);
    if (!a->depth_list)
        drop_longer(&b->depths, most - b->generate);
    int generated = b->generate ? largest(&b->depths) + b->generate : 0, prompt = largest(&b->prompts);
    int ctx = generated > prompt ? generated : prompt;
    return ctx > 0 ? ctx : 1;
}

/* The roofline: as doctor measured it, else measured now, while memory is free. */
static int measure_ram(struct bench *b, struct err *e)
{
    if (b->machine.n_ram_gbs > 0)
        return 0;
    b->ram_measured_now = true;
    return machine_measure_ram(&b->machine, b->pool, e);
}

/* What does not fit as a whole can be measured in part: so many layers, in fours for a whole pattern of
 * mixers. */
static void hint_layers(const struct bench *b, struct err *e)
{
    const struct plan *p = b->plan;
    double ends = 0, all = (double)p->weights_bytes, rest = (double)p->minimum_ram_bytes - all;
    for (int t = 0; t < TIER_COUNT; t++)
        ends += (double)(p->part[PLAN_EMBED].bytes[t] + p->part[PLAN_HEAD].bytes[t]);
    double layer = (all - ends) / b->model->shape.n_layer, room = (double)p->budget_bytes - rest - ends;
    int layers = room > 4 * layer ? (int)(room / layer) / 4 * 4 : 0;
    if (!b->synthetic || layers == 0 || layers >= b->model->shape.n_layer)
        return;
    e->hint[0] = '\0'; /* a smaller context would not help */
    err_hint(e, "measure a part of it: --layers %d", layers);
}

static int make_plan(struct bench *b, const struct args *a, struct err *e)
{
    struct plan_options opt;
    struct args with_default = *a;
    if (b->synthetic && !a->type)
        with_default.type = "q4_k_m";
    int rc = plan_options_from(&opt, &with_default, e);
    if (rc)
        return rc;
    opt.ctx = context_of(b, a);
    opt.batch = largest(&b->batches);
    opt.threads = largest(&b->threads);
    opt.no_disk = true;
    rc = plan_build(&b->plan, b->model, &b->machine, &opt, e);
    if (!rc && plan_refuse(b->plan, e)) {
        rc = ERR_NO_ROOM;
        hint_layers(b, e);
    }
    if (!rc)
        rc = bench_list_rows(b, e);
    return !rc && a->plot ? bench_plot_check(b, e) : rc;
}

static int load(struct bench *b, struct err *e)
{
    struct progress_line line = { 0 };
    struct weights_options opt = { .threads = b->pool,
                                   .progress = terminal_progress,
                                   .progress_user = &line };
    if (b->synthetic)
        return synth_weights(&b->weights, b->plan, b->device, &(struct synth_options){ b->pool, SEED }, e);
    int rc = weights_load(&b->weights, b->plan, b->device, &opt, e);
    terminal_progress_end(&line);
    return rc;
}

static int set_up(struct bench *b, const struct args *a, struct err *e)
{
    int rc = read_lists(b, a, e);
    if (!rc)
        rc = setup_isa(a->cpu, &b->isa, e);
    if (!rc)
        rc = open_model(b, a, e);
    if (!rc)
        rc = plan_machine(&b->machine, a, b->synthetic ? NULL : b->model->folder, e);
    if (!rc)
        rc = make_plan(b, a, e);
    if (!rc)
        rc = open_tokens(b, a, e);
    if (!rc)
        rc = threads_open(&b->pool, largest(&b->threads), e);
    if (!rc)
        rc = measure_ram(b, e);
    b->act = a->exact ? ACT_EXACT : ACT_INT8;
    struct device_cpu_options cpu = { .act = b->act, .isa = b->isa, .threads = b->pool };
    if (!rc)
        rc = device_cpu_open(&b->device, &cpu, e);
    return rc ? rc : load(b, e);
}

static void tear_down(struct bench *b)
{
    bench_tokens_free(&b->tokens);
    bench_routing_free(&b->routing);
    weights_close(&b->weights);
    if (b->device)
        b->device->ops->close(b->device);
    threads_close(&b->pool);
    plan_close(&b->plan);
    model_close(&b->model);
    free(b->row);
}

static int check_words(const struct args *a, struct err *e)
{
    const char *what = (a->n_word > 0) == (a->like != NULL)
                           ? "bench needs a MODEL or --like NAME, one of the two"
                       : a->layers && !a->like ? "--layers goes with --like"
                       : a->write && !a->like  ? "--write goes with --like"
                       : a->json && a->csv     ? "--json and --csv exclude each other"
                                               : NULL;
    if (!what)
        return 0;
    err_set(e, ERR_USAGE, "%s", what);
    err_hint(e, "tonne bench --help");
    return ERR_USAGE;
}

static int bench(const struct args *a, struct err *e)
{
    struct bench b = { .begin = clock_seconds() };
    int rc = check_words(a, e);
    if (rc)
        return rc;
    terminal_catch_interrupt();
    rc = set_up(&b, a, e);
    if (!rc && a->write)
        rc = synth_write_gguf(b.weights, b.plan, a->write, e);
    if (!rc)
        rc = bench_run(&b, e);
    if (!rc)
        rc = a->json ? bench_print_json(&b, e) : a->csv ? bench_print_csv(&b, e) : bench_print_text(&b, e);
    if (!rc && a->plot)
        rc = bench_plot(&b, a->plot, e);
    tear_down(&b);
    return rc;
}

/* clang-format off: a table */
static const struct option what[] = {
    OPT_TEXT("like", "NAME", like, "synthesize a known model's weights in memory instead of reading MODEL"),
    OPT_COUNT("layers", "N", layers, 1, SHAPE_MAX_LAYERS, "with --like: only the first N layers"),
    OPT_TEXT("write", "FILE", write, "with --like: first write the weights as a GGUF, for other engines"),
    OPT_TEXT("p", "LIST", prompt_list, "prompts of so many tokens (default 128,512,2048; 0: none)"),
    OPT_COUNT("n", "N", generate, 0, 1 << 20, "generate so many tokens (default 64; 0: none)"),
    OPT_TEXT("d", "LIST", depth_list, "... after so many others (default 0,4096,16384)"),
    OPT_COUNT("r", "N", runs, 1, BENCH_MAX_RUNS, "runs of each (default 5)"),
    OPT_TEXT("threads", "LIST", thread_list, "CPU threads (default: the cores this process may use)"),
    OPT_TEXT("batch", "LIST", batch_list, "prompt tokens evaluated at once (default 512)"),
    OPT_TEXT("file", "TEXT", file, "take the prompts from this text (default: a built-in one)"),
    { 0 }
};
static const struct option how[] = {
    OPT_TEXT("type", "TYPE", type, "quantize while loading: q4_k_m (default with --like), q8_0, nf4, ..."),
    OPT_TEXT("kv-type", "TYPE", kv_type, "how keys and values are kept: f16 (default), bf16, f32"),
    OPT_TEXT("ram", "SIZE", ram, "plan with this much memory: 24G (default: what is free)"),
    OPT_TEXT("cpu", "SET", cpu, "use at most plain, avx2 or avx512 instructions"),
    OPT_FLAG("exact", exact, 1, "multiply with float32 activations"),
    { 0 }
};
static const struct option output[] = {
    OPT_FLAG("json", json, 1, "print one JSON object"),
    OPT_FLAG("csv", csv, 1, "print comma-separated values"),
    OPT_TEXT("plot", "FILE", plot, "also draw the sweep over threads, batch or depth as an SVG"),
    { 0 }
};
/* clang-format on */
static const struct option_group what_group = { "What to measure", what }, how_group = { "How", how },
                                 output_group = { "Output", output };

const struct command command_bench = {
    .name = "bench",
    .usage = "MODEL | --like NAME",
    .summary = "measure how fast a model reads and generates",
    .help = "Measures tokens per second of prompts and of generation at several depths. Every\n"
            "setting is run once as warm-up and then -r times, in interleaved order; the median is\n"
            "shown with its spread, the bytes that a token reads, and how close that comes to the\n"
            "memory bandwidth measured on this machine. No two runs evaluate the same text, and all\n"
            "experts that the model asks for are computed. Lists: 128,512,2K.\n"
            "\n"
            "With --like the weights are synthesized in memory, in the geometry of a released model,\n"
            "so that its speed is known before it is downloaded:\n"
            "  qwen3.5-397b-a17b qwen3.5-122b-a10b qwen3.5-35b-a3b qwen3-30b-a3b qwen2.5-7b\n"
            "\n"
            "Examples\n"
            "  tonne bench models/novelist.gguf -d 0,1K\n"
            "  tonne bench --like qwen3.5-35b-a3b --layers 8 --type q8_0\n"
            "  tonne bench Qwen3-30B-A3B --type q4_k_m --threads 1,2,4,8 -p 0 -d 0 --plot threads.svg\n",
    .max_words = 1,
    .group = { &what_group, &how_group, &output_group },
    .run = bench,
};
