/* test_qtype.c: the table of formats: names, ids, sizes, plain encoders. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/half.h"
#include "quant/qtype.h"

static void every_row_is_whole(void **state)
{
    (void)state;
    for (int t = QTYPE_NONE + 1; t < QTYPE_COUNT; t++) {
        const struct qtype_info *info = qtype_info((enum qtype)t);
        assert_non_null(info->name);
        assert_true(info->block > 0 && info->block_bytes > 0);
        assert_int_equal(qtype_from_name(info->name), t); /* also: no name is given twice */
        if (info->ggml_id >= 0)
            assert_int_equal(qtype_from_ggml((uint32_t)info->ggml_id), t);
        if (info->st_name)
            assert_int_equal(qtype_from_st(info->st_name), t);
        if (info->encode)
            assert_non_null(info->decode);
        if (info->act == QACT_Q8)
            assert_int_equal(info->block % 32, 0);
    }
}

static void names_are_found_in_any_case(void **state)
{
    (void)state;
    assert_int_equal(qtype_from_name("Q4_K"), QTYPE_Q4_K);
    assert_int_equal(qtype_from_name("q4-k"), QTYPE_Q4_K);
    assert_int_equal(qtype_from_name("NF4_DQ"), QTYPE_NF4_DQ);
    assert_int_equal(qtype_from_name("nf4-dq"), QTYPE_NF4_DQ);
    assert_int_equal(qtype_from_name("fp8-E4M3"), QTYPE_FP8_E4M3);
    const char *unknown[] = { "", "q4_", "q4_kk", "none", "nf4-", "q4 k", "\xff" };
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++)
        assert_int_equal(qtype_from_name(unknown[i]), QTYPE_NONE);
    assert_int_equal(qtype_from_st("F8_E4M3"), QTYPE_FP8_E4M3);
    assert_int_equal(qtype_from_st("f32"), QTYPE_NONE); /* safetensors' names are exact */
}

static void dead_and_foreign_gguf_ids_are_unknown(void **state)
{
    (void)state;
    const uint32_t ids[] = { 4, 5, 9, 31, 32, 33, 36, 37, 38, 41, 97, 133, 0x7fffffff, 0xffffffff };
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++)
        assert_int_equal(qtype_from_ggml(ids[i]), QTYPE_NONE);
    assert_int_equal(qtype_from_ggml(0), QTYPE_F32);
    assert_int_equal(qtype_from_ggml(30), QTYPE_BF16);
    assert_int_equal(qtype_from_ggml(39), QTYPE_MXFP4);
}

/* The published bits per weight of each format. */
static void formats_have_the_published_sizes(void **state)
{
    (void)state;
    const struct {
        enum qtype type;
        double bits;
    } want[] = {
        { QTYPE_F32, 32 },         { QTYPE_BF16, 16 },       { QTYPE_Q4_0, 4.5 },
        { QTYPE_Q4_1, 5 },         { QTYPE_Q5_0, 5.5 },      { QTYPE_Q5_1, 6 },
        { QTYPE_Q8_0, 8.5 },       { QTYPE_Q2_K, 2.625 },    { QTYPE_Q3_K, 3.4375 },
        { QTYPE_Q4_K, 4.5 },       { QTYPE_Q5_K, 5.5 },      { QTYPE_Q6_K, 6.5625 },
        { QTYPE_Q8_K, 9.125 },     { QTYPE_IQ1_S, 1.5625 },  { QTYPE_IQ1_M, 1.75 },
        { QTYPE_IQ2_XXS, 2.0625 }, { QTYPE_IQ2_XS, 2.3125 }, { QTYPE_IQ2_S, 2.5625 },
        { QTYPE_IQ3_XXS, 3.0625 }, { QTYPE_IQ3_S, 3.4375 },  { QTYPE_IQ4_NL, 4.5 },
        { QTYPE_IQ4_XS, 4.25 },    { QTYPE_MXFP4, 4.25 },    { QTYPE_NVFP4, 4.5 },
        { QTYPE_TQ1_0, 1.6875 },   { QTYPE_TQ2_0, 2.0625 },  { QTYPE_NF4, 4.5 },
        { QTYPE_FP4, 4.5 },
    };
    for (size_t i = 0; i < sizeof want / sizeof *want; i++)
        if (qtype_bits(want[i].type) != want[i].bits)
            fail_msg("%s: %g bits", qtype_info(want[i].type)->name, qtype_bits(want[i].type));
    double nested = 4 + 8.0 / 64 + 32.0 / (64 * 256); /* and 258 words per matrix */
    assert_true(fabs(qtype_bits(QTYPE_NF4_DQ) - nested) < 1e-4);
    assert_true(fabs(qtype_bits(QTYPE_FP8_E4M3) - (8 + 32.0 / 16384)) < 1e-9);
}

static void check_sizes(enum qtype t, int64_t rows, int64_t cols, size_t want_data, size_t want_scale)
{
    size_t data, scale;
    assert_true(qtype_sizes(t, rows, cols, &data, &scale));
    assert_int_equal(data, want_data);
    assert_int_equal(scale, want_scale);
}

static void planes_lie_beside_the_codes(void **state)
{
    (void)state;
    check_sizes(QTYPE_Q4_K, 3, 512, 3 * 2 * 144, 0);
    check_sizes(QTYPE_FP8_E4M3, 1, 1, 1, 4);
    check_sizes(QTYPE_FP8_E5M2, 129, 256, 129 * 256, 4 * 2 * 2);
    check_sizes(QTYPE_FP8_E4M3, 128, 257, 128 * 257, 4 * 3);
    check_sizes(QTYPE_NF4, 3, 128, 3 * 64, 4 * 6);
    check_sizes(QTYPE_FP4_DQ, 4, 4096, 4 * 2048, 4 * (2 + 256 + 1) + 256); /* 256 blocks: one nested scale */
    check_sizes(QTYPE_NF4_DQ, 257, 64, 257 * 32, 4 * (2 + 256 + 2) + 257);
    check_sizes(QTYPE_F32, 0, 7, 0, 0);
}

static void impossible_sizes_are_refused(void **state)
{
    (void)state;
    size_t data, scale;
    assert_false(qtype_sizes(QTYPE_NONE, 1, 1, &data, &scale));
    assert_false(qtype_sizes(QTYPE_Q4_K, 1, 255, &data, &scale));
    assert_false(qtype_sizes(QTYPE_NF4, 64, 32, &data, &scale));
    assert_false(qtype_sizes(QTYPE_F32, -1, 4, &data, &scale));
    assert_false(qtype_sizes(QTYPE_F32, 4, -1, &data, &scale));
    assert_false(qtype_sizes((enum qtype)QTYPE_COUNT, 1, 1, &data, &scale));
    const int64_t huge[] = { INT64_MAX, INT64_MAX - 255, INT64_C(1) << 62, INT64_C(1) << 60 };
    for (int t = QTYPE_NONE + 1; t < QTYPE_COUNT; t++)
        for (size_t i = 0; i < sizeof huge / sizeof *huge; i++) {
            assert_false(qtype_sizes((enum qtype)t, huge[i], 256, &data, &scale));
            assert_false(qtype_sizes((enum qtype)t, 1, huge[i], &data, &scale));
            assert_false(qtype_sizes((enum qtype)t, huge[i], huge[i], &data, &scale));
        }
}

static void only_double_quantized_formats_need_absmax(void **state)
{
    (void)state;
    for (int t = 0; t < QTYPE_COUNT; t++)
        assert_int_equal(qtype_needs_absmax((enum qtype)t), t == QTYPE_NF4_DQ || t == QTYPE_FP4_DQ);
}

/* Encoding rows in two calls in any order, decoding: rounded to nearest, ties to even. */
static void plain_encoders_round_to_nearest_even(void **state)
{
    (void)state;
    const float x[3][4] = { { 1, -0.0f, 1 + 0x1p-9f, 1 + 3 * 0x1p-9f },     /* bf16 keeps 7 bits */
                            { 1 + 0x1p-8f, 1 + 3 * 0x1p-8f, 65519, 65520 }, /* ties; around f16's infinity */
                            { 1 + 0x1p-11f, 1 + 3 * 0x1p-11f, 0x1p-25f, -3 * 0x1p-25f } }; /* f16's ties */
    const float want_bf16[3][4] = { { 1, -0.0f, 1, 1 + 0x1p-7f },
                                    { 1, 1 + 0x1p-6f, 65536, 65536 },
                                    { 1, 1, 0x1p-25f, -3 * 0x1p-25f } };
    const float want_f16[3][4] = { { 1, -0.0f, 1 + 0x1p-9f, 1 + 3 * 0x1p-9f },
                                   { 1 + 0x1p-8f, 1 + 3 * 0x1p-8f, 65504, INFINITY },
                                   { 1, 1 + 0x1p-9f, 0, -0x1p-23f } };
    const struct {
        enum qtype type;
        const void *want;
    } cases[] = { { QTYPE_F32, x }, { QTYPE_BF16, want_bf16 }, { QTYPE_F16, want_f16 } };
    for (int i = 0; i < 3; i++) {
        uint8_t data[3 * 4 * 4];
        float out[3][4];
        struct qmat_encoder m = { .type = cases[i].type, .rows = 3, .cols = 4, .data = data };
        qmat_encode(&m, 1, 2, x[1]);
        qmat_encode(&m, 0, 1, x[0]);
        struct qmat w = { cases[i].type, 3, 4, 0, data, NULL };
        qmat_decode(&w, 0, 3, &out[0][0]);
        assert_memory_equal(out, cases[i].want, sizeof out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_row_is_whole),
        cmocka_unit_test(names_are_found_in_any_case),
        cmocka_unit_test(dead_and_foreign_gguf_ids_are_unknown),
        cmocka_unit_test(formats_have_the_published_sizes),
        cmocka_unit_test(planes_lie_beside_the_codes),
        cmocka_unit_test(impossible_sizes_are_refused),
        cmocka_unit_test(only_double_quantized_formats_need_absmax),
        cmocka_unit_test(plain_encoders_round_to_nearest_even),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
