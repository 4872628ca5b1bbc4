/*
 * check.h: the harness of tests/device. A program draws random shapes and numbers from a printed seed, runs
 * an operation on a reference and on what it checks, and compares within bounds that follow from the
 * arithmetic.
 *
 *     check_NAME [--seed N] [--only STR] [--bench]      exit 0 all close, 1 a difference, 77 nothing could
 * run
 *
 * Buffers end at an unreadable page and have canaries before; a crash names its case and the seed.
 */
#ifndef TONNE_TESTS_CHECK_H
#define TONNE_TESTS_CHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/threads.h"
#include "device/device.h"

enum { CHECK_BUFS = 512 };

struct check_buf {
    char *map;   /* the mapping, its last page unreadable */
    size_t span; /* of the mapping */
    char *data;
    size_t bytes;
};

struct check {
    uint64_t seed;
    uint64_t state[2]; /* of the generator */
    const char *only;
    bool bench, failed;       /* failed: the current case */
    bool lacks[CPU_ISA_BEST]; /* instruction sets reported as skipped */
    int n_case, n_failed, n_skipped, n_buf;
    char name[160]; /* of the current case */
    struct check_buf buf[CHECK_BUFS];
};

/* Reads the options, prints the seed and arms the crash report. Exits 2 on an unknown option. */
void check_begin(struct check *c, int argc, char **argv);
/* Prints the counts; the program's exit code. */
int check_end(struct check *c);

/* Begins a case; false when --only does not want it. The generator restarts from the seed and the name, so
 * that a case draws the same numbers alone as among others. */
bool check_case(struct check *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Ends the case: looks at every canary, frees its buffers. */
void check_done(struct check *c);
/* Something this machine cannot run. */
void check_skip(struct check *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* A failure with a message of its own. */
void check_fail(struct check *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Fails the case when rc < 0, with e's text. */
bool check_ok(struct check *c, int rc, const struct err *e);

/* ---- numbers ---- */

uint64_t check_bits(struct check *c);
int check_int(struct check *c, int lo, int hi); /* lo..hi, both possible */
float check_uniform(struct check *c, float lo, float hi);
float check_normal(struct check *c); /* mean 0, deviation 1 */
/* A count in 1..max that is often 1, 2, a power of two or one beside it. */
int check_count(struct check *c, int max);

/* ---- buffers of the current case ---- */

/* bytes of memory whose end touches the unreadable page, start aligned to align (a power of two: the end then
 * leaves a gap of less than align, filled with canaries). */
void *check_alloc(struct check *c, size_t bytes, size_t align);
float *check_floats(struct check *c, size_t n); /* normal random numbers, 4-byte aligned */
float *check_floats_in(struct check *c, size_t n, float lo, float hi);
float *check_copy(struct check *c, const float *x, size_t n); /* a second buffer with the same content */
float *check_out(struct check *c, size_t n);                  /* NaN: what is not written shows */
/* A random matrix of this format: encoded normal numbers of this deviation, or random codes whose values are
 * finite where the format has no encoder (their scale is arbitrary). */
struct qmat check_qmat(struct check *c, enum qtype type, int64_t rows, int64_t cols, float deviation);

/* ---- comparing ---- */

/* |want[i] - got[i]| <= bound for each i. */
bool check_close(struct check *c, const char *what, const float *want, const float *got, size_t n,
                 double bound);
/* The same with a bound for each element. */
bool check_close_each(struct check *c, const char *what, const float *want, const float *got, size_t n,
                      const double *bound);
/* Bit for bit. */
bool check_same(struct check *c, const char *what, const void *want, const void *got, size_t bytes);
/* The root of the mean square of x, and its largest magnitude: what bounds are relative to. */
double check_rms(const float *x, size_t n);
double check_max(const float *x, size_t n);

/* With --bench: runs fn(arg) for a while and prints the median time and, with bytes > 0, the rate. */
void check_time(struct check *c, const char *what, void (*fn)(void *), void *arg, double bytes);

/* ---- every way this machine can run the cpu device ---- */

enum { CHECK_CPU_MAX = 9 };
struct check_cpu {
    struct device *dev;
    struct threads *pool;
    enum cpu_isa isa;
    int n_threads;
    char name[48]; /* "AVX2, 3 threads" */
};
/* Opens the cpu device with every instruction set the machine has (plain first) and 1, 2 and 3 threads each;
 * returns how many. Sets it lacks are reported as skipped. Each is reserved for l. */
int check_cpus(struct check *c, struct check_cpu out[CHECK_CPU_MAX], enum act_mode act,
               const struct device_limits *l);
void check_cpus_close(struct check_cpu *cpu, int n);
/* The reference device, reserved for l. */
struct device *check_ref(struct check *c, enum act_mode act, const struct device_limits *l);

#endif
