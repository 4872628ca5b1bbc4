/*
 * perplexity.c: `tonne perplexity MODEL --file F`: how well the model predicts a text, and with --reference
 * how far it is from another model.
 *
 * The text is one stream of tokens t[0], t[1], ... Window i evaluates the N tokens t[N i .. N i + N) from an
 * empty state and predicts the N tokens t[N i + 1 .. N i + N + 1): every position counts, the first of a
 * window (one token of context) and the last (whose target opens the next window) included. 32 windows of 512
 * are 16,384 predictions.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "cmd/session_setup.h"
#include "cmd/terminal.h"

enum { DEFAULT_WINDOW = 512, LOGIT_BYTES = 64 << 20, MAX_TEXT_BYTES = 1 << 30 };

/* One position's share of the sums. */
struct score {
    double nll; /* nats */
    double kl;  /* of the reference's distribution from the model's, nats */
    bool same;  /* both find the same token most probable */
};

struct totals {
    int64_t n;
    double nll, nll2, kl, kl2;
    int64_t same, bytes;
};

struct sides {
    struct setup model, reference; /* reference.model NULL: none */
    struct tokens tokens;
    int window, rows; /* positions of a window; of one pass */
    int n_windows;
    struct score *score; /* [rows] */
};

/* ---- arithmetic ---- */

struct score_job {
    const struct sides *s;
    const int32_t *target; /* [n] */
    int n;
};

/* log(sum(exp(x))) in double; *best is the first of the largest. */
static double log_sum(const float *x, int n, int *best)
{
    double sum = 0;
    *best = 0;
    for (int i = 1; i < n; i++)
        if (x[i] > x[*best])
            *best = i;
    for (int i = 0; i < n; i++)
        sum += exp((double)x[i] - (double)x[*best]);
    return (double)x[*best] + log(sum);
}

static void score_rows(void *arg, struct threads *t, int thread)
{
    (void)thread;
    const struct score_job *job = arg;
    const struct sides *s = job->s;
    int n_vocab = s->model.model->shape.n_vocab, best, best_reference;
    for (int64_t row; (row = threads_next(t)) < job->n;) {
        const float *x = engine_logits(s->model.engine, (int)row);
        double z = log_sum(x, n_vocab, &best);
        struct score r = { .nll = z - (double)x[job->target[row]] };
        if (s->reference.engine) {
            const float *y = engine_logits(s->reference.engine, (int)row);
            double zy = log_sum(y, n_vocab, &best_reference);
            for (int i = 0; i < n_vocab; i++)
                r.kl += exp((double)y[i] - zy) * (((double)y[i] - zy) - ((double)x[i] - z));
            r.same = best == best_reference;
        }
        s->score[row] = r;
    }
}

static void add_scores(struct totals *t, const struct sides *s, const int32_t *target, int n)
{
    for (int i = 0; i < n; i++) {
        const struct score *r = &s->score[i];
        size_t bytes = 0;
        tokenizer_bytes(s->model.tokenizer, target[i], &bytes);
        t->n++;
        t->nll += r->nll;
        t->nll2 += r->nll * r->nll;
        t->kl += r->kl;
        t->kl2 += r->kl * r->kl;
        t->same += r->same;
        t->bytes += (int64_t)bytes;
    }
}

static double standard_error(double sum, double sum2, int64_t n)
{
    double mean = sum / (double)n, variance = sum2 / (double)n - mean * mean;
    return n > 1 && variance > 0 ? sqrt(variance / (double)(n - 1)) : 0;
}

/* ---- evaluation ---- */

static int evaluate(struct setup *side, const int32_t *tokens, int n, struct err *e)
{
    struct step step = { .session = side->session, .tokens = tokens, .n_tokens = n, .n_logits = n };
    return engine_step(side->engine, &step, 1, e);
}

static int score_window(struct sides *s, struct totals *t, const int32_t *tokens, struct err *e)
{
    session_reset(s->model.session);
    if (s->reference.session)
        session_reset(s->reference.session);
    for (int at = 0; at < s->window; at += s->rows) {
        int n = s->window - at < s->rows ? s->window - at : s->rows;
        int rc = evaluate(&s->model, tokens + at, n, e);
        if (!rc && s->reference.engine)
            rc = evaluate(&s->reference, tokens + at, n, e);
        if (rc)
            return rc;
        if (terminal_interrupted())
            return err_set(e, ERR_CANCELED, "stopped");
        struct score_job job = { s, tokens + at + 1, n };
        threads_run(s->model.threads, score_rows, &job);
        add_scores(t, s, tokens + at + 1, n);
    }
    return 0;
}

static int score_all(struct sides *s, struct totals *t, struct err *e)
{
    struct progress_line line = { 0 };
    int rc = 0;
    s->score = calloc((size_t)s->rows, sizeof *s->score);
    if (!s->score)
        return err_set(e, ERR_MEMORY, "no memory for %d scores", s->rows);
    for (int i = 0; i < s->n_windows && !rc; i++) {
        rc = score_window(s, t, s->tokens.id + (size_t)i * (size_t)s->window, e);
        if (terminal_is(stderr)) {
            fprintf(stderr, "\rwindow %d of %d: %.4f\033[K", i + 1, s->n_windows, exp(t->nll / (double)t->n));
            line.shown = true;
        }
    }
    terminal_progress_end(&line);
    if (!rc && !(isfinite(t->nll) && isfinite(t->kl)))
        rc = err_set(e, ERR_FORMAT, "the model's logits are not finite numbers");
    return rc;
}

/* ---- set up ---- */

static int encode_file(struct tokens *out, const struct setup *side, const char *path, struct err *e)
{
    char *text;
    size_t n;
    int rc = file_slurp(path, MAX_TEXT_BYTES, &text, &n, e);
    if (rc)
        return rc;
    rc = tokenizer_encode(side->tokenizer, text, n, NULL, 0, out, e);
    free(text);
    if (rc)
        err_where(e, "%s", path);
    return rc;
}

static int choose_windows(struct sides *s, const struct args *a, struct err *e)
{
    s->window = a->ctx ? a->ctx : DEFAULT_WINDOW;
    size_t available = s->tokens.n > 0 ? (s->tokens.n - 1) / (size_t)s->window : 0;
    if (available > INT32_MAX)
        available = INT32_MAX;
    s->n_windows = a->windows ? a->windows : (int)available;
    if (available > 0 && (size_t)s->n_windows <= available)
        return 0;
    err_set(e, ERR_USAGE, "the text has %zu tokens: %zu windows of %d", s->tokens.n, available, s->window);
    if (available > 0)
        err_hint(e, "--windows %zu, or a smaller --ctx", available);
    else
        err_hint(e, "a smaller --ctx, or a longer text");
    return ERR_USAGE;
}

/* Rows of logits are kept for a whole pass: fewer rows when the vocabulary is large. */
static int load_side(struct setup *side, const struct sides *s, const struct args *a, struct err *e)
{
    struct setup_limits limits = { .ctx = s->window, .max_logits = s->rows, .batch = s->rows };
    return setup_load(side, a, &limits, e);
}

static void choose_rows(struct sides *s, const struct args *a)
{
    int64_t fit = LOGIT_BYTES / (4 * (int64_t)s->model.model->shape.n_vocab),
            want = a->batch ? a->batch : 512;
    s->rows = (int)(fit < 1 ? 1 : fit < want ? fit : want);
    s->rows = s->rows < s->window ? s->rows : s->window;
}

/* Opens the reference as it is stored: --type changes the model only. */
static int open_reference(struct sides *s, const struct args *a, struct err *e)
{
    struct args plain = *a;
    struct tokens same = { 0 };
    plain.type = NULL;
    int rc = setup_open(&s->reference, a->reference, &plain, e);
    if (!rc)
        rc = encode_file(&same, &s->reference, a->file, e);
    if (!rc && (s->reference.model->shape.n_vocab != s->model.model->shape.n_vocab || same.n != s->tokens.n ||
                memcmp(same.id, s->tokens.id, same.n * sizeof *same.id) != 0)) {
        rc = err_set(e, ERR_USAGE, "the reference has another tokenizer, so the two cannot be compared");
        err_where(e, "%s", a->reference);
    }
    tokens_free(&same);
    return rc ? rc : load_side(&s->reference, s, &plain, e);
}

/* ---- output ---- */

static int print_json(const struct totals *t, const struct sides *s, struct err *e)
{
    double ppl = exp(t->nll / (double)t->n), n = (double)t->n;
    json_t *j = json_pack("{s:f, s:f, s:f, s:I, s:i, s:i}", "perplexity", ppl, "stderr",
                          ppl * standard_error(t->nll, t->nll2, t->n), "bits_per_byte",
                          t->nll / log(2) / (double)t->bytes, "tokens", (json_int_t)t->n, "windows",
                          s->n_windows, "ctx", s->window);
    if (j && s->reference.engine) {
        json_object_set_new(j, "kl_divergence", json_real(t->kl / n));
        json_object_set_new(j, "kl_stderr", json_real(standard_error(t->kl, t->kl2, t->n)));
        json_object_set_new(j, "same_top", json_real((double)t->same / n));
    }
    char *text = j ? json_dumps(j, JSON_INDENT(1) | JSON_REAL_PRECISION(9)) : NULL;
    json_decref(j);
    if (!text)
        return err_set(e, ERR_MEMORY, "no memory for the JSON text");
    puts(text);
    free(text);
    return terminal_flush(e);
}

static int print_text(const struct totals *t, const struct sides *s, struct err *e)
{
    double ppl = exp(t->nll / (double)t->n), n = (double)t->n;
    printf("perplexity     %.4f +/- %.4f\n", ppl, ppl * standard_error(t->nll, t->nll2, t->n));
    printf("bits per byte  %.4f\n", t->nll / log(2) / (double)t->bytes);
    printf("predictions    %lld (%d windows of %d tokens, each from an empty state)\n", (long long)t->n,
           s->n_windows, s->window);
    if (s->reference.engine) {
        printf("KL divergence  %.6f +/- %.6f nats per token from the reference\n", t->kl / n,
               standard_error(t->kl, t->kl2, t->n));
        printf("same choice    %.2f %% of the positions\n", 100 * (double)t->same / n);
    }
    return terminal_flush(e);
}

static int perplexity(const struct args *a, struct err *e)
{
    struct sides s = { 0 };
    struct totals t = { 0 };
    if (!a->file) {
        err_set(e, ERR_USAGE, "there is no text to predict");
        err_hint(e, "tonne perplexity %.100s --file TEXT", a->word[0]);
        return ERR_USAGE;
    }
    terminal_catch_interrupt();
    int rc = setup_open(&s.model, a->word[0], a, e);
    if (!rc)
        rc = encode_file(&s.tokens, &s.model, a->file, e);
    if (!rc)
        rc = choose_windows(&s, a, e);
    if (!rc) {
        choose_rows(&s, a);
        rc = load_side(&s.model, &s, a, e);
    }
    if (!rc && a->reference)
        rc = open_reference(&s, a, e);
    if (!rc)
        rc = score_all(&s, &t, e);
    if (!rc)
        rc = a->json ? print_json(&t, &s, e) : print_text(&t, &s, e);
    free(s.score);
    tokens_free(&s.tokens);
    setup_close(&s.reference);
    setup_close(&s.model);
    return rc;
}

/* clang-format off: a table */
static const struct option own[] = {
    OPT_TEXT("file", "FILE", file, "the text"),
    OPT_COUNT("ctx", "N", ctx, 1, 1 << 24, "tokens of a window (default 512)"),
    OPT_COUNT("windows", "N", windows, 1, INT32_MAX, "how many windows (default: the whole text)"),
    OPT_TEXT("reference", "MODEL2", reference, "also measure the divergence from this model"),
    OPT_COUNT("batch", "N", batch, 1, 1 << 20, "tokens evaluated at once (default 512)"),
    OPT_TEXT("kv-type", "TYPE", kv_type, "f16 (default), bf16, f32"),
    OPT_FLAG("json", json, 1, "print one JSON object"),
    { 0 }
};
/* clang-format on */
static const struct option_group group = { "Measurement", own };

const struct command command_perplexity = {
    .name = "perplexity",
    .usage = "MODEL --file TEXT",
    .summary = "measure how well a model predicts a text",
    .help = "Cuts the text into consecutive windows of --ctx tokens, evaluates each from an empty\n"
            "state, and predicts from every position the token that follows it. Prints perplexity\n"
            "with its standard error and bits per byte of text; with --reference also the mean\n"
            "Kullback-Leibler divergence of MODEL from MODEL2 and how often both would choose the\n"
            "same token. --type quantizes MODEL only.\n"
            "\n"
            "Examples\n"
            "  tonne perplexity models/novelist.gguf --file alice.txt --ctx 512 --windows 32\n"
            "  tonne perplexity Qwen3-30B-A3B --type q4_k_m --reference Qwen3-30B-A3B --file alice.txt\n",
    .min_words = 1,
    .max_words = 1,
    .group = { &group, &options_model },
    .run = perplexity,
};
