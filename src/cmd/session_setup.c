/* session_setup.c: see session_setup.h. */
#include "cmd/session_setup.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/size.h"
#include "cmd/cache_dir.h"
#include "cmd/terminal.h"

/* ---- text ---- */

static void add_eos(struct setup *s, int64_t id)
{
    if (id < 0 || id >= tokenizer_size(s->tokenizer) || setup_is_eos(s, (int32_t)id) ||
        s->n_eos == SETUP_MAX_EOS)
        return;
    s->eos[s->n_eos++] = (int32_t)id;
}

bool setup_is_eos(const struct setup *s, int32_t id)
{
    for (int i = 0; i < s->n_eos; i++)
        if (s->eos[i] == id)
            return true;
    return false;
}

/* Ids of config or GGUF keys, of generation_config.json, and the two marks that end a turn or a document. */
static void collect_eos(struct setup *s)
{
    const json_t *listed = json_object_get(s->model->generation_config, "eos_token_id");
    for (int i = 0; i < s->model->shape.n_eos; i++)
        add_eos(s, s->model->shape.eos[i]);
    if (json_is_integer(listed))
        add_eos(s, json_integer_value(listed));
    for (size_t i = 0; i < json_array_size(listed); i++)
        if (json_is_integer(json_array_get(listed, i)))
            add_eos(s, json_integer_value(json_array_get(listed, i)));
    add_eos(s, tokenizer_find(s->tokenizer, "<|im_end|>"));
    add_eos(s, tokenizer_find(s->tokenizer, "<|endoftext|>"));
}

static int choose_template(struct setup *s, const struct args *a, struct err *e)
{
    s->chat.thinking = a->think;
    s->chat.add_generation_prompt = true;
    s->chat.family = chat_detect(s->model->chat_template, &s->chat.thinking_default);
    if (!a->template_name)
        return 0;
    s->chat.family = chat_from_name(a->template_name);
    if (s->chat.family != CHAT_UNKNOWN) {
        if (s->chat.family == CHAT_QWEN3 || s->chat.family == CHAT_QWEN3_2505 ||
            s->chat.family == CHAT_QWEN35)
            s->chat.thinking_default = true;
        return 0;
    }
    err_set(e, ERR_USAGE, "--template \"%.60s\" is not known", a->template_name);
    err_hint(e, "one of: %s", chat_list());
    return ERR_USAGE;
}

/* The same in GGUF's keys. */
static int sampling_from_gguf(struct sampler_options *o, const struct gguf_meta *m, struct err *e)
{
    const struct {
        const char *key;
        float *field;
    } reals[] = { { "general.sampling.temp", &o->temperature },
                  { "general.sampling.top_p", &o->top_p },
                  { "general.sampling.min_p", &o->min_p },
                  { "general.sampling.penalty_repeat", &o->repetition_penalty } };
    int64_t top_k;
    int rc = gguf_get_int(m, "general.sampling.top_k", 0, INT32_MAX, o->top_k, &top_k, e);
    for (size_t i = 0; i < sizeof reals / sizeof *reals && !rc; i++) {
        double v;
        rc = gguf_get_real(m, reals[i].key, (double)*reals[i].field, &v, e);
        if (!rc)
            *reals[i].field = (float)v;
    }
    if (!rc)
        o->top_k = (int)top_k;
    return rc;
}

/* What a model says nothing about: temperature 0.8, the 40 most probable tokens, top-p 0.95. */
static int choose_sampling(struct setup *s, const struct args *a, struct err *e)
{
    struct sampler_options *o = &s->sampling;
    *o = sampler_defaults();
    o->temperature = 0.8f;
    o->top_k = 40;
    o->top_p = 0.95f;
    int rc = s->model->generation_config ? sampler_from_config(o, s->model->generation_config, e)
             : s->model->gguf            ? sampling_from_gguf(o, s->model->gguf, e)
                                         : 0;
    if (rc) {
        err_where(e, "%s", s->model->path);
        return rc;
    }
    o->temperature = isnan(a->temp) ? o->temperature : a->temp;
    o->top_k = a->top_k < 0 ? o->top_k : a->top_k;
    o->top_p = isnan(a->top_p) ? o->top_p : a->top_p;
    o->min_p = isnan(a->min_p) ? o->min_p : a->min_p;
    o->repetition_penalty = isnan(a->repeat_penalty) ? o->repetition_penalty : a->repeat_penalty;
    o->presence_penalty = isnan(a->presence_penalty) ? o->presence_penalty : a->presence_penalty;
    o->frequency_penalty = isnan(a->frequency_penalty) ? o->frequency_penalty : a->frequency_penalty;
    o->bias = a->bias;
    o->n_bias = a->n_bias;
    o->seed = a->seed;
    if (!a->seed_given && getrandom(&o->seed, sizeof o->seed, 0) != sizeof o->seed)
        o->seed = (uint64_t)(clock_seconds() * 1e9);
    return sampler_check(o, e);
}

int setup_open(struct setup *s, const char *path, const struct args *a, struct err *e)
{
    int rc = model_open(&s->model, path, e);
    if (!rc)
        rc = tokenizer_open(&s->tokenizer, s->model, e);
    mem_trim(); /* tokenizer.json as a tree takes four times what stays of it */
    if (!rc)
        rc = choose_template(s, a, e);
    if (!rc)
        rc = choose_sampling(s, a, e);
    if (!rc)
        collect_eos(s);
    return rc;
}

/* ---- engine ---- */

int setup_plan(struct setup *s, const struct args *a, const struct setup_limits *l, struct err *e)
{
    struct machine machine;
    struct plan_options opt;
    int rc = plan_options_from(&opt, a, e);
    if (!rc)
        rc = plan_machine(&machine, a, s->model->folder, e);
    if (rc)
        return rc;
    opt.ctx = l->ctx ? l->ctx : opt.ctx;
    opt.batch = l->batch ? l->batch : opt.batch;
    opt.logits = l->max_logits;
    opt.threads = opt.threads ? opt.threads : threads_default();
    rc = plan_build(&s->plan, s->model, &machine, &opt, e);
    return rc ? rc : plan_refuse(s->plan, e);
}

int setup_isa(const char *name, enum cpu_isa *out, struct err *e)
{
    static const char *const names[] = { "plain", "avx2", "avx512" };
    static const enum cpu_isa isa[] = { CPU_ISA_PLAIN, CPU_ISA_AVX2, CPU_ISA_AVX512 };
    *out = CPU_ISA_BEST;
    for (int i = 0; name && i < 3; i++)
        if (strcasecmp(name, names[i]) == 0) {
            *out = isa[i];
            return 0;
        }
    if (!name)
        return 0;
    err_set(e, ERR_USAGE, "--cpu \"%.60s\" is not known", name);
    err_hint(e, "one of: plain avx2 avx512");
    return ERR_USAGE;
}

/* One line before and one after loading, for a person who waits. */
static void tell_plan(const struct setup *s)
{
    char line[PLAN_SUMMARY];
    if (terminal_is(stderr))
        fprintf(stderr, "plan    %s\n", plan_summary(s->plan, line));
}

static void tell_loaded(const struct setup *s)
{
    const struct load_facts *f = &s->weights->loaded;
    char weights[SIZE_TEXT], peak[SIZE_TEXT];
    if (terminal_is(stderr))
        fprintf(stderr, "loaded  %s of weights in %.1f s (%.2f GB/s read%s), %s of memory at most\n",
                size_text(weights, s->weights->bytes), f->seconds,
                f->seconds > 0 ? 1e-9 * (double)f->read_bytes / f->seconds : 0,
                f->from_pack ? " from the packed model" : "", size_text(peak, f->peak_rss));
}

static void tell_pack(void *user, const char *line)
{
    (void)user;
    fprintf(stderr, "note    %s\n", line);
}

static int load_weights(struct setup *s, struct err *e)
{
    char packs[1024];
    struct progress_line line = { 0 };
    struct packed_options pack = { .folder = packs, .say = tell_pack };
    struct weights_options opt = { .threads = s->threads,
                                   .progress = terminal_progress,
                                   .progress_user = &line };
    if (cache_path(packs, sizeof packs, "packs", NULL) == 0)
        opt.pack = &pack;
    tell_plan(s);
    int rc = weights_load(&s->weights, s->plan, s->device, &opt, e);
    terminal_progress_end(&line);
    if (!rc)
        tell_loaded(s);
    return rc;
}

static int open_session(struct setup *s, struct err *e)
{
    const struct plan_options *o = &s->plan->opt;
    struct engine_options opt = { .max_batch = o->batch,
                                  .max_sessions = o->sessions,
                                  .max_ctx = o->ctx,
                                  .max_logits = o->logits,
                                  .expert_slots = s->plan->cache_slots };
    int rc = engine_open(&s->engine, s->weights, s->device, &opt, e);
    return rc ? rc
              : session_open(&s->session, s->engine, &(struct session_options){ .kv_type = o->kv_type }, e);
}

int setup_load(struct setup *s, const struct args *a, const struct setup_limits *l, struct err *e)
{
    struct device_cpu_options cpu = { .act = a->exact ? ACT_EXACT : ACT_INT8 };
    int rc = setup_isa(a->cpu, &cpu.isa, e);
    if (!rc && !s->plan)
        rc = setup_plan(s, a, l, e);
    if (!rc)
        rc = threads_open(&s->threads, s->plan->opt.threads, e);
    if (rc)
        return rc;
    cpu.threads = s->threads;
    rc = device_cpu_open(&s->device, &cpu, e);
    if (!rc)
        rc = load_weights(s, e);
    return rc ? rc : open_session(s, e);
}

void setup_close(struct setup *s)
{
    session_close(&s->session);
    engine_close(&s->engine);
    weights_close(&s->weights);
    if (s->device)
        s->device->ops->close(s->device);
    threads_close(&s->threads);
    plan_close(&s->plan);
    tokenizer_close(&s->tokenizer);
    model_close(&s->model);
    *s = (struct setup){ 0 };
}
