/* test_no_space.c: a drive that fills up while writing gives an error, and no file, whole or half, stays
 * behind. */
#include <dirent.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"

static int entries(const char *folder)
{
    DIR *d = opendir(folder);
    int n = 0;
    while (readdir(d))
        n++;
    closedir(d);
    return n - 2;
}

static void writing_fails_cleanly(void **state)
{
    (void)state;
    char folder[] = "/tmp/tonne-test-XXXXXX", path[64], piece[4096] = { 1 };
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/out", folder);
    signal(SIGXFSZ, SIG_IGN); /* the limit then looks like a full drive: write() fails */
    struct rlimit limit = { 1 << 20, RLIM_INFINITY };
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    struct err e = { 0 };
    struct file_writer *w;
    assert_int_equal(file_writer_open(&w, path, &e), 0);
    int rc = 0;
    for (int i = 0; i < 1024 && !rc; i++)
        rc = file_writer_append(w, piece, sizeof piece, &e);
    assert_int_equal(rc, ERR_IO);
    assert_string_equal(e.where, path);
    assert_true(e.hint[0]);
    file_writer_abort(&w);
    assert_int_equal(entries(folder), 0);

    assert_int_equal(file_writer_open(&w, path, &e), 0); /* the failure may also come with the last flush */
    for (int i = 0; i < 256; i++)
        assert_int_equal(file_writer_append(w, piece, sizeof piece, &e), 0);
    assert_int_equal(file_writer_append(w, piece, 1, &e), 0);
    assert_int_equal(file_writer_commit(&w, &e), ERR_IO);
    assert_null(w);
    assert_int_equal(entries(folder), 0);
    rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(writing_fails_cleanly) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
