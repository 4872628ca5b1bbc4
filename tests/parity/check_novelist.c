/*
 * check_novelist.c: the trained model against transformers' outputs (needs ../shared; else exit 77): final
 * hidden states, router logits and choices, logits, MTP logits, greedy text, and the negative log-likelihood
 * of 32 windows. The reference was computed with TF32 convolutions; its own error is up to 0.021 in logits of
 * range 42.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "engine/engine.h"
#include "model/model.h"
#include "support/load.h"
#include "text/tokenizer.h"

enum { N = 128, WINDOW = 512, WINDOWS = 32 };

struct fixture {
    char shared[512];
    struct threads *threads;
    struct device *device;
    struct model *model;
    struct weights *weights;
    struct engine *engine;
    struct session *session;
    struct tokenizer *tokenizer;
    struct tensor_dir *reference;
    int failed;
};

static void need(int rc, const struct err *e)
{
    if (!rc)
        return;
    err_print(e);
    exit(1);
}

static float *reference(const struct fixture *f, const char *name)
{
    struct err e = { 0 };
    const struct tensor *t = tensor_dir_find(f->reference, name);
    float *x = t ? malloc(t->bytes) : NULL;
    if (!x)
        exit(1);
    need(tensor_read(f->reference, t, 0, x, t->bytes, &e), &e);
    return x;
}

static void report(struct fixture *f, const char *what, double value, double bound)
{
    bool ok = value <= bound;
    printf("%-4s %-32s %.2e (at most %.0e)\n", ok ? "ok" : "FAIL", what, value, bound);
    f->failed += !ok;
}

/* Largest difference as a fraction of want's range. */
static double difference(const float *got, const float *want, int64_t n)
{
    double worst = 0;
    float low = want[0], high = want[0];
    for (int64_t i = 0; i < n; i++) {
        double d = fabs((double)got[i] - want[i]);
        if (!(d <= worst))
            worst = d;
        low = fminf(low, want[i]);
        high = fmaxf(high, want[i]);
    }
    return worst / (high - low);
}

struct seen {
    float *final, *router; /* [N][256]; [8][N][24] */
};

static void observe(void *user, const char *what, int layer, const float *data, int rows, int cols)
{
    struct seen *s = user;
    if (strcmp(what, "final") == 0)
        memcpy(s->final, data, (size_t)rows * (size_t)cols * sizeof *data);
    else if (strcmp(what, "router") == 0 && layer < 8)
        memcpy(s->router + (size_t)layer * N * 24, data, (size_t)rows * (size_t)cols * sizeof *data);
}

/* The top 4 of got and want differ only where want's scores are closer than the reference's own error. */
static int router_choices_differ(const float *got, const float *want)
{
    int differ = 0;
    for (int r = 0; r < 8 * N; r++, got += 24, want += 24)
        for (int a = 0; a < 24; a++)
            for (int b = 0; b < 24; b++)
                differ += got[a] > got[b] && want[b] - want[a] > 0.008f;
    return differ;
}

static void check_reference(struct fixture *f)
{
    struct err e = { 0 };
    struct seen seen = { malloc(N * 256 * sizeof(float)), malloc(8 * N * 24 * sizeof(float)) };
    int32_t *ids = (int32_t *)reference(f, "input_ids");
    float *final = reference(f, "final_hidden"), *logits = reference(f, "logits");
    float *mtp = reference(f, "mtp_logits"), *router = reference(f, "router_logits");
    engine_observe(f->engine, observe, &seen);
    struct step step = { f->session, ids, N, N };
    need(engine_step(f->engine, &step, 1, &e), &e);
    report(f, "final hidden", difference(seen.final, final, N * 256), 1e-3);
    report(f, "router logits", difference(seen.router, router, 8 * N * 24), 1e-3);
    report(f, "router choices", router_choices_differ(seen.router, router), 0);
    report(f, "logits", difference(engine_logits(f->engine, 0), logits, (int64_t)N * 8192), 1e-3);
    need(session_mtp(f->session, ids + 1, N, N, &e), &e);
    report(f, "MTP logits", difference(engine_logits(f->engine, 0), mtp, (int64_t)N * 8192), 1e-3);
    engine_observe(f->engine, NULL, NULL);
    session_reset(f->session);
    free(seen.final);
    free(seen.router);
    free(ids);
    free(final);
    free(logits);
    free(mtp);
    free(router);
}

static int32_t best(const float *logits, int n)
{
    int at = 0;
    for (int i = 1; i < n; i++)
        if (logits[i] > logits[at])
            at = i;
    return at;
}

/* Greedy continuation must equal the reference up to the first position whose two best logits are within
 * 0.02. */
static void check_greedy(struct fixture *f, const json_t *want)
{
    struct err e = { 0 };
    struct tokens prompt = { 0 };
    const char *text = json_get_str(want, "prompt", "");
    need(tokenizer_encode(f->tokenizer, text, strlen(text), NULL, 0, &prompt, &e), &e);
    const json_t *ids = json_object_get(want, "continuation_ids"),
                 *margin = json_object_get(want, "top2_margin");
    size_t n = json_array_size(ids), same = 0, until = 0;
    while (until < n && json_number_value(json_array_get(margin, until)) >= 0.02)
        until++;
    session_reset(f->session);
    need(session_append(f->session, prompt.id, (int)prompt.n, NULL, NULL, &e), &e);
    for (; same < until; same++) {
        int32_t id = best(engine_logits(f->engine, 0), 8192);
        if (id != json_integer_value(json_array_get(ids, same)))
            break;
        need(session_append(f->session, &id, 1, NULL, NULL, &e), &e);
    }
    bool ok = same == until && prompt.n == json_array_size(json_object_get(want, "prompt_ids"));
    printf("%-4s greedy: %zu of %zu tokens equal (%zu compared)\n", ok ? "ok" : "FAIL", same, n, until);
    f->failed += !ok;
    tokens_free(&prompt);
}

static void check_windows(struct fixture *f, const json_t *want)
{
    struct err e = { 0 };
    struct tokens t = { 0 };
    char path[600], *text;
    size_t n;
    snprintf(path, sizeof path, "%s/texts/alice.txt", f->shared);
    need(file_slurp(path, 1 << 20, &text, &n, &e), &e);
    need(tokenizer_encode(f->tokenizer, text, n, NULL, 0, &t, &e), &e);
    free(text);
    double worst = 0, total = 0;
    for (int w = 0; w < WINDOWS; w++) {
        session_reset(f->session);
        const int32_t *ids = t.id + (size_t)w * WINDOW;
        double nll = 0;
        for (int at = 0; at < WINDOW; at += N) {
            struct step step = { f->session, ids + at, N, N };
            need(engine_step(f->engine, &step, 1, &e), &e);
            for (int i = 0; i < N; i++) {
                const float *l = engine_logits(f->engine, i);
                double sum = 0, top = l[best(l, 8192)];
                for (int v = 0; v < 8192; v++)
                    sum += exp(l[v] - top);
                nll -= l[ids[at + i + 1]] - top - log(sum);
            }
        }
        total += nll;
        worst = fmax(worst, fabs(nll / WINDOW - json_number_value(json_array_get(want, (size_t)w))));
    }
    printf("perplexity of alice.txt: %.4f\n", exp(total / (WINDOW * WINDOWS)));
    report(f, "perplexity - 31.81", fabs(exp(total / (WINDOW * WINDOWS)) - 31.81), 0.05);
    report(f, "worst window's nll", worst, 2e-3);
    tokens_free(&t);
}

static void open_all(struct fixture *f, const char *folder)
{
    struct err e = { 0 };
    char path[600];
    need(threads_open(&f->threads, 0, &e), &e);
    struct device_cpu_options cpu = { .isa = CPU_ISA_BEST, .threads = f->threads };
    need(device_cpu_open(&f->device, &cpu, &e), &e);
    need(model_open(&f->model, folder, &e), &e);
    need(test_load(&f->weights, f->model, f->device, MIX_NONE, f->threads, &e), &e);
    need(tokenizer_open(&f->tokenizer, f->model, &e), &e);
    struct engine_options opt = { .max_batch = N, .max_ctx = 1024, .max_logits = N };
    need(engine_open(&f->engine, f->weights, f->device, &opt, &e), &e);
    struct session_options session = { .kv_type = QTYPE_F32 };
    need(session_open(&f->session, f->engine, &session, &e), &e);
    snprintf(path, sizeof path, "%s/models/novelist/reference.safetensors", f->shared);
    const char *paths[] = { path };
    need(safetensors_open(&f->reference, paths, 1, &e), &e);
}

static void close_all(struct fixture *f)
{
    tensor_dir_close(&f->reference);
    session_close(&f->session);
    engine_close(&f->engine);
    weights_close(&f->weights);
    tokenizer_close(&f->tokenizer);
    model_close(&f->model);
    f->device->ops->close(f->device);
    threads_close(&f->threads);
}

int main(void)
{
    struct fixture f = { 0 };
    struct err e = { 0 };
    const char *shared = getenv("TONNE_SHARED");
    snprintf(f.shared, sizeof f.shared, "%s", shared ? shared : "../shared");
    char path[600], json_path[640];
    snprintf(path, sizeof path, "%s/models/novelist", f.shared);
    snprintf(json_path, sizeof json_path, "%s/reference.json", path);
    json_t *want;
    if (json_load_path(json_path, 1 << 20, &want, &e)) {
        printf("the trained model is not here (%s)\n", path);
        return 77;
    }
    open_all(&f, path);
    check_reference(&f);
    size_t i;
    const json_t *one;
    json_array_foreach(json_object_get(want, "greedy"), i, one) check_greedy(&f, one);
    const json_t *alice = json_object_get(json_object_get(want, "perplexity"), "alice.txt");
    check_windows(&f, json_object_get(alice, "nll_per_window"));
    json_decref(want);
    close_all(&f);
    return f.failed != 0;
}
