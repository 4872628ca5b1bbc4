/*
 * test_moe_disk.c: a model whose experts are read from disk gives the bits of the one that has them in
 * memory, whatever the number of slots, the batch, the order of arrival and the way of reading.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/engine.h"
#include "model/model.h"
#include "support/disk_source.h"
#include "support/load.h"
#include "support/odd_io.h"

enum { N = 50, N_DECODE = 6, VOCAB = 304, MAX_BATCH = 48 };

static const char *const models[] = { "tests/data/tiny/qwen3_5_moe", "tests/data/tiny/qwen3_5_moe.gguf",
                                      "tests/data/tiny/qwen3_moe", "tests/data/tiny/qwen3_moe.gguf" };
enum { N_MODELS = sizeof models / sizeof *models };

struct rig {
    struct threads *threads;
    struct device *device[2]; /* cpu, ref */
    struct model *model[N_MODELS];
    struct weights *weights[N_MODELS][2];
};

static int open_rig(void **state)
{
    static struct rig r;
    struct err e = { 0 };
    assert_int_equal(threads_open(&r.threads, 2, &e), 0);
    struct device_cpu_options cpu = { .isa = CPU_ISA_BEST, .threads = r.threads };
    struct device_ref_options ref = { 0 };
    assert_int_equal(device_cpu_open(&r.device[0], &cpu, &e), 0);
    assert_int_equal(device_ref_open(&r.device[1], &ref, &e), 0);
    for (int i = 0; i < N_MODELS; i++) {
        assert_int_equal(model_open(&r.model[i], models[i], &e), 0);
        for (int d = 0; d < 2; d++)
            assert_int_equal(test_load(&r.weights[i][d], r.model[i], r.device[d], MIX_NONE, r.threads, &e),
                             0);
    }
    *state = &r;
    return 0;
}

static int close_rig(void **state)
{
    struct rig *r = *state;
    for (int i = 0; i < N_MODELS; i++) {
        for (int d = 0; d < 2; d++)
            weights_close(&r->weights[i][d]);
        model_close(&r->model[i]);
    }
    r->device[0]->ops->close(r->device[0]);
    r->device[1]->ops->close(r->device[1]);
    threads_close(&r->threads);
    return 0;
}

static int32_t token(int i)
{
    return (i * 37 + i * i * 5 + 11) % VOCAB;
}

/* ---- one timeline ---- */

/* Logits of a prompt in passes of `batch`, of tokens one by one, and of the MTP head where there is one. */
struct logits {
    float row[2 + N_DECODE][VOCAB];
};

static int run(struct engine *en, int batch, bool mtp, struct logits *out, struct err *e)
{
    struct session *s;
    struct session_options so = { 0 };
    memset(out, 0, sizeof *out);
    assert_int_equal(session_open(&s, en, &so, e), 0);
    int32_t ids[N + N_DECODE + 1];
    for (int i = 0; i < N + N_DECODE + 1; i++)
        ids[i] = token(i);
    int rc = 0;
    for (int i = 0, n; i < N && !rc; i += n) {
        n = batch < N - i ? batch : N - i;
        struct step step = { s, ids + i, n, 1 };
        rc = engine_step(en, &step, 1, e);
        if (!rc)
            memcpy(out->row[0], engine_logits(en, 0), sizeof out->row[0]);
        if (!rc && mtp)
            rc = session_mtp(s, ids + i + 1, n, 1, e);
        if (!rc)
            memcpy(out->row[1], engine_logits(en, 0), sizeof out->row[1]);
    }
    for (int i = 0; i < N_DECODE && !rc; i++) {
        struct step step = { s, ids + N + i, 1, 1 };
        rc = engine_step(en, &step, 1, e);
        if (!rc)
            memcpy(out->row[2 + i], engine_logits(en, 0), sizeof out->row[0]);
    }
    if (rc)
        assert_int_equal(session_position(s), 0);
    session_close(&s);
    return rc;
}

static void run_with(struct rig *r, int d, const struct weights *w, int slots, const struct read_io *io,
                     int batch, struct logits *out, struct expert_cache_stats *stats)
{
    struct err e = { 0 };
    struct engine *en;
    struct engine_options opt = {
        .max_batch = MAX_BATCH, .max_ctx = 2 * N, .expert_slots = slots, .read_io = io
    };
    assert_int_equal(engine_open(&en, w, r->device[d], &opt, &e), 0);
    assert_int_equal(run(en, batch, w->has_mtp, out, &e), 0);
    *stats = engine_expert_stats(en);
    engine_close(&en);
}

static int count_experts(const struct disk_weights *w)
{
    int n = 0;
    for (int i = 0; i < w->source.n_layer * w->source.n_expert; i++)
        n += w->source.place[i].n_extent > 0;
    return n;
}

static void check_stats(const struct disk_weights *w, int slots, const struct expert_cache_stats *s)
{
    uint64_t one = w->bytes / (uint64_t)count_experts(w);
    assert_int_equal(s->slots, slots);
    assert_int_equal(s->hits + s->misses, s->pinned);
    assert_int_equal(s->bytes, (s->misses + s->ahead) * one); /* every expert has the same size here */
    if (slots == count_experts(w))
        assert_true(s->misses + s->ahead <= (uint64_t)slots);
    else
        assert_true(s->misses > 0);
}

static void every_placement_gives_the_same_bits(void **state)
{
    struct rig *r = *state;
    static struct logits want, got;
    static const int batches[] = { 1, 9, MAX_BATCH };
    struct expert_cache_stats stats;
    for (int i = 0; i < N_MODELS; i++) {
        for (int d = 0; d < 2; d++) {
            struct disk_weights disk;
            disk_weights_open(&disk, r->weights[i][d], r->model[i]);
            int n = count_experts(&disk);
            const int slots[] = { 1, n / 10 + 1, n / 2, n * 9 / 10, n };
            for (size_t b = 0; b < sizeof batches / sizeof *batches; b++) {
                if (d == 1 && (b == 0 || i > 0))
                    continue; /* the reference is slow */
                run_with(r, d, r->weights[i][d], 0, NULL, batches[b], &want, &stats);
                assert_int_equal(stats.pinned, 0);
                for (size_t k = 0; k < sizeof slots / sizeof *slots; k++) {
                    run_with(r, d, &disk.weights, slots[k], NULL, batches[b], &got, &stats);
                    assert_memory_equal(&want, &got, sizeof want);
                    check_stats(&disk, slots[k], &stats);
                    assert_true(stats.ahead > 0 || batches[b] < MAX_BATCH || slots[k] != n / 2);
                }
            }
            disk_weights_close(&disk);
        }
    }
}

static void order_of_arrival_does_not_show(void **state)
{
    struct rig *r = *state;
    static struct logits want, got;
    struct expert_cache_stats stats;
    struct disk_weights disk;
    disk_weights_open(&disk, r->weights[0][0], r->model[0]);
    for (int way = 0; way < 4; way++) {
        struct odd_io *o = odd_io_new();
        o->no_ring = o->slow = o->cut = true;
        o->no_direct = way & 1;
        o->seed += (unsigned)way;
        for (int batch = 1; batch <= MAX_BATCH; batch += 47) {
            run_with(r, 0, r->weights[0][0], 0, NULL, batch, &want, &stats);
            run_with(r, 0, &disk.weights, 5 + 4 * way, &o->io, batch, &got, &stats);
            assert_memory_equal(&want, &got, sizeof want);
            assert_false(stats.ring);
            assert_true(!o->no_direct || !stats.direct);
        }
        odd_io_free(&o);
    }
    disk_weights_close(&disk);
}

/* Each read of a run fails once: the error names the file, the session begins anew, and the next run is
 * right. */
static void failing_reads_are_errors(void **state)
{
    struct rig *r = *state;
    static struct logits want, got;
    struct expert_cache_stats stats;
    struct disk_weights disk;
    disk_weights_open(&disk, r->weights[2][0], r->model[2]);
    run_with(r, 0, r->weights[2][0], 0, NULL, MAX_BATCH, &want, &stats);
    for (int way = 0; way < 4; way++) {
        int failed = 0;
        for (int at = 1;; at += 1 + at / 4) {
            struct odd_io *o = odd_io_new();
            struct err e = { 0 };
            struct engine *en;
            struct engine_options opt = {
                .max_batch = MAX_BATCH, .max_ctx = 2 * N, .expert_slots = 4 + way, .read_io = &o->io
            };
            o->no_ring = way & 1;
            assert_int_equal(engine_open(&en, &disk.weights, r->device[0], &opt, &e), 0);
            o->fail_at = o->reads + at;
            o->fail_with = way & 2 ? ODD_EIO : 0;
            int rc = run(en, MAX_BATCH, false, &got, &e);
            assert_int_equal(rc, o->reads < o->fail_at ? 0 : ERR_FILE);
            failed += rc != 0;
            if (rc) {
                assert_non_null(strstr(e.what, way & 2 ? "Input/output error" : "shorter"));
                assert_non_null(strstr(e.where, "qwen3_moe/"));
                assert_int_equal(run(en, MAX_BATCH, false, &got, &e), 0);
            }
            assert_memory_equal(&want, &got, sizeof want);
            engine_close(&en);
            bool over = o->reads < o->fail_at;
            odd_io_free(&o);
            if (over)
                break;
        }
        assert_true(failed > 5);
    }
    disk_weights_close(&disk);
}

/* What plan and loader make of a budget too small for the experts: same bits, and slots as large as planned.
 */
static void a_planned_model(void **state)
{
    struct rig *r = *state;
    static struct logits want, got;
    struct expert_cache_stats stats;
    for (int i = 0; i < N_MODELS; i++) {
        struct err e = { 0 };
        struct plan *all, *p;
        struct weights *w;
        struct machine here = { .here = true };
        struct plan_options opt = { .threads = 2, .ctx = 2 * N, .batch = MAX_BATCH };
        struct weights_options load = { .threads = r->threads };
        assert_int_equal(plan_build(&all, r->model[i], &here, &opt, &e), 0);
        assert_false(all->experts_on_disk);
        opt.ram_budget = all->minimum_ram_bytes;
        assert_int_equal(plan_build(&p, r->model[i], &here, &opt, &e), 0);
        assert_true(p->fits && p->experts_on_disk && !p->pack);
        assert_int_equal(weights_load(&w, p, r->device[0], &load, &e), 0);
        run_with(r, 0, r->weights[i][0], 0, NULL, MAX_BATCH, &want, &stats);
        run_with(r, 0, w, p->cache_slots, NULL, MAX_BATCH, &got, &stats);
        assert_memory_equal(&want, &got, sizeof want);
        assert_true(stats.misses > 0);
        assert_int_equal(stats.slots, p->cache_slots);
        assert_int_equal(stats.slot_bytes, p->expert_bytes);
        weights_close(&w);
        plan_close(&p);
        plan_close(&all);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_placement_gives_the_same_bits),
        cmocka_unit_test(a_planned_model),
        cmocka_unit_test(order_of_arrival_does_not_show),
        cmocka_unit_test(failing_reads_are_errors),
    };
    return cmocka_run_group_tests(tests, open_rig, close_rig);
}
