/* check_rig.c: what a case works with: guarded buffers, the devices of this machine. */
#include "support/check.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/checked.h"

enum { CANARY = 0xc5, CANARY_BYTES = 256 };

void *check_alloc(struct check *c, size_t bytes, size_t align)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    if (c->n_buf == CHECK_BUFS) {
        fprintf(stderr, "%s: more than %d buffers in one case\n", c->name, CHECK_BUFS);
        exit(2);
    }
    size_t room = align_up(bytes, align), span = align_up(room + CANARY_BYTES, page) + page;
    char *map = mmap(NULL, span, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED || mprotect(map + span - page, page, PROT_NONE)) {
        fprintf(stderr, "%s: no memory for %zu bytes\n", c->name, span);
        exit(2);
    }
    char *data = map + span - page - room;
    memset(data - CANARY_BYTES, CANARY, CANARY_BYTES);
    memset(data + bytes, CANARY, room - bytes);
    c->buf[c->n_buf++] = (struct check_buf){ map, span, data, bytes };
    return data;
}

void check_done(struct check *c)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    for (int i = 0; i < c->n_buf; i++) {
        struct check_buf *b = &c->buf[i];
        const char *end = b->map + b->span - page;
        bool intact = true;
        for (const char *p = b->data - CANARY_BYTES; p < b->data; p++)
            intact &= (unsigned char)*p == CANARY;
        for (const char *p = b->data + b->bytes; p < end; p++)
            intact &= (unsigned char)*p == CANARY;
        if (!intact)
            check_fail(c, "buffer %d of %zu bytes: written outside", i, b->bytes);
        munmap(b->map, b->span);
    }
    c->n_buf = 0;
}

float *check_floats(struct check *c, size_t n)
{
    float *x = check_alloc(c, n * sizeof *x, sizeof *x);
    for (size_t i = 0; i < n; i++)
        x[i] = check_normal(c);
    return x;
}

float *check_floats_in(struct check *c, size_t n, float lo, float hi)
{
    float *x = check_alloc(c, n * sizeof *x, sizeof *x);
    for (size_t i = 0; i < n; i++)
        x[i] = check_uniform(c, lo, hi);
    return x;
}

float *check_copy(struct check *c, const float *x, size_t n)
{
    float *y = check_alloc(c, n * sizeof *y, sizeof *y);
    if (n)
        memcpy(y, x, n * sizeof *y);
    return y;
}

float *check_out(struct check *c, size_t n)
{
    float *x = check_alloc(c, n * sizeof *x, sizeof *x);
    for (size_t i = 0; i < n; i++)
        x[i] = NAN;
    return x;
}

struct device *check_ref(struct check *c, enum act_mode act, const struct device_limits *l)
{
    struct err e = { 0 };
    struct device *ref = NULL;
    struct device_ref_options opt = { .act = act };
    if (device_ref_open(&ref, &opt, &e) < 0 || ref->ops->reserve(ref, l, &e) < 0) {
        fprintf(stderr, "%s: %s\n", c->name, e.what);
        exit(2);
    }
    return ref;
}

static int open_cpu(struct check *c, struct check_cpu *cpu, enum act_mode act, const struct device_limits *l)
{
    struct err e = { 0 };
    int rc = threads_open(&cpu->pool, cpu->n_threads, &e);
    struct device_cpu_options opt = { .act = act, .isa = cpu->isa, .threads = cpu->pool };
    if (rc == 0)
        rc = device_cpu_open(&cpu->dev, &opt, &e);
    if (rc == 0)
        rc = cpu->dev->ops->reserve(cpu->dev, l, &e);
    snprintf(cpu->name, sizeof cpu->name, "%s, %d threads", device_cpu_isa_name(cpu->isa), cpu->n_threads);
    if (rc < 0)
        check_fail(c, "opening the cpu device (%s): %s", cpu->name, e.what);
    return rc;
}

int check_cpus(struct check *c, struct check_cpu out[CHECK_CPU_MAX], enum act_mode act,
               const struct device_limits *l)
{
    int n = 0;
    for (enum cpu_isa isa = CPU_ISA_PLAIN; isa < CPU_ISA_BEST; isa++) {
        if (isa > device_cpu_isa()) {
            if (!c->lacks[isa])
                check_skip(c, "%s: this machine lacks it", device_cpu_isa_name(isa));
            c->lacks[isa] = true;
            continue;
        }
        for (int threads = 1; threads <= 3; threads++) {
            out[n] = (struct check_cpu){ .isa = isa, .n_threads = threads };
            if (open_cpu(c, &out[n], act, l) == 0)
                n++;
        }
    }
    return n;
}

void check_cpus_close(struct check_cpu *cpu, int n)
{
    for (int i = 0; i < n; i++) {
        cpu[i].dev->ops->close(cpu[i].dev);
        threads_close(&cpu[i].pool);
    }
}
