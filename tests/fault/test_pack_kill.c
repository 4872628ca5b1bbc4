/*
 * test_pack_kill.c: kill -9 while a packed model is written, at random moments: the next start finds a right
 * one or none, and nothing is left of the dead. test_pack_kill [ROUNDS]; 20 without it.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/file.h"
#include "support/pack_rig.h"

static int rounds = 20;

static void wait_seconds(double s)
{
    struct timespec t = { (time_t)s, (long)((s - (double)(time_t)s) * 1e9) };
    nanosleep(&t, NULL);
}

static double seconds_to_write(const struct pack_rig *r)
{
    struct err e = { 0 };
    double begin = clock_seconds();
    assert_int_equal(pack_write(r, &e), 0);
    return clock_seconds() - begin;
}

static void killed_at_random_moments(void **state)
{
    (void)state;
    struct pack_rig r;
    struct err e = { 0 };
    pack_rig_begin(&r);
    double whole = seconds_to_write(&r);
    uint64_t seed = (uint64_t)getpid();
    int there = 0, none = 0;
    for (int i = 0; i < rounds; i++) {
        if (i % 2 == 0) { /* otherwise an older one is replaced */
            struct packed *p;
            assert_int_equal(packed_open(&p, &r.opt, &r.key, r.item, PACK_ITEMS, &e), 0);
            if (p)
                packed_drop(&p, "the test wants none");
        }
        pid_t child = fork();
        if (child == 0)
            for (;;)
                if (pack_write(&r, &e))
                    _exit(1);
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        wait_seconds(whole * 2.5 * (double)(seed >> 40) / (double)(1 << 24));
        kill(child, SIGKILL);
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status));
        r.n_lines = 0;
        int found = pack_check(&r);
        if (found < 0 || r.n_lines > 0)
            fail_msg("round %d: %s", i, r.n_lines ? r.line : "a wrong pack was read");
        file_sweep(r.folder);
        assert_int_equal(pack_entries(&r), found);
        *(found ? &there : &none) += 1;
    }
    print_message("%d times a right one, %d times none\n", there, none);
    pack_rig_end(&r);
}

int main(int argc, char **argv)
{
    rounds = argc > 1 ? atoi(argv[1]) : rounds;
    const struct CMUnitTest tests[] = { cmocka_unit_test(killed_at_random_moments) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
