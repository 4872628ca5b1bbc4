/*
 * test_faults.c: every allocation, open, read, write, rename, sync and mapping fails once, while a model is
 * opened and loaded, packed, quantized and run with its experts on disk. Each time there is an error with a
 * reason, or the work was done nevertheless and its result is right; no file, descriptor or thread is left.
 *
 * Allocations inside jansson never fail here: version 2.14 ends the program by an assertion (load.c) when
 * memory runs out within a string.
 */
#undef _FORTIFY_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "engine/engine.h"
#include "load/export.h"
#include "support/disk_source.h"
#include "support/faults.h"
#include "support/load.h"
#include "support/odd_io.h"
#include "support/tiny_files.h"
#include "text/tokenizer.h"

enum { N_PROMPT = 20, N_DECODE = 3, VOCAB = 304, ALL_UP_TO = 300, SNAPSHOT_BYTES = 1 << 21 };
static const char source[] = "tests/data/tiny/qwen3_5_moe";

/* ---- the replaced calls ---- */

#ifndef __has_feature
#define __has_feature(name) 0 /* clang's way to say which sanitizer */
#endif
#if defined __SANITIZE_ADDRESS__ || __has_feature(address_sanitizer)
enum { ADDRESS_SANITIZER = 1, THREAD_SANITIZER = 0 };
#define REAL(name) __interceptor_##name
#elif defined __SANITIZE_THREAD__ || __has_feature(thread_sanitizer)
enum { ADDRESS_SANITIZER = 0, THREAD_SANITIZER = 1 };
#define REAL(name)       name
#define NOTHING_REPLACED /* it replaces these calls itself */
#else
enum { ADDRESS_SANITIZER = 0, THREAD_SANITIZER = 0 };
#define REAL(name) __libc_##name
#endif
void *REAL(malloc)(size_t n);
void *REAL(calloc)(size_t n, size_t bytes);
void *REAL(realloc)(void *p, size_t n);
void *REAL(memalign)(size_t align, size_t n);

#ifndef NOTHING_REPLACED
static bool fails(enum fault_kind kind, int with)
{
    if (!faults_now(kind))
        return false;
    errno = with;
    return true;
}

/* The address sanitizer's own start of a thread allocates through libc and does not survive a failure: with
 * it only what this program itself asks for fails. */
extern const char __executable_start[], etext[];
static bool alloc_fails(const void *caller)
{
    bool ours =
        !ADDRESS_SANITIZER || ((const char *)caller >= __executable_start && (const char *)caller < etext);
    return ours && fails(FAULT_ALLOC, ENOMEM);
}

void *malloc(size_t n)
{
    return alloc_fails(__builtin_return_address(0)) ? NULL : REAL(malloc)(n);
}

void *calloc(size_t n, size_t bytes)
{
    return alloc_fails(__builtin_return_address(0)) ? NULL : REAL(calloc)(n, bytes);
}

void *realloc(void *p, size_t n)
{
    return alloc_fails(__builtin_return_address(0)) ? NULL : REAL(realloc)(p, n);
}

void *aligned_alloc(size_t align, size_t n)
{
    return alloc_fails(__builtin_return_address(0)) ? NULL : REAL(memalign)(align, n);
}

int posix_memalign(void **out, size_t align, size_t n)
{
    void *p = alloc_fails(__builtin_return_address(0)) ? NULL : REAL(memalign)(align, n);
    if (p)
        *out = p;
    return p ? 0 : ENOMEM;
}

int open(const char *path, int flags, ...)
{
    va_list rest;
    va_start(rest, flags);
    unsigned mode = va_arg(rest, unsigned);
    va_end(rest);
    return fails(FAULT_OPEN, EMFILE) ? -1 : (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

int openat(int folder, const char *path, int flags, ...)
{
    va_list rest;
    va_start(rest, flags);
    unsigned mode = va_arg(rest, unsigned);
    va_end(rest);
    return fails(FAULT_OPEN, EMFILE) ? -1 : (int)syscall(SYS_openat, folder, path, flags, mode);
}

ssize_t pread(int fd, void *to, size_t n, off_t at)
{
    if (fails(FAULT_READ, EIO))
        return -1;
    return syscall(SYS_pread64, fd, to, n > 1 && faults_now(FAULT_SHORT_READ) ? n / 2 : n, at);
}

ssize_t pwrite(int fd, const void *from, size_t n, off_t at)
{
    return fails(FAULT_WRITE, ENOSPC) ? -1 : syscall(SYS_pwrite64, fd, from, n, at);
}

ssize_t write(int fd, const void *from, size_t n)
{
    return fails(FAULT_WRITE, ENOSPC) ? -1 : syscall(SYS_write, fd, from, n);
}

int rename(const char *from, const char *to)
{
    return fails(FAULT_RENAME, EIO) ? -1 : (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
}

int fsync(int fd)
{
    return fails(FAULT_FSYNC, EIO) ? -1 : (int)syscall(SYS_fsync, fd);
}

void *mmap(void *at, size_t n, int protection, int flags, int fd, off_t offset)
{
    if (fails(FAULT_MMAP, ENOMEM))
        return MAP_FAILED;
    return (void *)syscall(SYS_mmap, at, n, protection, flags, fd, offset);
}

#endif

static void *jansson_malloc(size_t n)
{
    return REAL(malloc)(n);
}

/* ---- what is tried ---- */

struct rig {
    struct threads *threads;
    struct device *device;
    struct model *model;
    struct weights *weights; /* as stored */
    struct disk_weights disk;
    char *folder; /* for packs, or for what is written */
    struct odd_io *io;
    bool from_pack; /* the last load */
    int32_t ids[N_PROMPT + N_DECODE];
    float want[VOCAB], got[VOCAB];
    char *snapshot;
};

/* Runs with the fault armed and ends that when the work is over. 0: done, and *right says whether the result
 * is. */
typedef int (*attempt_fn)(struct rig *r, bool *hit, bool *right, struct err *e);

static int steps(struct rig *r, struct engine *en, struct session *s, struct err *e)
{
    struct step prompt = { s, r->ids, N_PROMPT, 1 };
    int rc = engine_step(en, &prompt, 1, e);
    for (int i = 0; i < N_DECODE && !rc; i++) {
        struct step one = { s, r->ids + N_PROMPT + i, 1, 1 };
        rc = engine_step(en, &one, 1, e);
    }
    if (!rc)
        memcpy(r->got, engine_logits(en, 0), sizeof r->got);
    return rc;
}

static int evaluate(struct rig *r, const struct weights *w, struct err *e)
{
    struct engine_options opt = { .max_batch = 32, .max_ctx = 64, .expert_slots = 4, .read_io = &r->io->io };
    struct session_options so = { 0 };
    struct engine *en = NULL;
    struct session *s = NULL;
    memset(r->got, 0, sizeof r->got);
    int rc = engine_open(&en, w, r->device, &opt, e);
    if (!rc)
        rc = session_open(&s, en, &so, e);
    if (!rc)
        rc = steps(r, en, s, e);
    if (rc && s) { /* the same engine goes on when the cause is gone */
        struct err later = { 0 };
        faults_disarm();
        session_reset(s);
        assert_int_equal(steps(r, en, s, &later), 0);
        assert_memory_equal(r->got, r->want, sizeof r->want);
    }
    if (!rc)
        rc = session_snapshot(s, r->snapshot, session_snapshot_bytes(s), e);
    session_close(&s);
    engine_close(&en);
    return rc;
}

static bool same(struct rig *r)
{
    return memcmp(r->got, r->want, sizeof r->want) == 0;
}

/* Opens and loads; mix NONE without a pack. */
static int load(struct rig *r, enum mix mix, bool *hit, bool *right, struct err *e)
{
    struct model *m = NULL;
    struct tokenizer *t = NULL;
    struct plan *p = NULL;
    struct weights *w = NULL;
    struct machine machine = { .disk_free = (size_t)1 << 40 };
    struct plan_options opt = { .mix = mix, .threads = threads_count(r->threads) };
    struct packed_options pack = { .folder = r->folder, .spare_bytes = 1 };
    struct weights_options how = { .threads = r->threads, .pack = mix == MIX_NONE ? NULL : &pack };
    int rc = model_open(&m, source, e);
    if (!rc)
        rc = tokenizer_open(&t, m, e);
    if (!rc)
        rc = plan_build(&p, m, &machine, &opt, e);
    if (!rc)
        rc = weights_load(&w, p, r->device, &how, e);
    *hit = faults_disarm();
    if (!rc) {
        r->from_pack = w->loaded.from_pack;
        struct err none = { 0 };
        assert_int_equal(evaluate(r, w, &none), 0);
        *right = same(r);
    }
    weights_close(&w);
    plan_close(&p);
    tokenizer_close(&t);
    model_close(&m);
    return rc;
}

static void empty_folder(const char *path)
{
    DIR *d = opendir(path);
    for (struct dirent *entry; (entry = readdir(d));)
        if (entry->d_name[0] != '.')
            unlinkat(dirfd(d), entry->d_name, 0);
    closedir(d);
}

static void only_whole_packs(const char *path)
{
    DIR *d = opendir(path);
    for (struct dirent *entry; (entry = readdir(d));)
        if (entry->d_name[0] != '.' && !strstr(entry->d_name, ".pack"))
            fail_msg("%s was left", entry->d_name);
    closedir(d);
}

static int load_stored(struct rig *r, bool *hit, bool *right, struct err *e)
{
    return load(r, MIX_NONE, hit, right, e);
}

static int load_and_pack(struct rig *r, bool *hit, bool *right, struct err *e)
{
    struct err none = { 0 };
    bool again, right_again;
    int rc = load(r, MIX_NF4_DQ, hit, right, e);
    only_whole_packs(r->folder);
    int kept = faults_entries(r->folder);
    if (!*hit && !rc)
        assert_int_equal(kept, 1);
    if (*hit && kept) { /* what was kept in spite of the failure is whole */
        assert_int_equal(load(r, MIX_NF4_DQ, &again, &right_again, &none), 0);
        assert_true(r->from_pack && right_again);
    }
    empty_folder(r->folder);
    return rc;
}

static int load_packed(struct rig *r, bool *hit, bool *right, struct err *e)
{
    int rc = load(r, MIX_NF4_DQ, hit, right, e);
    only_whole_packs(r->folder);
    assert_true(faults_entries(r->folder) <= 1);
    return rc;
}

static int run_from_disk(struct rig *r, bool *hit, bool *right, struct err *e)
{
    int rc = evaluate(r, &r->disk.weights, e);
    *hit = faults_disarm();
    *right = same(r);
    return rc;
}

/* What was written is right when it loads and computes the same; want: of the first, undisturbed time. */
static bool written_right(struct rig *r, const char *path)
{
    struct err e = { 0 };
    struct model *m;
    struct weights *w;
    assert_int_equal(model_open(&m, path, &e), 0);
    assert_int_equal(test_load(&w, m, r->device, MIX_NONE, r->threads, &e), 0);
    assert_int_equal(evaluate(r, w, &e), 0);
    weights_close(&w);
    model_close(&m);
    return same(r);
}

static int quantize_gguf(struct rig *r, bool *hit, bool *right, struct err *e)
{
    char path[256];
    struct export_options opt = { .mix = MIX_Q8_0, .threads = r->threads };
    snprintf(path, sizeof path, "%s/out.gguf", r->folder);
    int rc = export_gguf(r->model, path, &opt, e);
    *hit = faults_disarm();
    *right = !rc && written_right(r, path);
    if (!rc)
        assert_int_equal(unlink(path), 0);
    assert_int_equal(faults_entries(r->folder), 0);
    return rc;
}

static int quantize_bnb(struct rig *r, bool *hit, bool *right, struct err *e)
{
    char path[256];
    struct export_options opt = { .mix = MIX_NF4_DQ, .threads = r->threads };
    snprintf(path, sizeof path, "%s/out", r->folder);
    int rc = export_safetensors(r->model, path, &opt, e);
    *hit = faults_disarm();
    *right = !rc && written_right(r, path);
    if (!rc) {
        empty_folder(path);
        assert_int_equal(rmdir(path), 0);
    }
    assert_int_equal(faults_entries(r->folder), 0);
    return rc;
}

/* ---- every call of every kind ---- */

static char doing[128]; /* for the handler below */

static void say_where(int sig)
{
    syscall(SYS_write, 2, doing, strlen(doing));
    signal(sig, SIG_DFL);
    raise(sig);
}

static bool attempt(struct rig *r, const char *name, attempt_fn fn, enum fault_kind kind, int k, int *failed)
{
    struct err e = { 0 };
    bool hit = false, right = false;
    snprintf(doing, sizeof doing, "%s: %s %d\n", name, fault_name(kind), k);
    int fds = faults_descriptors(), threads = faults_threads();
    faults_arm(kind, k);
    int rc = fn(r, &hit, &right, &e);
    faults_disarm();
    if (rc > 0 || (rc < 0 && (!e.what[0] || e.code != rc)))
        fail_msg("%s gave %d, \"%s\"", doing, rc, e.what);
    if (rc == 0 && !right)
        fail_msg("%s wrong result", doing);
    if (rc < 0 && !hit)
        fail_msg("%s failed by itself: %s (%s)", doing, e.what, e.where);
    if (fds != faults_descriptors() || threads != faults_threads())
        fail_msg("%s left %d descriptors, %d threads", doing, faults_descriptors() - fds,
                 faults_threads() - threads);
    *failed += rc < 0;
    return hit;
}

/* Every one, except where there are many that only repeat each other. */
static int step_after(enum fault_kind kind, int k)
{
    if (kind == FAULT_SHORT_READ)
        return k < 20 ? 1 : 7;
    return kind != FAULT_ALLOC || k < ALL_UP_TO ? 1 : 1 + k / 32;
}

/* The undisturbed result first; then each kind until a whole run did not reach the k-th call. */
static void every_call(struct rig *r, const char *name, attempt_fn fn)
{
    struct err e = { 0 };
    bool hit, right;
    memset(r->want, 0, sizeof r->want);
    if (fn(r, &hit, &right, &e))
        fail_msg("%s: %s", name, e.what);
    memcpy(r->want, r->got, sizeof r->want);
    for (enum fault_kind kind = 0; kind < FAULT_KINDS; kind++) {
        int k = 0, tried = 0, failed = 0;
        for (; attempt(r, name, fn, kind, k, &failed); tried++)
            k += step_after(kind, k);
        if (tried)
            print_message("%s: %d of %d times an error (%s)\n", name, failed, tried, fault_name(kind));
    }
}

static void loading(void **state)
{
    every_call(*state, "load", load_stored);
}

static void packing(void **state)
{
    every_call(*state, "load and pack", load_and_pack);
}

static void loading_a_pack(void **state)
{
    struct rig *r = *state;
    struct err e = { 0 };
    bool hit, right;
    assert_int_equal(load_packed(r, &hit, &right, &e), 0); /* makes it */
    assert_int_equal(load_packed(r, &hit, &right, &e), 0);
    assert_true(r->from_pack);
    every_call(r, "load a pack", load_packed);
    empty_folder(r->folder);
}

static void quantizing(void **state)
{
    every_call(*state, "quantize to GGUF", quantize_gguf);
    every_call(*state, "quantize to a folder", quantize_bnb);
}

static void running_through_io_uring(void **state)
{
    struct rig *r = *state;
    r->io->no_ring = false;
    every_call(r, "run, io_uring", run_from_disk);
}

static void running_through_threads(void **state)
{
    struct rig *r = *state;
    r->io->no_ring = true;
    every_call(r, "run, reading threads", run_from_disk);
}

/* Results of reads that the ring gives; they are no calls, so they fail through struct read_io. */
static void completions(void **state)
{
    struct rig *r = *state;
    struct err e = { 0 };
    bool hit, right;
    int k = 0, failed = 0;
    r->io->no_ring = false;
    if (run_from_disk(r, &hit, &right, &e))
        fail_msg("%s", e.what);
    memcpy(r->want, r->got, sizeof r->want);
    do {
        r->io->fail_at = r->io->reads + ++k;
        r->io->fail_with = ODD_EIO;
        memset(&e, 0, sizeof e);
        int rc = run_from_disk(r, &hit, &right, &e);
        hit = r->io->reads >= r->io->fail_at;
        assert_true(rc ? hit && e.code == rc && e.what[0] : right);
        failed += rc != 0;
    } while (hit);
    r->io->fail_at = 0;
    assert_true(failed > 0);
    print_message("run, io_uring: %d of %d times an error (completion)\n", failed, k - 1);
}

static int open_rig(void **state)
{
    static struct rig r;
    struct err e = { 0 };
    for (int i = 0; i < N_PROMPT + N_DECODE; i++)
        r.ids[i] = (i * 37 + i * i * 5 + 11) % VOCAB;
    r.folder = tiny_folder();
    r.io = odd_io_new();
    r.snapshot = malloc(SNAPSHOT_BYTES);
    assert_non_null(r.snapshot);
    assert_int_equal(threads_open(&r.threads, 2, &e), 0);
    struct device_cpu_options cpu = { .isa = CPU_ISA_BEST, .threads = r.threads };
    assert_int_equal(device_cpu_open(&r.device, &cpu, &e), 0);
    assert_int_equal(model_open(&r.model, source, &e), 0);
    assert_int_equal(test_load(&r.weights, r.model, r.device, MIX_NONE, r.threads, &e), 0);
    disk_weights_open(&r.disk, r.weights, r.model);
    *state = &r;
    return 0;
}

static int close_rig(void **state)
{
    struct rig *r = *state;
    disk_weights_close(&r->disk);
    weights_close(&r->weights);
    model_close(&r->model);
    r->device->ops->close(r->device);
    threads_close(&r->threads);
    odd_io_free(&r->io);
    tiny_folder_end(&r->folder);
    free(r->snapshot);
    return 0;
}

int main(void)
{
    if (THREAD_SANITIZER)
        return 77; /* it replaces the same calls */
    json_set_alloc_funcs(jansson_malloc, free);
    signal(SIGALRM, say_where); /* nothing may wait for ever */
    alarm(300);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(loading),
        cmocka_unit_test(packing),
        cmocka_unit_test(loading_a_pack),
        cmocka_unit_test(quantizing),
        cmocka_unit_test(running_through_io_uring),
        cmocka_unit_test(running_through_threads),
        cmocka_unit_test(completions),
    };
    return cmocka_run_group_tests(tests, open_rig, close_rig);
}
