/* test_encode.c: the GGUF encoders give the reference's bytes, on any threads, and survive any float. */
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
#include "quant/encode.h"
#include "quant/qtype.h"

static const struct format {
    enum qtype type;
    const char *file; /* tools/make_encode_fixtures.py */
} formats[] = {
    { QTYPE_Q8_0, "q8_0.bin" }, { QTYPE_Q4_0, "q4_0.bin" },   { QTYPE_Q5_0, "q5_0.bin" },
    { QTYPE_Q5_1, "q5_1.bin" }, { QTYPE_MXFP4, "mxfp4.bin" }, { QTYPE_IQ4_NL, "iq4_nl.bin" },
    { QTYPE_Q4_K, "q4_k.bin" }, { QTYPE_Q5_K, "q5_k.bin" },   { QTYPE_Q6_K, "q6_k.bin" },
};
enum { N_FORMATS = sizeof formats / sizeof *formats };

static void *slurp(const char *name, size_t *bytes)
{
    char path[128], *data;
    struct err e = { 0 };
    snprintf(path, sizeof path, "tests/data/encode/%s", name);
    assert_int_equal(file_slurp(path, 1 << 20, &data, bytes, &e), 0);
    return data;
}

/* A matrix [rows][cols] being encoded into memory of its exact size, so that sanitizers see a byte too many.
 */
static struct qmat_encoder encoder_of(enum qtype t, int64_t rows, int64_t cols)
{
    struct qmat_encoder m = { .type = t, .rows = rows, .cols = cols };
    size_t data_bytes, scale_bytes;
    assert_true(qtype_sizes(t, rows, cols, &data_bytes, &scale_bytes));
    assert_int_equal(scale_bytes, 0);
    m.data = malloc(data_bytes);
    assert_non_null(m.data);
    memset(m.data, 0xa5, data_bytes);
    return m;
}

static size_t data_bytes_of(const struct qmat_encoder *m)
{
    return (size_t)m->rows * qtype_row_bytes(m->type, m->cols);
}

static void decode_all(const struct qmat_encoder *m, float *out)
{
    struct qmat w = { .type = m->type, .rows = m->rows, .cols = m->cols, .data = m->data };
    qmat_decode(&w, 0, m->rows, out);
}

/* Any bits, and floats of like size with some of the rare ones among them. */
static void fill_blocks(float *x, int n, uint32_t *seed, bool any_bits)
{
    static const float rare[] = { 0.0f, -0.0f, 0x1p-149f, -0x1p-140f, 1e38f, -3e38f, 1e-38f, 1e-45f };
    for (int i = 0; i < n; i++) {
        uint32_t r = *seed = *seed * 1664525 + 1013904223, bits = r ^ r >> 15 ^ r << 11;
        x[i] = (float)((int32_t)r >> 8) * 0x1p-20f;
        if (any_bits)
            memcpy(&x[i], &bits, sizeof bits);
        else if (r % 97 == 0)
            x[i] = rare[r / 97 % 8];
        else if (r % 101 == 0)
            x[i] = NAN;
        else if (r % 103 == 0)
            x[i] = -INFINITY;
    }
}

static void wide_vectors_give_the_same_bytes(void **state)
{
    enum { N = 64 * 50 };
    static float x[N], max[2][N / 64];
    static uint8_t codes[2][N / 2], blocks[2][N / 32 * 34];
    uint32_t seed = 1;
    (void)state;
    for (int turn = 0; turn < 400; turn++) {
        fill_blocks(x, N, &seed, turn % 4 == 3);
        if (turn % 4 == 1) /* blocks on the midpoints between levels, as near as floats get */
            for (int i = 0; i < N; i++)
                x[i] = i % 64 == 0 ? 1.0f : nextafterf((float)(i % 64) / 32 - 1, x[i]);
        nf4_blocks_plain(codes[0], max[0], N / 64, x);
        nf4_blocks_fast(codes[1], max[1], N / 64, x);
        assert_memory_equal(codes[0], codes[1], sizeof codes[0]);
        assert_memory_equal(max[0], max[1], sizeof max[0]);
        q8_0_blocks_plain(blocks[0], N / 32, x);
        q8_0_blocks_fast(blocks[1], N / 32, x);
        assert_memory_equal(blocks[0], blocks[1], sizeof blocks[0]);
    }
}

static void reference_bytes(void **state)
{
    (void)state;
    size_t bytes, want_bytes;
    float *x = slurp("input.f32", &bytes);
    enum { COLS = 1280 };
    for (int f = 0; f < N_FORMATS; f++) {
        struct qmat_encoder m = encoder_of(formats[f].type, (int64_t)(bytes / 4 / COLS), COLS);
        uint8_t *want = slurp(formats[f].file, &want_bytes);
        assert_int_equal(data_bytes_of(&m), want_bytes);
        qmat_encode(&m, 0, m.rows, x);
        qmat_encode_finish(&m);
        size_t block = (size_t)qtype_info(m.type)->block_bytes, bad = 0;
        for (size_t b = 0; b < want_bytes; b += block)
            bad += memcmp((uint8_t *)m.data + b, want + b, block) != 0;
        if (bad)
            print_error("%s: %zu of %zu blocks differ\n", formats[f].file, bad, want_bytes / block);
        assert_int_equal(bad, 0);
        free(want);
        free(m.data);
    }
    free(x);
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
    size_t bytes;
    float *x = slurp("input.f32", &bytes);
    enum { COLS = 256, THREADS = 3 };
    for (int f = 0; f < N_FORMATS; f++) {
        int64_t rows = (int64_t)(bytes / 4 / COLS);
        struct qmat_encoder a = encoder_of(formats[f].type, rows, COLS);
        struct qmat_encoder b = encoder_of(formats[f].type, rows, COLS);
        qmat_encode(&a, 0, rows, x);
        pthread_t thread[THREADS];
        struct job job[THREADS];
        for (int t = 0; t < THREADS; t++) {
            job[t] = (struct job){ &b, x, t, THREADS };
            assert_int_equal(pthread_create(&thread[t], NULL, encode_some, &job[t]), 0);
        }
        for (int t = 0; t < THREADS; t++)
            pthread_join(thread[t], NULL);
        assert_memory_equal(a.data, b.data, data_bytes_of(&a));
        free(a.data);
        free(b.data);
    }
    free(x);
}

/* ---- error on Gaussian weights ---- */

static float gauss(uint32_t *seed)
{
    double u[2];
    for (int i = 0; i < 2; i++) {
        *seed = *seed * 1664525u + 1013904223u;
        u[i] = ((double)(*seed >> 8) + 0.5) * 0x1p-24;
    }
    return (float)(sqrt(-2.0 * log(u[0])) * cos(6.283185307179586 * u[1]));
}

static double rms_error(enum qtype t, const float *x, int64_t n)
{
    struct qmat_encoder m = encoder_of(t, 1, n);
    float *y = malloc((size_t)n * sizeof *y);
    double sum = 0;
    qmat_encode(&m, 0, 1, x);
    decode_all(&m, y);
    for (int64_t i = 0; i < n; i++)
        sum += ((double)y[i] - x[i]) * ((double)y[i] - x[i]);
    free(y);
    free(m.data);
    return sqrt(sum / (double)n);
}

/* What rounding to a grid gives: step^2 / 12 for every value but the `exact` ones per block that lie on the
 * grid. The step is (largest magnitude, or max - min) / steps, over blocks of n_block. */
static double grid_error(const float *x, int64_t n, int n_block, bool range, double steps, int exact)
{
    double sum = 0;
    for (int64_t b = 0; b < n; b += n_block) {
        double min = x[b], max = x[b];
        for (int i = 1; i < n_block; i++) {
            min = fmin(min, x[b + i]);
            max = fmax(max, x[b + i]);
        }
        double step = (range ? fmax(max, 0) - fmin(min, 0) : fmax(max, -min)) / steps;
        sum += step * step / 12 * (n_block - exact);
    }
    return sqrt(sum / (double)n);
}

static void error_on_gaussian_weights(void **state)
{
    (void)state;
    static const struct {
        enum qtype type;
        int n_block;
        bool range;
        double steps;
        int exact;
        double least, most; /* error / grid_error */
    } cases[] = {
        /* clang-format off */
        { QTYPE_Q8_0, 32, false, 127, 1, 0.995, 1.005 },
        { QTYPE_Q5_1, 32, true,  31,  2, 0.995, 1.005 },
        /* the side away from the largest one ends a step early */
        { QTYPE_Q5_0, 32, false, 16,  1, 1.0, 1.015 },
        { QTYPE_Q4_0, 32, false, 8,   1, 1.0, 1.02 },
        /* searched scales: better than rounding to the plain grid, scales rounded to 6 or 8 bits included */
        { QTYPE_Q6_K,   16, false, 32, 0, 0.91,  0.93 },
        { QTYPE_Q5_K,   32, true,  31, 0, 0.915, 0.935 },
        { QTYPE_Q4_K,   32, true,  15, 0, 0.875, 0.895 },
        { QTYPE_IQ4_NL, 32, false, 8,  0, 0.875, 0.895 },
        { QTYPE_MXFP4,  32, false, 8,  0, 1.32,  1.35 },
        /* clang-format on */
    };
    enum { N = 1 << 17 };
    float *x = malloc(N * sizeof *x);
    uint32_t seed = 11;
    for (int i = 0; i < N; i++)
        x[i] = gauss(&seed);
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        double grid = grid_error(x, N, cases[c].n_block, cases[c].range, cases[c].steps, cases[c].exact);
        double ratio = rms_error(cases[c].type, x, N) / grid;
        if (ratio < cases[c].least || ratio > cases[c].most)
            fail_msg("%s: error is %.4f of the grid's", qtype_info(cases[c].type)->name, ratio);
    }
    free(x);
}

/* ---- MXFP4 by its definition ---- */

static void mxfp4_takes_the_nearest_value(void **state)
{
    (void)state;
    static const float value[16] = { 0, .5f, 1, 1.5f, 2, 3, 4, 6, -0.0f, -.5f, -1, -1.5f, -2, -3, -4, -6 };
    enum { N = 32 * 512 };
    float *x = malloc(N * sizeof *x), *y = malloc(N * sizeof *y);
    uint32_t seed = 5;
    for (int i = 0; i < N; i++)
        x[i] = gauss(&seed) * ldexpf(1.0f, i / 32 % 40 - 20);
    struct qmat_encoder m = encoder_of(QTYPE_MXFP4, 1, N);
    qmat_encode(&m, 0, 1, x);
    decode_all(&m, y);
    for (int i = 0; i < N; i++) {
        float unit = ldexpf(1.0f, ((uint8_t *)m.data)[i / 32 * 17] - 127), best = INFINITY;
        for (int c = 0; c < 16; c++)
            best = fminf(best, fabsf(value[c] * unit - x[i]));
        assert_true(fabsf(y[i] - x[i]) == best);
    }
    free(x);
    free(y);
    free(m.data);
}

/* ---- odd input ---- */

/* A block that is zero, or too small for the format's f16 scale, decodes to zeros; -0 counts as zero. */
static void zero_and_tiny_blocks_decode_to_zero(void **state)
{
    (void)state;
    static const float fill[] = { 0.0f, -0.0f, 0x1p-149f, -0x1p-127f };
    float x[512], y[512];
    for (int f = 0; f < N_FORMATS; f++)
        for (size_t k = 0; k < sizeof fill / sizeof *fill; k++) {
            if (formats[f].type == QTYPE_MXFP4 && fill[k] != 0.0f)
                continue; /* its scales reach down there */
            for (int i = 0; i < 512; i++)
                x[i] = fill[k];
            struct qmat_encoder m = encoder_of(formats[f].type, 2, 256);
            qmat_encode(&m, 0, 2, x);
            decode_all(&m, y);
            for (int i = 0; i < 512; i++)
                assert_true(y[i] == 0.0f);
            free(m.data);
        }
}

/* Values that no weight should have, alone and among others: every byte is written, nothing is undefined (the
 * sanitizers watch the casts), and the blocks beside are what they are without them. */
static void any_float_is_safe(void **state)
{
    (void)state;
    static const float odd[] = { INFINITY, -INFINITY,        NAN,       -NAN,       0x1.fffffep127f,
                                 1e30f,    -0x1.fffffep127f, 0x1p-149f, -0x1p-126f, 65504.0f * 127.0f };
    enum { COLS = 768, N_ODD = sizeof odd / sizeof *odd };
    float x[COLS], y[COLS];
    uint32_t seed = 3;
    for (int f = 0; f < N_FORMATS; f++)
        for (int k = 0; k < 3 * N_ODD; k++) {
            struct qmat_encoder plain = encoder_of(formats[f].type, 1, COLS);
            struct qmat_encoder m = encoder_of(formats[f].type, 1, COLS);
            for (int i = 0; i < COLS; i++)
                x[i] = gauss(&seed);
            qmat_encode(&plain, 0, 1, x);
            for (int i = 256; i < 512; i++) /* one, half, or all of the middle block */
                if (k < N_ODD ? i == 300 : k < 2 * N_ODD ? i & 1 : 1)
                    x[i] = odd[k % N_ODD];
            qmat_encode(&m, 0, 1, x);
            decode_all(&m, y);
            size_t third = data_bytes_of(&m) / 3;
            assert_memory_equal(m.data, plain.data, third);
            assert_memory_equal((char *)m.data + 2 * third, (char *)plain.data + 2 * third, third);
            free(m.data);
            free(plain.data);
        }
}

/* Powers of two and their neighbours, where the exponent of MXFP4 is decided. */
static void mxfp4_exponent_at_the_ends(void **state)
{
    (void)state;
    static const struct {
        float max;
        int exponent;
    } cases[] = {
        { 0x1p-149f, 0 }, { 0x1p-125f, 0 }, { 0x1p-124f, 1 },  { 0x1.8p0f, 125 },        { 4.0f, 127 },
        { 7.5f, 127 },    { 8.0f, 128 },    { 0x1p127f, 252 }, { 0x1.fffffep127f, 252 }, { INFINITY, 252 },
    };
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        float x[32] = { 0, 0, -cases[c].max }, y[32];
        struct qmat_encoder m = encoder_of(QTYPE_MXFP4, 1, 32);
        qmat_encode(&m, 0, 1, x);
        assert_int_equal(*(uint8_t *)m.data, cases[c].exponent);
        decode_all(&m, y);
        for (int i = 0; i < 32; i++)
            assert_true(isfinite(y[i]));
        free(m.data);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wide_vectors_give_the_same_bytes),
        cmocka_unit_test(reference_bytes),
        cmocka_unit_test(same_bytes_on_threads_in_any_order),
        cmocka_unit_test(error_on_gaussian_weights),
        cmocka_unit_test(mxfp4_takes_the_nearest_value),
        cmocka_unit_test(zero_and_tiny_blocks_decode_to_zero),
        cmocka_unit_test(any_float_is_safe),
        cmocka_unit_test(mxfp4_exponent_at_the_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
