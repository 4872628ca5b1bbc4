/* test_expert_cache.c: which experts stay in the cache, which leave, and what is never taken away. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/expert_cache.h"
#include "support/expert_files.h"
#include "support/odd_io.h"

enum { N_LAYER = 5, N_EXPERT = 16 };

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

static struct expert_cache *open_cache(const struct expert_files *f, int slots, const struct odd_io *o)
{
    struct expert_cache *c = NULL;
    struct err e = { 0 };
    struct expert_cache_options opt = { &f->source, slots, o ? &o->io : NULL };
    assert_int_equal(expert_cache_open(&c, &opt, &e), 0);
    return c;
}

/* Whether the pinned expert is there, and is that expert. */
static bool is_there(const struct expert_files *f, struct expert_cache *c, int layer, int32_t id)
{
    struct mlp_weights w;
    if (!expert_cache_get(c, layer, id, &w))
        return false;
    const struct expert_place *p = expert_place_of(&f->source, layer, id);
    const char *slot = (const char *)w.gate.data - p->extent[0].region - p->extent[0].offset % EXPERT_PAGE;
    assert_true(expert_files_match(f, layer, id, slot));
    assert_ptr_equal(w.up.data, slot + p->extent[1].region + p->extent[1].offset % EXPERT_PAGE);
    assert_ptr_equal(w.down.scale, (const char *)w.gate.data + f->layout[layer].down_scale.at);
    assert_null(w.gate.scale);
    assert_int_equal(w.down.cols, f->layout[layer].shape.down.cols);
    return true;
}

static void wait_for(const struct expert_files *f, struct expert_cache *c, int layer, int32_t id)
{
    struct err e = { 0 };
    while (!is_there(f, c, layer, id))
        assert_int_equal(expert_cache_poll(c, true, &e), 0);
}

static void use_again(const struct expert_files *f, struct expert_cache *c, int layer, const int32_t *ids,
                      int n, enum cache_use how)
{
    assert_int_equal(expert_cache_pin(c, layer, ids, n, how), n);
    for (int i = 0; i < n; i++)
        wait_for(f, c, layer, ids[i]);
    expert_cache_unpin(c, layer, ids, n);
}

/* One token that uses these experts of a layer. */
static void use(const struct expert_files *f, struct expert_cache *c, int layer, const int32_t *ids, int n,
                enum cache_use how)
{
    expert_cache_step(c);
    use_again(f, c, layer, ids, n, how);
}

static void use1(const struct expert_files *f, struct expert_cache *c, int layer, int32_t id,
                 enum cache_use how)
{
    use(f, c, layer, &id, 1, how);
}

static void the_least_recent_leaves(void **state)
{
    const struct expert_files *f = *state;
    struct expert_cache *c = open_cache(f, 3, NULL);
    for (int32_t x = 0; x < 3; x++)
        use1(f, c, 0, x, CACHE_KEEP);
    use1(f, c, 0, 0, CACHE_KEEP);
    use1(f, c, 1, 0, CACHE_KEEP);
    assert_false(expert_cache_has(c, 0, 1));
    assert_true(expert_cache_has(c, 0, 0) && expert_cache_has(c, 0, 2) && expert_cache_has(c, 1, 0));
    use1(f, c, 0, 1, CACHE_KEEP);
    assert_false(expert_cache_has(c, 0, 2));
    struct expert_cache_stats s = expert_cache_stats(c);
    assert_int_equal(s.pinned, 6);
    assert_int_equal(s.hits, 1);
    assert_int_equal(s.misses, 5);
    expert_cache_close(&c);
}

static void among_equals_the_least_used_leaves(void **state)
{
    const struct expert_files *f = *state;
    struct expert_cache *c = open_cache(f, 4, NULL);
    static const int32_t all[] = { 2, 5, 7, 9 }, more[] = { 2, 7, 9 };
    use(f, c, 2, all, 4, CACHE_KEEP);
    use(f, c, 2, more, 3, CACHE_KEEP);
    use(f, c, 2, all, 4, CACHE_KEEP);
    use1(f, c, 3, 0, CACHE_KEEP);
    assert_false(expert_cache_has(c, 2, 5));
    expert_cache_close(&c);
}

static void what_is_held_stays(void **state)
{
    const struct expert_files *f = *state;
    struct odd_io *o = odd_io_new();
    struct err e = { 0 };
    o->no_ring = o->slow = true;
    struct expert_cache *c = open_cache(f, 4, o);
    static const int32_t first[] = { 0, 1, 2, 3, 4, 5 };
    assert_int_equal(expert_cache_pin(c, 0, first, 6, CACHE_KEEP), 4);
    assert_int_equal(expert_cache_pin(c, 1, first, 1, CACHE_KEEP), 0); /* all pinned */
    assert_int_equal(expert_cache_pin(c, 0, first, 1, CACHE_KEEP), 1); /* a second time */
    expert_cache_unpin(c, 0, first, 4);
    for (int i = 0; i < 4; i++)
        wait_for(f, c, 0, first[i]);
    assert_int_equal(expert_cache_pin(c, 1, first, 6, CACHE_KEEP), 3); /* 0 of layer 0 is still held */
    assert_true(is_there(f, c, 0, 0));
    expert_cache_unpin(c, 1, first, 3);
    assert_true(expert_cache_pin(c, 2, first, 3, CACHE_KEEP) <=
                3); /* those on their way are not given away */
    assert_true(is_there(f, c, 0, 0));
    expert_cache_drop_pins(c);
    assert_int_equal(expert_cache_poll(c, true, &e), 0);
    assert_int_equal(expert_cache_pin(c, 3, first, 4, CACHE_KEEP), 4);
    expert_cache_close(&c);
    odd_io_free(&o);
}

/* A prompt that streams everything leaves what was in use, and its own experts go before anything else. */
static void a_stream_does_not_flush(void **state)
{
    const struct expert_files *f = *state;
    struct expert_cache *c = open_cache(f, 6, NULL);
    for (int32_t x = 0; x < 6; x++)
        use1(f, c, 0, x, CACHE_KEEP);
    for (int layer = 1; layer < N_LAYER; layer++)
        for (int32_t x = 0; x < N_EXPERT; x++)
            use_again(f, c, layer, &x, 1, CACHE_STREAM);
    for (int32_t x = 1; x < 6; x++)
        assert_true(expert_cache_has(c, 0, x));
    use1(f, c, 0, 0, CACHE_KEEP);
    for (int32_t x = 0; x < 6; x++)
        assert_true(expert_cache_has(c, 0, x));
    /* read ahead and not used: the first to leave; used after all: counted as a hit */
    int32_t id = 3;
    assert_int_equal(expert_cache_pin(c, 4, &id, 1, CACHE_AHEAD), 1);
    wait_for(f, c, 4, 3);
    expert_cache_unpin(c, 4, &id, 1);
    uint64_t hits = expert_cache_stats(c).hits;
    use1(f, c, 4, 3, CACHE_STREAM);
    assert_int_equal(expert_cache_stats(c).hits, hits + 1);
    assert_int_equal(expert_cache_stats(c).ahead, 1);
    use1(f, c, 4, 4, CACHE_STREAM);
    assert_false(expert_cache_has(c, 4, 3));
    expert_cache_close(&c);
}

/* A cache smaller than what one token uses keeps a part of it, where the least recently used would always be
 * what comes next; and what is not used any more leaves all the same. */
static void a_small_cache_keeps_a_part(void **state)
{
    const struct expert_files *f = *state;
    struct expert_cache *c = open_cache(f, 10, NULL);
    for (int token = 0; token < 10; token++) {
        expert_cache_step(c);
        for (int32_t x = 0; x < N_EXPERT; x++)
            use_again(f, c, 0, &x, 1, CACHE_STREAM);
    }
    assert_in_range(expert_cache_stats(c).hits, 9 * 8, 9 * 10);
    for (int token = 0; token < 40; token++)
        use1(f, c, 1 + token % 2, token % 5, CACHE_STREAM);
    int held = 0;
    for (int32_t x = 0; x < 5; x++)
        held += expert_cache_has(c, 1, x) + expert_cache_has(c, 2, x);
    assert_true(held >= 8);
    expert_cache_close(&c);
}

static void a_failed_read_leaves_a_free_slot(void **state)
{
    const struct expert_files *f = *state;
    struct odd_io *o = odd_io_new();
    struct err e = { 0 };
    struct expert_cache *c = open_cache(f, 2, o);
    static const int32_t ids[] = { 1, 2 };
    o->fail_at = o->reads + 2;
    o->fail_with = ODD_EIO;
    assert_int_equal(expert_cache_pin(c, 0, ids, 2, CACHE_KEEP), 2);
    int rc = 0;
    for (int i = 0; i < 2 && !rc; i++)
        rc = expert_cache_poll(c, true, &e);
    assert_int_equal(rc, ERR_FILE);
    expert_cache_drop_pins(c);
    assert_int_equal(expert_cache_has(c, 0, 1) + expert_cache_has(c, 0, 2), 1);
    use(f, c, 0, ids, 2, CACHE_KEEP);
    expert_cache_close(&c);
    odd_io_free(&o);
}

/* Random tokens: whatever is pinned is what it should be, and the cache ends with as many experts as slots.
 */
static void random_use(void **state)
{
    const struct expert_files *f = *state;
    unsigned seed = 3;
    for (int slots = 3; slots < 40; slots += 18) {
        struct odd_io *o = odd_io_new();
        o->no_ring = o->slow = slots > 20;
        struct expert_cache *c = open_cache(f, slots, o);
        for (int token = 0; token < 150; token++) {
            int32_t ids[3];
            int layer = token % N_LAYER;
            for (int i = 0; i < 3; i++) {
                seed = seed * 1103515245 + 12345;
                ids[i] = (int32_t)((i ? ids[i - 1] : -1) + 1 + (int)((seed >> 16) % 5));
            }
            use(f, c, layer, ids, 3, token % 7 ? CACHE_KEEP : CACHE_STREAM);
        }
        int held = 0;
        for (int layer = 0; layer < N_LAYER; layer++)
            for (int32_t x = 0; x < N_EXPERT; x++)
                held += expert_cache_has(c, layer, x);
        assert_int_equal(held, slots);
        struct expert_cache_stats s = expert_cache_stats(c);
        assert_int_equal(s.pinned, 450);
        assert_int_equal(s.hits + s.misses, 450);
        expert_cache_close(&c);
        odd_io_free(&o);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_least_recent_leaves),
        cmocka_unit_test(among_equals_the_least_used_leaves),
        cmocka_unit_test(what_is_held_stays),
        cmocka_unit_test(a_stream_does_not_flush),
        cmocka_unit_test(a_small_cache_keeps_a_part),
        cmocka_unit_test(random_use),
        cmocka_unit_test(a_failed_read_leaves_a_free_slot),
    };
    return cmocka_run_group_tests(tests, make_files, end_files);
}
