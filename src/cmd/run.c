/*
 * run.c: `tonne run MODEL [PROMPT]`: one prompt, one answer.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <utf8proc.h>

#include "base/file.h"
#include "base/mem.h"
#include "cmd/generate.h"
#include "cmd/terminal.h"

enum { MAX_PROMPT_BYTES = 256 << 20 };

/* ---- the prompt ---- */

static int check_utf8(const struct text *t, struct err *e)
{
    utf8proc_int32_t c;
    for (size_t at = 0; at < t->n;) {
        utf8proc_ssize_t len =
            utf8proc_iterate((const utf8proc_uint8_t *)t->s + at, (utf8proc_ssize_t)(t->n - at), &c);
        if (len <= 0) {
            err_set(e, ERR_USAGE, "the prompt is not valid UTF-8: byte %zu is wrong", at + 1);
            err_hint(e, "convert it: iconv -f latin1 -t utf-8");
            return ERR_USAGE;
        }
        at += (size_t)len;
    }
    return 0;
}

static int read_stdin(struct text *t, struct err *e)
{
    char block[1 << 16];
    for (ssize_t got; (got = read(STDIN_FILENO, block, sizeof block)) != 0;) {
        if (got < 0)
            return err_set(e, ERR_FILE, "reading standard input failed: %s", strerror(errno));
        if (t->n + (size_t)got > MAX_PROMPT_BYTES)
            return err_set(e, ERR_USAGE, "the prompt is longer than %d bytes", MAX_PROMPT_BYTES);
        int rc = text_add(t, block, (size_t)got, e);
        if (rc)
            return rc;
    }
    return 0;
}

/* From the argument, --file, or standard input; of the latter two one line end at the end is dropped. */
static int read_prompt(struct text *t, const struct args *a, struct err *e)
{
    const char *word = a->n_word > 1 ? a->word[1] : NULL;
    bool use_stdin = word      ? strcmp(word, "-") == 0
                     : a->file ? strcmp(a->file, "-") == 0
                               : !isatty(STDIN_FILENO);
    int rc = 0;
    if (word && a->file)
        return err_set(e, ERR_USAGE, "there are two prompts: the argument and --file %.100s", a->file);
    if (!word && !a->file && !use_stdin) {
        err_set(e, ERR_USAGE, "there is no prompt");
        err_hint(e, "tonne run %.100s \"Your prompt\"", a->word[0]);
        return ERR_USAGE;
    }
    if (use_stdin) {
        rc = read_stdin(t, e);
    } else if (word) {
        rc = text_add(t, word, strlen(word), e);
    } else {
        rc = file_slurp(a->file, MAX_PROMPT_BYTES, &t->s, &t->n, e);
        t->capacity = rc ? 0 : t->n + 1;
    }
    if (!rc && (!word || use_stdin) && t->n > 0 && t->s[t->n - 1] == '\n')
        t->n--;
    if (!rc && t->n == 0)
        return err_set(e, ERR_USAGE, "the prompt is empty");
    return rc ? rc : check_utf8(t, e);
}

/* Renders the conversation of one user message and encodes it. */
static int encode_chat(struct tokens *out, bool *thinking, const struct setup *s, const struct args *a,
                       const struct text *prompt, struct err *e)
{
    struct chat_text text = { 0 };
    json_t *messages = json_array();
    if (a->system)
        json_array_append_new(messages, json_pack("{s:s, s:s}", "role", "system", "content", a->system));
    json_array_append_new(messages,
                          json_pack("{s:s, s:s%}", "role", "user", "content", prompt->s, prompt->n));
    int rc = chat_render(&text, &s->chat, messages, NULL, e);
    if (!rc)
        rc = tokenizer_encode(s->tokenizer, text.text, text.n, text.trusted, text.n_trusted, out, e);
    *thinking = text.opens_thinking;
    chat_text_free(&text);
    json_decref(messages);
    return rc;
}

/* Whether the prompt goes to the model as it is. A model without a template can only continue text. */
static int decide_raw(bool *raw, const struct setup *s, const struct args *a, struct err *e)
{
    *raw = a->raw;
    if (a->raw || s->chat.family != CHAT_UNKNOWN)
        return 0;
    if (s->model->chat_template) {
        err_set(e, ERR_USAGE, "the model's chat template is of no known family");
        err_hint(e, "--template NAME with one of: %s; or --raw to continue the prompt as text", chat_list());
        return ERR_USAGE;
    }
    if (a->system) {
        err_set(e, ERR_USAGE, "--system needs a chat template, and this model has none");
        err_hint(e, "--template NAME with one of: %s", chat_list());
        return ERR_USAGE;
    }
    fputs("tonne: this model has no chat template; continuing the prompt as text, as --raw does\n", stderr);
    *raw = true;
    return 0;
}

static int check_length(const struct setup *s, const struct args *a, size_t n, struct err *e)
{
    size_t ctx = (size_t)s->plan->opt.ctx, want = n + (a->max_tokens ? (size_t)a->max_tokens : 512);
    if (n < ctx)
        return 0;
    err_set(e, ERR_USAGE, "the prompt has %zu tokens; the context holds %zu, the answer included", n, ctx);
    err_hint(e, "--ctx %zu", (want + 1023) / 1024 * 1024);
    return ERR_USAGE;
}

/* ---- the answer ---- */

static int show(void *user, const char *text, size_t n, bool reasoning, struct err *e)
{
    bool *dimmed = user;
    if (reasoning && !terminal_is(stdout))
        return 0; /* a pipe gets the answer only */
    if (reasoning != *dimmed) {
        terminal_dim(reasoning);
        if (!reasoning)
            fputs("\n\n", stdout);
        *dimmed = reasoning;
    }
    return terminal_write(text, n, e);
}

static double rate(int n, double seconds)
{
    return seconds > 0 ? n / seconds : 0;
}

/* Only when experts live on disk. */
static void print_expert_stats(const struct expert_cache_stats *c, int n_tokens)
{
    if (c->slots == 0)
        return;
    fprintf(stderr,
            "experts   %.1f %% of %llu found in memory; %.1f MiB read (%.1f per token), %.2f s waited\n",
            100 * (double)c->hits / (double)(c->pinned ? c->pinned : 1), (unsigned long long)c->pinned,
            (double)c->bytes / (1 << 20), (double)c->bytes / (1 << 20) / n_tokens, c->stall_seconds);
    fprintf(stderr, "          %d slots of %.1f MiB; files are read %s, by %s\n", c->slots,
            (double)c->slot_bytes / (1 << 20), c->direct ? "past the page cache" : "through the page cache",
            c->ring ? "io_uring" : "threads");
}

static void print_stats(const struct answer *x, const struct setup *s)
{
    struct expert_cache_stats experts = engine_expert_stats(s->engine);
    const struct sampler_options *o = &s->sampling;
    fprintf(stderr, "prompt    %7d tokens  %9.1f tokens/s\n", x->n_prompt,
            rate(x->n_prompt, x->prompt_seconds));
    fprintf(stderr, "answer    %7d tokens  %9.1f tokens/s\n", x->n_answer,
            rate(x->n_answer, x->answer_seconds));
    fprintf(stderr, "time      %.2f s loading, %.3f s to the first token\n", s->weights->loaded.seconds,
            x->first_token_seconds);
    fprintf(stderr, "memory    %.1f MiB at most, %.1f of them weights\n", (double)mem_peak_rss() / (1 << 20),
            (double)s->weights->bytes / (1 << 20));
    print_expert_stats(&experts, x->n_prompt + x->n_answer);
    fprintf(stderr, "sampling  temperature %g, top-k %d, top-p %g, min-p %g, seed %llu\n",
            (double)o->temperature, o->top_k, (double)o->top_p, (double)o->min_p,
            (unsigned long long)o->seed);
}

static int print_json(const struct answer *x, const struct setup *s, struct err *e)
{
    json_t *j = json_pack(
        "{s:s%, s:s%, s:s, s:i, s:i, s:f, s:f, s:f, s:I, s:I}", "text", x->text.s ? x->text.s : "", x->text.n,
        "reasoning", x->reasoning.s ? x->reasoning.s : "", x->reasoning.n, "finish_reason",
        answer_end_name(x->end), "prompt_tokens", x->n_prompt, "answer_tokens", x->n_answer,
        "prompt_tokens_per_second", rate(x->n_prompt, x->prompt_seconds), "answer_tokens_per_second",
        rate(x->n_answer, x->answer_seconds), "first_token_seconds", x->first_token_seconds,
        "peak_memory_bytes", (json_int_t)mem_peak_rss(), "seed", (json_int_t)s->sampling.seed);
    char *text = j ? json_dumps(j, JSON_INDENT(1) | JSON_REAL_PRECISION(9)) : NULL;
    json_decref(j);
    if (!text)
        return err_set(e, ERR_MEMORY, "no memory for the JSON text");
    puts(text);
    free(text);
    return terminal_flush(e);
}

static int answer(struct setup *s, const struct args *a, const struct tokens *prompt, bool raw, bool thinking,
                  struct err *e)
{
    bool dimmed = false;
    struct answer x = { 0 };
    struct generate_options o = { .stop = a->stop,
                                  .n_stop = a->n_stop,
                                  .max_tokens = a->max_tokens,
                                  .raw = raw,
                                  .thinking = thinking,
                                  .sink = a->json ? NULL : show,
                                  .user = &dimmed };
    int rc = sampler_open(&o.sampler, &s->sampling, s->model->shape.n_vocab, tokenizer_size(s->tokenizer), e);
    if (!rc)
        rc = generate(&x, s, &o, prompt->id, (int)prompt->n, NULL, e);
    sampler_close(&o.sampler);
    if (dimmed)
        terminal_dim(false);
    if (!rc && a->json)
        rc = print_json(&x, s, e);
    if (!rc && !a->json && (x.text.n == 0 || x.text.s[x.text.n - 1] != '\n'))
        rc = terminal_write("\n", 1, e);
    if (!rc && x.end == ANSWER_INTERRUPTED)
        rc = err_set(e, ERR_CANCELED, "stopped after %d tokens", x.n_answer);
    if (a->stats)
        print_stats(&x, s);
    answer_free(&x);
    return rc;
}

static int run(const struct args *a, struct err *e)
{
    struct setup s = { 0 };
    struct text prompt = { 0 };
    struct tokens tokens = { 0 };
    struct setup_limits limits = { 0 };
    bool raw, thinking = false;
    int rc = read_prompt(&prompt, a, e);
    terminal_catch_interrupt();
    if (!rc)
        rc = setup_open(&s, a->word[0], a, e);
    if (!rc)
        rc = decide_raw(&raw, &s, a, e);
    if (!rc && raw)
        rc = tokenizer_encode(s.tokenizer, prompt.s, prompt.n, NULL, TOKENIZE_ALL_TRUSTED, &tokens, e);
    else if (!rc)
        rc = encode_chat(&tokens, &thinking, &s, a, &prompt, e);
    if (!rc)
        rc = setup_plan(&s, a, &limits, e);
    if (!rc)
        rc = check_length(&s, a, tokens.n, e);
    if (!rc)
        rc = setup_load(&s, a, &limits, e);
    if (!rc)
        rc = answer(&s, a, &tokens, raw, thinking, e);
    tokens_free(&tokens);
    text_free(&prompt);
    setup_close(&s);
    return rc;
}

/* clang-format off: a table */
static const struct option own[] = {
    OPT_TEXT("file", "FILE", file, "read the prompt from FILE; -: standard input"),
    OPT_FLAG("raw", raw, 1, "continue the prompt as text, without chat format"),
    OPT_FLAG("json", json, 1, "print one JSON object when the answer is complete"),
    { 0 }
};
/* clang-format on */
static const struct option_group group = { "Prompt and output", own };

const struct command command_run = {
    .name = "run",
    .usage = "MODEL [PROMPT]",
    .summary = "write the answer to one prompt",
    .help = "Writes what the model answers to one prompt: PROMPT, --file, or standard input. The\n"
            "prompt becomes the user message of the model's chat format; with --raw, or when the\n"
            "model has none, the model continues it as text. On a terminal the model's reasoning is\n"
            "shown dimmed; a pipe gets the answer only.\n"
            "\n"
            "Examples\n"
            "  tonne run models/novelist.gguf \"The old house\" --raw --max-tokens 100\n"
            "  tonne run Qwen3-30B-A3B \"Why is the sky blue?\" --type q4_k_m --no-think\n"
            "  git diff | tonne run Qwen3-30B-A3B --system \"Review this change.\" --temp 0\n"
            "  tonne run Qwen3-30B-A3B --file question.txt --json --seed 7 --ctx 32K\n",
    .min_words = 1,
    .max_words = 2,
    .group = { &group, &options_prompt, &options_sampling, &options_run, &options_model },
    .run = run,
};
