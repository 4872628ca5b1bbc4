/* test_bnb.c: NF4, FP4 and double quantization against what bitsandbytes wrote (tools/make_bnb_fixtures.py).
 */
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "quant/qtype.h"

enum { BLOCK = 64, GROUP = 256, HEAD = 8, MAP_BYTES = 1024 };

static void *slurp(const char *path, size_t *bytes)
{
    char *data;
    struct err e = { 0 };
    assert_int_equal(file_slurp(path, 1 << 20, &data, bytes, &e), 0);
    return data;
}

static FILE *text(const char *path)
{
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    return f;
}

static uint64_t fnv(const void *data, size_t n)
{
    uint64_t h = 0xcbf29ce484222325;
    for (size_t i = 0; i < n; i++)
        h = (h ^ ((const uint8_t *)data)[i]) * 0x100000001b3;
    return h;
}

/* A matrix being encoded into memory of its exact size. */
static struct qmat_encoder encoder_of(enum qtype t, int64_t rows, int64_t cols)
{
    struct qmat_encoder m = { .type = t, .rows = rows, .cols = cols };
    size_t data_bytes, scale_bytes;
    assert_true(qtype_sizes(t, rows, cols, &data_bytes, &scale_bytes));
    m.data = malloc(data_bytes);
    m.scale = malloc(scale_bytes);
    m.absmax = qtype_needs_absmax(t) ? malloc((size_t)(rows * cols / BLOCK) * sizeof(float)) : NULL;
    assert_true(m.data && m.scale && (m.absmax || !qtype_needs_absmax(t)));
    memset(m.scale, 0xa5, scale_bytes);
    return m;
}

static void encoder_free(struct qmat_encoder *m)
{
    free(m->data);
    free(m->scale);
    free(m->absmax);
}

static struct qmat matrix_of(const struct qmat_encoder *m)
{
    return (struct qmat){ m->type, m->rows, m->cols, 0, m->data, m->scale };
}

/* input.f32 and tiny.f32, one behind the other. */
static float *read_input(int64_t *n)
{
    size_t a_bytes, b_bytes;
    float *a = slurp("tests/data/encode/input.f32", &a_bytes);
    float *b = slurp("tests/data/bnb/tiny.f32", &b_bytes);
    float *x = malloc(a_bytes + b_bytes);
    assert_non_null(x);
    memcpy(x, a, a_bytes);
    memcpy((char *)x + a_bytes, b, b_bytes);
    free(a);
    free(b);
    *n = (int64_t)((a_bytes + b_bytes) / sizeof *x);
    return x;
}

static void expect_codes(enum qtype t, const char *path)
{
    int64_t n;
    size_t bytes, absmax_bytes;
    float *x = read_input(&n);
    uint8_t *codes = slurp(path, &bytes), *absmax = slurp("tests/data/bnb/absmax.f32", &absmax_bytes);
    struct qmat_encoder m = encoder_of(t, n / BLOCK, BLOCK);
    assert_int_equal(bytes, n / 2);
    qmat_encode(&m, 0, m.rows, x);
    qmat_encode_finish(&m);
    assert_memory_equal(m.data, codes, bytes);
    assert_memory_equal(m.absmax ? (void *)m.absmax : m.scale, absmax, absmax_bytes);
    encoder_free(&m);
    free(codes);
    free(absmax);
    free(x);
}

static void codes_and_absmax(void **state)
{
    (void)state;
    expect_codes(QTYPE_NF4, "tests/data/bnb/nf4.bin");
    expect_codes(QTYPE_NF4_DQ, "tests/data/bnb/nf4.bin");
    expect_codes(QTYPE_FP4, "tests/data/bnb/fp4.bin");
    expect_codes(QTYPE_FP4_DQ, "tests/data/bnb/fp4.bin");
}

static void decoded_floats(void **state)
{
    (void)state;
    int64_t n;
    float *x = read_input(&n), *y = malloc((size_t)n * sizeof *y);
    char name[16];
    unsigned long long want;
    FILE *f = text("tests/data/bnb/decode.txt");
    int lines = 0;
    for (; fscanf(f, "%15s %llx", name, &want) == 2; lines++) {
        struct qmat_encoder m = encoder_of(qtype_from_name(name), n / BLOCK, BLOCK);
        qmat_encode(&m, 0, m.rows, x);
        qmat_encode_finish(&m);
        struct qmat w = matrix_of(&m);
        qmat_decode(&w, 0, w.rows, y);
        if (fnv(y, (size_t)n * sizeof *y) != want)
            fail_msg("%s decodes to other floats", name);
        encoder_free(&m);
    }
    assert_int_equal(lines, 4);
    fclose(f);
    free(x);
    free(y);
}

/* The same numbers as sequence() in tools/make_bnb_fixtures.py: exact multiples of 2^-24 below 1. */
static void fill_sequence(float *absmax, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        uint32_t h = (uint32_t)i * 2654435761u;
        h ^= h >> 15;
        h *= 2246822519u;
        h ^= h >> 13;
        absmax[i] = (float)(h >> 8) * 0x1p-24f;
    }
}

static void double_quantization_of_n_blocks(void **state)
{
    (void)state;
    size_t map_bytes;
    void *map = slurp("tests/data/bnb/map.f32", &map_bytes);
    FILE *f = text("tests/data/bnb/dq.txt");
    unsigned long long nested, codes;
    long long n;
    unsigned offset;
    int lines = 0;
    assert_int_equal(map_bytes, MAP_BYTES);
    for (; fscanf(f, "%lld %x %llx %llx", &n, &offset, &nested, &codes) == 4; lines++) {
        struct qmat_encoder m = encoder_of(QTYPE_NF4_DQ, n, BLOCK);
        fill_sequence(m.absmax, n);
        qmat_encode_finish(&m);
        const uint8_t *plane = m.scale;
        uint32_t head[2], n_group = (uint32_t)((n + GROUP - 1) / GROUP);
        memcpy(head, plane, HEAD);
        if (head[0] != offset)
            fail_msg("offset of %lld blocks is %08x, not %08x", n, head[0], offset);
        assert_int_equal(head[1], n_group);
        assert_memory_equal(plane + HEAD, map, MAP_BYTES);
        const uint8_t *at = plane + HEAD + MAP_BYTES;
        assert_true(fnv(at, n_group * sizeof(float)) == nested);
        assert_true(fnv(at + n_group * sizeof(float), (size_t)n) == codes);
        encoder_free(&m);
    }
    assert_int_equal(lines, 22);
    fclose(f);
    free(map);
}

struct job {
    const struct qmat_encoder *m;
    const float *x;
    int first, step;
};

/* Every step-th row from the last one down. */
static void *encode_some(void *arg)
{
    struct job *j = arg;
    for (int64_t r = j->m->rows - 1 - j->first; r >= 0; r -= j->step)
        qmat_encode(j->m, r, 1, j->x + r * j->m->cols);
    return NULL;
}

static void same_bytes_on_threads_in_any_order(void **state)
{
    (void)state;
    static const enum qtype types[] = { QTYPE_NF4, QTYPE_NF4_DQ, QTYPE_FP4, QTYPE_FP4_DQ };
    enum { COLS = 192, THREADS = 3 };
    int64_t n;
    float *x = read_input(&n);
    for (int t = 0; t < 4; t++) {
        struct qmat_encoder a = encoder_of(types[t], n / COLS, COLS),
                            b = encoder_of(types[t], n / COLS, COLS);
        size_t data_bytes, scale_bytes;
        qtype_sizes(types[t], a.rows, a.cols, &data_bytes, &scale_bytes);
        qmat_encode(&a, 0, a.rows, x);
        pthread_t thread[THREADS];
        struct job job[THREADS];
        for (int k = 0; k < THREADS; k++) {
            job[k] = (struct job){ &b, x, k, THREADS };
            assert_int_equal(pthread_create(&thread[k], NULL, encode_some, &job[k]), 0);
        }
        for (int k = 0; k < THREADS; k++)
            pthread_join(thread[k], NULL);
        qmat_encode_finish(&a);
        qmat_encode_finish(&b);
        assert_memory_equal(a.data, b.data, data_bytes);
        assert_memory_equal(a.scale, b.scale, scale_bytes);
        encoder_free(&a);
        encoder_free(&b);
    }
    free(x);
}

/* The upper rows of a fused matrix: the plane is that of the whole. */
static void slices_decode_like_the_whole(void **state)
{
    (void)state;
    static const enum qtype types[] = { QTYPE_NF4, QTYPE_NF4_DQ, QTYPE_FP4, QTYPE_FP4_DQ };
    enum { COLS = 128 };
    int64_t n;
    float *x = read_input(&n), *whole = malloc((size_t)n * sizeof *whole),
          *part = malloc((size_t)n * sizeof *part);
    for (int t = 0; t < 4; t++) {
        struct qmat_encoder m = encoder_of(types[t], n / COLS, COLS);
        qmat_encode(&m, 0, m.rows, x);
        qmat_encode_finish(&m);
        struct qmat w = matrix_of(&m), upper = qmat_rows(&w, w.rows / 2, w.rows - w.rows / 2);
        struct qmat inner = qmat_rows(&upper, 3, 5);
        qmat_decode(&w, 0, w.rows, whole);
        qmat_decode(&upper, 0, upper.rows, part);
        assert_memory_equal(part, whole + w.rows / 2 * COLS, (size_t)(upper.rows * COLS) * sizeof *part);
        qmat_decode(&inner, 1, 4, part);
        assert_memory_equal(part, whole + (w.rows / 2 + 4) * COLS, 4 * COLS * sizeof *part);
        encoder_free(&m);
    }
    free(x);
    free(whole);
    free(part);
}

/* ---- properties that need no library ---- */

static float gauss(uint32_t *seed)
{
    double u[2];
    for (int i = 0; i < 2; i++) {
        *seed = *seed * 1664525u + 1013904223u;
        u[i] = ((double)(*seed >> 8) + 0.5) * 0x1p-24;
    }
    return (float)(sqrt(-2.0 * log(u[0])) * cos(6.283185307179586 * u[1]));
}

/* Levels are what codes 0..15 decode to with absmax 1; a weight's error is its distance to the nearest of
 * them. */
static void every_weight_takes_the_nearest_level(enum qtype t)
{
    uint8_t all[32] = { 0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef };
    float one = 1.0f, level[BLOCK];
    struct qmat probe = { t, 1, BLOCK, 0, all, &one };
    qmat_decode(&probe, 0, 1, level);
    enum { N = BLOCK * 512 };
    float *x = malloc(N * sizeof *x), *y = malloc(N * sizeof *y);
    uint32_t seed = 17;
    for (int i = 0; i < N; i++)
        x[i] = gauss(&seed);
    struct qmat_encoder m = encoder_of(t, 1, N);
    qmat_encode(&m, 0, 1, x);
    struct qmat w = matrix_of(&m);
    qmat_decode(&w, 0, 1, y);
    for (int i = 0; i < N; i++) {
        float absmax = ((float *)m.scale)[i / BLOCK], best = INFINITY;
        for (int c = 0; c < 16; c++)
            best = fminf(best, fabsf(level[c] * absmax - x[i]));
        assert_true(fabsf(y[i] - x[i]) <= best * (1 + 0x1p-18f)); /* the midpoint was rounded */
    }
    encoder_free(&m);
    free(x);
    free(y);
}

static void nearest_levels(void **state)
{
    (void)state;
    every_weight_takes_the_nearest_level(QTYPE_NF4);
    every_weight_takes_the_nearest_level(QTYPE_FP4);
}

/* An absmax of double quantization is off by at most half the widest gap of the map, 0.0140625 in [-1, 1],
 * and where the deviation is the group's most negative one by the 0.0070313 that the map lacks at its lower
 * end. Plus the library's lookup in 65536 steps, half of 2 / 65535. */
static void double_quantization_error(void **state)
{
    (void)state;
    enum { N = 5000 };
    struct qmat_encoder m = encoder_of(QTYPE_NF4_DQ, N, BLOCK);
    float *x = calloc((size_t)N * BLOCK, sizeof *x), *y = malloc(BLOCK * sizeof *y);
    uint32_t seed = 23;
    double offset = 0, worst = 0;
    for (int b = 0; b < N; b++) {
        x[b * BLOCK] = 2.5f + 0.4f * gauss(&seed); /* code 15 or 0: decodes to absmax with its sign */
        offset += fabsf(x[b * BLOCK]) / (double)N;
    }
    qmat_encode(&m, 0, N, x);
    qmat_encode_finish(&m);
    struct qmat w = matrix_of(&m);
    for (int g = 0; g < N; g += GROUP) {
        double reach = 0;
        int end = g + GROUP < N ? g + GROUP : N;
        for (int b = g; b < end; b++)
            reach = fmax(reach, fabs(fabs((double)x[b * BLOCK]) - offset));
        for (int b = g; b < end; b++) {
            qmat_decode(&w, b, 1, y);
            worst = fmax(worst, fabs((double)y[0] - x[b * BLOCK]) / reach);
        }
    }
    assert_true(worst <= 0.0070313 + 1.0 / 65535 + 1e-6);
    assert_true(worst > 0.0065); /* the bound is reached */
    encoder_free(&m);
    free(x);
    free(y);
}

/* Values that no weight should have: nothing is undefined, and the blocks beside are what they are without
 * them. */
static void any_float_is_safe(void **state)
{
    (void)state;
    static const enum qtype types[] = { QTYPE_NF4, QTYPE_NF4_DQ, QTYPE_FP4, QTYPE_FP4_DQ };
    static const float odd[] = { INFINITY, -INFINITY, NAN, -NAN, 0x1.fffffep127f, 0x1p-149f, -0x1p-127f };
    enum { COLS = 192, N_ODD = sizeof odd / sizeof *odd };
    float x[COLS], y[COLS];
    uint32_t seed = 3;
    for (int t = 0; t < 4; t++)
        for (int k = 0; k < 2 * N_ODD; k++) {
            struct qmat_encoder plain = encoder_of(types[t], 1, COLS), m = encoder_of(types[t], 1, COLS);
            for (int i = 0; i < COLS; i++)
                x[i] = gauss(&seed);
            qmat_encode(&plain, 0, 1, x);
            for (int i = 64; i < 128; i++)
                x[i] = k < N_ODD && i != 100 ? x[i] : odd[k % N_ODD];
            qmat_encode(&m, 0, 1, x);
            qmat_encode_finish(&m);
            struct qmat w = matrix_of(&m);
            qmat_decode(&w, 0, 1, y);
            assert_memory_equal(m.data, plain.data, 32);
            assert_memory_equal((char *)m.data + 64, (char *)plain.data + 64, 32);
            encoder_free(&m);
            encoder_free(&plain);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(codes_and_absmax),
        cmocka_unit_test(decoded_floats),
        cmocka_unit_test(double_quantization_of_n_blocks),
        cmocka_unit_test(same_bytes_on_threads_in_any_order),
        cmocka_unit_test(slices_decode_like_the_whole),
        cmocka_unit_test(nearest_levels),
        cmocka_unit_test(double_quantization_error),
        cmocka_unit_test(any_float_is_safe),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
