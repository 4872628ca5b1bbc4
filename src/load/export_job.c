/*
 * export_job.c: see export_job.h.
 *
 * A task is a run of rows of one matrix: read, decode, reorder, encode, write. Matrices whose scales depend
 * on all rows (double quantization) are one task. Every thread has its own buffers, so nothing grows with the
 * model. Threads: writers' put functions are thread-safe; thread 0 also reports progress between panels.
 */
#include "load/export_job.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "load/convert.h"
#include "load/direct.h"
#include "plan/plan.h"

enum {
    PANEL_FLOATS = 1 << 18, /* converted at a time: 1 MiB as f32 */
    TASK_FLOATS = 1 << 23,  /* handed to a thread at a time */
    BNB_BLOCK = 64,
    NESTED_BLOCK = 256,
    NESTED_MAP = 256
};

struct task {
    int64_t item, row, n_rows;
};

struct work {
    struct export_job *job;
    const struct export_options *opt;
    struct task *task;
    int64_t n_task;
    struct direct_file *file;                                                   /* of the model */
    size_t panel_floats, scratch_bytes, code_bytes, absmax_floats, plane_bytes; /* of each thread */
    uint64_t total_bytes;
    _Atomic uint64_t done_bytes;
    atomic_int stop;
    pthread_mutex_t lock; /* guards first */
    struct err first;
    double reported; /* thread 0's */
};

struct buffers {
    float *panel, *moved; /* [panel_floats]: as converted, as reordered */
    float *absmax;        /* 4-bit: of the matrix; else unused */
    void *scratch, *codes, *plane;
};

struct export_item export_item_new(const struct weight_source *src, enum qtype target, int tensor,
                                   uint64_t offset)
{
    struct export_item item = { .src = *src, .target = target, .data = { tensor, offset } };
    item.absmax.tensor = item.nested_absmax.tensor = item.nested_map.tensor = -1;
    item.nested_offset.tensor = item.offset_text.tensor = -1;
    return item;
}

int export_job_add(struct export_job *job, const struct export_item *item, struct err *e)
{
    if (job->n_item == job->item_room) {
        int64_t room = job->item_room ? 2 * job->item_room : 256;
        struct export_item *more = realloc(job->item, (size_t)room * sizeof *more);
        if (!more)
            return err_set(e, ERR_MEMORY, "no memory for the list of weights");
        job->item = more;
        job->item_room = room;
    }
    job->item[job->n_item++] = *item;
    return 0;
}

void export_job_free(struct export_job *job)
{
    free(job->item);
    job->item = NULL;
    job->n_item = job->item_room = 0;
}

/* ---- heads ---- */

struct head_order export_head_order(const struct model *m, enum role role, bool to_tiled)
{
    const struct shape *s = &m->shape;
    struct head_order o = {
        .kind = HEADS_STAY, .unit = s->d_v, .n_k = s->n_k_head, .n_v = s->n_v_head, .to_tiled = to_tiled
    };
    if (s->v_head_tiled == to_tiled || s->n_k_head == s->n_v_head)
        return o;
    switch (role) {
    case ROLE_DN_QKV:
    case ROLE_DN_CONV:
        o.first = 2 * shape_key_dim(s);
        o.kind = HEADS_ARE_ROWS;
        break;
    case ROLE_DN_Z:
        o.kind = HEADS_ARE_ROWS;
        break;
    case ROLE_DN_A:
    case ROLE_DN_B:
        o.unit = 1;
        o.kind = HEADS_ARE_ROWS;
        break;
    case ROLE_DN_A_LOG:
    case ROLE_DN_DT_BIAS:
        o.unit = 1;
        o.kind = HEADS_ARE_COLS;
        break;
    case ROLE_DN_OUT:
        o.kind = HEADS_ARE_COLS;
        break;
    default:
        break;
    }
    return o;
}

/* Where in the source the output's row or column `at` comes from. */
static int64_t source_of(const struct head_order *o, int64_t at)
{
    if (at < o->first)
        return at;
    int64_t head = (at - o->first) / o->unit, inside = (at - o->first) % o->unit, r = o->n_v / o->n_k;
    int64_t from = o->to_tiled ? head % o->n_k * r + head / o->n_k : head % r * o->n_k + head / r;
    return o->first + from * o->unit + inside;
}

/* ---- one panel ---- */

static void undo_transform(enum undo undo, float *x, int64_t n)
{
    if (undo == UNDO_ADD_ONE)
        for (int64_t i = 0; i < n; i++)
            x[i] -= 1.0f;
    else if (undo == UNDO_NEG_EXP)
        for (int64_t i = 0; i < n; i++)
            x[i] = logf(-x[i]);
}

/* Fills b->panel with the output's rows [row, row + n) as f32. */
static int read_rows(const struct export_item *it, const struct convert_source *c, int64_t row, int64_t n,
                     const struct buffers *b, struct err *e)
{
    int64_t cols = it->src.cols;
    int rc = 0;
    if (it->order.kind == HEADS_ARE_ROWS) {
        for (int64_t r = 0, run; r < n && !rc; r += run) { /* rows that are neighbours in both orders */
            int64_t from = source_of(&it->order, row + r);
            for (run = 1; r + run < n && source_of(&it->order, row + r + run) == from + run;)
                run++;
            rc = convert_rows(c, from, run, b->panel + r * cols, b->scratch, e);
        }
    } else if (it->order.kind == HEADS_ARE_COLS) {
        rc = convert_rows(c, row, n, b->moved, b->scratch, e);
        for (int64_t col = 0; col < cols && !rc; col += it->order.unit) {
            int64_t from = source_of(&it->order, col);
            for (int64_t r = 0; r < n; r++)
                memcpy(b->panel + r * cols + col, b->moved + r * cols + from,
                       (size_t)it->order.unit * sizeof *b->panel);
        }
    } else {
        rc = convert_rows(c, row, n, b->panel, b->scratch, e);
    }
    if (!rc)
        undo_transform(it->undo, b->panel, n * cols);
    return rc;
}

static int put(const struct export_job *job, struct export_place at, uint64_t offset, const void *data,
               size_t n, struct err *e)
{
    return job->put(job->writer, at.tensor, at.offset + offset, data, n, e);
}

/* What the panels are encoded as: absmax is double-quantized when the matrix is complete. */
static enum qtype panel_type(enum qtype target)
{
    return target == QTYPE_NF4_DQ ? QTYPE_NF4 : target == QTYPE_FP4_DQ ? QTYPE_FP4 : target;
}

static bool has_absmax(enum qtype t)
{
    return panel_type(t) == QTYPE_NF4 || panel_type(t) == QTYPE_FP4;
}

static bool is_copy(const struct export_item *it)
{
    return plan_is_copy(&it->src, it->target) && it->order.kind == HEADS_STAY && it->undo == UNDO_NONE;
}

static int convert_panel(const struct export_job *job, const struct export_item *it,
                         const struct convert_source *c, int64_t row, int64_t n, const struct buffers *b,
                         struct err *e)
{
    size_t row_bytes = qtype_row_bytes(it->target, it->src.cols);
    float *absmax = b->absmax + (has_absmax(it->target) ? row * (it->src.cols / BNB_BLOCK) : 0);
    int rc;
    if (is_copy(it)) {
        rc = convert_copy_rows(c, row, n, b->codes, b->scratch, e);
    } else {
        rc = read_rows(it, c, row, n, b, e);
        struct qmat_encoder enc = { panel_type(it->target), n, it->src.cols, b->codes, absmax, NULL };
        if (!rc)
            qmat_encode(&enc, 0, n, b->panel);
    }
    return rc ? rc : put(job, it->data, (uint64_t)row * row_bytes, b->codes, (size_t)n * row_bytes, e);
}

/* ---- scales of 4-bit matrices ---- */

static int put_offset(const struct export_job *job, const struct export_item *it, float offset, struct err *e)
{
    char text[EXPORT_NUMBER + 1];
    if (it->nested_offset.tensor >= 0)
        return put(job, it->nested_offset, 0, &offset, sizeof offset, e);
    snprintf(text, sizeof text, "%-*.9g", EXPORT_NUMBER,
             (double)offset); /* 9 digits give the same float back */
    return put(job, it->offset_text, 0, text, EXPORT_NUMBER, e);
}

/* plane: the double-quantized scale plane, laid out as qtype.h says. */
static int put_nested(const struct export_job *job, const struct export_item *it, const void *plane,
                      struct err *e)
{
    size_t n = (size_t)(it->src.rows * it->src.cols / BNB_BLOCK),
           groups = (n + NESTED_BLOCK - 1) / NESTED_BLOCK;
    const char *map = (const char *)plane + 2 * sizeof(float), *nested = map + NESTED_MAP * sizeof(float);
    float offset;
    memcpy(&offset, plane, sizeof offset);
    int rc = put_offset(job, it, offset, e);
    if (!rc && it->nested_map.tensor >= 0)
        rc = put(job, it->nested_map, 0, map, NESTED_MAP * sizeof(float), e);
    if (!rc)
        rc = put(job, it->nested_absmax, 0, nested, groups * sizeof(float), e);
    return rc ? rc : put(job, it->absmax, 0, nested + groups * sizeof(float), n, e);
}

/* Writes the scales of rows [row, row + n) once their codes are written. */
static int finish_task(const struct export_job *job, const struct export_item *it, const struct task *t,
                       const struct convert_source *c, const struct buffers *b, struct err *e)
{
    int64_t per_row = it->src.cols / BNB_BLOCK;
    if (!has_absmax(it->target))
        return 0;
    if (qtype_needs_absmax(it->target)) {
        struct qmat_encoder enc = { it->target, it->src.rows, it->src.cols, NULL, b->plane, b->absmax };
        if (is_copy(it))
            convert_copy_plane(c, b->plane);
        else
            qmat_encode_finish(&enc);
        return put_nested(job, it, b->plane, e);
    }
    if (is_copy(it))
        convert_copy_plane(c, b->absmax);
    return put(job, it->absmax, (uint64_t)(t->row * per_row) * sizeof(float), b->absmax + t->row * per_row,
               (size_t)(t->n_rows * per_row) * sizeof(float), e);
}

/* ---- all tasks, all threads ---- */

static void fail(struct work *w, const struct err *e)
{
    pthread_mutex_lock(&w->lock);
    if (!w->first.code)
        w->first = *e;
    pthread_mutex_unlock(&w->lock);
    atomic_store(&w->stop, 1);
}

static int64_t panel_rows(const struct export_item *it)
{
    int64_t rows = PANEL_FLOATS / it->src.cols;
    return rows < 1 ? 1 : rows < it->src.rows ? rows : it->src.rows;
}

static int64_t task_rows(const struct export_item *it)
{
    int64_t rows = TASK_FLOATS / it->src.cols;
    if (qtype_needs_absmax(it->target) || (is_copy(it) && has_absmax(it->target)))
        return it->src.rows;
    return rows < 1 ? 1 : rows < it->src.rows ? rows : it->src.rows;
}

static int report(struct work *w, const struct export_item *it, struct err *e)
{
    double now = clock_seconds();
    if (!w->opt->progress || now - w->reported < 0.05)
        return 0;
    w->reported = now;
    struct progress p = { atomic_load(&w->done_bytes), w->total_bytes, "converting", it->src.tensor->name };
    return w->opt->progress(w->opt->progress_user, &p) ? err_set(e, ERR_CANCELED, "stopped on request") : 0;
}

static int run_task(struct work *w, const struct task *t, const struct buffers *b, int thread, struct err *e)
{
    const struct export_item *it = &w->job->item[t->item];
    struct convert_source *c;
    int rc = convert_open(&c, w->job->m, &it->src, e);
    if (rc)
        return rc;
    convert_read_direct(c, w->file);
    int64_t step = panel_rows(it), end = t->row + t->n_rows;
    for (int64_t row = t->row, n; row < end && !rc && !atomic_load(&w->stop); row += n) {
        n = step < end - row ? step : end - row;
        rc = convert_panel(w->job, it, c, row, n, b, e);
        atomic_fetch_add(&w->done_bytes, (uint64_t)(n * it->src.cols) * sizeof(float));
        if (!rc && thread == 0)
            rc = report(w, it, e);
    }
    if (!rc && !atomic_load(&w->stop))
        rc = finish_task(w->job, it, t, c, b, e);
    convert_close(&c);
    return rc;
}

static bool make_buffers(const struct work *w, struct buffers *b)
{
    b->panel = malloc(w->panel_floats * sizeof *b->panel);
    b->moved = malloc(w->panel_floats * sizeof *b->moved);
    b->absmax = malloc((w->absmax_floats + 1) * sizeof *b->absmax);
    b->scratch = aligned_alloc(DIRECT_PAGE, direct_room(w->scratch_bytes));
    b->codes = malloc(w->code_bytes + 1);
    b->plane = malloc(w->plane_bytes + 1);
    return b->panel && b->moved && b->absmax && b->scratch && b->codes && b->plane;
}

static void free_buffers(struct buffers *b)
{
    free(b->panel);
    free(b->moved);
    free(b->absmax);
    free(b->scratch);
    free(b->codes);
    free(b->plane);
}

static void run_thread(void *arg, struct threads *t, int thread)
{
    struct work *w = arg;
    struct buffers b = { 0 };
    struct err e = { 0 };
    if (!make_buffers(w, &b)) {
        err_set(&e, ERR_MEMORY, "no memory for the buffers of thread %d", thread);
        fail(w, &e);
    }
    for (int64_t i; !atomic_load(&w->stop) && (i = threads_next(t)) < w->n_task;)
        if (run_task(w, &w->task[i], &b, thread, &e))
            fail(w, &e);
    free_buffers(&b);
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* Sizes of the buffers, and the tasks. */
static int make_tasks(struct work *w, struct err *e)
{
    const struct export_job *job = w->job;
    for (int64_t i = 0; i < job->n_item; i++) {
        const struct export_item *it = &job->item[i];
        int64_t rows = panel_rows(it),
                blocks = has_absmax(it->target) ? it->src.rows * it->src.cols / BNB_BLOCK : 0;
        size_t data, plane = 0;
        if (qtype_needs_absmax(it->target) &&
            !qtype_sizes(it->target, it->src.rows, it->src.cols, &data, &plane))
            return err_set(e, ERR_FORMAT, "tensor %s does not fit the format %s", it->src.tensor->name,
                           qtype_info(it->target)->name);
        w->panel_floats = larger(w->panel_floats, (size_t)(rows * it->src.cols));
        w->scratch_bytes = larger(w->scratch_bytes, convert_scratch_bytes(&it->src, rows));
        w->code_bytes = larger(w->code_bytes, (size_t)rows * qtype_row_bytes(it->target, it->src.cols));
        w->absmax_floats = larger(w->absmax_floats, (size_t)blocks);
        w->plane_bytes = larger(w->plane_bytes, plane);
        w->total_bytes += (uint64_t)(it->src.rows * it->src.cols) * sizeof(float);
        w->n_task += (it->src.rows + task_rows(it) - 1) / task_rows(it);
    }
    w->task = malloc((size_t)(w->n_task + 1) * sizeof *w->task);
    if (!w->task)
        return err_set(e, ERR_MEMORY, "no memory for %lld tasks", (long long)w->n_task);
    for (int64_t i = 0, n = 0; i < job->n_item; i++) {
        int64_t rows = job->item[i].src.rows, step = task_rows(&job->item[i]);
        for (int64_t r = 0; r < rows; r += step)
            w->task[n++] = (struct task){ i, r, step < rows - r ? step : rows - r };
    }
    return 0;
}

int export_job_run(struct export_job *job, const struct export_options *opt, struct err *e)
{
    struct work w = { .job = job, .opt = opt, .lock = PTHREAD_MUTEX_INITIALIZER };
    const struct tensor_dir *dir = job->m->dir;
    int rc = make_tasks(&w, e);
    if (!rc)
        rc = direct_open_all(&w.file, dir->file, dir->n_file, e);
    if (!rc) {
        threads_run(opt->threads, run_thread, &w);
        if (!w.first.code && w.reported == 0 && job->n_item > 0) /* other threads did all the work */
            report(&w, &job->item[job->n_item - 1], &w.first);
        if (!w.first.code)
            direct_all_unchanged(w.file, dir->n_file, &w.first);
        rc = w.first.code;
        if (rc && e)
            *e = w.first;
    }
    direct_close_all(&w.file, dir->n_file);
    free(w.task);
    return rc;
}
