/* test_sampler.c: what stays to draw from (fixture computed by transformers), draws, seeds, hostile logits.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "text/sampler.h"

static struct sampler *open_sampler(const struct sampler_options *o, int n)
{
    struct sampler *s;
    struct err e = { 0 };
    assert_int_equal(sampler_open(&s, o, n, n, &e), 0);
    return s;
}

static void check_case(const json_t *c)
{
    struct sampler_options o = sampler_defaults();
    float logits[64];
    const json_t *seen = json_object_get(c, "seen"), *ids = json_object_get(c, "ids"),
                 *probs = json_object_get(c, "probs");
    int n = (int)json_array_size(json_object_get(c, "logits"));
    assert_in_range(n, 1, 64);
    assert_int_equal(sampler_from_config(&o, c, NULL), 0); /* the same keys as generation_config.json */
    for (int i = 0; i < n; i++)
        logits[i] = (float)json_real_value(json_array_get(json_object_get(c, "logits"), (size_t)i));
    struct sampler *s = open_sampler(&o, n);
    for (size_t i = 0; i < json_array_size(seen); i++)
        sampler_accept(s, (int32_t)json_integer_value(json_array_get(seen, i)), i % 2);
    const struct sampler_choice *got;
    int kept = sampler_distribution(s, logits, &got);
    assert_int_equal(kept, json_array_size(ids));
    for (int i = 0; i < kept; i++) {
        double want = -1;
        for (int k = 0; k < kept; k++)
            if (json_integer_value(json_array_get(ids, (size_t)k)) == got[i].id)
                want = json_number_value(json_array_get(probs, (size_t)k));
        assert_true(fabs(got[i].p - want) <= 2e-6); /* float32 logits / T on the other side */
    }
    sampler_close(&s);
}

static void same_survivors_as_transformers(void **state)
{
    (void)state;
    json_t *root;
    struct err e = { 0 };
    assert_int_equal(json_load_path("tests/data/sampler.json", 1 << 20, &root, &e), 0);
    json_t *cases = json_object_get(root, "cases");
    assert_in_range(json_array_size(cases), 50, 1000);
    for (size_t i = 0; i < json_array_size(cases); i++)
        check_case(json_array_get(cases, i));
    json_decref(root);
}

/* 100,000 draws: chi-square over 7 classes; 35 is exceeded once in 100,000 times by chance, and the seed is
 * fixed. */
static void draws_follow_the_distribution(void **state)
{
    (void)state;
    static const float logit[8] = { 0.5f, -1, 2, 0, 1.5f, -0.25f, NAN, 1 };
    struct sampler_options o = sampler_defaults();
    o.temperature = 0.8f;
    o.seed = 42;
    struct sampler *s = open_sampler(&o, 8);
    float work[8];
    const struct sampler_choice *c;
    double p[8] = { 0 }, chi = 0;
    int hits[8] = { 0 };
    memcpy(work, logit, sizeof work);
    int n = sampler_distribution(s, work, &c);
    assert_int_equal(n, 7);
    for (int i = 0; i < n; i++)
        p[c[i].id] = c[i].p;
    for (int i = 0; i < 100000; i++) {
        memcpy(work, logit, sizeof work);
        hits[sampler_pick(s, work)]++;
    }
    assert_int_equal(hits[6], 0);
    for (int i = 0; i < 8; i++)
        chi += p[i] > 0 ? (hits[i] - 1e5 * p[i]) * (hits[i] - 1e5 * p[i]) / (1e5 * p[i]) : 0;
    assert_true(chi < 35);
    assert_true(chi > 0);
    sampler_close(&s);
}

static void seeds_decide(void **state)
{
    (void)state;
    struct sampler_options o = sampler_defaults();
    o.temperature = 1;
    int32_t first[64], other = 0;
    for (int run = 0; run < 3; run++) {
        o.seed = run < 2 ? 7 : 8;
        struct sampler *s = open_sampler(&o, 100);
        for (int i = 0; i < 64; i++) {
            float logits[100];
            for (int k = 0; k < 100; k++)
                logits[k] = (float)((k * 37 + i) % 11);
            int32_t id = sampler_pick(s, logits);
            if (run == 0)
                first[i] = id;
            else if (run == 1)
                assert_int_equal(id, first[i]);
            else
                other += id != first[i];
        }
        sampler_close(&s);
    }
    assert_true(other > 32);
}

static void penalties_and_bias(void **state)
{
    (void)state;
    struct logit_bias bias = { 3, 10 };
    struct sampler_options o = sampler_defaults();
    o.repetition_penalty = 2;
    o.presence_penalty = 0.5f;
    o.frequency_penalty = 0.25f;
    o.bias = &bias;
    o.n_bias = 1;
    struct sampler *s = open_sampler(&o, 5);
    bias.bias = 0; /* it was copied */
    sampler_accept(s, 0, false);
    sampler_accept(s, 1, true);
    sampler_accept(s, 1, true);
    sampler_accept(s, 99, true); /* ignored */
    float logits[5] = { 4, -4, 3, -8, 0 };
    assert_int_equal(sampler_pick(s, logits), 2);
    static const float want[5] = { 2, -9, 3, 2, 0 };
    for (int i = 0; i < 5; i++)
        assert_true(logits[i] == want[i]);
    sampler_reset(s);
    float again[5] = { 4, -4, 3, -8, 0 };
    assert_int_equal(sampler_pick(s, again), 0);
    assert_true(again[1] == -4);
    sampler_close(&s);
}

static void hostile_logits(void **state)
{
    (void)state;
    struct sampler_options o = sampler_defaults();
    for (int mode = 0; mode < 6; mode++) {
        o.temperature = mode % 2 ? 1e-30f : 1;
        o.top_k = mode >= 2 ? 3 : 0;
        o.top_p = mode >= 4 ? 0 : 0.9f;
        struct sampler *s = open_sampler(&o, 4);
        float nan[4] = { NAN, NAN, NAN, NAN }, one[4] = { NAN, -INFINITY, -3e38f, NAN },
              inf[4] = { 1, INFINITY, 2, INFINITY }, wide[4] = { -3.4e38f, 3.4e38f, NAN, 0 };
        assert_int_equal(sampler_pick(s, nan), 0);
        assert_int_equal(sampler_pick(s, one), 2);
        assert_int_equal(sampler_pick(s, inf), 1);
        assert_int_equal(sampler_pick(s, wide), 1);
        sampler_close(&s);
    }
}

static void padding_rows_are_never_chosen(void **state)
{
    (void)state;
    struct sampler_options o = sampler_defaults();
    struct sampler *s;
    o.temperature = 1;
    assert_int_equal(sampler_open(&s, &o, 8, 5, NULL), 0);
    for (int i = 0; i < 200; i++) {
        float logits[8] = { 0, 0, 0, 0, 0, 50, 50, 50 };
        assert_in_range(sampler_pick(s, logits), 0, 4);
    }
    sampler_close(&s);
}

static void options_are_checked(void **state)
{
    (void)state;
    struct sampler *s = NULL;
    struct err e = { 0 };
    struct sampler_options o = sampler_defaults();
    o.temperature = -1;
    assert_int_equal(sampler_open(&s, &o, 8, 8, &e), ERR_USAGE);
    assert_string_equal(e.what, "temperature is -1, outside 0..100");
    o = sampler_defaults();
    o.top_p = NAN;
    assert_int_equal(sampler_check(&o, &e), ERR_USAGE);
    struct logit_bias bias = { 8, 1 };
    o = sampler_defaults();
    o.bias = &bias;
    o.n_bias = 1;
    assert_int_equal(sampler_open(&s, &o, 8, 8, &e), ERR_USAGE);
    assert_null(s);
}

static void configuration_is_read(void **state)
{
    (void)state;
    struct err e = { 0 };
    struct sampler_options o = sampler_defaults();
    json_t *c = json_loads("{\"do_sample\":true,\"temperature\":0.6,\"top_k\":20,\"top_p\":0.95}", 0, NULL);
    assert_int_equal(sampler_from_config(&o, c, &e), 0);
    assert_true(o.temperature == 0.6f && o.top_k == 20 && o.top_p == 0.95f && o.repetition_penalty == 1);
    json_object_set_new(c, "do_sample", json_false());
    assert_int_equal(sampler_from_config(&o, c, &e), 0);
    assert_true(o.temperature == 0);
    json_object_set_new(c, "top_p", json_real(7));
    assert_int_equal(sampler_from_config(&o, c, &e), ERR_FORMAT);
    assert_int_equal(e.code, ERR_FORMAT);
    json_object_set_new(c, "top_p", json_string("high"));
    assert_int_equal(sampler_from_config(&o, c, &e), ERR_FORMAT);
    assert_int_equal(sampler_from_config(&o, NULL, &e), 0);
    json_decref(c);
}

static void logprobs_sum_to_one(void **state)
{
    (void)state;
    float logits[5] = { 100, 99.5f, -200, NAN, 98 };
    double sum = 0;
    for (int i = 0; i < 5; i++)
        sum += i == 3 ? 0 : exp(sampler_logprob(logits, 5, i));
    assert_true(fabs(sum - 1) < 1e-12);
}

/* A whole vocabulary with top-k: the heap makes it one pass; 5 ms is a bound for sanitizers and busy
 * machines. */
static void a_large_vocabulary_is_cheap(void **state)
{
    (void)state;
    enum { N = 248320 };
    struct sampler_options o = sampler_defaults();
    o.temperature = 0.6f;
    o.top_k = 20;
    o.top_p = 0.95f;
    struct sampler *s = open_sampler(&o, N);
    float *logits = malloc(N * sizeof *logits);
    assert_non_null(logits);
    double best = 1;
    for (int run = 0; run < 10; run++) {
        for (uint32_t i = 0; i < N; i++)
            logits[i] = (float)((i * 2654435761u + (uint32_t)run) >> 8) / 1e6f;
        double begin = clock_seconds();
        assert_in_range(sampler_pick(s, logits), 0, N - 1);
        double t = clock_seconds() - begin;
        best = t < best ? t : best;
    }
    print_message("%d logits, top-k 20: %.3f ms\n", N, 1e3 * best);
    assert_true(best < 5e-3);
    free(logits);
    sampler_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_survivors_as_transformers),
        cmocka_unit_test(draws_follow_the_distribution),
        cmocka_unit_test(seeds_decide),
        cmocka_unit_test(penalties_and_bias),
        cmocka_unit_test(hostile_logits),
        cmocka_unit_test(padding_rows_are_never_chosen),
        cmocka_unit_test(options_are_checked),
        cmocka_unit_test(configuration_is_read),
        cmocka_unit_test(logprobs_sum_to_one),
        cmocka_unit_test(a_large_vocabulary_is_cheap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
