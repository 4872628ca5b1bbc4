/* test_base.c: half floats, checked sizes, errors, arenas, files, JSON limits, threads. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/arena.h"
#include "base/checked.h"
#include "base/file.h"
#include "base/half.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/threads.h"

static void half_round_trips(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 0x10000; h++) {
        float f = f16_to_f32((uint16_t)h), b = bf16_to_f32((uint16_t)h);
        if (!isnan(f))
            assert_int_equal(f32_to_f16(f), h);
        else
            assert_true(isnan(f16_to_f32(f32_to_f16(f))));
        if (!isnan(b))
            assert_int_equal(f32_to_bf16(b), h);
        else
            assert_true(isnan(bf16_to_f32(f32_to_bf16(b))));
    }
}

/* Between two neighbouring halves: below the midpoint rounds down, above rounds up, the midpoint to even. */
static void half_rounds_to_nearest_even(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 0x7bff; h++) {
        float low = f16_to_f32((uint16_t)h), high = f16_to_f32((uint16_t)(h + 1));
        float middle = (float)(((double)low + high) / 2);
        assert_int_equal(f32_to_f16(middle), h + (h & 1));
        assert_int_equal(f32_to_f16(nextafterf(middle, 0)), h);
        assert_int_equal(f32_to_f16(nextafterf(middle, INFINITY)), h + 1);
        assert_int_equal(f32_to_f16(-middle), 0x8000 | (h + (h & 1)));
    }
    assert_int_equal(f32_to_f16(65519.996f), 0x7bff);
    assert_int_equal(f32_to_f16(65520.0f), 0x7c00);
    assert_int_equal(f32_to_bf16(f32_from_bits(0x3f808000)), 0x3f80); /* tie to even */
    assert_int_equal(f32_to_bf16(f32_from_bits(0x3f818000)), 0x3f82);
}

static void sizes_do_not_wrap(void **state)
{
    (void)state;
    uint64_t out;
    assert_true(checked_mul(1ull << 32, 1ull << 31, &out) && out == 1ull << 63);
    assert_false(checked_mul(1ull << 32, 1ull << 32, &out));
    assert_false(checked_add(UINT64_MAX, 1, &out));
    assert_true(checked_range(10, 5, 15));
    assert_false(checked_range(10, 6, 15));
    assert_false(checked_range(UINT64_MAX, 2, 15));
    assert_int_equal(align_up(65, 64), 128);
}

static void errors_collect_context(void **state)
{
    (void)state;
    struct err e = { 0 };
    assert_int_equal(err_set(&e, ERR_FORMAT, "bad %d", 7), ERR_FORMAT);
    err_where(&e, "tensor x");
    err_where(&e, "file y");
    err_hint(&e, "first");
    err_hint(&e, "second");
    assert_string_equal(e.what, "bad 7");
    assert_string_equal(e.where, "file y, tensor x");
    assert_string_equal(e.hint, "first");
    assert_int_equal(err_exit_code(&e), 4);
    assert_int_equal(err_set(NULL, ERR_IO, "nobody listens"), ERR_IO);
    char *longer = malloc(2000);
    memset(longer, 'a', 1999);
    longer[1999] = '\0';
    err_set(&e, ERR_FILE, "%s", longer);
    err_where(&e, "%s", longer);
    err_where(&e, "%s", longer);
    assert_int_equal(strlen(e.what), sizeof e.what - 1);
    assert_int_equal(strlen(e.where), sizeof e.where - 1);
    free(longer);
}

static void arena_measures_what_it_places(void **state)
{
    (void)state;
    struct arena measure = { 0 };
    assert_null(arena_take(&measure, 10));
    assert_null(arena_take(&measure, 64));
    assert_int_equal(measure.used, 128);
    struct mem m;
    struct err e = { 0 };
    assert_int_equal(mem_ram(&m, measure.used, "a test", &e), 0);
    struct arena place = { m.ptr, 0, m.bytes };
    assert_ptr_equal(arena_take(&place, 10), m.ptr);
    assert_non_null(arena_take(&place, 64));
    assert_null(arena_take(&place, 1));
    mem_free(&m);
    assert_null(m.ptr);
    assert_int_equal(mem_ram(&m, SIZE_MAX / 2, "far too much", &e), ERR_MEMORY);
    assert_true(mem_peak_rss() > 100000);
}

static void files_appear_only_when_complete(void **state)
{
    (void)state;
    char folder[] = "/tmp/tonne-test-XXXXXX", path[64], *text;
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/out", folder);
    struct file_writer *w;
    struct err e = { 0 };
    size_t n;
    assert_int_equal(file_writer_open(&w, path, &e), 0);
    char *big = calloc(1, 3 << 20);
    assert_int_equal(file_writer_append(w, "abc", 3, &e), 0);
    assert_int_equal(file_writer_append(w, big, 3 << 20, &e), 0);
    assert_int_equal(file_writer_append(w, "xyz", 3, &e), 0);
    assert_int_equal(file_writer_size(w), (3 << 20) + 6);
    assert_int_equal(file_slurp(path, 1 << 23, &text, &n, &e), ERR_FILE);
    assert_int_equal(file_writer_commit(&w, &e), 0);
    assert_int_equal(file_slurp(path, 1 << 23, &text, &n, &e), 0);
    assert_int_equal(n, (3 << 20) + 6);
    assert_memory_equal(text, "abc", 3);
    assert_memory_equal(text + n - 3, "xyz", 4);
    free(text);
    assert_int_equal(file_slurp(path, 100, &text, &n, &e), ERR_FORMAT);
    unlink(path);
    assert_int_equal(file_writer_open(&w, path, &e), 0);
    file_writer_abort(&w);
    assert_int_equal(rmdir(folder), 0); /* nothing was left behind */
    snprintf(path, sizeof path, "%s/no/out", folder);
    assert_int_equal(file_writer_open(&w, path, &e), ERR_IO);
    assert_int_equal(file_slurp(folder, 100, &text, &n, &e), ERR_FILE);
    free(big);
}

static void json_has_limits(void **state)
{
    (void)state;
    struct err e = { 0 };
    json_t *root;
    char deep[400];
    memset(deep, '[', sizeof deep);
    assert_int_equal(json_parse(deep, sizeof deep, &root, &e), ERR_FORMAT);
    assert_int_equal(json_parse("[1]", 3, &root, &e), ERR_FORMAT);
    assert_int_equal(json_parse("{\"a\":1,\"a\":2}", 13, &root, &e), ERR_FORMAT);
    const char *text = "{\"n\": 5, \"f\": 2.5, \"b\": true, \"s\": \"[[[\", \"z\": null}";
    assert_int_equal(json_parse(text, strlen(text), &root, &e), 0);
    int64_t i;
    double f;
    bool b;
    assert_int_equal(json_get_int(root, "n", 0, 10, 1, &i, &e), 0);
    assert_int_equal(i, 5);
    assert_int_equal(json_get_int(root, "n", 6, 10, 1, &i, &e), ERR_FORMAT);
    assert_int_equal(json_get_int(root, "f", 0, 10, 1, &i, &e), ERR_FORMAT);
    assert_int_equal(json_get_int(root, "z", 0, 10, 3, &i, &e), 0);
    assert_int_equal(i, 3);
    assert_int_equal(json_get_real(root, "n", 0, &f, &e), 0);
    assert_true(f == 5);
    assert_int_equal(json_get_bool(root, "b", false, &b, &e), 0);
    assert_true(b);
    assert_int_equal(json_get_bool(root, "s", false, &b, &e), ERR_FORMAT);
    assert_string_equal(json_get_str(root, "s", ""), "[[[");
    json_decref(root);
}

struct count {
    _Atomic int64_t sum;
    int64_t seen[3];
    int order_broken;
};

static void count_job(void *arg, struct threads *t, int thread)
{
    struct count *c = arg;
    int64_t i;
    while ((i = threads_next(t)) < 1000)
        atomic_fetch_add(&c->sum, i);
    for (int round = 1; round <= 200; round++) {
        c->seen[thread] = round;
        threads_barrier(t);
        for (int other = 0; other < threads_count(t); other++)
            if (c->seen[other] != round)
                c->order_broken = 1;
        threads_barrier(t);
    }
}

static void threads_share_work_and_meet(void **state)
{
    (void)state;
    struct err e = { 0 };
    for (int n = 1; n <= 3; n++) {
        struct threads *t;
        assert_int_equal(threads_open(&t, n, &e), 0);
        assert_int_equal(threads_count(t), n);
        for (int job = 0; job < 20; job++) {
            struct count c = { 0 };
            threads_run(t, count_job, &c);
            assert_int_equal(c.sum, 999 * 1000 / 2);
            assert_int_equal(c.order_broken, 0);
        }
        int64_t at = 0;
        for (int i = 0; i < n; i++) {
            struct range r = threads_share(t, i, 37, 4);
            assert_int_equal(r.begin, at);
            at = r.end;
        }
        assert_int_equal(at, 37);
        threads_close(&t);
        assert_null(t);
    }
    assert_true(threads_default() >= 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(half_round_trips),
        cmocka_unit_test(half_rounds_to_nearest_even),
        cmocka_unit_test(sizes_do_not_wrap),
        cmocka_unit_test(errors_collect_context),
        cmocka_unit_test(arena_measures_what_it_places),
        cmocka_unit_test(files_appear_only_when_complete),
        cmocka_unit_test(json_has_limits),
        cmocka_unit_test(threads_share_work_and_meet),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
