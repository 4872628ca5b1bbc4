/* test_decode.c: every format's decoder gives the floats of the reference, bit for bit. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/half.h"
#include "quant/iq_grids.h"
#include "quant/qtype.h"

/* One record of tests/data/quant_decode.bin (tools/make_quant_fixtures.py). */
struct record {
    char name[16];
    uint32_t rows, cols, data_bytes, scale_bytes;
    uint8_t *data, *scale;
    float *want; /* [rows][cols] */
};

static uint8_t *read_bytes(FILE *f, size_t n)
{
    uint8_t *p = malloc(n + 1);
    assert_non_null(p);
    assert_int_equal(fread(p, 1, n, f), n);
    return p;
}

/* False at the end of the file. */
static bool read_record(FILE *f, struct record *r)
{
    if (fread(r->name, 1, sizeof r->name, f) != sizeof r->name)
        return false;
    uint32_t *sizes[] = { &r->rows, &r->cols, &r->data_bytes, &r->scale_bytes };
    for (int i = 0; i < 4; i++)
        assert_int_equal(fread(sizes[i], sizeof(uint32_t), 1, f), 1);
    r->data = read_bytes(f, r->data_bytes);
    r->scale = read_bytes(f, r->scale_bytes);
    r->want = (float *)read_bytes(f, (size_t)r->rows * r->cols * sizeof(float));
    return true;
}

static void free_record(struct record *r)
{
    free(r->data);
    free(r->scale);
    free(r->want);
}

static bool same_float(float a, float b)
{
    return (isnan(a) && isnan(b)) || f32_bits(a) == f32_bits(b);
}

static int count_differences(const struct record *r, const float *got, uint32_t first_row, uint32_t rows)
{
    int bad = 0;
    for (size_t i = 0; i < (size_t)rows * r->cols; i++) {
        float want = r->want[(size_t)first_row * r->cols + i];
        if (!same_float(got[i], want) && bad++ < 3)
            print_error("%s value %zu: %.9g, want %.9g\n", r->name, i, got[i], want);
    }
    return bad;
}

/* The whole matrix, then its last row as a slice; the output ends with its allocation, for the sanitizers. */
static int check_record(const struct record *r)
{
    enum qtype type = qtype_from_name(r->name);
    size_t data_bytes, scale_bytes;
    assert_int_not_equal(type, QTYPE_NONE);
    assert_true(qtype_sizes(type, r->rows, r->cols, &data_bytes, &scale_bytes));
    assert_int_equal(data_bytes, r->data_bytes);
    assert_int_equal(scale_bytes, r->scale_bytes);
    struct qmat w = { type, r->rows, r->cols, 0, r->data, r->scale };
    float *got = malloc((size_t)r->rows * r->cols * sizeof *got);
    assert_non_null(got);
    qmat_decode(&w, 0, r->rows, got);
    int bad = count_differences(r, got, 0, r->rows);
    struct qmat tail = qmat_rows(&w, 1, r->rows - 1);
    assert_int_equal(tail.rows, r->rows - 1);
    qmat_decode(&tail, tail.rows - 1, 1, got);
    bad += count_differences(r, got, r->rows - 1, 1);
    free(got);
    return bad;
}

static void fixtures_decode_to_the_reference_floats(void **state)
{
    (void)state;
    FILE *f = fopen("tests/data/quant_decode.bin", "rb");
    if (!f)
        fail_msg("tests/data/quant_decode.bin: run from the top of the repository");
    bool seen[QTYPE_COUNT] = { false };
    struct record r;
    int bad = 0;
    while (read_record(f, &r)) {
        bad += check_record(&r);
        seen[qtype_from_name(r.name)] = true;
        free_record(&r);
    }
    fclose(f);
    assert_int_equal(bad, 0);
    for (int t = 0; t < QTYPE_COUNT; t++) /* NF4 and FP4 have tests of their own */
        if (qtype_info(t)->decode && t < QTYPE_NF4 && !seen[t])
            fail_msg("no fixture decodes %s", qtype_info(t)->name);
}

/* 130 x 200: four tiles, of which only the first is whole; each has a scale of its own. */
static void fp8_takes_the_scale_of_its_tile(void **state)
{
    (void)state;
    enum { ROWS = 130, COLS = 200 };
    static uint8_t data[ROWS * COLS];
    static float out[COLS];
    const float scale[4] = { 2, 3, 5, 7 };
    memset(data, 0x38, sizeof data); /* 1.0 */
    struct qmat w = { QTYPE_FP8_E4M3, ROWS, COLS, 0, data, scale };
    for (int r = 0; r < ROWS; r++) {
        qmat_decode(&w, r, 1, out);
        for (int c = 0; c < COLS; c++)
            assert_true(out[c] == scale[r / 128 * 2 + c / 128]);
    }
    struct qmat last = qmat_rows(&w, 128, 2); /* the plane is found by the stored row, not by the slice's */
    qmat_decode(&last, 0, 1, out);
    assert_true(out[0] == 5 && out[199] == 7);
}

/* CRC-32 (as zlib's) of the entries' lower-case hexadecimal text, `width` characters each. */
static uint32_t crc_of_hex(const uint16_t *table, int n, int width)
{
    static const char hex[] = "0123456789abcdef";
    uint32_t crc = 0xffffffff;
    for (int i = 0; i < n; i++)
        for (int digit = width - 1; digit >= 0; digit--) {
            crc ^= (uint8_t)hex[table[i] >> 4 * digit & 15];
            for (int bit = 0; bit < 8; bit++)
                crc = crc >> 1 ^ (crc & 1 ? 0xedb88320 : 0);
        }
    return ~crc;
}

static void grids_have_the_published_checksums(void **state)
{
    (void)state;
    assert_int_equal(crc_of_hex(iq_grid2xxs, 256, 4), 0x757ee0cc);
    assert_int_equal(crc_of_hex(iq_grid2xs, 512, 4), 0x0ee9db97);
    assert_int_equal(crc_of_hex(iq_grid2s, 1024, 4), 0x86810c0e);
    assert_int_equal(crc_of_hex(iq_grid3xxs, 256, 3), 0xd4e0a9cc);
    assert_int_equal(crc_of_hex(iq_grid3s, 512, 3), 0xb012af85);
    assert_int_equal(crc_of_hex(iq_grid1s, 2048, 4), 0x776605f5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fixtures_decode_to_the_reference_floats),
        cmocka_unit_test(fp8_takes_the_scale_of_its_tile),
        cmocka_unit_test(grids_have_the_published_checksums),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
