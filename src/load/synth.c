/*
 * synth.c: see synth.h. Pools of quantized random weights, then the planned block filled from them by all
 * threads.
 */
#include "load/synth.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

enum {
    POOL_COLS = 8192,
    POOL_ROWS = 128,
    UNIT = 1024,
    MAX_POOLS = 64,
    TASK_WEIGHTS = 1 << 20,
    WALK_UNIT = 256
};

/* ---- random numbers: the n-th of a stream, so that order and threads do not matter ---- */

static uint64_t mix64(uint64_t x)
{
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

static double uniform(uint64_t stream, uint64_t n)
{
    return (double)(mix64(stream ^ mix64(n)) >> 11) * 0x1p-53;
}

/* Mean 0, variance 1: the sum of 8 uniform numbers of 16 bits. */
static float normal(uint64_t stream, uint64_t n)
{
    uint64_t a = mix64(stream ^ mix64(2 * n)), b = mix64(stream ^ mix64(2 * n + 1));
    int64_t sum = 0;
    for (int i = 0; i < 64; i += 16)
        sum += (int64_t)(a >> i & 0xffff) + (int64_t)(b >> i & 0xffff);
    return (float)(sum - 4 * 0xffff) * (1.0f / 53509.6f); /* 65536 * sqrt(8 / 12) */
}

/* ---- pools ---- */

struct pool { /* a quantized [POOL_ROWS][POOL_COLS] of N(0, sigma^2) */
    enum qtype type;
    float sigma;
    int64_t block, blocks; /* weights per block; blocks in the pool */
    size_t block_bytes, data_bytes, scale_bytes;
    char *data, *scale;
    float *absmax; /* while it is being encoded */
};

struct synth_task {
    int item;
    int64_t row, n_rows;
};

struct synth_job {
    const struct plan *plan;
    char *base;
    uint64_t seed;
    struct pool pool[MAX_POOLS];
    int n_pool;
    int *pool_of; /* [n_item]; -1: a vector */
    float *rows;  /* [threads][POOL_COLS] */
    struct synth_task *task;
    int64_t n_task;
};

/* What is added to the residual stream shrinks with the depth, so that no layer drowns the others. */
static float gain_of(const struct shape *s, enum role role)
{
    float shrink = 1.0f / sqrtf(2.0f * (float)s->n_layer);
    switch (role) {
    case ROLE_EMBED:
        return sqrtf((float)s->d_model);
    case ROLE_HEAD:
        return 3;
    case ROLE_ROUTER:
        return 2;
    case ROLE_DN_A:
        return 0.5f;
    case ROLE_DN_OUT:
        return 2 * shrink;
    case ROLE_O:
    case ROLE_DOWN:
    case ROLE_EXPERT_DOWN:
    case ROLE_SHARED_DOWN:
        return 4 * shrink;
    default:
        return 1;
    }
}

static int open_pool(struct synth_job *job, enum qtype type, float sigma, struct err *e)
{
    const struct qtype_info *info = qtype_info(type);
    struct pool *p = &job->pool[job->n_pool];
    if (job->n_pool == MAX_POOLS || !info->encode)
        return err_set(e, ERR_USAGE, "weights of type %s cannot be synthesized", info->name);
    job->n_pool++;
    *p = (struct pool){ .type = type,
                        .sigma = sigma,
                        .block = info->block,
                        .blocks = (int64_t)POOL_ROWS * POOL_COLS / info->block,
                        .block_bytes = (size_t)info->block_bytes };
    qtype_sizes(type, POOL_ROWS, POOL_COLS, &p->data_bytes, &p->scale_bytes);
    p->data = malloc(p->data_bytes);
    p->scale = p->scale_bytes ? malloc(p->scale_bytes) : NULL;
    p->absmax = qtype_needs_absmax(type) ? malloc((size_t)POOL_ROWS * POOL_COLS / 64 * sizeof(float)) : NULL;
    if (!p->data || (p->scale_bytes && !p->scale) || (qtype_needs_absmax(type) && !p->absmax))
        return err_set(e, ERR_MEMORY, "no memory for a pool of random weights");
    return 0;
}

static int choose_pools(struct synth_job *job, struct err *e)
{
    for (int i = 0; i < job->plan->n_item; i++) {
        const struct plan_item *it = &job->plan->item[i];
        job->pool_of[i] = -1;
        if (plan_is_vector(it->role))
            continue;
        float sigma = gain_of(&job->plan->model->shape, it->role) / sqrtf((float)it->src.cols);
        int k = 0;
        while (k < job->n_pool && (job->pool[k].type != it->target || job->pool[k].sigma != sigma))
            k++;
        int rc = k == job->n_pool ? open_pool(job, it->target, sigma, e) : 0;
        if (rc)
            return rc;
        job->pool_of[i] = k;
    }
    return 0;
}

static struct qmat_encoder encoder_of(const struct pool *p)
{
    return (struct qmat_encoder){ p->type, POOL_ROWS, POOL_COLS, p->data, p->scale, p->absmax };
}

static void fill_pools(void *arg, struct threads *t, int thread)
{
    struct synth_job *job = arg;
    float *row = job->rows + (size_t)thread * POOL_COLS;
    for (int64_t i; (i = threads_next(t)) < (int64_t)job->n_pool * POOL_ROWS;) {
        const struct pool *p = &job->pool[i / POOL_ROWS];
        struct qmat_encoder enc = encoder_of(p);
        for (int64_t c = 0; c < POOL_COLS; c++)
            row[c] = p->sigma * normal(job->seed, (uint64_t)(i * POOL_COLS + c));
        qmat_encode(&enc, i % POOL_ROWS, 1, row);
    }
}

static void close_pools(struct synth_job *job)
{
    for (int i = 0; i < job->n_pool; i++) {
        free(job->pool[i].data);
        free(job->pool[i].scale);
        free(job->pool[i].absmax);
    }
}

/* ---- filling matrices ---- */

/* Scale planes: per block an f32 (NF4, FP4), or after a header one byte (double-quantized, see qtype.h). */
enum { NESTED_GROUP = 256, NESTED_MAP = 256 };

static size_t nested_codes_at(int64_t blocks)
{
    return 8 + sizeof(float) * (size_t)(NESTED_MAP + (blocks + NESTED_GROUP - 1) / NESTED_GROUP);
}

static void copy_scales(const struct pool *p, char *plane, int64_t all_blocks, int64_t to, int64_t from,
                        int64_t n)
{
    if (p->absmax)
        memcpy(plane + nested_codes_at(all_blocks) + to, p->scale + nested_codes_at(p->blocks) + from,
               (size_t)n);
    else
        memcpy(plane + (size_t)to * sizeof(float), p->scale + (size_t)from * sizeof(float),
               (size_t)n * sizeof(float));
}

/* What stands before the codes of a double-quantized plane: the pool's, its groups' scales repeated. */
static void copy_plane_header(const struct pool *p, char *plane, int64_t all_blocks)
{
    uint32_t groups = (uint32_t)((all_blocks + NESTED_GROUP - 1) / NESTED_GROUP);
    int64_t of_pool = (p->blocks + NESTED_GROUP - 1) / NESTED_GROUP;
    size_t at = 8 + NESTED_MAP * sizeof(float);
    memcpy(plane, p->scale, at);
    memcpy(plane + 4, &groups, sizeof groups);
    for (int64_t g = 0; g < groups; g++)
        memcpy(plane + at + (size_t)g * sizeof(float), p->scale + at + (size_t)(g % of_pool) * sizeof(float),
               sizeof(float));
}

/* Where in the pool a piece of a row comes from. Pieces of the embedding stay the same for SYNTH_WALK rows,
 * each beginning at another row. */
static uint64_t piece_key(const struct plan_item *it, int item, int64_t row, int64_t piece, int64_t pieces)
{
    if (it->role == ROLE_EMBED)
        row = (row + piece * SYNTH_WALK / pieces) / SYNTH_WALK;
    return mix64(((uint64_t)item << 40) ^ (uint64_t)row) ^ mix64((uint64_t)piece);
}

static void fill_row(const struct synth_job *job, int item, int64_t row)
{
    const struct plan_item *it = &job->plan->item[item];
    const struct pool *p = &job->pool[job->pool_of[item]];
    int64_t blocks = it->src.cols / p->block, unit = it->role == ROLE_EMBED ? WALK_UNIT : UNIT;
    unit = unit > p->block ? unit / p->block : 1;
    int64_t pieces = (blocks + unit - 1) / unit;
    char *data = job->base + it->data_at, *plane = job->base + it->scale_at;
    for (int64_t i = 0; i < pieces; i++) {
        int64_t at = row * blocks + i * unit, n = blocks - i * unit < unit ? blocks - i * unit : unit;
        uint64_t key = mix64(job->seed ^ piece_key(it, item, row, i, pieces));
        int64_t from = (int64_t)(key % (uint64_t)(p->blocks - n + 1));
        memcpy(data + (size_t)at * p->block_bytes, p->data + (size_t)from * p->block_bytes,
               (size_t)n * p->block_bytes);
        if (p->scale)
            copy_scales(p, plane, it->src.rows * blocks, at, from, n);
    }
}

/* ---- vectors ---- */

static float vector_value(const struct shape *s, const struct plan_item *it, uint64_t stream, uint64_t n)
{
    switch (it->role) {
    case ROLE_DN_CONV:
        return normal(stream, n) / sqrtf((float)s->conv_kernel);
    case ROLE_DN_A_LOG:
        return (float)(-0.5 - 15.5 * uniform(stream, n)); /* -exp(A_log) */
    case ROLE_DN_DT_BIAS:                                 /* softplus of it is a step of 0.001 to 0.1 */
        return (float)log(expm1(exp(log(0.001) + uniform(stream, n) * log(100))));
    case ROLE_SHARED_GATE:
        return normal(stream, n) / sqrtf((float)s->d_model);
    case ROLE_Q_BIAS:
    case ROLE_K_BIAS:
    case ROLE_V_BIAS:
        return 0.1f * normal(stream, n);
    default:
        return 1 + 0.1f * normal(stream, n); /* norms */
    }
}

static void fill_vector(const struct synth_job *job, int item)
{
    const struct plan_item *it = &job->plan->item[item];
    float *v = (float *)(job->base + it->data_at);
    uint64_t stream = mix64(job->seed ^ ~(uint64_t)item);
    for (int64_t i = 0; i < it->src.rows * it->src.cols; i++)
        v[i] = vector_value(&job->plan->model->shape, it, stream, (uint64_t)i);
}

/* ---- the job ---- */

static int make_tasks(struct synth_job *job, struct err *e)
{
    const struct plan *p = job->plan;
    for (int pass = 0; pass < 2; pass++) {
        int64_t n = 0;
        for (int i = 0; i < p->n_item; i++) {
            const struct weight_source *src = &p->item[i].src;
            int64_t step = TASK_WEIGHTS / src->cols > 0 ? TASK_WEIGHTS / src->cols : 1;
            step = job->pool_of[i] < 0 ? src->rows : step;
            for (int64_t r = 0; r < src->rows; r += step, n++)
                if (pass)
                    job->task[n] = (struct synth_task){ i, r, step < src->rows - r ? step : src->rows - r };
        }
        job->n_task = n;
        if (!pass && !(job->task = calloc((size_t)n, sizeof *job->task)))
            return err_set(e, ERR_MEMORY, "no memory for %lld filling tasks", (long long)n);
    }
    return 0;
}

static void fill_block(void *arg, struct threads *t, int thread)
{
    struct synth_job *job = arg;
    (void)thread;
    for (int64_t i; (i = threads_next(t)) < job->n_task;) {
        const struct synth_task *task = &job->task[i];
        const struct plan_item *it = &job->plan->item[task->item];
        if (job->pool_of[task->item] < 0) {
            fill_vector(job, task->item);
            continue;
        }
        const struct pool *p = &job->pool[job->pool_of[task->item]];
        if (p->absmax && task->row == 0)
            copy_plane_header(p, job->base + it->scale_at, it->src.rows * it->src.cols / p->block);
        for (int64_t r = task->row; r < task->row + task->n_rows; r++)
            fill_row(job, task->item, r);
    }
}

static int fill(struct synth_job *job, struct threads *t, struct err *e)
{
    job->pool_of = calloc((size_t)job->plan->n_item + 1, sizeof *job->pool_of);
    job->rows = calloc((size_t)threads_count(t) * POOL_COLS, sizeof *job->rows);
    int rc = job->pool_of && job->rows ? 0 : err_set(e, ERR_MEMORY, "no memory for a pool of random weights");
    if (!rc)
        rc = choose_pools(job, e);
    if (!rc)
        rc = make_tasks(job, e);
    if (!rc) {
        threads_run(t, fill_pools, job);
        for (int i = 0; i < job->n_pool; i++) {
            struct qmat_encoder enc = encoder_of(&job->pool[i]);
            qmat_encode_finish(&enc);
        }
        threads_run(t, fill_block, job);
    }
    close_pools(job);
    free(job->pool_of);
    free(job->rows);
    free(job->task);
    return rc;
}

int synth_weights(struct weights **out, const struct plan *p, struct device *d,
                  const struct synth_options *opt, struct err *e)
{
    double begin = clock_seconds();
    struct weights *w;
    if (p->experts_on_disk)
        return err_set(e, ERR_USAGE, "synthetic weights need all experts in RAM");
    int rc = weights_reserve(&w, p, d, e);
    if (rc)
        return rc;
    if (w->block.home == MEM_VRAM) {
        weights_close(&w);
        return err_set(e, ERR_DEVICE, "synthetic weights need memory that the host can write");
    }
    struct synth_job *job = calloc(1, sizeof *job);
    rc = job ? 0 : err_set(e, ERR_MEMORY, "no memory for synthetic weights");
    if (job) {
        job->plan = p;
        job->base = w->block.ptr;
        job->seed = mix64(opt->seed);
        rc = fill(job, opt->threads, e);
    }
    free(job);
    if (rc) {
        weights_close(&w);
        return rc;
    }
    w->loaded = (struct load_facts){ .seconds = clock_seconds() - begin, .peak_rss = mem_peak_rss() };
    *out = w;
    return 0;
}

/* Of 32 tokens, one begins somewhere new and eight return to where one of the last 64 was. */
enum { WALK_KINDS = 32, WALK_JUMPS = 1, WALK_RETURNS = 9, WALK_BACK = 64, WALK_STEP = 5 };

void synth_walk(int32_t *token, int n, int n_vocab, uint64_t seed)
{
    uint64_t stream = mix64(seed);
    for (int i = 0; i < n; i++) {
        uint64_t r = mix64(stream ^ mix64((uint64_t)i)), kind = r % WALK_KINDS, more = r >> 8;
        int64_t at = i ? token[i - 1] : 0;
        if (i == 0 || kind < WALK_JUMPS)
            at = (int64_t)(more % (uint64_t)n_vocab);
        else if (kind < WALK_RETURNS && i > 1)
            at = token[i - 1 - (int64_t)(more % (uint64_t)(i < WALK_BACK ? i : WALK_BACK))];
        int64_t step = (int64_t)(more >> 20) % (2 * WALK_STEP + 1) - WALK_STEP;
        token[i] = (int32_t)((at + step + n_vocab) % n_vocab);
    }
}
