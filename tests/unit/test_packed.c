/*
 * test_packed.c: packed models. What is read back is what was written; anything else in its place is found
 * out, whatever happened to the file, the folder or the model.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/checked.h"
#include "base/file.h"
#include "support/pack_rig.h"
#include "support/tiny_files.h"

static struct pack_rig rig;

static int begin(void **state)
{
    (void)state;
    pack_rig_begin(&rig);
    return 0;
}

static int end(void **state)
{
    (void)state;
    pack_rig_end(&rig);
    return 0;
}

static const char *pack_name(void)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/%016llx%016llx.pack", rig.folder, (unsigned long long)rig.key.high,
             (unsigned long long)rig.key.low);
    return path;
}

static void write_pack(void)
{
    struct err e = { 0 };
    if (pack_write(&rig, &e))
        fail_msg("%s (%s)", e.what, e.where);
}

static void flip_bit(uint64_t byte, int bit)
{
    int fd = open(pack_name(), O_RDWR);
    uint8_t b = 0;
    assert_true(fd >= 0 && pread(fd, &b, 1, (off_t)byte) == 1);
    b ^= (uint8_t)(1 << bit);
    assert_int_equal(pwrite(fd, &b, 1, (off_t)byte), 1);
    close(fd);
}

static void what_is_written_is_read(void **state)
{
    (void)state;
    assert_int_equal(pack_check(&rig), 0);
    write_pack();
    assert_int_equal(pack_check(&rig), 1);
    assert_int_equal(pack_entries(&rig), 1);
    assert_int_equal(rig.n_lines, 0);
    struct stat st;
    assert_int_equal(stat(pack_name(), &st), 0);
    assert_int_equal(st.st_size, rig.file_bytes);
    struct packed *p;
    struct err e = { 0 };
    assert_int_equal(packed_open(&p, &rig.opt, &rig.key, rig.item, PACK_ITEMS, &e), 0);
    assert_string_equal(packed_file(p).path, pack_name());
    assert_int_equal(packed_file(p).bytes, rig.file_bytes);
    assert_int_equal(packed_pieces(p, PACK_BIG), 36);
    assert_int_equal(packed_pieces(p, 0), 1);
    packed_close(&p);
}

static void experts_are_extents_of_pages(void **state)
{
    (void)state;
    for (int i = 0; i < PACK_ITEMS; i++) {
        const struct packed_item *it = &rig.item[i], *before = i ? it - 1 : NULL;
        assert_int_equal(it->at % PACKED_ALIGN, 0);
        assert_int_equal(it->scale_at % PACKED_ALIGN, 0);
        assert_true(it->bytes == it->data_bytes || it->bytes == it->scale_at + it->scale_bytes);
        if (before)
            assert_true(it->at >= before->at + before->bytes);
        if (it->role == ROLE_EXPERT_GATE)
            assert_int_equal(it->at % PACKED_PAGE, 0);
        else if (it->expert >= 0)
            assert_int_equal(it->at, align_up(before->at + before->bytes, PACKED_ALIGN));
    }
    assert_true(rig.item[PACK_BIG].at % PACKED_PAGE != 0); /* only experts */
    assert_int_equal(rig.file_bytes % PACKED_PAGE, 0);
}

static void expect_refused(const char *why)
{
    rig.n_lines = 0;
    assert_int_equal(pack_check(&rig), 0);
    assert_int_equal(rig.n_lines, 1);
    if (!strstr(rig.line, why) || !strstr(rig.line, pack_name()))
        fail_msg("said: %s; not: %s", rig.line, why);
    assert_int_equal(pack_entries(&rig), 0);
}

static void other_lengths_are_refused(void **state)
{
    (void)state;
    const uint64_t lengths[] = { 0,
                                 1,
                                 63,
                                 64,
                                 4096,
                                 rig.item[PACK_BIG].at,
                                 rig.file_bytes - 4096,
                                 rig.file_bytes - 1,
                                 rig.file_bytes + 1 };
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        write_pack();
        assert_int_equal(truncate(pack_name(), (off_t)lengths[i]), 0);
        expect_refused("length");
    }
}

static void a_flipped_bit_before_the_weights_is_refused(void **state)
{
    (void)state;
    uint64_t table = rig.item[0].at,
             used = 72 + PACK_ITEMS * 56 + (PACK_ITEMS + 35) * 8; /* head, records, checksums */
    assert_true(used <= table);
    unsigned at = 1;
    for (int i = 0; i < 24; i++) {
        write_pack();
        at = at * 1103515245 + 12345;
        flip_bit(i < 10 ? (uint64_t)i * 8 : (at >> 8) % used, (int)(at >> 4 & 7));
        expect_refused("damaged");
    }
}

static void a_flipped_bit_in_a_weight_is_found(void **state)
{
    (void)state;
    write_pack();
    for (int i = 0; i < PACK_ITEMS; i++) {
        const struct packed_item *it = &rig.item[i];
        for (int piece = 0; (size_t)piece * PACKED_PIECE < it->bytes; piece++) {
            size_t begin_at = (size_t)piece * PACKED_PIECE;
            size_t n = it->bytes - begin_at < PACKED_PIECE ? it->bytes - begin_at : PACKED_PIECE;
            const uint64_t where[] = { begin_at, begin_at + n / 3, begin_at + n - 1 };
            for (int k = 0; k < 3; k++) {
                struct err e = { 0 };
                struct packed *p;
                flip_bit(it->at + where[k], k);
                assert_int_equal(packed_open(&p, &rig.opt, &rig.key, rig.item, PACK_ITEMS, &e), 0);
                char *got = malloc(PACKED_PIECE);
                assert_int_equal(packed_read(p, i, piece, got, &e), ERR_FORMAT);
                assert_false(packed_piece_is(p, i, piece, got));
                flip_bit(it->at + where[k], k);
                assert_int_equal(packed_read(p, i, piece, got, &e), 0);
                free(got);
                packed_close(&p);
            }
        }
    }
    struct err e = { 0 };
    struct packed *p;
    assert_int_equal(packed_open(&p, &rig.opt, &rig.key, rig.item, PACK_ITEMS, &e), 0);
    packed_drop(&p, "a checksum is wrong");
    assert_null(p);
    assert_int_equal(pack_entries(&rig), 0);
    assert_non_null(strstr(rig.line, "a checksum is wrong"));
}

static void a_drop_spares_a_newer_pack(void **state)
{
    (void)state;
    struct err e = { 0 };
    struct packed *p;
    write_pack();
    assert_int_equal(packed_open(&p, &rig.opt, &rig.key, rig.item, PACK_ITEMS, &e), 0);
    write_pack();
    packed_drop(&p, "a checksum is wrong");
    assert_int_equal(pack_check(&rig), 1);
}

static void a_pack_under_another_name_is_refused(void **state)
{
    (void)state;
    char old[512];
    write_pack();
    strcpy(old, pack_name());
    rig.key.low ^= 1;
    assert_int_equal(pack_check(&rig), 0);
    assert_int_equal(rig.n_lines, 0);
    assert_int_equal(rename(old, pack_name()), 0);
    expect_refused("another model");
}

static struct packed_key key_now(void)
{
    struct err e = { 0 };
    struct packed_key key = { 0 };
    model_close(&rig.m);
    if (model_open(&rig.m, rig.model_folder, &e) || packed_key_of(&key, rig.m, rig.item, PACK_ITEMS, &e))
        fail_msg("%s", e.what);
    return key;
}

static bool same(struct packed_key a, struct packed_key b)
{
    return a.low == b.low && a.high == b.high;
}

static void the_key_sees_other_files(void **state)
{
    (void)state;
    char path[512], moved[512];
    struct packed_key first = key_now();
    assert_true(same(first, rig.key));
    snprintf(path, sizeof path, "%s/model.safetensors", rig.model_folder);
    snprintf(moved, sizeof moved, "%s-moved", rig.model_folder);
    assert_int_equal(rename(rig.model_folder, moved), 0); /* the same files elsewhere */
    char *name = rig.model_folder;
    rig.model_folder = moved;
    struct packed_key elsewhere = key_now();
    assert_true(same(first, elsewhere) && first.origin != elsewhere.origin);
    rig.model_folder = name;
    assert_int_equal(rename(moved, name), 0);

    struct stat st; /* other data of the same length and time */
    int fd = open(path, O_RDWR);
    uint8_t byte;
    assert_int_equal(fstat(fd, &st), 0);
    for (off_t at = st.st_size / 2; at < st.st_size; at += 1000) {
        assert_int_equal(pread(fd, &byte, 1, at), 1);
        byte ^= 1;
        assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    }
    struct timespec times[2] = { st.st_atim, st.st_mtim };
    assert_int_equal(futimens(fd, times), 0);
    struct packed_key changed = key_now();
    assert_false(same(first, changed));
    assert_int_equal(first.origin, changed.origin);
    times[1].tv_nsec ^= 1;
    assert_int_equal(futimens(fd, times), 0);
    assert_false(same(changed, key_now()));
    close(fd);
}

static void the_key_sees_other_targets(void **state)
{
    (void)state;
    rig.item[3].type = QTYPE_NF4;
    struct packed_key other = key_now();
    assert_false(same(rig.key, other));
    assert_int_not_equal(rig.key.origin, other.origin);
}

static void a_changed_model_replaces_its_pack(void **state)
{
    (void)state;
    write_pack();
    rig.key.low++; /* the same origin */
    write_pack();
    assert_int_equal(pack_entries(&rig), 1);
    assert_int_equal(rig.n_lines, 1);
    assert_non_null(strstr(rig.line, "have changed"));
    assert_int_equal(pack_check(&rig), 1);
}

static void writers_do_not_disturb_each_other(void **state)
{
    (void)state;
    struct err e = { 0 };
    struct packed_writer *w[3];
    for (int k = 0; k < 3; k++)
        assert_int_equal(packed_begin(&w[k], &rig.opt, &rig.key, rig.item, PACK_ITEMS, &e), 0);
    assert_int_equal(pack_entries(&rig), 3);
    for (int i = 0; i < PACK_ITEMS; i++) {
        char *span = pack_span(&rig, i);
        for (int k = 0; k < 3; k++)
            assert_int_equal(packed_put(w[k], i, span, &e), 0);
        free(span);
    }
    packed_abort(&w[0]);
    assert_int_equal(pack_check(&rig), 0);
    for (int k = 1; k < 3; k++) {
        assert_int_equal(packed_commit(&w[k], &e), 0);
        assert_int_equal(pack_check(&rig), 1);
    }
    assert_int_equal(pack_entries(&rig), 1);

    pid_t child[4];
    for (int k = 0; k < 4; k++)
        if ((child[k] = fork()) == 0)
            _exit(pack_write(&rig, &e) ? 1 : 0);
    for (int k = 0; k < 4; k++) {
        int status;
        assert_int_equal(waitpid(child[k], &status, 0), child[k]);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        assert_int_equal(pack_check(&rig), 1);
    }
    assert_int_equal(pack_entries(&rig), 1);
}

static void leftovers_of_the_dead_are_removed(void **state)
{
    (void)state;
    struct err e = { 0 };
    struct packed_writer *w;
    int ready[2];
    assert_int_equal(pipe(ready), 0);
    pid_t child = fork();
    if (child == 0) {
        int rc = packed_begin(&w, &rig.opt, &rig.key, rig.item, PACK_ITEMS, &e);
        if (write(ready[1], &rc, sizeof rc))
            pause();
    }
    int rc = 1;
    assert_int_equal(read(ready[0], &rc, sizeof rc), sizeof rc);
    assert_int_equal(rc, 0);
    file_sweep(rig.folder);
    assert_int_equal(pack_entries(&rig), 1); /* its writer lives */
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    assert_int_equal(packed_begin(&w, &rig.opt, &rig.key, rig.item, PACK_ITEMS, &e), 0);
    assert_int_equal(pack_entries(&rig), 1);
    packed_abort(&w);
    assert_int_equal(pack_entries(&rig), 0);
    close(ready[0]);
    close(ready[1]);
}

static void the_least_recently_used_go_first(void **state)
{
    (void)state;
    char name[4][512];
    rig.opt.limit_bytes = 3 * rig.file_bytes + 100;
    for (int k = 0; k < 4; k++) {
        rig.key.low++;
        rig.key.origin++; /* other models */
        strcpy(name[k], pack_name());
        if (k == 3) { /* reading 0 again makes 1 the oldest */
            struct packed_key last = rig.key;
            rig.key.low -= 3, rig.key.origin -= 3;
            assert_int_equal(pack_check(&rig), 1);
            rig.key = last;
        }
        write_pack();
        struct timespec pause_10ms = { 0, 10000000 };
        nanosleep(&pause_10ms, NULL);
    }
    assert_int_equal(pack_entries(&rig), 3);
    assert_int_equal(access(name[0], F_OK), 0);
    assert_int_equal(access(name[1], F_OK), -1);
    assert_int_equal(access(name[2], F_OK), 0);
    assert_int_equal(access(name[3], F_OK), 0);
}

static void too_little_room_is_said_before(void **state)
{
    (void)state;
    struct err e = { 0 };
    rig.opt.limit_bytes = rig.file_bytes - 1;
    assert_int_equal(pack_write(&rig, &e), ERR_NO_ROOM);
    rig.opt.limit_bytes = 0;
    rig.opt.spare_bytes = (uint64_t)1 << 60;
    assert_int_equal(pack_write(&rig, &e), ERR_NO_ROOM);
    rig.opt.spare_bytes = UINT64_MAX;
    assert_int_equal(pack_write(&rig, &e), ERR_NO_ROOM);
    assert_int_equal(pack_entries(&rig), 0);
}

static void a_folder_is_made_or_refused(void **state)
{
    (void)state;
    struct err e = { 0 };
    char inner[512], *outer = rig.folder;
    snprintf(inner, sizeof inner, "%s/a/b//c/", outer);
    rig.opt.folder = inner;
    assert_int_equal(pack_check(&rig), 0);
    assert_int_equal(pack_write(&rig, &e), 0);
    assert_int_equal(pack_check(&rig), 1);
    snprintf(inner, sizeof inner, "%s/config.json/x", rig.model_folder);
    assert_int_equal(pack_check(&rig), 0);
    assert_int_equal(pack_write(&rig, &e), ERR_IO);
    assert_non_null(strstr(e.where, "config.json"));
    char command[600];
    snprintf(command, sizeof command, "rm -r '%s/a'", outer);
    assert_int_equal(system(command), 0);
}

static void a_full_drive_leaves_nothing(void **state)
{
    (void)state;
    pid_t child = fork();
    if (child == 0) { /* a limit of the process looks like a full drive */
        struct err e = { 0 };
        struct rlimit limit = { 20 << 20, 20 << 20 };
        signal(SIGXFSZ, SIG_IGN);
        setrlimit(RLIMIT_FSIZE, &limit);
        _exit(pack_write(&rig, &e) == ERR_IO && pack_entries(&rig) == 0 ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

#define EACH(f) cmocka_unit_test_setup_teardown(f, begin, end)
int main(void)
{
    const struct CMUnitTest tests[] = {
        EACH(what_is_written_is_read),
        EACH(experts_are_extents_of_pages),
        EACH(other_lengths_are_refused),
        EACH(a_flipped_bit_before_the_weights_is_refused),
        EACH(a_flipped_bit_in_a_weight_is_found),
        EACH(a_drop_spares_a_newer_pack),
        EACH(a_pack_under_another_name_is_refused),
        EACH(the_key_sees_other_files),
        EACH(the_key_sees_other_targets),
        EACH(a_changed_model_replaces_its_pack),
        EACH(writers_do_not_disturb_each_other),
        EACH(leftovers_of_the_dead_are_removed),
        EACH(the_least_recently_used_go_first),
        EACH(too_little_room_is_said_before),
        EACH(a_folder_is_made_or_refused),
        EACH(a_full_drive_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
