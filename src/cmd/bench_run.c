/*
 * bench_run.c: the measurements. Rounds go over all settings, every other round backwards, so that what
 * drifts (clocks, other programs) meets all of them; the first round is dropped. With several thread counts
 * the engine is opened anew for each, and one pass warms it.
 *
 * Generated tokens are the text's own: the model's choices would run in circles and flatter every cache.
 * Sampling is not measured.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "cmd/bench.h"
#include "cmd/terminal.h"

/* What is open for one number of threads. */
struct rig {
    struct threads *threads; /* own; NULL: the bench's */
    struct device *device;
    struct engine *engine;
    struct session *session;
};

struct kept { /* a session at a depth */
    void *data;
    size_t n;
};

struct runner {
    struct bench *b;
    struct rig rig;
    struct kept kept[BENCH_MAX_LIST]; /* by index in b->depths */
    int32_t *token;                   /* [longest] */
    int longest, max_batch;
};

/* ---- the list of rows ---- */

static void add_row(struct bench *b, bool prompt, int n, int depth, int threads, int batch)
{
    b->row[b->n_row++] =
        (struct bench_row){ .prompt = prompt, .n = n, .depth = depth, .threads = threads, .batch = batch };
}

/* Batches matter to prompts only. Adjacent rows share a number of threads. */
int bench_list_rows(struct bench *b, struct err *e)
{
    int depths = b->generate ? b->depths.n : 0;
    int n = b->threads.n * (b->batches.n * b->prompts.n + depths);
    if (n == 0 || n > BENCH_MAX_ROWS) {
        err_set(e, ERR_USAGE, "%d settings to measure; 1 to %d are possible", n, BENCH_MAX_ROWS);
        err_hint(e, "-p and -n say what is evaluated: -p 512 -n 64");
        return ERR_USAGE;
    }
    b->row = calloc((size_t)n, sizeof *b->row);
    if (!b->row)
        return err_set(e, ERR_MEMORY, "no memory for %d measurements", n);
    for (int t = 0; t < b->threads.n; t++) {
        for (int i = 0; i < b->batches.n; i++)
            for (int p = 0; p < b->prompts.n; p++)
                add_row(b, true, b->prompts.v[p], 0, b->threads.v[t], b->batches.v[i]);
        for (int d = 0; d < depths; d++)
            add_row(b, false, b->generate, b->depths.v[d], b->threads.v[t], b->batches.v[b->batches.n - 1]);
    }
    return 0;
}

/* ---- engines ---- */

static void close_rig(const struct bench *b, struct rig *r)
{
    session_close(&r->session);
    engine_close(&r->engine);
    if (r->device && r->device != b->device)
        r->device->ops->close(r->device);
    threads_close(&r->threads);
    *r = (struct rig){ 0 };
}

static int open_device(const struct bench *b, struct rig *r, int threads, struct err *e)
{
    r->device = b->device;
    if (threads == threads_count(b->pool))
        return 0;
    r->device = NULL;
    int rc = threads_open(&r->threads, threads, e);
    struct device_cpu_options cpu = { .act = b->act, .isa = b->isa, .threads = r->threads };
    return rc ? rc : device_cpu_open(&r->device, &cpu, e);
}

static int open_rig(struct runner *r, int threads, struct err *e)
{
    const struct plan_options *o = &r->b->plan->opt;
    struct engine_options engine = { .max_batch = r->max_batch, .max_ctx = o->ctx };
    struct session_options session = { .ctx = o->ctx, .kv_type = o->kv_type };
    int rc = open_device(r->b, &r->rig, threads, e);
    if (!rc)
        rc = engine_open(&r->rig.engine, r->b->weights, r->rig.device, &engine, e);
    return rc ? rc : session_open(&r->rig.session, r->rig.engine, &session, e);
}

/* ---- one measurement ---- */

/* Logits come with the last token, and with each that is evaluated alone. */
static int append(struct runner *r, int n, int batch, struct err *e)
{
    for (int done = 0; done < n;) {
        int now = n - done < batch ? n - done : batch;
        struct step step = { r->rig.session, r->token + done, now, batch == 1 || done + now == n };
        int rc = engine_step(r->rig.engine, &step, 1, e);
        if (rc)
            return rc;
        done += now;
        if (terminal_interrupted())
            return err_set(e, ERR_CANCELED, "stopped");
    }
    return 0;
}

static int measure_prompt(struct runner *r, const struct bench_row *row, double *speed, struct err *e)
{
    bench_tokens_take(&r->b->tokens, r->token, row->n);
    session_reset(r->rig.session);
    double begin = clock_seconds();
    int rc = append(r, row->n, row->batch, e);
    *speed = row->n / (clock_seconds() - begin);
    return rc;
}

/* The session at a depth: evaluated once, then kept. */
static int go_to(struct runner *r, int depth, struct err *e)
{
    int i = 0;
    while (r->b->depths.v[i] != depth)
        i++;
    struct kept *k = &r->kept[i];
    session_reset(r->rig.session);
    if (depth == 0)
        return 0;
    if (k->data)
        return session_restore(r->rig.session, k->data, k->n, e);
    bench_tokens_take(&r->b->tokens, r->token, depth);
    int rc = append(r, depth, r->max_batch, e);
    if (rc)
        return rc;
    k->n = session_snapshot_bytes(r->rig.session);
    if (!(k->data = malloc(k->n)))
        return err_set(e, ERR_MEMORY, "no memory to keep the state at depth %d", depth);
    r->b->snapshot_bytes += k->n;
    return session_snapshot(r->rig.session, k->data, k->n, e);
}

static int measure_generation(struct runner *r, const struct bench_row *row, double *speed, struct err *e)
{
    int rc = go_to(r, row->depth, e);
    if (rc)
        return rc;
    bench_tokens_take(&r->b->tokens, r->token, row->n);
    r->b->routing.count = true;
    double begin = clock_seconds();
    rc = append(r, row->n, 1, e);
    *speed = row->n / (clock_seconds() - begin);
    r->b->routing.count = false;
    return rc;
}

static void tell(const struct bench *b, const struct bench_row *row, int round)
{
    if (!terminal_is(stderr))
        return;
    fprintf(stderr, "\r%s %d of %d: ", round ? "run" : "warming up, run", round ? round : 1,
            round ? b->runs : 1);
    if (row->prompt)
        fprintf(stderr, "prompt of %d", row->n);
    else
        fprintf(stderr, "%d tokens at depth %d", row->n, row->depth);
    fprintf(stderr, ", %d threads, batch %d\033[K", row->threads, row->batch);
}

static int measure(struct runner *r, struct bench_row *row, int round, struct err *e)
{
    double speed = 0;
    tell(r->b, row, round);
    int rc = row->prompt ? measure_prompt(r, row, &speed, e) : measure_generation(r, row, &speed, e);
    if (!rc && round > 0)
        row->run[row->n_run++] = speed;
    return rc;
}

/* ---- rounds ---- */

/* Touches the work memory of a rig that was just opened. */
static int warm(struct runner *r, struct err *e)
{
    int n = r->max_batch < r->longest ? r->max_batch : r->longest;
    bench_tokens_take(&r->b->tokens, r->token, n);
    session_reset(r->rig.session);
    int rc = append(r, n, r->max_batch, e);
    session_reset(r->rig.session);
    return rc;
}

static int round_of(struct runner *r, int round, int first, int n, struct err *e)
{
    struct bench *b = r->b;
    bool watch = round == 0 && first == 0 && b->model->shape.n_expert > 0;
    int rc = 0;
    engine_observe(r->rig.engine, watch ? bench_routing_see : NULL, &b->routing);
    for (int i = 0; i < n && !rc; i++)
        rc = measure(r, &b->row[first + (round % 2 ? n - 1 - i : i)], round, e);
    engine_observe(r->rig.engine, NULL, NULL);
    return rc;
}

static int all_rounds(struct runner *r, struct err *e)
{
    struct bench *b = r->b;
    int groups = b->threads.n, n = b->n_row / groups, rc = 0;
    for (int round = 0; round <= b->runs && !rc; round++)
        for (int i = 0; i < groups && !rc; i++) {
            int group = round % 2 ? groups - 1 - i : i;
            bool open = !r->rig.session;
            if (open)
                rc = open_rig(r, b->threads.v[group], e);
            if (!rc && open && b->ready == 0)
                b->ready = clock_seconds() - b->begin;
            if (!rc && open && round > 0)
                rc = warm(r, e);
            if (!rc)
                rc = round_of(r, round, group * n, n, e);
            if (groups > 1)
                close_rig(b, &r->rig);
        }
    close_rig(b, &r->rig);
    return rc;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median_of(double *v, int n)
{
    qsort(v, (size_t)n, sizeof *v, ascending);
    return n % 2 ? v[n / 2] : 0.5 * (v[n / 2 - 1] + v[n / 2]);
}

static void summarise(struct bench_row *row)
{
    double v[BENCH_MAX_RUNS];
    memcpy(v, row->run, sizeof v);
    row->median = median_of(v, row->n_run);
    row->least = v[0];
    row->most = v[row->n_run - 1];
    for (int i = 0; i < row->n_run; i++)
        v[i] = fabs(row->run[i] - row->median);
    row->mad = median_of(v, row->n_run);
}

static int largest(const struct bench_list *l)
{
    int most = 0;
    for (int i = 0; i < l->n; i++)
        most = l->v[i] > most ? l->v[i] : most;
    return most;
}

int bench_run(struct bench *b, struct err *e)
{
    struct runner r = { .b = b, .max_batch = largest(&b->batches) };
    int depth = largest(&b->depths), prompt = largest(&b->prompts), n = depth > prompt ? depth : prompt;
    r.longest = n > b->generate ? n : b->generate;
    int rc = 0;
    if (b->model->shape.n_expert > 0)
        rc = bench_routing_open(&b->routing, &b->model->shape, e);
    if (!rc && !(r.token = malloc((size_t)r.longest * sizeof *r.token)))
        rc = err_set(e, ERR_MEMORY, "no memory for %d tokens", r.longest);
    if (!rc)
        rc = all_rounds(&r, e);
    if (terminal_is(stderr))
        fputs("\r\033[K", stderr);
    for (int i = 0; i < b->n_row && !rc; i++)
        summarise(&b->row[i]);
    b->peak_rss = mem_peak_rss();
    for (int i = 0; i < BENCH_MAX_LIST; i++)
        free(r.kept[i].data);
    free(r.token);
    return rc;
}

/* ---- figures that follow ---- */

/* A generated token reads every weight but the other rows of the embedding and the experts that it does not
 * choose. */
static double part_of(const struct plan *p, const struct plan_item *it)
{
    const struct shape *s = &p->model->shape;
    if (it->group == PLAN_MTP)
        return 0;
    if (it->role == ROLE_EMBED && !s->tied)
        return 1.0 / (double)s->n_vocab;
    return it->group == PLAN_EXPERTS ? (double)s->top_k / s->n_expert : 1;
}

double bench_token_bytes(const struct plan *p, enum plan_group g, enum tier t)
{
    double n = 0;
    for (int i = 0; i < p->n_item; i++)
        if (p->item[i].group == g && p->item[i].tier == t)
            n += part_of(p, &p->item[i]) * (double)(p->item[i].data_bytes + p->item[i].scale_bytes);
    return n;
}

double bench_all_bytes(const struct plan *p)
{
    double n = 0;
    for (int g = 0; g < PLAN_GROUPS; g++)
        for (int t = 0; t < TIER_COUNT; t++)
            n += bench_token_bytes(p, (enum plan_group)g, (enum tier)t);
    return n;
}

double bench_token_macs(const struct plan *p)
{
    double n = 0;
    for (int i = 0; i < p->n_item; i++) {
        const struct plan_item *it = &p->item[i];
        if (it->role != ROLE_EMBED && it->role != ROLE_HEAD && !plan_is_vector(it->role))
            n += part_of(p, it) * (double)it->src.rows * (double)it->src.cols;
    }
    return n;
}

double bench_share(const struct bench *b, const struct bench_row *r)
{
    int threads;
    double ram = 1e9 * machine_best_ram_gbs(&b->machine, &threads), int8 = 1e9 * b->machine.int8_gmacs;
    if (r->prompt)
        return int8 > 0 ? r->median * bench_token_macs(b->plan) / int8 : 0;
    return ram > 0 ? r->median * bench_all_bytes(b->plan) / ram : 0;
}
