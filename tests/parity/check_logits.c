/*
 * check_logits.c: every tiny checkpoint (tests/data/tiny, made by tools/make_tiny.py) must give transformers'
 * float32 logits within 2e-4 of their range: Hugging Face and GGUF form, ref and cpu, every instruction set,
 * any batch size, any thread count, and token by token as in decoding. check_logits [--only SUBSTRING]
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/engine.h"
#include "model/model.h"
#include "support/load.h"

#define DATA "tests/data/tiny/"

struct reference {
    int32_t *ids;
    float *logits; /* [n][n_vocab] */
    int n, n_vocab;
    float range;
};

struct setting {
    const char *device;
    enum cpu_isa isa;
    int threads, batch; /* batch 1: one token at a time */
    enum qtype kv;
    double bound; /* fraction of the logits' range */
};

static void stop(const struct err *e, const char *what)
{
    printf("%s\n", what);
    err_print(e);
    exit(1);
}

static void read_reference(struct reference *r, const char *folder)
{
    struct err e = { 0 };
    struct tensor_dir *dir;
    char path[256];
    snprintf(path, sizeof path, "%s/reference.safetensors", folder);
    const char *paths[] = { path };
    if (safetensors_open(&dir, paths, 1, &e))
        stop(&e, path);
    const struct tensor *ids = tensor_dir_find(dir, "input_ids"), *logits = tensor_dir_find(dir, "logits");
    r->n = (int)ids->dim[0];
    r->n_vocab = (int)logits->dim[1];
    r->ids = malloc(ids->bytes);
    r->logits = malloc(logits->bytes);
    if (tensor_read(dir, ids, 0, r->ids, ids->bytes, &e) ||
        tensor_read(dir, logits, 0, r->logits, logits->bytes, &e))
        stop(&e, path);
    float low = r->logits[0], high = low;
    for (int64_t i = 0; i < (int64_t)r->n * r->n_vocab; i++) {
        low = fminf(low, r->logits[i]);
        high = fmaxf(high, r->logits[i]);
    }
    r->range = high - low;
    tensor_dir_close(&dir);
}

/* The largest difference to the reference over all positions, as a fraction of the range. */
static double compare(struct engine *en, const struct setting *s, const struct reference *r)
{
    struct err e = { 0 };
    struct session *session;
    struct session_options opt = { .ctx = r->n, .kv_type = s->kv };
    if (session_open(&session, en, &opt, &e))
        stop(&e, "session");
    double worst = 0;
    for (int t = 0; t < r->n;) {
        int n = r->n - t < s->batch ? r->n - t : s->batch;
        struct step step = { session, r->ids + t, n, n };
        if (engine_step(en, &step, 1, &e))
            stop(&e, "step");
        for (int i = 0; i < n; i++) {
            const float *got = engine_logits(en, i), *want = r->logits + (int64_t)(t + i) * r->n_vocab;
            for (int v = 0; v < r->n_vocab; v++) {
                double d = fabs((double)got[v] - want[v]);
                if (!(d <= worst))
                    worst = d;
            }
        }
        t += n;
    }
    session_close(&session);
    return worst / r->range;
}

static int run(const char *path, const struct reference *r, const struct setting *s)
{
    struct err e = { 0 };
    struct threads *threads;
    struct device *device;
    struct model *model;
    struct weights *weights;
    struct engine *engine;
    if (threads_open(&threads, s->threads, &e))
        stop(&e, "threads");
    struct device_cpu_options cpu = { .isa = s->isa, .threads = threads };
    struct device_ref_options ref = { 0 };
    if (strcmp(s->device, "ref") == 0 ? device_ref_open(&device, &ref, &e)
                                      : device_cpu_open(&device, &cpu, &e))
        stop(&e, "device");
    struct engine_options opt = { .max_batch = s->batch, .max_ctx = r->n, .max_logits = s->batch };
    if (model_open(&model, path, &e) || test_load(&weights, model, device, MIX_NONE, threads, &e))
        stop(&e, path);
    model_close(&model);
    if (engine_open(&engine, weights, device, &opt, &e))
        stop(&e, "engine");
    double worst = compare(engine, s, r);
    bool ok = worst <= s->bound;
    printf("%-4s %-36s %-3s %-24s threads %d batch %3d kv %-4s  worst %.1e of the range\n",
           ok ? "ok" : "FAIL", path, s->device, s->device[0] == 'r' ? "" : device_cpu_isa_name(s->isa),
           s->threads, s->batch, qtype_info(s->kv)->name, worst);
    engine_close(&engine);
    weights_close(&weights);
    device->ops->close(device);
    threads_close(&threads);
    return ok ? 0 : 1;
}

static int run_all(const char *path, const struct reference *r)
{
    int failed = 0;
    const int batches[] = { 1, 7, 64, 65, r->n };
    struct setting s = { "ref", CPU_ISA_BEST, 1, r->n, QTYPE_F32, 2e-4 };
    failed += run(path, r, &s);
    s.device = "cpu";
    for (int isa = CPU_ISA_PLAIN; isa <= (int)device_cpu_isa(); isa++)
        for (size_t b = 0; b < sizeof batches / sizeof *batches; b++) {
            s.isa = (enum cpu_isa)isa;
            s.threads = 1 + (int)b % 3;
            s.batch = batches[b];
            failed += run(path, r, &s);
        }
    s.kv = QTYPE_F16; /* the cache's own rounding, 2^-11 of each key and value */
    s.bound = 1e-3;
    return failed + run(path, r, &s);
}

int main(int argc, char **argv)
{
    static const char *const names[] = { "qwen3_5_moe", "qwen3_5",       "qwen3_moe",    "qwen3",
                                         "qwen2",       "qwen3_moe_fp8", "qwen2_nf4_dq", "qwen3_fp4" };
    const char *only = argc == 3 ? argv[2] : "";
    int failed = 0, ran = 0;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char folder[128], gguf[160];
        snprintf(folder, sizeof folder, DATA "%s", names[i]);
        snprintf(gguf, sizeof gguf, "%s.gguf", folder);
        if (!strstr(folder, only))
            continue;
        struct reference r;
        read_reference(&r, folder);
        failed += run_all(folder, &r);
        if (i < 5) /* the quantized ones exist in Hugging Face form only */
            failed += run_all(gguf, &r);
        free(r.ids);
        free(r.logits);
        ran++;
    }
    printf("%d checkpoints, %d settings differ\n", ran, failed);
    return failed || !ran;
}
