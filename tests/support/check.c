/* check.c: see check.h. Options, cases, the generator, comparing and timing; memory and devices are in
 * check_rig.c. */
#include "support/check.h"

#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/half.h"

static char crash_note[256]; /* what the signal handler writes */

static void on_crash(int signal)
{
    (void)signal;
    ssize_t n = write(2, crash_note, strlen(crash_note));
    _exit(n < 0 ? 2 : 1);
}

static void arm_crash_note(const struct check *c)
{
    snprintf(crash_note, sizeof crash_note, "CRASH in %s (--seed %llu)\n", c->name,
             (unsigned long long)c->seed);
}

static uint64_t mix64(uint64_t x) /* splitmix64's finalizer */
{
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

static void restart(struct check *c)
{
    uint64_t h = c->seed;
    for (const char *s = c->name; *s; s++)
        h = mix64(h * 31 + (unsigned char)*s);
    c->state[0] = mix64(h + 1);
    c->state[1] = mix64(h + 2) | 1;
}

void check_begin(struct check *c, int argc, char **argv)
{
    *c = (struct check){ .seed = (uint64_t)(clock_seconds() * 1e6) % 1000000 };
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--bench")) {
            c->bench = true;
        } else if (!strcmp(argv[i], "--seed") && i + 1 < argc) {
            c->seed = strtoull(argv[++i], NULL, 10);
        } else if (!strcmp(argv[i], "--only") && i + 1 < argc) {
            c->only = argv[++i];
        } else {
            fprintf(stderr, "usage: %s [--seed N] [--only STR] [--bench]\n", argv[0]);
            exit(2);
        }
    }
    struct sigaction act = { .sa_handler = on_crash };
    sigaction(SIGSEGV, &act, NULL);
    sigaction(SIGBUS, &act, NULL);
    sigaction(SIGILL, &act, NULL);
    sigaction(SIGFPE, &act, NULL);
    printf("seed %llu\n", (unsigned long long)c->seed);
    fflush(stdout);
}

int check_end(struct check *c)
{
    printf("%d cases, %d failed, %d skipped (--seed %llu)\n", c->n_case, c->n_failed, c->n_skipped,
           (unsigned long long)c->seed);
    if (c->n_failed)
        return 1;
    return c->n_case ? 0 : 77;
}

bool check_case(struct check *c, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    vsnprintf(c->name, sizeof c->name, fmt, args);
    va_end(args);
    if (c->only && !strstr(c->name, c->only))
        return false;
    c->n_case++;
    c->failed = false;
    restart(c);
    arm_crash_note(c);
    return true;
}

void check_skip(struct check *c, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    printf("skip  ");
    vprintf(fmt, args);
    printf("\n");
    va_end(args);
    c->n_skipped++;
}

void check_fail(struct check *c, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    printf("FAIL  %s: ", c->name);
    vprintf(fmt, args);
    printf("\n");
    va_end(args);
    if (!c->failed)
        c->n_failed++;
    c->failed = true;
}

bool check_ok(struct check *c, int rc, const struct err *e)
{
    if (rc < 0)
        check_fail(c, "%s (%s)", e->what, e->where);
    return rc == 0;
}

uint64_t check_bits(struct check *c) /* xorshift128+ */
{
    uint64_t a = c->state[0], b = c->state[1];
    c->state[0] = b;
    a ^= a << 23;
    c->state[1] = a ^ b ^ a >> 18 ^ b >> 5;
    return c->state[1] + b;
}

int check_int(struct check *c, int lo, int hi)
{
    return lo + (int)((check_bits(c) >> 11) % (uint64_t)(hi - lo + 1));
}

float check_uniform(struct check *c, float lo, float hi)
{
    return lo + (hi - lo) * (float)(check_bits(c) >> 40) * 0x1p-24f;
}

float check_normal(struct check *c)
{
    double u = ((double)(check_bits(c) >> 11) + 0.5) * 0x1p-53, v = (double)(check_bits(c) >> 11) * 0x1p-53;
    return (float)(sqrt(-2 * log(u)) * cos(2 * 3.14159265358979323846 * v));
}

int check_count(struct check *c, int max)
{
    int n = check_int(c, 1, max);
    switch (check_int(c, 0, 5)) {
    case 0:
        n = 1;
        break;
    case 1:
        n = 2;
        break;
    case 2: /* a power of two or a neighbour */
        n = (1 << check_int(c, 1, 12)) + check_int(c, -1, 1);
        break;
    default:
        break;
    }
    return n < 1 ? 1 : n > max ? max : n;
}

static bool close_report(struct check *c, const char *what, const float *want, const float *got, size_t n,
                         const double *bound, size_t step)
{
    size_t bad = 0, worst = 0;
    double worst_ratio = 0;
    for (size_t i = 0; i < n; i++) {
        double diff = fabs((double)want[i] - (double)got[i]), limit = bound[i * step];
        if (diff <= limit || (isnan(want[i]) && isnan(got[i])))
            continue;
        double ratio = limit > 0 && !isnan(diff) ? diff / limit : INFINITY;
        bad++;
        if (bad == 1 || ratio > worst_ratio) {
            worst = i;
            worst_ratio = ratio;
        }
    }
    if (bad)
        check_fail(c, "%s: %zu of %zu differ; worst at %zu: want %.9g, got %.9g, difference %.3g, bound %.3g",
                   what, bad, n, worst, (double)want[worst], (double)got[worst],
                   fabs((double)want[worst] - (double)got[worst]), bound[worst * step]);
    return bad == 0;
}

bool check_close(struct check *c, const char *what, const float *want, const float *got, size_t n,
                 double bound)
{
    return close_report(c, what, want, got, n, &bound, 0);
}

bool check_close_each(struct check *c, const char *what, const float *want, const float *got, size_t n,
                      const double *bound)
{
    return close_report(c, what, want, got, n, bound, 1);
}

bool check_same(struct check *c, const char *what, const void *want, const void *got, size_t bytes)
{
    const unsigned char *a = want, *b = got;
    for (size_t i = 0; i < bytes; i++) {
        if (a[i] == b[i])
            continue;
        uint32_t u = 0, v = 0;
        size_t at = i & ~(size_t)3, left = bytes - at < 4 ? bytes - at : 4;
        memcpy(&u, a + at, left);
        memcpy(&v, b + at, left);
        check_fail(c, "%s: differs at byte %zu of %zu: want %08x (%.9g), got %08x (%.9g)", what, i, bytes, u,
                   (double)f32_from_bits(u), v, (double)f32_from_bits(v));
        return false;
    }
    return true;
}

double check_rms(const float *x, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (double)x[i] * x[i];
    return n ? sqrt(sum / (double)n) : 0;
}

double check_max(const float *x, size_t n)
{
    double max = 0;
    for (size_t i = 0; i < n; i++)
        max = fmax(max, fabs((double)x[i]));
    return max;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

void check_time(struct check *c, const char *what, void (*fn)(void *), void *arg, double bytes)
{
    enum { SAMPLES = 15 };
    double ns[SAMPLES];
    if (!c->bench)
        return;
    int repeat = 1;
    for (;;) { /* one sample lasts at least a millisecond */
        double start = clock_seconds();
        for (int i = 0; i < repeat; i++)
            fn(arg);
        if (clock_seconds() - start > 1e-3 || repeat > 1 << 20)
            break;
        repeat *= 2;
    }
    for (int s = 0; s < SAMPLES; s++) {
        double start = clock_seconds();
        for (int i = 0; i < repeat; i++)
            fn(arg);
        ns[s] = (clock_seconds() - start) * 1e9 / repeat;
    }
    qsort(ns, SAMPLES, sizeof *ns, by_value);
    double median = ns[SAMPLES / 2];
    printf("time  %-56s %12.0f ns", what, median);
    if (bytes > 0)
        printf("  %7.2f GB/s", bytes / median);
    printf("\n");
}
