/* options.c: see options.h. */
#include "cmd/options.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text/chat.h"

/* clang-format off: a table */
static const struct option model_table[] = {
    OPT_TEXT("type", "TYPE", type, "quantize while loading: q4_k_m, q8_0, nf4, nf4-dq, bf16, ..."),
    OPT_TEXT("ram", "SIZE", ram, "plan with this much memory: 24G (default: what is free)"),
    OPT_FLAG("no-pack", no_pack, 1, "with --type: neither keep the quantized weights nor use kept ones"),
    OPT_COUNT("threads", "N", threads, 1, 1024,
              "CPU threads (default: the physical cores this process may use)"),
    OPT_TEXT("cpu", "SET", cpu, "use at most plain, avx2 or avx512 instructions (for diagnosis)"),
    OPT_FLAG("exact", exact, 1, "multiply with float32 activations: slower, for comparisons"),
    { 0 }
};
/* clang-format on */
const struct option_group options_model = { "Model and machine", model_table };

/* clang-format off: a table */
static const struct option run_table[] = {
    OPT_COUNT("ctx", "N", ctx, 1, INT_MAX, "tokens the context holds (default: the model's, at most 32K)"),
    OPT_COUNT("batch", "N", batch, 1, 1 << 20, "prompt tokens evaluated at once (default 512)"),
    OPT_TEXT("kv-type", "TYPE", kv_type, "how keys and values are kept: f16 (default), bf16, f32"),
    OPT_FLAG("stats", stats, 1, "print speeds, time to first token and memory on stderr"),
    { 0 }
};
/* clang-format on */
const struct option_group options_run = { "Evaluation", run_table };

/* clang-format off: a table */
static const struct option sampling_table[] = {
    OPT_REAL("temp", "T", temp, 0, 100, "temperature; 0 always takes the most probable token"),
    OPT_COUNT("top-k", "N", top_k, 0, INT_MAX, "draw from the N most probable tokens; 0: all"),
    OPT_REAL("top-p", "P", top_p, 0, 1, "draw from the fewest tokens that together reach probability P"),
    OPT_REAL("min-p", "P", min_p, 0, 1, "drop tokens less probable than P times the most probable one"),
    OPT_REAL("repeat-penalty", "X", repeat_penalty, 0.01, 100,
             "make tokens of prompt and answer less probable; 1: off"),
    OPT_REAL("presence-penalty", "X", presence_penalty, -100, 100,
             "subtract X from the logit of every token in the answer"),
    OPT_REAL("frequency-penalty", "X", frequency_penalty, -100, 100, "the same, X per occurrence"),
    { "logit-bias", "ID=X", OPTION_BIAS, 0, 0, 0, 0, "add X to the logit of token ID (may be repeated)" },
    { "seed", "N", OPTION_SEED, 0, 0, 0, 0,
      "the same seed gives the same text (default: a new one each time)" },
    { 0 }
};
/* clang-format on */
const struct option_group options_sampling = { "Sampling (default: what the model's files say)",
                                               sampling_table };

/* clang-format off: a table */
static const struct option prompt_table[] = {
    OPT_TEXT("system", "TEXT", system, "the system message"),
    OPT_FLAG("think", think, 1, "let the model reason before it answers"),
    OPT_FLAG("no-think", think, 0, "make it answer at once (default: the template's choice)"),
    OPT_TEXT("template", "NAME", template_name,
             "chat format instead of the model's own: chatml, qwen2.5, qwen3, qwen3-coder, qwen3.5, ..."),
    OPT_COUNT("max-tokens", "N", max_tokens, 1, INT_MAX, "end the answer after N tokens"),
    { "stop", "TEXT", OPTION_STOP, 0, 0, 0, 0, "end the answer before TEXT (may be repeated)" },
    { 0 }
};
/* clang-format on */
const struct option_group options_prompt = { "Conversation", prompt_table };

struct args args_defaults(void)
{
    return (struct args){ .temp = NAN,
                          .top_p = NAN,
                          .min_p = NAN,
                          .repeat_penalty = NAN,
                          .presence_penalty = NAN,
                          .frequency_penalty = NAN,
                          .top_k = -1,
                          .think = -1,
                          .generate = -1 };
}

/* ---- suggestions ---- */

/* Edits (insert, delete, replace, swap neighbours) between two words of at most 31 letters; 99 for longer
 * ones. */
static int distance(const char *a, const char *b)
{
    int row[3][32];
    size_t n = strlen(a), m = strlen(b);
    if (n > 31 || m > 31)
        return 99;
    for (size_t j = 0; j <= m; j++)
        row[0][j] = (int)j;
    for (size_t i = 1; i <= n; i++) {
        int *now = row[i % 3], *last = row[(i - 1) % 3], *before = row[(i + 1) % 3];
        now[0] = (int)i;
        for (size_t j = 1; j <= m; j++) {
            int best = last[j - 1] + (a[i - 1] != b[j - 1]);
            best = last[j] + 1 < best ? last[j] + 1 : best;
            best = now[j - 1] + 1 < best ? now[j - 1] + 1 : best;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && before[j - 2] + 1 < best)
                best = before[j - 2] + 1;
            now[j] = best;
        }
    }
    return row[n % 3][m];
}

const char *nearest_word(const char *word, const char *const *candidate, int n)
{
    int near = (int)strlen(word) / 3 + 1; /* a longer word may have more typing errors */
    const char *found = NULL;
    for (int i = 0; i < n; i++) {
        int d = distance(word, candidate[i]);
        if (d <= near) {
            near = d - 1;
            found = candidate[i];
        }
    }
    return found;
}

/* ---- parsing ---- */

static const char *dashes(const struct option *o)
{
    return o->name[1] ? "--" : "-";
}

static const struct option *find_option(const struct command *c, const char *name, size_t n)
{
    for (int g = 0; g < 6 && c->group[g]; g++)
        for (const struct option *o = c->group[g]->option; o->name; o++)
            if (strlen(o->name) == n && memcmp(o->name, name, n) == 0)
                return o;
    return NULL;
}

static int unknown_option(const struct command *c, const char *arg, struct err *e)
{
    const char *name[128];
    char word[64];
    int n = 0;
    for (int g = 0; g < 6 && c->group[g]; g++)
        for (const struct option *o = c->group[g]->option; o->name && n < 128; o++)
            if (o->name[1]) /* every word is near to a letter */
                name[n++] = o->name;
    snprintf(word, sizeof word, "%.*s", (int)strcspn(arg, "="), arg);
    const char *near = nearest_word(word + strspn(word, "-"), name, n);
    err_set(e, ERR_USAGE, "%s has no option %s", c->name, word);
    if (near)
        err_hint(e, "--%s, or see them all: tonne %s --help", near, c->name);
    else
        err_hint(e, "tonne %s --help", c->name);
    return ERR_USAGE;
}

static int bad_value(const struct option *o, const char *text, const char *want, struct err *e)
{
    err_set(e, ERR_USAGE, "%s%s \"%s\": %s", dashes(o), o->name, text, want);
    return ERR_USAGE;
}

static int out_of_range(const struct option *o, const char *text, struct err *e)
{
    char want[96];
    if (o->max < INT_MAX)
        snprintf(want, sizeof want, "must lie within %.15g..%.15g", o->min, o->max);
    else if (*text == '-' || strtod(text, NULL) < o->min)
        snprintf(want, sizeof want, "must be %.15g or more", o->min);
    else
        snprintf(want, sizeof want, "must be %.15g or less", o->max);
    return bad_value(o, text, want, e);
}

static int parse_count(const struct option *o, const char *text, int *out, struct err *e)
{
    char *end;
    errno = 0;
    long long v = strtoll(text, &end, 10);
    int shift = 0;
    if (end > text && *end)
        shift = *end == 'K' || *end == 'k'   ? 10
                : *end == 'M' || *end == 'm' ? 20
                : *end == 'G' || *end == 'g' ? 30
                                             : 0;
    if (shift)
        end++;
    if (end == text || *end)
        return bad_value(o, text, "is not a whole number (4096 and 32K are)", e);
    if (errno || v > INT64_MAX >> shift || v < 0 || (double)(v << shift) < o->min ||
        (double)(v << shift) > o->max)
        return out_of_range(o, text, e);
    *out = (int)(v << shift);
    return 0;
}

static int parse_real(const struct option *o, const char *text, float *out, struct err *e)
{
    char *end;
    double v = strtod(text, &end);
    if (end == text || *end || !isfinite(v))
        return bad_value(o, text, "is not a number", e);
    if (v < o->min || v > o->max)
        return out_of_range(o, text, e);
    *out = (float)v;
    return 0;
}

static int parse_seed(const struct option *o, const char *text, struct args *a, struct err *e)
{
    char *end;
    errno = 0;
    unsigned long long v = strtoull(text, &end, 10);
    if (end == text || *end || errno || *text == '-')
        return bad_value(o, text, "is not a whole number from 0 to 2^64 - 1", e);
    a->seed = v;
    a->seed_given = 1;
    return 0;
}

static int parse_bias(const struct option *o, const char *text, struct args *a, struct err *e)
{
    char *end;
    errno = 0;
    long id = strtol(text, &end, 10);
    if (end == text || *end != '=' || errno || id < 0 || id > INT32_MAX)
        return bad_value(o, text, "must be a token id, =, and a number: 151645=-5", e);
    char *last;
    double x = strtod(end + 1, &last);
    if (last == end + 1 || *last || !(x >= -1000 && x <= 1000))
        return bad_value(o, text, "must be a token id, =, and a number within -1000..1000: 151645=-5", e);
    if (a->n_bias == ARGS_MAX_BIAS)
        return err_set(e, ERR_USAGE, "--logit-bias was given more than %d times", ARGS_MAX_BIAS);
    a->bias[a->n_bias++] = (struct logit_bias){ (int32_t)id, (float)x };
    return 0;
}

static int store(struct args *a, const struct option *o, const char *text, struct err *e)
{
    char *field = (char *)a + o->offset;
    switch (o->kind) {
    case OPTION_FLAG:
        *(int *)field = o->value;
        return 0;
    case OPTION_COUNT:
        return parse_count(o, text, (int *)field, e);
    case OPTION_REAL:
        return parse_real(o, text, (float *)field, e);
    case OPTION_SEED:
        return parse_seed(o, text, a, e);
    case OPTION_TEXT:
        *(const char **)field = text;
        return 0;
    case OPTION_BIAS:
        return parse_bias(o, text, a, e);
    case OPTION_STOP:
        if (!*text)
            return bad_value(o, text, "is empty", e);
        if (a->n_stop == ARGS_MAX_STOP)
            return err_set(e, ERR_USAGE, "--stop was given more than %d times", ARGS_MAX_STOP);
        a->stop[a->n_stop++] = text;
    }
    return 0;
}

/* One option at argv[*i]; moves *i on to its value when that is a word of its own. */
static int parse_option(struct args *a, const struct command *c, int argc, char **argv, int *i, struct err *e)
{
    const char *arg = argv[*i], *name = arg + (arg[1] == '-' ? 2 : 1), *equals = strchr(name, '=');
    const struct option *o = find_option(c, name, equals ? (size_t)(equals - name) : strlen(name));
    if (!o || strlen(dashes(o)) != (size_t)(name - arg))
        return unknown_option(c, arg, e);
    if (o->kind == OPTION_FLAG) {
        if (equals)
            return err_set(e, ERR_USAGE, "--%s takes no value", o->name);
        return store(a, o, NULL, e);
    }
    if (equals)
        return store(a, o, equals + 1, e);
    if (*i + 1 >= argc) {
        err_set(e, ERR_USAGE, "%s%s needs a value", dashes(o), o->name);
        err_hint(e, "%s%s %s", dashes(o), o->name, o->argument);
        return ERR_USAGE;
    }
    return store(a, o, argv[++*i], e);
}

static int check_words(const struct args *a, const struct command *c, struct err *e)
{
    if (a->n_word >= c->min_words)
        return 0;
    err_set(e, ERR_USAGE, "%s needs %s", c->name, c->usage);
    err_hint(e, "tonne %s --help", c->name);
    return ERR_USAGE;
}

int args_parse(struct args *a, const struct command *c, int argc, char **argv, struct err *e)
{
    int words_only = 0, rc = 0;
    *a = args_defaults();
    for (int i = 0; i < argc && !rc; i++) {
        if (!words_only && strcmp(argv[i], "--") == 0) {
            words_only = 1;
        } else if (!words_only && argv[i][0] == '-' && argv[i][1]) {
            rc = parse_option(a, c, argc, argv, &i, e);
        } else if (a->n_word == c->max_words) {
            err_set(e, ERR_USAGE, "\"%.100s\" is one argument too many: tonne %s %s", argv[i], c->name,
                    c->usage);
            err_hint(e, "quote an argument with spaces in it: \"...\"");
            rc = ERR_USAGE;
        } else {
            a->word[a->n_word++] = argv[i];
        }
    }
    return rc ? rc : check_words(a, c, e);
}

void command_help(const struct command *c)
{
    printf("usage: tonne %s %s [options]\n\n%s", c->name, c->usage, c->help);
    for (int g = 0; g < 6 && c->group[g]; g++) {
        printf("\n%s\n", c->group[g]->title);
        for (const struct option *o = c->group[g]->option; o->name; o++) {
            char left[48];
            snprintf(left, sizeof left, "%s%s%s%s", dashes(o), o->name, o->argument ? " " : "",
                     o->argument ? o->argument : "");
            printf("  %-22s %s\n", left, o->help);
        }
    }
}
