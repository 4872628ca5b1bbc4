/* test_geometry.c: the named shapes have the sizes of the releases, and can be planned without files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "model/geometry.h"
#include "plan/plan.h"

/* Parameters without MTP head and vision, in units of 0.1e9, as release names say; and those outside the
 * routed experts where published. */
static const struct {
    const char *name;
    uint64_t total, rest;
} sizes[] = {
    { "qwen3.5-397b-a17b", 3963, 98 }, { "qwen3.5-122b-a10b", 1221, 0 }, { "qwen3.5-35b-a3b", 347, 0 },
    { "qwen3-30b-a3b", 305, 0 },       { "qwen2.5-7b", 76, 76 },
};

static void open_shape(struct shape *s, const char *name, int layers)
{
    struct err e = { 0 };
    if (geometry_shape(s, name, layers, &e))
        fail_msg("%s: %s", name, e.what);
}

static uint64_t outside_experts(const struct shape *s)
{
    return geometry_weights(s) -
           (uint64_t)s->n_layer * (uint64_t)s->n_expert * 3 * (uint64_t)s->d_model * (uint64_t)s->d_expert;
}

static void test_sizes(void **state)
{
    (void)state;
    struct shape s;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        open_shape(&s, sizes[i].name, 0);
        assert_string_equal(geometry_name((int)i), sizes[i].name);
        assert_non_null(strstr(geometry_list(), sizes[i].name));
        assert_int_equal((geometry_weights(&s) + 50000000) / 100000000, sizes[i].total);
        if (sizes[i].rest)
            assert_int_equal((outside_experts(&s) + 50000000) / 100000000, sizes[i].rest);
    }
    assert_null(geometry_name((int)(sizeof sizes / sizeof *sizes)));
    assert_null(geometry_name(-1));
}

static void test_layers(void **state)
{
    (void)state;
    struct shape whole, cut;
    struct err e = { 0 };
    open_shape(&whole, "QWEN3.5-35B-A3B", 0);
    open_shape(&cut, "qwen3.5-35b-a3b", 4);
    assert_int_equal(cut.n_layer, 4);
    assert_int_equal(cut.mixer[2], MIXER_DELTA_NET);
    assert_int_equal(cut.mixer[3], MIXER_ATTENTION);
    assert_int_equal(whole.mixer[39], MIXER_ATTENTION);
    uint64_t ends = 2 * (uint64_t)whole.n_vocab * (uint64_t)whole.d_model + (uint64_t)whole.d_model;
    assert_int_equal((geometry_weights(&cut) - ends) * 10, geometry_weights(&whole) - ends);
    assert_int_equal(geometry_shape(&cut, "qwen3.5-35b-a3b", 41, &e), ERR_USAGE);
    assert_non_null(strstr(e.what, "40 layers"));
    assert_int_equal(geometry_shape(&cut, "qwen3.5-36b", 0, &e), ERR_USAGE);
    assert_non_null(strstr(e.hint, "qwen3.5-35b-a3b"));
}

/* Bits per weight of the whole 35B model in Q4_K_M: between the 4.5 of Q4_K and the 6.56 of Q6_K. */
static void test_plan(void **state)
{
    (void)state;
    struct shape s;
    struct model *m;
    struct plan *p;
    struct err e = { 0 };
    struct machine machine = { .usable_cores = 2 };
    struct plan_options opt = { .mix = MIX_Q4_K_M, .no_disk = true };
    open_shape(&s, "qwen3.5-35b-a3b", 0);
    assert_int_equal(geometry_model(&m, "35b", &s, &e), 0);
    assert_int_equal(plan_build(&p, m, &machine, &opt, &e), 0);
    assert_true(p->fits);
    double bits = 8.0 * (double)p->weights_bytes / (double)geometry_weights(&s);
    assert_true(bits > 4.5 && bits < 5.2);
    assert_string_equal(p->part[PLAN_HEAD].types, "q6_k");
    assert_string_equal(p->part[PLAN_ROUTER].types, "f32");
    plan_close(&p);
    model_close(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_layers),
        cmocka_unit_test(test_plan),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
