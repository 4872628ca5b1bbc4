/*
 * test_expert_stream.c: experts read from files: through the ring and through threads, past the page cache
 * and through it, in pieces and out of order; files that shrink, changed or fail.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/expert_stream.h"
#include "support/expert_files.h"
#include "support/odd_io.h"

enum { N_LAYER = 4, N_EXPERT = 9, N = N_LAYER * N_EXPERT, IN_FLIGHT = 7 };

static int make_files(void **state)
{
    static struct expert_files f;
    expert_files_make(&f, N_LAYER, N_EXPERT);
    *state = &f;
    return 0;
}

static int end_files(void **state)
{
    expert_files_end(*state);
    return 0;
}

static struct expert_stream *open_stream(const struct expert_files *f, const struct odd_io *o)
{
    struct expert_stream *s = NULL;
    struct err e = { 0 };
    struct expert_stream_options opt = { &f->source, IN_FLIGHT, o ? &o->io : NULL };
    assert_int_equal(expert_stream_open(&s, &opt, &e), 0);
    return s;
}

static char *new_slots(const struct expert_files *f)
{
    char *slots = aligned_alloc(EXPERT_PAGE, IN_FLIGHT * f->source.slot_bytes);
    assert_non_null(slots);
    memset(slots, 0xee, IN_FLIGHT * f->source.slot_bytes);
    return slots;
}

static char *slot_at(const struct expert_files *f, char *slots, int i)
{
    return slots + (size_t)i * f->source.slot_bytes;
}

/* Reads every expert, IN_FLIGHT at a time; returns how many failed. */
static int read_all(const struct expert_files *f, struct expert_stream *s, char *slots, struct err *e)
{
    int in_slot[IN_FLIGHT], failed = 0, next = 0, tag;
    for (; next < IN_FLIGHT; next++) {
        in_slot[next] = next;
        expert_stream_start(s, next / N_EXPERT, next % N_EXPERT, slot_at(f, slots, next), next);
    }
    expert_stream_submit(s);
    for (int done = 0; done < N; done++) {
        int rc = expert_stream_next(s, true, &tag, e);
        assert_in_range(tag, 0, IN_FLIGHT - 1);
        assert_true(rc == 0 || rc == ERR_FILE);
        failed += rc != 0;
        int x = in_slot[tag];
        assert_true(rc || expert_files_match(f, x / N_EXPERT, x % N_EXPERT, slot_at(f, slots, tag)));
        if (next == N)
            continue;
        in_slot[tag] = next;
        expert_stream_start(s, next / N_EXPERT, next % N_EXPERT, slot_at(f, slots, tag), tag);
        expert_stream_submit(s);
        next++;
    }
    assert_int_equal(expert_stream_next(s, true, &tag, e), 0);
    assert_int_equal(tag, -1);
    return failed;
}

static void every_way_reads_every_expert(void **state)
{
    const struct expert_files *f = *state;
    char *slots = new_slots(f);
    uint64_t bytes = 0;
    for (int x = 0; x < N; x++)
        for (int i = 0; i < 3; i++)
            bytes += f->place[x].extent[i].bytes;
    for (int way = 0; way < 32; way++) {
        struct odd_io *o = odd_io_new();
        struct err e = { 0 };
        o->no_ring = way & 1;
        o->no_direct = way & 2;
        o->direct_refused = way & 4;
        o->cut = way & 8;
        o->slow = way & 16;
        struct expert_stream *s = open_stream(f, o);
        assert_int_equal(read_all(f, s, slots, &e), 0);
        struct expert_stream_stats stats = expert_stream_stats(s);
        assert_int_equal(stats.experts, N);
        assert_int_equal(stats.bytes, bytes);
        assert_int_equal(stats.failures, 0);
        if (way & 1)
            assert_false(stats.ring);
        if (way & 6)
            assert_false(stats.direct);
        expert_stream_close(&s);
        odd_io_free(&o);
    }
    free(slots);
}

static void each_read_may_fail(void **state)
{
    const struct expert_files *f = *state;
    char *slots = new_slots(f);
    for (int way = 0; way < 4; way++) {
        for (int at = 1; at < 3 * N; at += 5) {
            struct odd_io *o = odd_io_new();
            struct err e = { 0 };
            o->no_ring = way & 1;
            struct expert_stream *s = open_stream(f, o);
            o->fail_at = o->reads + at;
            o->fail_with = way & 2 ? ODD_EIO : 0;
            assert_int_equal(read_all(f, s, slots, &e), 1);
            assert_int_equal(e.code, ERR_FILE);
            assert_non_null(strstr(e.what, way & 2 ? strerror(EIO) : "shorter"));
            assert_true(!strcmp(e.where, f->path[0]) || !strcmp(e.where, f->path[1]));
            assert_int_equal(expert_stream_stats(s).failures, 1);
            assert_int_equal(read_all(f, s, slots, &e), 0); /* and goes on */
            expert_stream_close(&s);
            odd_io_free(&o);
        }
    }
    free(slots);
}

/* The kernel may be short of memory for a while; any other refusal ends every read that it did not accept. */
static void submissions_may_fail(void **state)
{
    const struct expert_files *f = *state;
    char *slots = new_slots(f);
    static const int errors[] = { -EAGAIN, -EBUSY, -EINTR, -EBADF };
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++) {
        for (int at = 1; at < 20; at += 6) {
            struct odd_io *o = odd_io_new();
            struct err e = { 0 };
            struct expert_stream *s = open_stream(f, o);
            o->submit_fails_at = o->submits + at;
            o->submit_with = errors[i];
            o->submit_times = 5;
            int failed = read_all(f, s, slots, &e);
            if (expert_stream_stats(s).ring && errors[i] == -EBADF)
                assert_true(failed > 0);
            else
                assert_int_equal(failed, 0);
            expert_stream_close(&s);
            odd_io_free(&o);
        }
    }
    free(slots);
}

static void closing_waits_for_reads(void **state)
{
    const struct expert_files *f = *state;
    for (int way = 0; way < 2; way++) {
        struct odd_io *o = odd_io_new();
        char *slots = new_slots(f);
        o->no_ring = o->slow = way;
        struct expert_stream *s = open_stream(f, o);
        for (int i = 0; i < IN_FLIGHT; i++)
            expert_stream_start(s, 1, i, slot_at(f, slots, i), i);
        expert_stream_submit(s);
        expert_stream_close(&s);
        assert_null(s);
        for (int i = 0; i < IN_FLIGHT; i++)
            assert_true(expert_files_match(f, 1, i, slot_at(f, slots, i)));
        free(slots);
        odd_io_free(&o);
    }
}

static void files_that_are_not_what_they_were(void **state)
{
    const struct expert_files *f = *state;
    struct expert_files other = *f;
    struct expert_stream *s = NULL;
    struct err e = { 0 };
    struct expert_stream_options opt = { &other.source, IN_FLIGHT, NULL };
    other.source.file = other.file;
    other.file[1].bytes++;
    assert_int_equal(expert_stream_open(&s, &opt, &e), ERR_FILE);
    assert_non_null(strstr(e.what, "changed"));
    assert_string_equal(e.where, f->path[1]);
    other.file[1].path = "/no/such/file";
    assert_int_equal(expert_stream_open(&s, &opt, &e), ERR_FILE);
    assert_string_equal(e.where, "/no/such/file");
    assert_null(s);
}

/* Runs last: cuts the files under an open stream. */
static void a_file_that_shrinks(void **state)
{
    const struct expert_files *f = *state;
    char *slots = new_slots(f);
    struct err e = { 0 };
    struct expert_stream *ring = open_stream(f, NULL);
    struct odd_io *o = odd_io_new();
    o->no_ring = o->no_direct = true;
    struct expert_stream *threads = open_stream(f, o);
    assert_int_equal(truncate(f->path[0], 100000), 0);
    int failed = read_all(f, ring, slots, &e);
    assert_in_range(failed, 1, N);
    assert_non_null(strstr(e.what, "shorter"));
    assert_string_equal(e.where, f->path[0]);
    assert_int_equal(read_all(f, threads, slots, &e), failed);
    expert_stream_close(&ring);
    expert_stream_close(&threads);
    odd_io_free(&o);
    free(slots);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_way_reads_every_expert),
        cmocka_unit_test(each_read_may_fail),
        cmocka_unit_test(submissions_may_fail),
        cmocka_unit_test(closing_waits_for_reads),
        cmocka_unit_test(files_that_are_not_what_they_were),
        cmocka_unit_test(a_file_that_shrinks),
    };
    return cmocka_run_group_tests(tests, make_files, end_files);
}
