/*
 * sampler.c: see sampler.h. Semantics of transformers' logits processors: a repetition penalty divides
 * positive and multiplies negative logits; top-k keeps all ties with the k-th; top-p keeps the smallest set
 * of most probable tokens that reaches p; min-p is relative to the most probable token.
 *
 * A vocabulary has a quarter of a million rows and a token must cost far less than a millisecond, so nothing
 * here sorts it: top-k keeps a heap of k, and the tokens that top-p could keep are those above (1 - p) / n,
 * because all the others together are less likely than 1 - p.
 */
#include "text/sampler.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct sampler {
    struct sampler_options opt;
    struct logit_bias *bias; /* [opt.n_bias], own copy */
    int n_vocab, n_tokens;
    uint64_t random[4];
    uint8_t *seen;     /* [n_tokens]: in distinct */
    uint32_t *count;   /* [n_tokens]: times in the answer */
    int32_t *distinct; /* [n_tokens], n_distinct used: tokens of prompt and answer */
    int n_distinct;
    float *heap;                   /* [top_k] */
    struct sampler_choice *choice; /* [n_tokens] */
};

struct sampler_options sampler_defaults(void)
{
    return (struct sampler_options){ .top_p = 1, .repetition_penalty = 1 };
}

/* ---- options ---- */

static int check_range(double v, double min, double max, const char *name, struct err *e)
{
    if (v >= min && v <= max)
        return 0;
    return err_set(e, ERR_USAGE, "%s is %g, outside %g..%g", name, v, min, max);
}

int sampler_check(const struct sampler_options *o, struct err *e)
{
    int rc = check_range((double)o->temperature, 0, 100, "temperature", e);
    if (!rc)
        rc = check_range(o->top_k, 0, INT32_MAX, "top_k", e);
    if (!rc)
        rc = check_range((double)o->top_p, 0, 1, "top_p", e);
    if (!rc)
        rc = check_range((double)o->min_p, 0, 1, "min_p", e);
    if (!rc)
        rc = check_range((double)o->repetition_penalty, 0.01, 100, "repetition_penalty", e);
    if (!rc)
        rc = check_range((double)o->presence_penalty, -100, 100, "presence_penalty", e);
    if (!rc)
        rc = check_range((double)o->frequency_penalty, -100, 100, "frequency_penalty", e);
    for (int i = 0; !rc && i < o->n_bias; i++)
        rc = check_range((double)o->bias[i].bias, -1000, 1000, "logit_bias", e);
    return rc;
}

static int read_float(const json_t *obj, const char *key, float *v, struct err *e)
{
    double x;
    int rc = json_get_real(obj, key, (double)*v, &x, e);
    if (!rc)
        *v = (float)x;
    return rc;
}

int sampler_from_config(struct sampler_options *opt, const json_t *config, struct err *e)
{
    struct sampler_options o = *opt;
    int64_t top_k = o.top_k;
    bool do_sample = true;
    int rc = json_get_bool(config, "do_sample", true, &do_sample, e);
    if (!rc)
        rc = read_float(config, "temperature", &o.temperature, e);
    if (!rc)
        rc = json_get_int(config, "top_k", 0, INT32_MAX, top_k, &top_k, e);
    if (!rc)
        rc = read_float(config, "top_p", &o.top_p, e);
    if (!rc)
        rc = read_float(config, "min_p", &o.min_p, e);
    if (!rc)
        rc = read_float(config, "repetition_penalty", &o.repetition_penalty, e);
    o.top_k = (int)top_k;
    if (!do_sample)
        o.temperature = 0;
    if (!rc && sampler_check(&o, e)) {
        rc = ERR_FORMAT; /* the file's fault, not the command line's */
        if (e)
            e->code = rc;
    }
    if (rc)
        err_where(e, "generation_config.json");
    else
        *opt = o;
    return rc;
}

/* ---- life ---- */

/* xoshiro256++ by Blackman and Vigna, its state filled by splitmix64 as they advise (prng.di.unimi.it). */
static uint64_t splitmix(uint64_t *x)
{
    uint64_t z = *x += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
}

static uint64_t rotate(uint64_t x, int k)
{
    return (x << k) | (x >> (64 - k));
}

static uint64_t random_next(uint64_t s[4])
{
    uint64_t result = rotate(s[0] + s[3], 23) + s[0], t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate(s[3], 45);
    return result;
}

int sampler_open(struct sampler **out, const struct sampler_options *opt, int n_vocab, int n_tokens,
                 struct err *e)
{
    int rc = sampler_check(opt, e);
    if (rc)
        return rc;
    if (n_tokens < 1 || n_tokens > n_vocab)
        return err_set(e, ERR_FORMAT, "the tokenizer has %d tokens, the model %d rows of logits", n_tokens,
                       n_vocab);
    for (int i = 0; i < opt->n_bias; i++)
        if (opt->bias[i].id < 0 || opt->bias[i].id >= n_tokens)
            return err_set(e, ERR_USAGE, "logit_bias names token %d; ids are 0..%d", (int)opt->bias[i].id,
                           n_tokens - 1);
    struct sampler *s = calloc(1, sizeof *s);
    if (!s)
        return err_set(e, ERR_MEMORY, "no memory for the sampler");
    size_t n = (size_t)n_tokens;
    s->opt = *opt;
    s->opt.bias = NULL;
    if (s->opt.top_k >= n_tokens)
        s->opt.top_k = 0;
    s->n_vocab = n_vocab;
    s->n_tokens = n_tokens;
    s->bias = calloc((size_t)opt->n_bias + 1, sizeof *s->bias);
    s->seen = calloc(n, sizeof *s->seen);
    s->count = calloc(n, sizeof *s->count);
    s->distinct = calloc(n, sizeof *s->distinct);
    s->heap = calloc((size_t)s->opt.top_k + 1, sizeof *s->heap);
    s->choice = calloc(n, sizeof *s->choice);
    if (!s->bias || !s->seen || !s->count || !s->distinct || !s->heap || !s->choice) {
        sampler_close(&s);
        return err_set(e, ERR_MEMORY, "no memory for a sampler over %d tokens", n_tokens);
    }
    if (opt->n_bias > 0)
        memcpy(s->bias, opt->bias, (size_t)opt->n_bias * sizeof *s->bias);
    uint64_t seed = opt->seed;
    for (int i = 0; i < 4; i++)
        s->random[i] = splitmix(&seed);
    *out = s;
    return 0;
}

void sampler_close(struct sampler **sp)
{
    struct sampler *s = *sp;
    *sp = NULL;
    if (!s)
        return;
    free(s->bias);
    free(s->seen);
    free(s->count);
    free(s->distinct);
    free(s->heap);
    free(s->choice);
    free(s);
}

void sampler_accept(struct sampler *s, int32_t id, bool answer)
{
    if (id < 0 || id >= s->n_tokens)
        return;
    if (!s->seen[id]) {
        s->seen[id] = 1;
        s->distinct[s->n_distinct++] = id;
    }
    if (answer && s->count[id] < UINT32_MAX)
        s->count[id]++;
}

void sampler_reset(struct sampler *s)
{
    for (int i = 0; i < s->n_distinct; i++) {
        s->seen[s->distinct[i]] = 0;
        s->count[s->distinct[i]] = 0;
    }
    s->n_distinct = 0;
}

/* ---- one token ---- */

static void penalize(const struct sampler *s, float *logits)
{
    const struct sampler_options *o = &s->opt;
    for (int i = 0; i < o->n_bias; i++)
        logits[s->bias[i].id] += s->bias[i].bias;
    if (o->repetition_penalty == 1 && o->presence_penalty == 0 && o->frequency_penalty == 0)
        return;
    for (int i = 0; i < s->n_distinct; i++) {
        int32_t id = s->distinct[i];
        float x = logits[id];
        x = x < 0 ? x * o->repetition_penalty : x / o->repetition_penalty;
        if (s->count[id] > 0)
            x -= o->presence_penalty + o->frequency_penalty * (float)s->count[id];
        logits[id] = x;
    }
}

/* The largest logit's id, the first of equals; NaN is never larger. */
static int32_t largest(const float *logits, int n)
{
    int32_t best = 0;
    float max = -INFINITY;
    for (int i = 0; i < n; i++)
        if (logits[i] > max) {
            max = logits[i];
            best = i;
        }
    return best;
}

/* The k-th largest logit, -inf when fewer are above -inf. heap[0] is the smallest of the k largest so far. */
static float kth_largest(const float *logits, int n, int k, float *heap)
{
    for (int i = 0; i < k; i++)
        heap[i] = -INFINITY;
    for (int i = 0; i < n; i++) {
        if (!(logits[i] > heap[0]))
            continue;
        int at = 0;
        for (int child = 1; child < k; child = 2 * at + 1) {
            if (child + 1 < k && heap[child + 1] < heap[child])
                child++;
            if (heap[child] >= logits[i])
                break;
            heap[at] = heap[child];
            at = child;
        }
        heap[at] = logits[i];
    }
    return heap[0];
}

/* Collects the tokens whose logit is at least min (and above -inf) with their weights exp((x - max) / T).
 * Returns their number; *total is the sum of the weights. */
static int collect(struct sampler *s, const float *logits, float min, float max, double *total)
{
    int n = 0;
    double sum = 0, scale = 1 / (double)s->opt.temperature;
    for (int i = 0; i < s->n_tokens; i++) {
        if (!(logits[i] >= min) || logits[i] == -INFINITY)
            continue;
        double w = exp(((double)logits[i] - (double)max) * scale);
        s->choice[n++] = (struct sampler_choice){ i, logits[i], w };
        sum += w;
    }
    *total = sum;
    return n;
}

static int by_logit(const void *a, const void *b)
{
    const struct sampler_choice *x = a, *y = b;
    if (x->logit != y->logit)
        return x->logit < y->logit ? 1 : -1;
    return x->id < y->id ? -1 : 1;
}

/* Sorts the n choices and cuts the tail that top-p and min-p remove; returns how many stay, *total their
 * weight. */
static int cut_tail(struct sampler *s, int n, double *total)
{
    const struct sampler_options *o = &s->opt;
    struct sampler_choice *c = s->choice;
    if (s->opt.top_k == 0) { /* many: drop first what cannot stay */
        double least = o->top_p < 1 ? *total * (1 - (double)o->top_p) / n : 0;
        int kept = 0;
        for (int i = 0; i < n; i++)
            if (c[i].p >= least && c[i].p >= (double)o->min_p)
                c[kept++] = c[i];
        n = kept;
    }
    qsort(c, (size_t)n, sizeof *c, by_logit);
    double reach = o->top_p < 1 ? *total * (double)o->top_p : INFINITY, sum = 0;
    int keep = 0;
    while (keep < n && (keep == 0 || (sum < reach && c[keep].p >= (double)o->min_p * c[0].p)))
        sum += c[keep++].p;
    *total = sum;
    return keep;
}

int sampler_distribution(struct sampler *s, float *logits, const struct sampler_choice **out)
{
    penalize(s, logits);
    int32_t best = largest(logits, s->n_tokens);
    float max = logits[best];
    *out = s->choice;
    if (s->opt.temperature == 0 || !isfinite(max)) {
        s->choice[0] = (struct sampler_choice){ best, max, 1 };
        return 1;
    }
    float min = s->opt.top_k > 0 ? kth_largest(logits, s->n_tokens, s->opt.top_k, s->heap) : -INFINITY;
    double total;
    int n = collect(s, logits, min, max, &total);
    if (s->opt.top_k > 0 || s->opt.top_p < 1 || s->opt.min_p > 0)
        n = cut_tail(s, n, &total);
    for (int i = 0; i < n; i++)
        s->choice[i].p /= total;
    return n;
}

int32_t sampler_pick(struct sampler *s, float *logits)
{
    const struct sampler_choice *c;
    int n = sampler_distribution(s, logits, &c), i = 0;
    if (s->opt.temperature == 0)
        return c[0].id;
    double u = (double)(random_next(s->random) >> 11) * 0x1p-53; /* [0, 1) */
    for (; i < n - 1; i++) {
        u -= c[i].p;
        if (u < 0)
            break;
    }
    while (i > 0 && c[i].p == 0) /* rounding let u survive into a tail of zeros */
        i--;
    return c[i].id;
}

double sampler_logprob(const float *logits, int n_vocab, int32_t id)
{
    double max = (double)logits[largest(logits, n_vocab)], sum = 0;
    for (int i = 0; i < n_vocab; i++)
        if (logits[i] == logits[i])
            sum += exp((double)logits[i] - max);
    return (double)logits[id] - max - log(sum);
}
