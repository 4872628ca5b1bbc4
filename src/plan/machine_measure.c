/*
 * machine_measure.c: how fast this machine reads RAM and multiplies. Every figure is the best of several
 * passes: what else runs on the machine can only make a pass slower. The drive: machine_drive.c.
 */
#include <math.h>
#include <stdatomic.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "device/peak.h"
#include "plan/machine_private.h"

/* ---- RAM ---- */

static const size_t READ_LEAST = (size_t)512 << 20, READ_MOST = (size_t)4 << 30;
static const double RAM_SECONDS = 5, POINT_SECONDS = 0.25; /* all thread counts; one of them */
enum { LEAST_PASSES = 3 };

struct read_job {
    const struct peak_loops *loops;
    char *data;
    size_t bytes;
    int active; /* threads 0..active-1 read */
    bool touch;
    _Atomic uint64_t sum; /* keeps the reads from being dropped */
};

static void read_share(void *arg, struct threads *t, int thread)
{
    struct read_job *job = arg;
    (void)t;
    if (thread >= job->active)
        return;
    size_t steps = job->bytes / PEAK_READ_STEP, n = (size_t)job->active, i = (size_t)thread;
    size_t begin = steps * i / n * PEAK_READ_STEP, end = steps * (i + 1) / n * PEAK_READ_STEP;
    if (job->touch)
        memset(job->data + begin, thread + 1, end - begin);
    else
        atomic_fetch_add(&job->sum, job->loops->read(job->data + begin, end - begin));
}

/* Bytes to read: so many that caches cannot help. 0: there is not enough memory for that. */
static size_t read_bytes(const struct machine *m)
{
    struct topology topo;
    machine_topology(&topo);
    size_t want = 8 * topo.l3_bytes, room = machine_ram(m) / 4;
    want = want < READ_LEAST ? READ_LEAST : want > READ_MOST ? READ_MOST : want;
    if (room && room < want)
        want = room / PEAK_READ_STEP * PEAK_READ_STEP;
    return want >= 2 * topo.l3_bytes && want >= (size_t)64 << 20 ? want : 0;
}

/* GB/s with `active` threads. */
static double read_point(struct read_job *job, struct threads *t, int active)
{
    double best = 0, begin = clock_seconds();
    job->active = active;
    for (int pass = 0; pass < LEAST_PASSES || clock_seconds() - begin < POINT_SECONDS; pass++) {
        double before = clock_seconds();
        threads_run(t, read_share, job);
        best = fmax(best, (double)job->bytes / (clock_seconds() - before) / 1e9);
    }
    return best;
}

/* 1, 2, 3, 4, 6, 8, 12, 16, ... and last n itself. */
static int next_count(int at, int n)
{
    bool power = (at & (at - 1)) == 0;
    int next = at < 4 ? at + 1 : power ? at + at / 2 : at / 3 * 4;
    return next > n ? n : next;
}

static void interpolate(double *curve, int from, int to)
{
    for (int i = from + 1; i < to; i++)
        curve[i - 1] = curve[from - 1] + (curve[to - 1] - curve[from - 1]) * (i - from) / (to - from);
}

int machine_measure_ram(struct machine *m, struct threads *t, struct err *e)
{
    int n = threads_count(t) < MACHINE_MAX_CURVE ? threads_count(t) : MACHINE_MAX_CURVE;
    struct read_job job = { .loops = peak_pick(CPU_ISA_BEST), .bytes = read_bytes(m), .active = n };
    struct mem block;
    m->n_ram_gbs = 0;
    if (job.bytes == 0)
        return 0; /* nothing honest can be measured */
    int rc = mem_ram(&block, job.bytes, "the memory measurement", e);
    if (rc)
        return rc;
    job.data = block.ptr;
    job.touch = true;
    threads_run(t, read_share, &job);
    job.touch = false;
    double begin = clock_seconds();
    for (int at = 1, last = 0; last < n; last = at, at = next_count(at, n)) {
        if (clock_seconds() - begin > RAM_SECONDS)
            at = n; /* slow: leave out what lies between */
        m->ram_gbs[at - 1] = read_point(&job, t, at);
        if (last)
            interpolate(m->ram_gbs, last, at);
    }
    m->n_ram_gbs = n;
    mem_free(&block);
    return 0;
}

/* ---- arithmetic ---- */

static const double MULTIPLY_SECONDS = 0.1;
enum { MULTIPLY_PASSES = 3, MULTIPLY_ROUNDS = 20000 };

enum number { NUMBER_INT8, NUMBER_BF16, NUMBER_F32 };

struct multiply_job {
    const struct peak_loops *loops;
    enum number number;
    bool own_cores;        /* no more threads than cores */
    _Atomic int64_t kmacs; /* 1000 multiply-adds per second, all threads */
    _Atomic uint32_t sum;
};

static int64_t multiply(struct multiply_job *job, uint32_t *sum)
{
    int32_t whole = 0;
    float real = 0;
    int64_t macs = job->number == NUMBER_INT8   ? job->loops->int8(MULTIPLY_ROUNDS, &whole)
                   : job->number == NUMBER_BF16 ? job->loops->bf16(MULTIPLY_ROUNDS, &real)
                                                : job->loops->f32(MULTIPLY_ROUNDS, &real);
    *sum += (uint32_t)whole + (real != 0);
    return macs;
}

/* Of this thread, so that what other programs take of the core is not counted. */
static double thread_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void multiply_share(void *arg, struct threads *t, int thread)
{
    struct multiply_job *job = arg;
    (void)thread;
    int64_t macs = 0;
    uint32_t sum = 0;
    threads_barrier(t); /* all at once: they share clocks and power */
    double begin = clock_seconds(), used = thread_seconds();
    do
        macs += multiply(job, &sum);
    while (clock_seconds() - begin < MULTIPLY_SECONDS);
    used = job->own_cores ? thread_seconds() - used : clock_seconds() - begin;
    atomic_fetch_add(&job->kmacs, (int64_t)((double)macs / used / 1e3));
    atomic_fetch_add(&job->sum, sum);
}

/* 1e9 multiply-adds per second of all threads together. */
static double multiply_rate(const struct machine *m, struct threads *t, enum number number)
{
    double best = 0;
    for (int pass = 0; pass < MULTIPLY_PASSES; pass++) {
        struct multiply_job job = { .loops = peak_pick(CPU_ISA_BEST), .number = number };
        job.own_cores = threads_count(t) <= m->usable_cores;
        threads_run(t, multiply_share, &job);
        best = fmax(best, (double)job.kmacs / 1e6);
    }
    return best;
}

void machine_measure_arithmetic(struct machine *m, struct threads *t)
{
    m->int8_gmacs = multiply_rate(m, t, NUMBER_INT8);
    m->bf16_gmacs = multiply_rate(m, t, NUMBER_BF16);
    m->f32_gmacs = multiply_rate(m, t, NUMBER_F32);
}

/* ---- all ---- */

static void say(const struct machine_measure_options *opt, const char *step)
{
    if (opt->progress)
        opt->progress(opt->user, step);
}

int machine_measure(struct machine *m, const struct machine_measure_options *opt, struct err *e)
{
    const char *path = opt->path ? opt->path : ".";
    int rc = drive_path_check(path, e); /* before seconds are spent */
    if (rc)
        return rc;
    say(opt, "measuring RAM");
    rc = machine_measure_ram(m, opt->threads, e);
    if (rc)
        return rc;
    say(opt, "measuring arithmetic");
    machine_measure_arithmetic(m, opt->threads);
    say(opt, "measuring the drive");
    return machine_measure_drive(m, opt->threads, path, e);
}
