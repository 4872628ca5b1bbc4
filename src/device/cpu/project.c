/* project.c: several matrices applied to the same rows as one job, and embedding rows. */
#include "device/cpu/matmul.h"

struct project_job {
    const struct cpu_device *c;
    const struct project_args *a;
    struct matmul_acts acts;
    struct matmul m[PROJECT_MAX];
    int64_t bytes; /* of all weights */
};

/* out[n] = y, + bias, + what was there */
static void finish(float *out, const float *y, const float *bias, bool add, int n)
{
    for (int i = 0; i < n; i++) {
        float v = bias ? y[i] + bias[i] : y[i];
        out[i] = add ? out[i] + v : v;
    }
}

/* Rows [row, row + n_rows) of one matrix times all columns. */
static void project_panel(const struct project_job *j, int i_out, int thread, int64_t row, int n_rows)
{
    const struct linear *o = &j->a->out[i_out];
    const struct matmul *m = &j->m[i_out];
    struct qmat panel = matmul_panel(j->c, m, thread, 0, row, n_rows);
    for (int first = 0; first < j->a->n_rows; first += DOT_MAX_COLS) {
        int n = j->a->n_rows - first < DOT_MAX_COLS ? j->a->n_rows - first : DOT_MAX_COLS;
        const void *x[DOT_MAX_COLS];
        float y[DOT_MAX_COLS][PANEL_ROWS];
        for (int i = 0; i < n; i++)
            x[i] = matmul_acts_row(&j->acts, m->form, first + i);
        m->run(&panel, 0, n_rows, x, n, y[0], PANEL_ROWS);
        for (int i = 0; i < n; i++)
            finish(o->y + (size_t)(first + i) * o->y_stride + row, y[i], o->bias ? o->bias + row : NULL,
                   j->a->add, n_rows);
    }
}

static void project_rows(const struct project_job *j, int i_out, int thread, struct range r)
{
    for (int64_t row = r.begin; row < r.end; row += PANEL_ROWS)
        project_panel(j, i_out, thread, row, (int)(r.end - row < PANEL_ROWS ? r.end - row : PANEL_ROWS));
}

/* Few columns: the weights' bytes are the work, one contiguous share for each thread. */
static void project_few(void *arg, struct threads *t, int thread)
{
    const struct project_job *j = arg;
    struct byte_share share = byte_share_of(t, thread, j->bytes);
    for (int i = 0; i < j->a->n_out; i++) {
        const struct qmat *w = &j->a->out[i].w;
        struct range r =
            byte_share_rows(&share, w->rows, (int64_t)qtype_row_bytes(w->type, w->cols), SHARE_ROWS);
        project_rows(j, i, thread, r);
    }
}

/* Many columns: threads take the next panel of any matrix. */
static void project_many(void *arg, struct threads *t, int thread)
{
    const struct project_job *j = arg;
    struct range mine = threads_share(t, thread, j->a->n_rows, 1);
    matmul_acts_fill(j->c, &j->acts, mine.begin, mine.end);
    threads_barrier(t);
    int64_t panel = threads_next(t), first = 0; /* first: the panels before matrix i */
    for (int i = 0; i < j->a->n_out; i++) {
        int64_t rows = j->a->out[i].w.rows, n = (rows + PANEL_ROWS - 1) / PANEL_ROWS;
        for (; panel < first + n; panel = threads_next(t)) {
            int64_t begin = (panel - first) * PANEL_ROWS, end = begin + PANEL_ROWS;
            project_rows(j, i, thread, (struct range){ begin, end < rows ? end : rows });
        }
        first += n;
    }
}

int cpu_project(struct device *d, const struct project_args *a, struct err *e)
{
    (void)e;
    const struct cpu_device *c = (const struct cpu_device *)d;
    if (a->n_rows == 0 || a->n_out == 0)
        return 0;
    struct project_job j = { .c = c, .a = a, .acts = matmul_acts_of(c, a->x, a->x_stride, a->out[0].w.cols) };
    for (int i = 0; i < a->n_out; i++) {
        const struct qmat *w = &a->out[i].w;
        j.m[i] = matmul_plan(c, w);
        j.bytes += w->rows * (int64_t)qtype_row_bytes(w->type, w->cols);
        matmul_acts_need(&j.acts, &j.m[i]);
    }
    if (matmul_is_few(a->n_rows)) {
        matmul_acts_fill(c, &j.acts, 0, a->n_rows);
        threads_run(c->threads, project_few, &j);
    } else {
        threads_run(c->threads, project_many, &j);
    }
    return 0;
}

static void embed_rows(const struct embed_args *a, int64_t begin, int64_t end)
{
    for (int64_t r = begin; r < end; r++)
        qmat_decode(&a->table, a->ids[r], 1, a->y + r * a->table.cols);
}

static void embed_share(void *arg, struct threads *t, int thread)
{
    const struct embed_args *a = arg;
    struct range mine = threads_share(t, thread, a->n_rows, 1);
    embed_rows(a, mine.begin, mine.end);
}

int cpu_embed(struct device *d, const struct embed_args *a, struct err *e)
{
    (void)e;
    const struct cpu_device *c = (const struct cpu_device *)d;
    struct embed_args args = *a; /* a job's argument is not const */
    if (matmul_is_few(a->n_rows))
        embed_rows(&args, 0, a->n_rows);
    else
        threads_run(c->threads, embed_share, &args);
    return 0;
}
