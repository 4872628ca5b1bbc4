/*
 * plan.h: every byte, before the first weight is read. plan_build is arithmetic on (tensor directory,
 * machine, options): no file is read, no device is opened, so it plans for machines nobody here owns. The
 * same object drives loading (load/weights.h).
 */
#ifndef TONNE_PLAN_PLAN_H
#define TONNE_PLAN_PLAN_H

#include "base/json.h"
#include "model/model.h"
#include "plan/machine.h"
#include "quant/qtype.h"

enum tier { TIER_RAM, TIER_DISK, TIER_VRAM, TIER_COUNT };

enum plan_group {
    PLAN_EMBED,
    PLAN_NORMS,
    PLAN_ATTENTION,
    PLAN_DELTA_NET,
    PLAN_DENSE_MLP,
    PLAN_ROUTER,
    PLAN_SHARED,
    PLAN_EXPERTS,
    PLAN_HEAD,
    PLAN_MTP,
    PLAN_GROUPS
};

enum {
    PLAN_ALIGN = 64,  /* of every matrix and scale plane in RAM */
    PLAN_PAGE = 4096, /* of an expert that lives on disk */
    PLAN_PANEL_FLOATS =
        1 << 19, /* loading reads panels of at most this many weights (at least one row) ... */
    PLAN_STRIP_FLOATS = 1 << 14, /* ... and converts strips of them that stay in the core's cache */
    PLAN_PIECE_BYTES = 1 << 20,  /* packed files are read in pieces of this size */
    PLAN_READERS = 4,            /* threads that read, each a panel */
    PLAN_PANELS_READ = 2,        /* panels that wait to be converted */
    PLAN_CTX_MIN = 4096,
    PLAN_CTX_DEFAULT = 32768,
    PLAN_BATCH_MIN = 32,
    PLAN_BATCH_DEFAULT = 512
};

/* One weight and where it goes. */
struct plan_item {
    enum role role;
    int layer, expert; /* as in model_find */
    struct weight_source src;
    enum qtype target;
    enum tier tier;
    enum plan_group group;
    size_t data_bytes, scale_bytes;
    uint64_t data_at,
        scale_at; /* RAM: offsets in the weights' block. Experts on disk: offsets in the expert */
};

struct plan_options {
    enum mix mix; /* quantize while loading; MIX_NONE: as stored */
    bool skip_mtp;
    int ctx, batch, sessions; /* 0: the plan chooses */
    int logits;               /* rows of logits that one pass may keep; 0: 1 */
    enum qtype kv_type;       /* QTYPE_NONE: f16 */
    size_t ram_budget;        /* --ram; 0: what the machine has free */
    bool no_disk;             /* never leave experts on disk */
    bool no_pack;
    int threads; /* 0: the plan chooses */
    /* Bytes of the engine's work buffers with the device's scratch, and of one session, with its recurrent
     * states' share in *state_bytes. Set by the caller (engine and device know); NULL: 0. opt has every field
     * filled in. */
    size_t (*work_bytes)(const struct shape *s, bool has_mtp, const struct plan_options *opt);
    size_t (*session_bytes)(const struct shape *s, bool has_mtp, const struct plan_options *opt,
                            size_t *state_bytes);
};

struct plan_part { /* one row of the table */
    uint64_t weights;
    size_t bytes[TIER_COUNT];
    char types[48]; /* "q4_k q6_k" */
};

/* The largest of each kind of loading buffer, bytes. */
struct plan_staging {
    size_t panel;   /* a strip of decoded rows */
    size_t scratch; /* a panel of stored rows, or a piece of a packed file */
    size_t absmax;  /* of a matrix: scales being made for double quantization */
    size_t plane;   /* of a matrix: its stored scales in f32, and what reading them takes */
};

struct plan {
    const struct model *model; /* borrowed */
    struct machine machine;
    struct plan_options opt;   /* every 0 replaced by what was chosen */
    struct plan_options asked; /* as they were given */
    bool has_mtp;
    struct plan_item
        *item; /* dense weights first, then experts by layer: gate, up, down of one expert adjacent */
    int n_item, n_dense; /* item[n_dense..] are routed experts */
    struct plan_part part[PLAN_GROUPS];
    size_t weights_bytes; /* the block in RAM: dense weights, and the experts when they live there */
    bool experts_on_disk;
    bool pack;           /* experts need a packed file (their stored form cannot be used in place) */
    uint64_t n_experts;  /* of all layers */
    size_t expert_bytes; /* one cache slot: gate, up, down, aligned */
    int cache_slots;     /* experts held in RAM when they live on disk */
    struct plan_staging staging;
    size_t kv_bytes, state_bytes, work_bytes, staging_bytes, cache_bytes, other_bytes;
    size_t budget_bytes;      /* RAM that may be used; SIZE_MAX: unknown */
    size_t total_bytes;       /* RAM at run time */
    size_t peak_load_bytes;   /* RAM at most while loading */
    size_t minimum_ram_bytes; /* least RAM with which this model runs with these options */
    size_t disk_bytes;        /* pack file to be written; 0: none */
    size_t pack_too_large; /* bytes of the pack that would help but that the drive has no room for; 0: none */
    bool fits;
    /* expectation; 0: unknown because the machine was not measured */
    double decode_tps, prefill_tps;
    const char *decode_limit, *prefill_limit; /* "RAM bandwidth", "drive", "arithmetic", "thread hand-offs" */
    uint64_t decode_bytes;                    /* weights read for one token, all tiers */
    double hit_rate;                          /* expected share of experts found in the cache */
};

/* Gives *out also when the model does not fit (fits = false): the caller shows the table and plan_refuse's
 * error. */
int plan_build(struct plan **out, const struct model *m, const struct machine *machine,
               const struct plan_options *opt, struct err *e);
/* The same model with other options; p's listing of the weights is used again. */
int plan_vary(struct plan **out, const struct plan *p, const struct plan_options *opt, struct err *e);
void plan_close(struct plan **p);

/* ERR_NO_ROOM with the nearest settings that fit as the hint; 0 when it fits. */
int plan_refuse(const struct plan *p, struct err *e);

/* The format a weight gets under a mix; without one, as stored where kernels can use that. Vectors (norms,
 * biases, conv, gates) are always F32. */
enum qtype plan_target(const struct model *m, enum role role, int layer, enum mix mix,
                       const struct weight_source *src);
/* True for the roles that the engine reads as plain f32 arrays. */
bool plan_is_vector(enum role role);
/* True when the stored codes are already what the target needs. */
bool plan_is_copy(const struct weight_source *src, enum qtype target);
/* Rows of a matrix with so many columns that loading converts at once. */
int64_t plan_panel_rows(int64_t rows, int64_t cols);
/* Expected share of hits of a recency cache that holds `share` of the experts (published measurements;
 * design.md 3). */
double plan_hit_rate(double share);

/* ---- for people and programs ---- */

const char *plan_group_name(enum plan_group g); /* "shared expert" */

enum { PLAN_SUMMARY = 200, PLAN_CHANGE = 120, PLAN_CHANGES = 6 };
/* "1.2 of 16.0 GiB of RAM: ..." in one line into out[0..PLAN_SUMMARY); returns out. */
const char *plan_summary(const struct plan *p, char *out);
/* The table with totals, expectation, reasons and what would change them; at most 100 columns. Gives *out,
 * malloc'ed. */
int plan_text(const struct plan *p, char **out, struct err *e);
/* The same for programs. Gives *out, ended by json_decref. */
int plan_json(const struct plan *p, json_t **out, struct err *e);

struct plan_changes {
    int n;
    char line[PLAN_CHANGES][PLAN_CHANGE]; /* "16.0 GiB more RAM: 11 -> 19 tokens/s" */
};
/* What more RAM or another --type would change, found by planning again. */
int plan_what_if(const struct plan *p, struct plan_changes *out, struct err *e);

#endif
