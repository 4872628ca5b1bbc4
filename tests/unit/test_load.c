/*
 * test_load.c: weights brought to their places. Every byte is what converting the whole matrix at once gives,
 * whatever the format, the number of threads, and whether it came from the model's files or from a packed
 * one; and what happens when files change, packs are damaged or the user interrupts.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "load/convert.h"
#include "load/direct.h"
#include "load/export.h"
#include "load/weights.h"
#include "support/tiny_model.h"

enum { THREADS = 3 };

static struct threads *pool[THREADS + 1]; /* of 1 .. THREADS threads */
static char *folder;                      /* of the models made here */
static char *packs;
static int n_lines;
static char line[512];

static int begin_all(void **state)
{
    struct err e;
    (void)state;
    folder = tiny_folder();
    for (int n = 1; n <= THREADS; n++)
        if (threads_open(&pool[n], n, &e))
            return -1;
    return 0;
}

static int end_all(void **state)
{
    (void)state;
    for (int n = 1; n <= THREADS; n++)
        threads_close(&pool[n]);
    tiny_folder_end(&folder);
    return 0;
}

static int begin(void **state)
{
    (void)state;
    packs = tiny_folder();
    n_lines = 0;
    return 0;
}

static int end(void **state)
{
    (void)state;
    tiny_folder_end(&packs);
    return 0;
}

static void note(void *user, const char *text)
{
    (void)user;
    n_lines++;
    snprintf(line, sizeof line, "%s", text);
}

static int entries(const char *path)
{
    DIR *d = opendir(path);
    int n = 0;
    assert_non_null(d);
    while (readdir(d))
        n++;
    closedir(d);
    return n - 2;
}

static int threads_alive(void)
{
    return entries("/proc/self/task");
}

/* ---- models ---- */

/* tiny_moe_config with so large a vocabulary that embedding and head have several panels. */
static void write_large_vocabulary(unsigned style)
{
    char config[4096];
    const char *at = strstr(tiny_moe_config, "\"vocab_size\": 20");
    assert_non_null(at);
    snprintf(config, sizeof config, "%.*s\"vocab_size\": 13001%s", (int)(at - tiny_moe_config),
             tiny_moe_config, at + strlen("\"vocab_size\": 20"));
    struct tiny *t = tiny_new();
    struct shape s;
    tiny_shape(&s, config);
    tiny_add_weights(t, &s, style);
    tiny_write_text(folder, "config.json", config);
    tiny_write_safetensors(t, folder, "model.safetensors");
    tiny_free(&t);
}

struct loaded {
    struct model *m;
    struct plan *p;
    struct device *d;
    struct weights *w;
};

static struct loaded open_plan(const char *path, enum mix mix, size_t ram)
{
    struct err e = { 0 };
    struct loaded l = { 0 };
    struct machine here = { .here = true, .disk_free = (uint64_t)1 << 40 };
    struct plan_options opt = { .mix = mix, .threads = THREADS, .ctx = 64, .batch = 32, .ram_budget = ram };
    struct device_ref_options ref = { 0 };
    if (model_open(&l.m, path, &e) || plan_build(&l.p, l.m, &here, &opt, &e) ||
        device_ref_open(&l.d, &ref, &e))
        fail_msg("%s: %s (%s)", path, e.what, e.where);
    return l;
}

static void close_plan(struct loaded *l)
{
    weights_close(&l->w);
    l->d->ops->close(l->d);
    plan_close(&l->p);
    model_close(&l->m);
}

static int load(struct loaded *l, int threads, progress_fn progress, struct err *e)
{
    struct packed_options pack = { .folder = packs, .say = note };
    struct weights_options opt = { .threads = pool[threads],
                                   .pack = packs ? &pack : NULL,
                                   .progress = progress };
    weights_close(&l->w);
    return weights_load(&l->w, l->p, l->d, &opt, e);
}

static void must_load(struct loaded *l, int threads)
{
    struct err e = { 0 };
    if (load(l, threads, NULL, &e))
        fail_msg("%s: %s (%s)", l->m->path, e.what, e.where);
}

/* ---- the judge: one matrix at a time, all of its rows at once ---- */

static void make_item(const struct model *m, const struct plan_item *it, char *data, char *plane)
{
    struct err e = { 0 };
    struct convert_source *c;
    size_t n = (size_t)(it->src.rows * it->src.cols);
    float *x = malloc((n + 1) * sizeof *x), *absmax = malloc((n / 64 + 1) * sizeof *absmax);
    void *scratch = malloc(convert_scratch_bytes(&it->src, it->src.rows) + 1);
    assert_true(x && absmax && scratch);
    int rc = convert_open(&c, m, &it->src, &e);
    if (!rc && plan_is_copy(&it->src, it->target)) {
        rc = convert_copy_rows(c, 0, it->src.rows, data, scratch, &e);
        convert_copy_plane(c, plane);
    } else if (!rc) {
        struct qmat_encoder enc = { it->target, it->src.rows, it->src.cols, data, plane, absmax };
        rc = convert_rows(c, 0, it->src.rows, x, scratch, &e);
        qmat_encode(&enc, 0, it->src.rows, x);
        qmat_encode_finish(&enc);
    }
    if (rc)
        fail_msg("%s: %s", it->src.tensor->name, e.what);
    convert_close(&c);
    free(x);
    free(absmax);
    free(scratch);
}

static void compare(const struct plan_item *it, const char *want, const char *got, size_t n, const char *what)
{
    if (memcmp(want, got, n))
        fail_msg("%s (%s) as %s: the %s differ", it->src.tensor->name, qtype_info(it->src.type)->name,
                 qtype_info(it->target)->name, what);
}

static void check_block(const struct loaded *l)
{
    const char *base = l->w->block.ptr;
    for (int i = 0; i < l->p->n_item; i++) {
        const struct plan_item *it = &l->p->item[i];
        char *data = malloc(it->data_bytes + 64), *plane = malloc(it->scale_bytes + 64);
        if (it->tier == TIER_RAM) {
            make_item(l->m, it, data, plane);
            compare(it, data, base + it->data_at, it->data_bytes, "codes");
            compare(it, plane, base + it->scale_at, it->scale_bytes, "scales");
        }
        free(data);
        free(plane);
    }
}

static const enum mix mixes[] = { MIX_NONE, MIX_BF16, MIX_F32, MIX_Q8_0, MIX_Q4_K_M, MIX_NF4, MIX_NF4_DQ };
enum { N_MIXES = sizeof mixes / sizeof *mixes };

static void check_model(const char *path)
{
    for (int i = 0; i < N_MIXES; i++) {
        struct loaded l = open_plan(path, mixes[i], 0);
        for (int n = 1; n <= THREADS; n += THREADS - 1) {
            must_load(&l, n);
            check_block(&l);
        }
        close_plan(&l);
    }
}

static void every_source_to_every_target(void **state)
{
    static const char *const models[] = { "qwen2",         "qwen2_nf4_dq",     "qwen3_5_moe",   "qwen3_fp4",
                                          "qwen3_moe_fp8", "qwen3_5_moe.gguf", "qwen3_moe.gguf" };
    (void)state;
    char path[256], *keep = packs;
    packs = NULL;
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        snprintf(path, sizeof path, "tests/data/tiny/%s", models[i]);
        check_model(path);
    }
    packs = keep;
    assert_int_equal(entries(packs), 0);
}

static void matrices_of_several_panels(void **state)
{
    static const enum mix four_bits[] = { MIX_NF4, MIX_NF4_DQ, MIX_FP4 };
    (void)state;
    char *keep = packs, *written;
    packs = NULL;
    write_large_vocabulary(TINY_FP8);
    check_model(folder);
    write_large_vocabulary(TINY_PLAIN);
    check_model(folder);
    for (int i = 0; i < 3; i++) {
        struct err e = { 0 };
        struct model *m;
        struct export_options opt = { .mix = four_bits[i], .threads = pool[THREADS] };
        written = tiny_folder();
        assert_int_equal(model_open(&m, folder, &e), 0);
        assert_int_equal(export_safetensors(m, written, &opt, &e), 0);
        model_close(&m);
        check_model(written);
        tiny_folder_end(&written);
    }
    packs = keep;
}

/* ---- packed ---- */

static void a_second_load_takes_the_pack(void **state)
{
    (void)state;
    write_large_vocabulary(TINY_PLAIN);
    for (int i = 0; i < N_MIXES; i++) {
        struct loaded l = open_plan(folder, mixes[i], 0);
        bool smaller = mixes[i] != MIX_NONE && mixes[i] != MIX_BF16 && mixes[i] != MIX_F32;
        must_load(&l, THREADS);
        check_block(&l);
        assert_false(l.w->loaded.from_pack);
        assert_int_equal(entries(packs), smaller);
        must_load(&l, THREADS);
        check_block(&l);
        assert_true(l.w->loaded.from_pack == smaller);
        assert_int_equal(n_lines, 0);
        l.p->opt.no_pack = true;
        must_load(&l, 1);
        assert_false(l.w->loaded.from_pack);
        close_plan(&l);
        tiny_folder_end(&packs);
        packs = tiny_folder();
    }
}

static void flip_a_byte(int at_percent)
{
    char path[512];
    DIR *d = opendir(packs);
    struct dirent *entry;
    while ((entry = readdir(d)) && entry->d_name[0] == '.')
        ;
    assert_non_null(entry);
    snprintf(path, sizeof path, "%s/%s", packs, entry->d_name);
    closedir(d);
    int fd = open(path, O_RDWR);
    struct stat st;
    uint8_t b = 0;
    assert_int_equal(fstat(fd, &st), 0);
    off_t at = st.st_size / 100 * at_percent;
    assert_int_equal(pread(fd, &b, 1, at), 1);
    b ^= 16;
    assert_int_equal(pwrite(fd, &b, 1, at), 1);
    close(fd);
}

static void a_damaged_pack_is_made_anew(void **state)
{
    (void)state;
    write_large_vocabulary(TINY_PLAIN);
    struct loaded l = open_plan(folder, MIX_NF4_DQ, 0);
    must_load(&l, THREADS);
    for (int percent = 0; percent < 100; percent += 30) {
        flip_a_byte(percent);
        n_lines = 0;
        must_load(&l, THREADS);
        check_block(&l);
        assert_false(l.w->loaded.from_pack);
        assert_int_equal(n_lines, 1);
        assert_non_null(strstr(line, "making it anew"));
        must_load(&l, 2);
        assert_true(l.w->loaded.from_pack);
        check_block(&l);
    }
    close_plan(&l);
}

static void a_changed_model_is_converted_again(void **state)
{
    (void)state;
    write_large_vocabulary(TINY_PLAIN);
    struct loaded l = open_plan(folder, MIX_NF4, 0);
    must_load(&l, THREADS);
    close_plan(&l);
    write_large_vocabulary(TINY_PLAIN);
    l = open_plan(folder, MIX_NF4, 0);
    must_load(&l, THREADS);
    assert_false(l.w->loaded.from_pack);
    assert_int_equal(n_lines, 1);
    assert_non_null(strstr(line, "have changed"));
    assert_int_equal(entries(packs), 1);
    close_plan(&l);
}

static void without_a_place_for_packs_loading_goes_on(void **state)
{
    (void)state;
    char *keep = packs, nowhere[512];
    write_large_vocabulary(TINY_PLAIN);
    struct loaded l = open_plan(folder, MIX_NF4, 0);
    snprintf(nowhere, sizeof nowhere, "%s/config.json/packs", folder);
    packs = nowhere;
    must_load(&l, THREADS);
    check_block(&l);
    assert_int_equal(n_lines, 1);
    assert_non_null(strstr(line, "no packed model is kept"));
    packs = keep;
    close_plan(&l);
}

/* Experts that stay on disk in a packed file: the bytes at their places are the converted ones. */
static void check_experts(const struct loaded *l)
{
    const struct expert_source *s = l->w->disk;
    for (int i = l->p->n_dense; i < l->p->n_item; i++) {
        const struct plan_item *it = &l->p->item[i];
        const struct expert_place *x = expert_place_of(s, it->layer, it->expert);
        const struct expert_layout *y = &s->layout[it->layer];
        const struct expert_part *part[] = { &y->gate,       &y->up,       &y->down,
                                             &y->gate_scale, &y->up_scale, &y->down_scale };
        int which = (i - l->p->n_dense) % 3, fd;
        uint64_t bytes;
        struct err e = { 0 };
        char *data = malloc(it->data_bytes + 64), *plane = malloc(it->scale_bytes + 64),
             *got = malloc(x->extent[0].bytes);
        make_item(l->m, it, data, plane);
        assert_int_equal(x->n_extent, 1);
        assert_int_equal(file_open(s->file[x->extent[0].file].path, &fd, &bytes, &e), 0);
        assert_int_equal(file_read(fd, got, x->extent[0].bytes, x->extent[0].offset, &e), 0);
        compare(it, data, got + part[which]->at, it->data_bytes, "codes on disk");
        if (it->scale_bytes)
            compare(it, plane, got + part[which + 3]->at, it->scale_bytes, "scales on disk");
        close(fd);
        free(data);
        free(plane);
        free(got);
    }
}

static void experts_left_on_disk_are_packed(void **state)
{
    (void)state;
    write_large_vocabulary(TINY_PLAIN);
    for (int i = 0; i < 2; i++) {
        struct loaded all = open_plan(folder, i ? MIX_NF4_DQ : MIX_Q8_0, 0);
        struct loaded l = open_plan(folder, i ? MIX_NF4_DQ : MIX_Q8_0, all.p->minimum_ram_bytes);
        assert_true(l.p->experts_on_disk && l.p->pack && l.p->fits);
        for (int turn = 0; turn < 2; turn++) {
            must_load(&l, THREADS);
            assert_true(l.w->loaded.from_pack == (turn == 1));
            assert_true(l.w->disk && l.w->disk->slot_bytes == l.p->expert_bytes);
            check_block(&l);
            check_experts(&l);
        }
        must_load(&all, THREADS); /* the same pack serves both */
        assert_true(all.w->loaded.from_pack);
        check_block(&all);
        char *keep = packs;
        struct err e = { 0 };
        packs = NULL;
        assert_int_equal(load(&l, THREADS, NULL, &e), ERR_USAGE);
        packs = keep;
        close_plan(&l);
        close_plan(&all);
    }
}

/* ---- what may happen meanwhile ---- */

static int stop(void *user, const struct progress *p)
{
    (void)user;
    assert_true(p->done_bytes <= p->total_bytes && p->item[0]);
    return 1;
}

static char victim[512];

static int touch_source(void *user, const struct progress *p)
{
    (void)user, (void)p;
    return utimensat(AT_FDCWD, victim, NULL, 0);
}

static int shorten_source(void *user, const struct progress *p)
{
    (void)user, (void)p;
    return truncate(victim, 200000);
}

static void expect_failure(progress_fn progress, int code)
{
    write_large_vocabulary(TINY_PLAIN);
    snprintf(victim, sizeof victim, "%s/model.safetensors", folder);
    for (int mix = 0; mix < N_MIXES; mix += 3) {
        struct err e = { 0 };
        struct loaded l = open_plan(folder, mixes[mix], 0);
        int before = threads_alive();
        int rc = load(&l, 1, progress, &e);
        if (rc != code)
            fail_msg("%d, not %d: %s (%s)", rc, code, e.what, e.where);
        assert_int_equal(e.code, code);
        assert_null(l.w);
        assert_int_equal(threads_alive(), before);
        assert_int_equal(entries(packs), 0);
        close_plan(&l);
        write_large_vocabulary(TINY_PLAIN);
    }
}

static void an_interrupt_leaves_nothing(void **state)
{
    (void)state;
    expect_failure(stop, ERR_CANCELED);
}

static void a_source_written_to_is_found_out(void **state)
{
    (void)state;
    expect_failure(touch_source, ERR_FILE);
}

static void a_source_that_shrinks_is_found_out(void **state)
{
    (void)state;
    expect_failure(shorten_source, ERR_FILE);
}

static void a_bad_weight_is_found_out(void **state)
{
    (void)state;
    write_large_vocabulary(TINY_PLAIN);
    snprintf(victim, sizeof victim, "%s/model.safetensors", folder);
    for (int mix = 0; mix < N_MIXES; mix++) {
        struct loaded l = open_plan(folder, mixes[mix], 0);
        const struct plan_item *it = &l.p->item[l.p->n_item / 2];
        uint64_t at =
            it->src.tensor->offset + it->src.offset + 2 * (uint64_t)(it->src.rows * it->src.cols - 1);
        int fd = open(victim, O_RDWR);
        uint16_t nan = 0x7fc0;
        struct err e = { 0 };
        assert_int_equal(pwrite(fd, &nan, 2, (off_t)at), 2);
        assert_int_equal(load(&l, THREADS, NULL, &e), ERR_FORMAT);
        assert_non_null(strstr(e.where, it->src.tensor->name));
        assert_int_equal(entries(packs), 0);
        assert_int_equal(pwrite(fd, "", 1, (off_t)at + 1), 1);
        close(fd);
        must_load(&l, THREADS);
        close_plan(&l);
        tiny_folder_end(&packs);
        packs = tiny_folder();
    }
}

/* ---- reading past the page cache ---- */

static void any_range_is_read(void **state)
{
    enum { BYTES = 3 * DIRECT_PAGE + 77 };
    static uint8_t data[BYTES];
    (void)state;
    char path[512];
    uint32_t x = 1;
    for (int i = 0; i < BYTES; i++)
        data[i] = (uint8_t)((x = x * 1103515245 + 12345) >> 16);
    snprintf(path, sizeof path, "%s/file", packs);
    int fd = open(path, O_RDWR | O_CREAT, 0600);
    assert_int_equal(write(fd, data, BYTES), BYTES);
    assert_int_equal(fsync(fd), 0);
    char *buffer = aligned_alloc(DIRECT_PAGE, direct_room(align_up(BYTES, DIRECT_PAGE)));
    for (int cached = 0; cached < 2; cached++) {
        struct direct_file f;
        struct err e = { 0 };
        if (!cached)
            posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
        else
            assert_int_equal(file_read(fd, buffer, BYTES, 0, &e), 0);
        assert_int_equal(direct_open(&f, path, fd, BYTES, &e), 0);
        if (!cached)
            assert_int_not_equal(f.way, DIRECT_CACHED);
        for (int way = 0; way < 2; way++) {
            for (int i = 0; i < 300; i++) {
                const char *at;
                size_t n = 1 + (x = x * 1103515245 + 12345) / 65536 % (i % 2 ? 100 : BYTES);
                uint64_t offset = i < 3 ? BYTES - n : (x = x * 1103515245 + 12345) / 65536 % (BYTES - n + 1);
                assert_int_equal(direct_read(&f, offset, n, buffer, &at, &e), 0);
                assert_memory_equal(at, data + offset, n);
                assert_true(at >= buffer && at + n <= buffer + direct_room(n));
            }
            const char *at;
            assert_int_equal(direct_read(&f, BYTES - 10, 11, buffer, &at, &e), ERR_FILE);
            f.way = DIRECT_DROPPED;
        }
        assert_int_equal(direct_unchanged(&f, &e), 0);
        direct_close(&f);
        assert_int_equal(direct_open(&f, path, fd, BYTES + 1, &e), ERR_FILE);
    }
    free(buffer);
    close(fd);
}

#define EACH(f) cmocka_unit_test_setup_teardown(f, begin, end)
int main(void)
{
    const struct CMUnitTest tests[] = {
        EACH(any_range_is_read),
        EACH(every_source_to_every_target),
        EACH(matrices_of_several_panels),
        EACH(a_second_load_takes_the_pack),
        EACH(a_damaged_pack_is_made_anew),
        EACH(a_changed_model_is_converted_again),
        EACH(without_a_place_for_packs_loading_goes_on),
        EACH(experts_left_on_disk_are_packed),
        EACH(an_interrupt_leaves_nothing),
        EACH(a_source_written_to_is_found_out),
        EACH(a_source_that_shrinks_is_found_out),
        EACH(a_bad_weight_is_found_out),
    };
    return cmocka_run_group_tests(tests, begin_all, end_all);
}
