/* test_plan.c: sizes recomputed on their own, what gives way when memory is short, refusals, models nobody could load
 * here. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "plan/plan.h"
#include "support/tiny_model.h"

static const size_t GIB = 1 << 30;

/* ---- helpers ---- */

static struct model *open_tiny(const char *config, unsigned style, char **folder)
{
    struct err e = { 0 };
    struct model *m;
    *folder = tiny_checkpoint(config, style);
    if (model_open(&m, *folder, &e))
        fail_msg("%s", e.what);
    return m;
}

static struct machine machine_with(size_t ram)
{
    return (struct machine){ .ram_total = ram, .ram_available = ram, .usable_cores = 4, .disk_free = (size_t)1 << 50,
                             .here = true };
}

static struct plan *plan_for(const struct model *m, const struct machine *machine, const struct plan_options *opt)
{
    struct err e = { 0 };
    struct plan *p;
    if (plan_build(&p, m, machine, opt, &e))
        fail_msg("%s", e.what);
    return p;
}

/* Made-up sizes that grow with the settings as the real ones do. */
static size_t work_of(const struct shape *s, bool has_mtp, const struct plan_options *o)
{
    (void)has_mtp;
    return (size_t)o->batch * (size_t)s->d_model * 64 + (size_t)o->ctx * 8;
}

static size_t session_of(const struct shape *s, bool has_mtp, const struct plan_options *o, size_t *state_bytes)
{
    (void)has_mtp;
    *state_bytes = 1000;
    return 1000 + (size_t)o->ctx * (size_t)s->n_layer * 512;
}

static const struct plan_options sized = { .work_bytes = work_of, .session_bytes = session_of };

/* ---- sizes ---- */

static size_t up(size_t n, size_t to)
{
    return (n + to - 1) / to * to;
}

/* The tiny model in BF16: every role's rows and columns come from the configuration alone. */
static void sizes_of_a_tiny_model_are_exact(void **state)
{
    (void)state;
    char *folder;
    struct model *m = open_tiny(tiny_moe_config, TINY_PLAIN, &folder);
    struct machine machine = { 0 };
    struct plan_options opt = { .skip_mtp = true };
    struct plan *p = plan_for(m, &machine, &opt);
    enum { D = 192, V = 20, F = 4, H = 2 }; /* width, vocabulary, bytes of f32 and bf16 */
    size_t moe = up(3 * D * H, 64) + 2 * up(64 * D * H, 64) + up(D * 64 * H, 64) + up(D * F, 64);
    size_t norms = 2 * up(D * F, 64);
    /* key and value heads: 1 and 2 of 32, so qkv is 2 * 32 + 64 = 128 wide */
    size_t delta_net = up(128 * D * H, 64) + up(64 * D * H, 64) + 2 * up(2 * D * H, 64) + up(128 * 4 * F, 64) +
                       2 * up(2 * F, 64) + up(32 * F, 64) + up(D * 64 * H, 64);
    /* two heads of 64 with gates, one key and value head, q and k norms */
    size_t attention = up(256 * D * H, 64) + 2 * up(64 * D * H, 64) + up(D * 128 * H, 64) + 2 * up(64 * F, 64);
    size_t outside = 2 * up(V * D * H, 64) + up(D * F, 64);
    size_t experts = 2 * 3 * (3 * up(128 * D * H, 64));
    assert_int_equal(p->part[PLAN_ATTENTION].bytes[TIER_RAM], attention);
    assert_int_equal(p->part[PLAN_DELTA_NET].bytes[TIER_RAM], delta_net);
    assert_int_equal(p->part[PLAN_EXPERTS].bytes[TIER_RAM], experts);
    assert_int_equal(p->part[PLAN_EXPERTS].weights, 2 * 3 * 3 * 128 * D);
    assert_string_equal(p->part[PLAN_EXPERTS].types, "bf16");
    assert_string_equal(p->part[PLAN_ATTENTION].types, "bf16 f32");
    assert_int_equal(p->weights_bytes, outside + 2 * (norms + moe) + delta_net + attention + experts);
    assert_int_equal(p->n_experts, 6);
    assert_true(p->fits);
    plan_close(&p);
    model_close(&m);
    tiny_folder_end(&folder);
}

/* Items neither overlap nor leave the block, are aligned, and experts are contiguous. */
static void places_are_disjoint_and_aligned(void **state)
{
    (void)state;
    for (int style = 0; style < 3; style++) {
        char *folder;
        struct model *m = open_tiny(tiny_moe_config, style == 0 ? TINY_PLAIN : style == 1 ? TINY_FP8 : TINY_NF4, &folder);
        struct machine machine = { 0 };
        struct plan_options opt = { .mix = style == 0 ? MIX_NF4_DQ : MIX_NONE };
        struct plan *p = plan_for(m, &machine, &opt);
        uint64_t end = 0;
        for (int i = 0; i < p->n_item; i++) {
            const struct plan_item *it = &p->item[i];
            assert_int_equal(it->data_at % 64, 0);
            assert_int_equal(it->scale_at % 64, 0);
            assert_int_equal(it->data_at, end);
            assert_true(it->scale_at >= it->data_at + it->data_bytes);
            end = up(it->scale_at + it->scale_bytes, 64);
            assert_int_equal(it->expert >= 0, i >= p->n_dense);
            if (i >= p->n_dense)
                assert_int_equal(it->role, ROLE_EXPERT_GATE + (i - p->n_dense) % 3);
        }
        assert_int_equal(end, p->weights_bytes);
        plan_close(&p);
        model_close(&m);
        tiny_folder_end(&folder);
    }
}

static void totals_are_the_sums_of_their_parts(void **state)
{
    (void)state;
    char *folder;
    struct model *m = open_tiny(tiny_moe_config, TINY_PLAIN, &folder);
    struct machine machine = machine_with(64 * GIB);
    struct plan_options opt = sized;
    opt.ctx = 1000;
    opt.batch = 100;
    opt.sessions = 3;
    struct plan *p = plan_for(m, &machine, &opt);
    size_t parts = 0;
    for (int g = 0; g < PLAN_GROUPS; g++)
        parts += p->part[g].bytes[TIER_RAM];
    assert_int_equal(parts, p->weights_bytes);
    assert_int_equal(p->kv_bytes, 3 * 1000 * 2 * 512);
    assert_int_equal(p->state_bytes, 3 * 1000);
    assert_int_equal(p->work_bytes, 100 * 192 * 64 + 1000 * 8);
    assert_int_equal(p->cache_bytes, 0);
    assert_int_equal(p->total_bytes,
                     p->weights_bytes + p->kv_bytes + p->state_bytes + p->work_bytes + p->other_bytes);
    assert_int_equal(p->peak_load_bytes, p->weights_bytes + p->staging_bytes + p->other_bytes);
    assert_int_equal(p->opt.threads, 4);
    plan_close(&p);
    model_close(&m);
    tiny_folder_end(&folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_of_a_tiny_model_are_exact),
        cmocka_unit_test(places_are_disjoint_and_aligned),
        cmocka_unit_test(totals_are_the_sums_of_their_parts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
