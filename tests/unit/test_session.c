/* test_session.c: sessions on a tiny model: shared passes, snapshots, limits, the MTP head's bookkeeping. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/engine.h"
#include "model/model.h"
#include "support/load.h"

enum { N = 100, VOCAB = 304 };

struct rig {
    struct threads *threads;
    struct device *device;
    struct weights *weights;
    struct engine *engine;
    int32_t ids[N];
};

static int open_rig(void **state)
{
    static struct rig r;
    struct err e = { 0 };
    struct model *m;
    assert_int_equal(threads_open(&r.threads, 2, &e), 0);
    struct device_cpu_options cpu = { .isa = CPU_ISA_BEST, .threads = r.threads };
    assert_int_equal(device_cpu_open(&r.device, &cpu, &e), 0);
    assert_int_equal(model_open(&m, "tests/data/tiny/qwen3_5_moe", &e), 0);
    assert_int_equal(test_load(&r.weights, m, r.device, MIX_NONE, r.threads, &e), 0);
    model_close(&m);
    struct engine_options opt = { .max_batch = 64, .max_sessions = 3, .max_ctx = 2 * N, .max_logits = 4 };
    assert_int_equal(engine_open(&r.engine, r.weights, r.device, &opt, &e), 0);
    for (int i = 0; i < N; i++)
        r.ids[i] = (i * 37 + 11) % VOCAB;
    *state = &r;
    return 0;
}

static int close_rig(void **state)
{
    struct rig *r = *state;
    engine_close(&r->engine);
    weights_close(&r->weights);
    r->device->ops->close(r->device);
    threads_close(&r->threads);
    return 0;
}

static struct session *open_session(struct rig *r)
{
    struct session *s;
    struct err e = { 0 };
    struct session_options opt = { 0 };
    assert_int_equal(session_open(&s, r->engine, &opt, &e), 0);
    return s;
}

static void append(struct session *s, const int32_t *ids, int n)
{
    struct err e = { 0 };
    assert_int_equal(session_append(s, ids, n, NULL, NULL, &e), 0);
}

/* Three sessions at different positions, decoded in one pass, get the bits that each gets alone. */
static void sessions_share_a_pass(void **state)
{
    struct rig *r = *state;
    struct err e = { 0 };
    float alone[3][VOCAB];
    struct session *s[3];
    struct step step[3];
    for (int i = 0; i < 3; i++) {
        s[i] = open_session(r);
        append(s[i], r->ids + i, 20 + 30 * i);
        append(s[i], r->ids + 90 + i, 1);
        memcpy(alone[i], engine_logits(r->engine, 0), sizeof alone[i]);
        session_reset(s[i]);
        append(s[i], r->ids + i, 20 + 30 * i);
        step[i] = (struct step){ s[i], r->ids + 90 + i, 1, 1 };
    }
    assert_int_equal(engine_step(r->engine, step, 3, &e), 0);
    for (int i = 0; i < 3; i++) {
        assert_memory_equal(engine_logits(r->engine, i), alone[i], sizeof alone[i]);
        assert_int_equal(session_position(s[i]), 21 + 30 * i);
        session_close(&s[i]);
    }
}

/* Going back to a snapshot, in the same session or another one, repeats the same logits bit for bit. */
static void snapshots_continue_the_timeline(void **state)
{
    struct rig *r = *state;
    struct err e = { 0 };
    struct session *s = open_session(r), *other = open_session(r);
    append(s, r->ids, 70);
    size_t n = session_snapshot_bytes(s);
    char *saved = malloc(n);
    assert_int_equal(session_snapshot(s, saved, n, &e), 0);
    append(s, r->ids + 70, 5);
    float want[VOCAB];
    memcpy(want, engine_logits(r->engine, 0), sizeof want);
    append(s, r->ids, 20);
    assert_int_equal(session_restore(s, saved, n, &e), 0);
    assert_int_equal(session_position(s), 70);
    append(s, r->ids + 70, 5);
    assert_memory_equal(engine_logits(r->engine, 0), want, sizeof want);
    assert_int_equal(session_restore(other, saved, n, &e), 0);
    append(other, r->ids + 70, 5);
    assert_memory_equal(engine_logits(r->engine, 0), want, sizeof want);
    assert_int_equal(session_restore(other, saved, n - 1, &e), ERR_FORMAT);
    assert_int_equal(session_restore(other, saved, 3, &e), ERR_FORMAT);
    saved[4] ^= 1;
    assert_int_equal(session_restore(other, saved, n, &e), ERR_FORMAT);
    assert_int_equal(session_snapshot(s, saved, 10, &e), ERR_USAGE);
    free(saved);
    session_close(&s);
    session_close(&other);
}

static void limits_are_errors(void **state)
{
    struct rig *r = *state;
    struct err e = { 0 };
    struct session *s;
    struct session_options long_ctx = { .ctx = 2 * N + 1 }, short_ctx = { .ctx = 30 };
    assert_int_equal(session_open(&s, r->engine, &long_ctx, &e), ERR_USAGE);
    assert_int_equal(session_open(&s, r->engine, &short_ctx, &e), 0);
    assert_int_equal(session_append(s, r->ids, 31, NULL, NULL, &e), ERR_USAGE);
    assert_string_equal(e.hint, "allow a longer context: --ctx 31");
    assert_int_equal(session_position(s), 0);
    append(s, r->ids, 30);
    struct step step = { s, r->ids, 1, 1 };
    assert_int_equal(engine_step(r->engine, &step, 1, &e), ERR_USAGE);
    session_reset(s);
    int32_t bad = VOCAB;
    step.tokens = &bad;
    assert_int_equal(engine_step(r->engine, &step, 1, &e), ERR_USAGE);
    bad = -1;
    assert_int_equal(engine_step(r->engine, &step, 1, &e), ERR_USAGE);
    step = (struct step){ s, r->ids, 10, 5 };
    assert_int_equal(engine_step(r->engine, &step, 1, &e), ERR_USAGE); /* more logits than the engine keeps */
    session_close(&s);
}

static int stop_now(void *user)
{
    ++*(int *)user;
    return 1;
}

static void a_long_prompt_can_be_stopped(void **state)
{
    struct rig *r = *state;
    struct err e = { 0 };
    struct session *s = open_session(r);
    int asked = 0;
    assert_int_equal(session_append(s, r->ids, N, stop_now, &asked, &e), ERR_CANCELED);
    assert_int_equal(asked, 1);
    assert_int_equal(session_position(s), 64);
    session_close(&s);
}

static void mtp_follows_its_pass(void **state)
{
    struct rig *r = *state;
    struct err e = { 0 };
    struct session *s = open_session(r), *other = open_session(r);
    append(s, r->ids, 50);
    assert_int_equal(session_mtp(other, r->ids + 1, 50, 1, &e), ERR_USAGE);
    assert_int_equal(session_mtp(s, r->ids + 1, 51, 1, &e), ERR_USAGE);
    assert_int_equal(session_mtp(s, r->ids + 1, 50, 1, &e), 0);
    float whole[VOCAB];
    memcpy(whole, engine_logits(r->engine, 0), sizeof whole);
    for (int i = 0; i < 50; i++) { /* row by row: the same head, the same cache */
        append(other, r->ids + i, 1);
        assert_int_equal(session_mtp(other, r->ids + i + 1, 1, 1, &e), 0);
    }
    float worst = 0;
    for (int i = 0; i < VOCAB; i++) {
        float d = engine_logits(r->engine, 0)[i] - whole[i];
        worst = d > worst ? d : -d > worst ? -d : worst;
    }
    assert_true(worst < 1e-4f);
    session_close(&s);
    assert_int_equal(session_mtp(other, r->ids, 2, 1, &e), ERR_USAGE);
    session_close(&other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sessions_share_a_pass), cmocka_unit_test(snapshots_continue_the_timeline),
        cmocka_unit_test(limits_are_errors),     cmocka_unit_test(a_long_prompt_can_be_stopped),
        cmocka_unit_test(mtp_follows_its_pass),
    };
    return cmocka_run_group_tests(tests, open_rig, close_rig);
}
