/* Activations as int8: layout of a row, the codes' definition, odd input. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "quant/act.h"

static void *row_of(int64_t n)
{
    void *row = aligned_alloc(64, q8_row_bytes(n));
    assert_non_null(row);
    memset(row, 0x5a, q8_row_bytes(n));
    return row;
}

static void test_layout(void **state)
{
    (void)state;
    assert_int_equal(q8_row_bytes(32), 3 * 64);
    assert_int_equal(q8_row_bytes(2048), 2048 + 2 * 256);
    assert_int_equal(q8_row_bytes(544), 576 + 2 * 128); /* 17 blocks: every part is padded */
    char *row = row_of(544);
    struct q8_row r = q8_row_at(row, 544);
    assert_ptr_equal(r.q, row);
    assert_ptr_equal(r.d, row + 576);
    assert_ptr_equal(r.sum, row + 576 + 128);
    free(row);
}

/* Codes against the definition evaluated with the C library's rounding. */
static void test_definition(void **state)
{
    (void)state;
    enum { N = 1024 };
    float x[N];
    uint32_t seed = 7;
    for (int i = 0; i < N; i++) {
        seed = seed * 1664525u + 1013904223u;
        x[i] = (float)((int32_t)seed / 65536) * (i < 512 ? 0x1p-12f : 0x1p-9f);
    }
    void *row = row_of(N);
    q8_quantize(row, x, N);
    struct q8_row r = q8_row_at(row, N);
    for (int b = 0; b < N / Q8_BLOCK; b++) {
        float max = 0.0f;
        for (int i = 0; i < Q8_BLOCK; i++)
            max = fmaxf(max, fabsf(x[b * Q8_BLOCK + i]));
        float d = max / 127.0f, inverse = 1.0f / d;
        int sum = 0;
        assert_memory_equal(&r.d[b], &d, sizeof d);
        for (int i = b * Q8_BLOCK; i < (b + 1) * Q8_BLOCK; i++) {
            assert_int_equal(r.q[i], (int)fmaxf(-127.0f, fminf(127.0f, nearbyintf(x[i] * inverse))));
            sum += r.q[i];
        }
        assert_int_equal(r.sum[b], sum);
    }
    free(row);
}

static void test_halves_go_to_even(void **state)
{
    (void)state;
    float x[Q8_BLOCK] = { 127.0f, 0.5f, 1.5f, 2.5f, -0.5f, -1.5f, -2.5f, 126.5f, -126.5f, 125.5f };
    int want[] = { 127, 0, 2, 2, 0, -2, -2, 126, -126, 126 };
    void *row = row_of(Q8_BLOCK);
    q8_quantize(row, x, Q8_BLOCK);
    struct q8_row r = q8_row_at(row, Q8_BLOCK);
    for (size_t i = 0; i < sizeof want / sizeof *want; i++)
        assert_int_equal(r.q[i], want[i]);
    assert_int_equal(r.sum[0], 127 + 0 + 2 + 2 - 2 - 2 + 126 - 126 + 126);
    free(row);
}

static void expect_zero_block(float value)
{
    float x[Q8_BLOCK];
    for (int i = 0; i < Q8_BLOCK; i++)
        x[i] = i == 3 ? -value : i == 4 ? 0.0f : value;
    void *row = row_of(Q8_BLOCK);
    q8_quantize(row, x, Q8_BLOCK);
    struct q8_row r = q8_row_at(row, Q8_BLOCK);
    assert_true(r.d[0] == 0.0f && r.sum[0] == 0);
    for (int i = 0; i < Q8_BLOCK; i++)
        assert_int_equal(r.q[i], 0);
    free(row);
}

static void test_zero_and_tiny_blocks(void **state)
{
    (void)state;
    expect_zero_block(0.0f);
    expect_zero_block(0x1p-149f);
    expect_zero_block(0x1.fffffep-120f); /* the largest that counts as zero */
    float x[Q8_BLOCK] = { 0x1p-119f, -0x1p-119f };
    void *row = row_of(Q8_BLOCK);
    q8_quantize(row, x, Q8_BLOCK);
    struct q8_row r = q8_row_at(row, Q8_BLOCK);
    assert_int_equal(r.q[0], 127);
    assert_int_equal(r.q[1], -127);
    assert_int_equal(r.q[2], 0);
    free(row);
}

/* Infinity and NaN are nobody's weights or activations, but they must not be undefined behaviour. */
static void test_odd_values_stay_in_range(void **state)
{
    (void)state;
    float odd[] = { INFINITY, -INFINITY, NAN, 0x1.fffffep127f, -0x1.fffffep127f };
    for (size_t k = 0; k < sizeof odd / sizeof *odd; k++) {
        float x[Q8_BLOCK] = { 1.0f, -3.0f };
        x[5] = odd[k];
        void *row = row_of(Q8_BLOCK);
        q8_quantize(row, x, Q8_BLOCK);
        struct q8_row r = q8_row_at(row, Q8_BLOCK);
        for (int i = 0; i < Q8_BLOCK; i++)
            assert_in_range(r.q[i] + 127, 0, 254);
        free(row);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_layout),
        cmocka_unit_test(test_definition),
        cmocka_unit_test(test_halves_go_to_even),
        cmocka_unit_test(test_zero_and_tiny_blocks),
        cmocka_unit_test(test_odd_values_stay_in_range),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
