/*
 * plan.h: every byte, before the first weight is read. plan_build is arithmetic on (tensor directory, machine,
 * options): no file is read, no device is opened, so it plans for machines nobody here owns. The same object drives
 * loading (load/weights.h).
 */
#ifndef TONNE_PLAN_PLAN_H
#define TONNE_PLAN_PLAN_H

#include "model/model.h"
#include "plan/machine.h"
#include "quant/qtype.h"

enum tier { TIER_RAM, TIER_DISK, TIER_VRAM, TIER_COUNT };

enum plan_group {
    PLAN_EMBED, PLAN_NORMS, PLAN_ATTENTION, PLAN_DELTA_NET, PLAN_DENSE_MLP, PLAN_ROUTER, PLAN_SHARED, PLAN_EXPERTS,
    PLAN_HEAD, PLAN_MTP, PLAN_GROUPS
};

/* One weight and where it goes. */
struct plan_item {
    enum role     role;
    int           layer, expert;  /* as in model_find */
    struct weight_source src;
    enum qtype    target;
    enum tier     tier;
    enum plan_group group;
    size_t        data_bytes, scale_bytes;
    uint64_t      data_at, scale_at; /* RAM: offsets in the weights' block. Experts on disk: offsets in the expert */
};

struct plan_options {
    enum mix   mix;        /* quantize while loading; MIX_NONE: as stored */
    bool       skip_mtp;
    int        ctx, batch, sessions; /* 0: the plan chooses */
    enum qtype kv_type;    /* QTYPE_NONE: f16 */
    size_t     ram_budget; /* --ram; 0: what the machine has free */
    bool       no_disk;    /* never leave experts on disk */
    bool       no_pack;
    int        threads;    /* 0: the plan chooses */
    /* Bytes of the engine's work buffers and the device's scratch; set by the caller (engine and device know). */
    size_t (*work_bytes)(const struct shape *s, bool has_mtp, int ctx, int batch, int sessions);
    size_t (*session_bytes)(const struct shape *s, bool has_mtp, int ctx, enum qtype kv_type, size_t *state_bytes);
};

struct plan_part { /* one row of the table */
    uint64_t weights;
    size_t   bytes[TIER_COUNT];
    char     types[48]; /* "q4_k q6_k" */
};

struct plan {
    const struct model *model;   /* borrowed */
    struct machine      machine;
    struct plan_options opt;     /* every 0 replaced by what was chosen */
    struct plan_item   *item;    /* dense weights first, then experts by layer: gate, up, down of one expert adjacent */
    int                 n_item;
    struct plan_part    part[PLAN_GROUPS];
    size_t weights_bytes;        /* the block in RAM: dense weights, and the experts when they live there */
    bool   experts_on_disk;
    bool   pack;                 /* experts need a packed file (their stored form cannot be used in place) */
    size_t expert_bytes;         /* one cache slot: gate, up, down, aligned */
    int    cache_slots;          /* experts held in RAM when they live on disk */
    size_t kv_bytes, state_bytes, work_bytes, staging_bytes, cache_bytes, other_bytes;
    size_t total_bytes;          /* RAM at run time */
    size_t peak_load_bytes;      /* RAM at most while loading */
    size_t minimum_ram_bytes;    /* least RAM with which this model runs with these options */
    size_t disk_bytes;           /* pack file to be written; 0: none */
    bool   fits;
    /* expectation; 0: unknown because the machine was not measured */
    double   decode_tps, prefill_tps;
    const char *decode_limit, *prefill_limit; /* "RAM bandwidth", "drive", "arithmetic" */
    uint64_t decode_bytes;       /* weights read for one token, all tiers */
    double   hit_rate;           /* expected share of experts found in the cache */
};

/* Gives *out also when the model does not fit (fits = false): the caller shows the table and plan_refuse's error. */
int  plan_build(struct plan **out, const struct model *m, const struct machine *machine,
                const struct plan_options *opt, struct err *e);
void plan_close(struct plan **p);

/* ERR_NO_ROOM with the nearest settings that fit as the hint; 0 when it fits. */
int plan_refuse(const struct plan *p, struct err *e);

/* The format a weight gets under a mix; without one, as stored where kernels can use that. */
enum qtype plan_target(const struct model *m, enum role role, int layer, enum mix mix, const struct weight_source *src);
/* True for the roles that the engine reads as plain f32 arrays. */
bool plan_is_vector(enum role role);
/* Expected share of hits of a recency cache that holds `share` of the experts (published measurements; design.md 3). */
double plan_hit_rate(double share);

#endif
