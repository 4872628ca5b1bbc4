/*
 * machine.h: what a machine has and how fast it is: this one, measured, or one that the user describes. The plan is
 * arithmetic on this struct and nothing else.
 */
#ifndef TONNE_PLAN_MACHINE_H
#define TONNE_PLAN_MACHINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/threads.h"

enum { MACHINE_MAX_CURVE = 64, MACHINE_MAX_GPU = 16 };

struct machine_gpu {
    char   name[64];
    size_t bytes, free_bytes;
    double link_gbs, memory_gbs; /* host to device; device memory; 0: unknown */
};

struct machine {
    /* known at once */
    char   cpu[96];             /* "AMD EPYC ..., AVX-512 VNNI BF16" */
    int    cores, usable_cores; /* physical; allowed to this process (affinity, cgroup quota) */
    int    numa_nodes;
    size_t ram_total, ram_available, cgroup_limit; /* bytes; cgroup_limit 0: none */
    size_t disk_free;           /* of the drive that holds the model, or the offload folder */
    bool   here;                /* this machine, not a described one */
    /* measured by doctor; 0: unknown. GB = 1e9 bytes */
    double ram_gbs[MACHINE_MAX_CURVE]; /* [n - 1]: read bandwidth with n threads */
    int    n_ram_gbs;
    double int8_gmacs, bf16_gmacs, f32_gmacs; /* all usable cores */
    double disk_gbs;            /* direct reads at expert size, best queue depth */
    double disk_latency_us;     /* one such read alone */
    int    disk_depth;          /* the queue depth that reached disk_gbs */
    bool   disk_direct;         /* O_DIRECT works there */
    struct machine_gpu gpu[MACHINE_MAX_GPU];
    int    n_gpu;
};

/* Fills what is known at once: topology, memory (the smallest of total, available and cgroup limit counts), drive of
 * `path` (NULL: the current folder). A few milliseconds. */
int machine_look(struct machine *m, const char *path, struct err *e);

/* The RAM a process may use now: min(available, cgroup limit - cgroup use). */
size_t machine_ram(const struct machine *m);

/* Measures bandwidths, arithmetic rates and the drive of `path`; under 15 s. progress is called with a line for each
 * step; NULL: silent. Adds to what machine_look filled. */
struct machine_measure_options {
    const char     *path;       /* a file or folder on the drive to measure; NULL: the current folder */
    struct threads *threads;    /* borrowed; the most threads measured */
    void (*progress)(void *user, const char *step);
    void *user;
};
int machine_measure(struct machine *m, const struct machine_measure_options *opt, struct err *e);

/* Best read bandwidth over the measured thread counts, GB/s, and at how many threads; 0: unknown. */
double machine_best_ram_gbs(const struct machine *m, int *threads);

/* "vram=32G,ram=256G,link=55,rambw=205,disk=7,cores=16,int8=3000": a machine that is not here. */
int machine_parse(struct machine *m, const char *text, struct err *e);

/* As JSON, versioned; load refuses other versions and other processors (ERR_FORMAT: measure again). */
int machine_save(const struct machine *m, const char *path, struct err *e);
int machine_load(struct machine *m, const char *path, struct err *e);

#endif
