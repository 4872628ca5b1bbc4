/*
 * test_no_allocation.c: after opening, prompts and decoding allocate nothing and map nothing: every call of
 * malloc, calloc, realloc, aligned_alloc and mmap is counted while the engine steps, with experts in memory
 * and on disk.
 */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "engine/engine.h"
#include "model/model.h"
#include "plan/plan.h"
#include "support/load.h"
#include "text/sampler.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)

static int run(void)
{
    printf("the sanitizer owns malloc\n");
    return 77;
}

#else

static _Atomic int counting, calls;

static void count(void)
{
    if (atomic_load_explicit(&counting, memory_order_relaxed))
        atomic_fetch_add(&calls, 1);
}

void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t n);
void *__libc_memalign(size_t align, size_t n);

void *malloc(size_t n)
{
    count();
    return __libc_malloc(n);
}

void *calloc(size_t n, size_t size)
{
    count();
    return __libc_calloc(n, size);
}

void *realloc(void *p, size_t n)
{
    count();
    return __libc_realloc(p, n);
}

void *aligned_alloc(size_t align, size_t n)
{
    count();
    return __libc_memalign(align, n);
}

void *mmap(void *at, size_t n, int prot, int flags, int fd, off_t offset)
{
    count();
    return (void *)syscall(SYS_mmap, at, n, prot, flags, fd, offset);
}

enum { N = 100, BATCH = 48, N_DECODE = 30, VOCAB = 304 };

struct counted_run {
    struct threads *threads;
    struct device *device;
    struct model *model;
};

static void need(int rc, const struct err *e)
{
    if (!rc)
        return;
    err_print(e);
    exit(1);
}

/* A prompt in several passes, then decoding with a sampler; returns the calls that were counted. */
static int steps(const struct counted_run *r, const struct weights *w, int slots)
{
    struct err e = { 0 };
    struct engine *engine;
    struct session *session;
    struct sampler *sampler;
    struct engine_options opt = { .max_batch = BATCH, .max_ctx = 2 * N, .expert_slots = slots };
    need(engine_open(&engine, w, r->device, &opt, &e), &e);
    atomic_store(&calls, 0);
    atomic_store(&counting, 1);
    need(session_open(&session, engine, &(struct session_options){ 0 }, &e), &e);
    if (atomic_load(&calls) < 2) {
        printf("the counter does not count\n");
        exit(1);
    }
    atomic_store(&counting, 0);
    struct sampler_options sampling = sampler_defaults();
    sampling.temperature = 0.8f;
    sampling.top_k = 20;
    sampling.repetition_penalty = 1.1f;
    need(sampler_open(&sampler, &sampling, VOCAB, VOCAB - 10, &e), &e);
    int32_t ids[N];
    for (int i = 0; i < N; i++)
        ids[i] = (i * 37 + 11) % VOCAB;
    atomic_store(&calls, 0);
    atomic_store(&counting, 1);
    int rc = session_append(session, ids, N, NULL, NULL, &e);
    for (int i = 0; i < N_DECODE && !rc; i++) {
        int32_t id = sampler_pick(sampler, engine_logits(engine, 0));
        sampler_accept(sampler, id, true);
        rc = session_append(session, &id, 1, NULL, NULL, &e);
    }
    atomic_store(&counting, 0);
    need(rc, &e);
    sampler_close(&sampler);
    session_close(&session);
    engine_close(&engine);
    return atomic_load(&calls);
}

static int from_disk(const struct counted_run *r)
{
    struct err e = { 0 };
    struct plan *all, *p;
    struct weights *w;
    struct machine here = { .here = true };
    struct plan_options opt = { .threads = 2, .ctx = 2 * N, .batch = BATCH };
    struct weights_options load = { .threads = r->threads };
    need(plan_build(&all, r->model, &here, &opt, &e), &e);
    opt.ram_budget = all->minimum_ram_bytes;
    need(plan_build(&p, r->model, &here, &opt, &e), &e);
    need(weights_load(&w, p, r->device, &load, &e), &e);
    if (!w->disk) {
        printf("the plan put no experts on disk\n");
        exit(1);
    }
    int n = steps(r, w, p->cache_slots);
    weights_close(&w);
    plan_close(&p);
    plan_close(&all);
    return n;
}

static int run(void)
{
    static const char *const models[] = { "tests/data/tiny/qwen3_5_moe", "tests/data/tiny/qwen3_5_moe.gguf",
                                          "tests/data/tiny/qwen3_moe", "tests/data/tiny/qwen3_5" };
    struct err e = { 0 };
    struct counted_run r = { 0 };
    int failed = 0;
    need(threads_open(&r.threads, 2, &e), &e);
    struct device_cpu_options cpu = { .isa = CPU_ISA_BEST, .threads = r.threads };
    need(device_cpu_open(&r.device, &cpu, &e), &e);
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        struct weights *w;
        need(model_open(&r.model, models[i], &e), &e);
        need(test_load(&w, r.model, r.device, MIX_NONE, r.threads, &e), &e);
        int ram = steps(&r, w, 0), disk = w->shape.n_expert ? from_disk(&r) : 0;
        printf("%-36s %d calls with experts in memory, %d on disk\n", models[i], ram, disk);
        failed += ram + disk;
        weights_close(&w);
        model_close(&r.model);
    }
    r.device->ops->close(r.device);
    threads_close(&r.threads);
    return failed != 0;
}
#endif

int main(void)
{
    return run();
}
