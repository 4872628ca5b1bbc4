/*
 * machine.h: what a machine has and how fast it is: this one, measured, or one that the user describes. The
 * plan is arithmetic on this struct and nothing else.
 */
#ifndef TONNE_PLAN_MACHINE_H
#define TONNE_PLAN_MACHINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/json.h"
#include "base/threads.h"

enum { MACHINE_MAX_CURVE = 512, MACHINE_MAX_GPU = 16 };
/* What drives are measured with: a routed expert at 4.5 bits of Qwen3.5-397B-A17B, of Qwen3.5-35B-A3B. */
enum { MACHINE_EXPERT_BYTES = 7077888, MACHINE_SMALL_EXPERT_BYTES = 1769472 };

struct machine_gpu {
    char name[64];
    size_t bytes, free_bytes;
    double link_gbs, memory_gbs; /* host to device; device memory; 0: unknown */
};

struct machine {
    /* known at once */
    char cpu[96];            /* "AMD EPYC ..., AVX-512 VNNI BF16" */
    int cores, usable_cores; /* physical; allowed to this process (affinity, cgroup quota) */
    int numa_nodes;
    size_t ram_total, ram_available; /* bytes; 0: unknown */
    size_t cgroup_limit; /* the smallest memory limit of this process' cgroup and its ancestors; 0: none */
    size_t cgroup_room;  /* what those limits leave now (page cache counts as free); with cgroup_limit only */
    size_t disk_free;    /* of the drive that holds the model, or the offload folder */
    uint64_t disk_device; /* st_dev of that drive; 0: unknown */
    bool here;            /* this machine, not a described one */
    /* measured by doctor; 0: unknown. GB = 1e9 bytes */
    double ram_gbs[MACHINE_MAX_CURVE]; /* [n - 1]: read bandwidth with n threads, interpolated */
    int n_ram_gbs;
    double int8_gmacs, bf16_gmacs, f32_gmacs; /* all usable cores */
    /* reads of MACHINE_EXPERT_BYTES and of MACHINE_SMALL_EXPERT_BYTES: at the best queue depth, and alone */
    double disk_gbs, disk_small_gbs;
    double disk_latency_us, disk_small_latency_us; /* median */
    int disk_depth;   /* the least queue depth that reaches disk_gbs within 5 % */
    bool disk_direct; /* O_DIRECT works there */
    bool disk_uring;  /* io_uring is allowed here; containers often refuse it */
    struct machine_gpu gpu[MACHINE_MAX_GPU];
    int n_gpu;
};

/* Fills what is known at once: topology, memory, drive of `path` (NULL: the current folder; one that does not
 * exist yet: its nearest existing parent). What this system does not tell stays 0; never fails. Some
 * milliseconds. */
int machine_look(struct machine *m, const char *path, struct err *e);

/* The RAM a process may use now, bytes: min(available, room within the cgroup limits); 0: unknown. */
size_t machine_ram(const struct machine *m);

/* Measures bandwidths, arithmetic rates and the drive of `path`; under 15 s. progress is called with a line
 * for each step; NULL: silent. Adds to what machine_look filled. */
struct machine_measure_options {
    const char *path;        /* a file or folder on the drive to measure; NULL: the current folder */
    struct threads *threads; /* borrowed; the most threads measured */
    void (*progress)(void *user, const char *step);
    void *user;
};
int machine_measure(struct machine *m, const struct machine_measure_options *opt, struct err *e);

/* Its first step alone: the RAM curve, under a second for each of a handful of thread counts. Needs
 * machine_look; leaves the curve empty when too little memory is free. */
int machine_measure_ram(struct machine *m, struct threads *t, struct err *e);

/* Best read bandwidth over the measured thread counts, GB/s, and at how many threads; 0: unknown. */
double machine_best_ram_gbs(const struct machine *m, int *threads);

/* "vram=32G,ram=256G,link=55,rambw=205,disk=7,cores=16,int8=3000": a machine that is not here. Sizes as in
 * base/size.h, speeds in GB/s, arithmetic in 1e9 multiply-adds/s of all cores; several GPUs: vram=32G+24G;
 * disk=off: no drive (disk_free 0; otherwise unbounded unless diskfree= says). What is not given is 0:
 * unknown; ram= is required. rambw is what all cores reach together, taken as proportional to the threads
 * below that. ERR_USAGE names the key. */
int machine_parse(struct machine *m, const char *text, struct err *e);

/* What is known and measured, as JSON; the caller ends it with json_decref. NULL: no memory. */
json_t *machine_json(const struct machine *m);

/* Writes machine_json to path, atomically; drives that an earlier file of this machine knows stay in it.
 * ERR_IO. */
int machine_save(const struct machine *m, const char *path, struct err *e);
/* Adds what was measured to *m, which machine_look filled; the drive's figures only when its drive was
 * measured. Other versions and other processors: ERR_FORMAT (measure again). ERR_FILE: never measured. *m
 * stays as it is then. */
int machine_load(struct machine *m, const char *path, struct err *e);

#endif
