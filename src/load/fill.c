/*
 * fill.c: see fill.h. A task is a panel of rows of one weight. A weight's source (its scales) is opened with
 * the first of its panels and its scale plane completed with the last; tasks are taken in order, so few
 * weights are open at a time. Rows are decoded in strips that stay in the core's cache.
 */
#include "load/fill.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/mem.h"
#include "load/convert.h"
#include "load/pipeline.h"

struct task { /* rows [row, row + n_rows) of an item */
    int item;
    int64_t row, n_rows;
};

struct open_item { /* while some of its panels are done and others are not */
    struct convert_source *source;
    float *absmax;        /* of a double-quantized target */
    char *span;           /* of a weight that goes to the packed file only */
    _Atomic int64_t left; /* panels */
};

struct fill {
    struct fill_job *job;
    const struct plan *p;
    struct task *task;
    int64_t n_task;
    size_t most_bytes;       /* that a task needs */
    struct open_item *item;  /* [p->n_item] */
    pthread_mutex_t opening; /* of items; and of job->writer_failed */
    _Atomic bool writer_off;
    struct mem strips;
    size_t strip_bytes; /* of each thread */
};

/* ---- tasks ---- */

static bool is_copy(const struct plan_item *it)
{
    return plan_is_copy(&it->src, it->target);
}

/* Experts that stay on disk are only made for a packed file. */
static bool is_wanted(const struct fill *f, const struct plan_item *it)
{
    return it->tier == TIER_RAM || (it->tier == TIER_DISK && f->job->writer);
}

static int64_t strip_rows(const struct plan_item *it)
{
    int64_t rows = PLAN_STRIP_FLOATS / it->src.cols;
    return rows < 1 ? 1 : rows;
}

static void size_buffers(struct fill *f, const struct plan_item *it)
{
    int64_t rows = plan_panel_rows(it->src.rows, it->src.cols), strip = strip_rows(it);
    size_t stored = convert_scratch_bytes(&it->src, rows),
           floats = (size_t)(strip * it->src.cols) * sizeof(float);
    f->most_bytes = stored > f->most_bytes ? stored : f->most_bytes;
    if (!is_copy(it) && floats > f->strip_bytes)
        f->strip_bytes = floats;
}

static int make_tasks(struct fill *f, struct err *e)
{
    const struct plan *p = f->p;
    for (int pass = 0; pass < 2; pass++) {
        f->n_task = 0;
        for (int i = 0; i < p->n_item; i++) {
            const struct plan_item *it = &p->item[i];
            int64_t all = it->src.rows, rows = plan_panel_rows(all, it->src.cols);
            if (!is_wanted(f, it))
                continue;
            if (pass == 0)
                size_buffers(f, it);
            else
                f->item[i].left = (all + rows - 1) / rows;
            for (int64_t r = 0; r < all; r += rows, f->n_task++)
                if (pass)
                    f->task[f->n_task] = (struct task){ i, r, rows < all - r ? rows : all - r };
        }
        if (pass == 0) {
            f->task = calloc((size_t)f->n_task + 1, sizeof *f->task);
            f->item = calloc((size_t)p->n_item + 1, sizeof *f->item);
            if (!f->task || !f->item)
                return err_set(e, ERR_MEMORY, "no memory for %lld loading tasks", (long long)f->n_task);
        }
    }
    return 0;
}

static struct pipeline_need need_of_task(void *user, int64_t i)
{
    const struct fill *f = user;
    const struct task *t = &f->task[i];
    const struct weight_source *src = &f->p->item[t->item].src;
    size_t row_bytes = convert_scratch_bytes(src, 1);
    return (struct pipeline_need){ src->tensor->file,
                                   src->tensor->offset + src->offset + (uint64_t)t->row * row_bytes,
                                   (size_t)t->n_rows * row_bytes, src->tensor->name };
}

/* ---- one item ---- */

/* Of the codes, and of everything that follows them up to the scale plane's end; in the block or in memory of
 * its own. */
static char *span_of(const struct fill *f, int i)
{
    return f->p->item[i].tier == TIER_RAM ? f->job->base + f->p->item[i].data_at : f->item[i].span;
}

static char *plane_of(const struct fill *f, int i)
{
    const struct plan_item *it = &f->p->item[i];
    return span_of(f, i) + (it->scale_at - it->data_at);
}

static int open_item(struct fill *f, int i, struct err *e)
{
    const struct plan_item *it = &f->p->item[i];
    struct open_item *o = &f->item[i];
    size_t span = (size_t)(it->scale_at - it->data_at) + it->scale_bytes;
    pthread_mutex_lock(&f->opening);
    int rc = o->source ? 0 : convert_open(&o->source, f->p->model, &it->src, e);
    if (!rc && qtype_needs_absmax(it->target) && !is_copy(it) && !o->absmax &&
        !(o->absmax = malloc((size_t)(it->src.rows * it->src.cols / 64) * sizeof *o->absmax)))
        rc = err_set(e, ERR_MEMORY, "no memory for the scales of tensor %s", it->src.tensor->name);
    if (!rc && it->tier != TIER_RAM && !o->span && !(o->span = calloc(1, span)))
        rc = err_set(e, ERR_MEMORY, "no memory for an expert of %zu bytes", span);
    pthread_mutex_unlock(&f->opening);
    return rc;
}

static void close_item(struct open_item *o)
{
    convert_close(&o->source);
    free(o->absmax);
    free(o->span);
    o->absmax = NULL;
    o->span = NULL;
}

static struct qmat_encoder encoder_of(const struct fill *f, int i)
{
    const struct plan_item *it = &f->p->item[i];
    return (struct qmat_encoder){ it->target,    it->src.rows,   it->src.cols,
                                  span_of(f, i), plane_of(f, i), f->item[i].absmax };
}

/* A weight that nothing but the packed file needs must get there; otherwise the file is given up, and loading
 * goes on. */
static int put(struct fill *f, int i, struct err *e)
{
    struct err why = { 0 };
    if (!f->job->writer || atomic_load(&f->writer_off))
        return 0;
    int rc = packed_put(f->job->writer, i, span_of(f, i), &why);
    if (!rc)
        return 0;
    if (f->p->experts_on_disk) {
        *e = why;
        return rc;
    }
    pthread_mutex_lock(&f->opening);
    if (!atomic_exchange(&f->writer_off, true))
        f->job->writer_failed = why;
    pthread_mutex_unlock(&f->opening);
    return 0;
}

static int finish_item(struct fill *f, int i, struct err *e)
{
    const struct plan_item *it = &f->p->item[i];
    struct open_item *o = &f->item[i];
    struct qmat_encoder enc = encoder_of(f, i);
    if (is_copy(it))
        convert_copy_plane(o->source, plane_of(f, i));
    else if (qtype_needs_absmax(it->target))
        qmat_encode_finish(&enc);
    int rc = put(f, i, e);
    close_item(o);
    return rc;
}

/* ---- one task ---- */

static int convert_panel(const struct fill *f, const struct task *t, const char *stored, float *strip,
                         struct err *e)
{
    const struct plan_item *it = &f->p->item[t->item];
    const struct convert_source *c = f->item[t->item].source;
    size_t row_bytes = convert_scratch_bytes(&it->src, 1);
    int64_t step = strip_rows(it);
    struct qmat_encoder enc = encoder_of(f, t->item);
    for (int64_t r = 0; r < t->n_rows; r += step) {
        int64_t n = t->n_rows - r < step ? t->n_rows - r : step;
        int rc = convert_stored_rows(c, t->row + r, n, stored + (size_t)r * row_bytes, strip, e);
        if (rc)
            return rc;
        qmat_encode(&enc, t->row + r, n, strip);
    }
    return 0;
}

static int work_on(struct fill *f, const struct task *t, int thread, const void *stored, struct err *e)
{
    const struct plan_item *it = &f->p->item[t->item];
    struct open_item *o = &f->item[t->item];
    int rc = open_item(f, t->item, e);
    if (rc)
        return rc;
    if (is_copy(it))
        rc = convert_copy_stored(
            o->source, t->n_rows, stored,
            span_of(f, t->item) + (size_t)t->row * qtype_row_bytes(it->target, it->src.cols), e);
    else
        rc = convert_panel(f, t, stored, (float *)((char *)f->strips.ptr + (size_t)thread * f->strip_bytes),
                           e);
    if (rc || atomic_fetch_sub(&o->left, 1) > 1)
        return rc;
    return finish_item(f, t->item, e);
}

static int run_task(void *user, int64_t i, int thread, const void *stored, struct err *e)
{
    struct fill *f = user;
    int rc = work_on(f, &f->task[i], thread, stored, e);
    if (rc == ERR_FORMAT)
        err_where(e, "%s", f->p->model->path);
    return rc;
}

/* ---- from the model's files ---- */

static void fill_free(struct fill *f)
{
    for (int i = 0; f->item && i < f->p->n_item; i++)
        close_item(&f->item[i]);
    mem_free(&f->strips);
    free(f->item);
    free(f->task);
    pthread_mutex_destroy(&f->opening);
}

int fill_from_model(struct fill_job *job, struct err *e)
{
    struct fill f = { .job = job, .p = job->plan, .opening = PTHREAD_MUTEX_INITIALIZER };
    const struct tensor_dir *dir = job->plan->model->dir;
    int rc = make_tasks(&f, e);
    f.strip_bytes = align_up(f.strip_bytes, PLAN_ALIGN);
    if (!rc)
        rc =
            mem_ram(&f.strips, (size_t)threads_count(job->threads) * f.strip_bytes, "the loading buffers", e);
    struct pipeline_job run = { .file = dir->file,
                                .n_file = dir->n_file,
                                .n_task = f.n_task,
                                .most_bytes = f.most_bytes,
                                .need = need_of_task,
                                .work = run_task,
                                .user = &f,
                                .threads = job->threads,
                                .doing = "loading",
                                .progress = job->progress,
                                .progress_user = job->progress_user };
    if (!rc)
        rc = pipeline_run(&run, e);
    for (int64_t i = 0; !rc && i < f.n_task; i++)
        job->read_bytes += need_of_task(&f, i).n;
    fill_free(&f);
    return rc;
}

/* ---- from a packed file ---- */

struct unpack_task {
    int item, piece;
};

struct unpack {
    const struct fill_job *job;
    const struct packed *pack;
    struct unpack_task *task;
    int64_t n_task;
};

static int make_unpack_tasks(struct unpack *u, struct err *e)
{
    const struct plan *p = u->job->plan;
    for (int pass = 0; pass < 2; pass++) {
        u->n_task = 0;
        for (int i = 0; i < p->n_item; i++) {
            int n = p->item[i].tier == TIER_RAM ? packed_pieces(u->pack, i) : 0;
            for (int k = 0; k < n; k++, u->n_task++)
                if (pass)
                    u->task[u->n_task] = (struct unpack_task){ i, k };
        }
        if (pass == 0 && !(u->task = calloc((size_t)u->n_task + 1, sizeof *u->task)))
            return err_set(e, ERR_MEMORY, "no memory for %lld loading tasks", (long long)u->n_task);
    }
    return 0;
}

static struct pipeline_need need_of_piece(void *user, int64_t i)
{
    const struct unpack *u = user;
    const struct unpack_task *t = &u->task[i];
    struct pipeline_need need = { .name = u->job->plan->item[t->item].src.tensor->name };
    packed_piece_at(u->pack, t->item, t->piece, &need.offset, &need.n);
    return need;
}

static int unpack_piece(void *user, int64_t i, int thread, const void *bytes, struct err *e)
{
    struct unpack *u = user;
    const struct unpack_task *t = &u->task[i];
    struct pipeline_need need = need_of_piece(u, i);
    (void)thread;
    if (!packed_piece_is(u->pack, t->item, t->piece, bytes))
        return err_set(e, ERR_FORMAT, "a checksum is wrong");
    memcpy(u->job->base + u->job->plan->item[t->item].data_at + (size_t)t->piece * PACKED_PIECE, bytes,
           need.n);
    return 0;
}

int fill_from_pack(struct fill_job *job, const struct packed *pack, struct err *e)
{
    struct unpack u = { .job = job, .pack = pack };
    struct tensor_file file = packed_file(pack);
    int rc = make_unpack_tasks(&u, e);
    size_t most = 0;
    for (int64_t i = 0; !rc && i < u.n_task; i++) {
        size_t n = need_of_piece(&u, i).n;
        most = n > most ? n : most;
    }
    struct pipeline_job run = { .file = &file,
                                .n_file = 1,
                                .n_task = u.n_task,
                                .most_bytes = most,
                                .need = need_of_piece,
                                .work = unpack_piece,
                                .user = &u,
                                .threads = job->threads,
                                .doing = "loading",
                                .progress = job->progress,
                                .progress_user = job->progress_user };
    if (!rc)
        rc = pipeline_run(&run, e);
    for (int64_t i = 0; !rc && i < u.n_task; i++)
        job->read_bytes += need_of_piece(&u, i).n;
    free(u.task);
    return rc;
}
