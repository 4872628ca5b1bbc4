/* check_project.c: project and embed of the cpu device against the reference: every format, several matrices
 * in one job, every instruction set and number of threads; a row's bits must not depend on the other rows or
 * the threads. */
#include <math.h>
#include <string.h>

#include "support/check.h"

enum { MAX_ROWS = 40, MAX_COLS = 1024, MAX_OUT = 300 };

static const struct device_limits limits = {
    .max_rows = MAX_ROWS, .max_ctx = 1, .d_model = 64, .max_cols = MAX_COLS, .max_rows_out = MAX_OUT
};

struct project_case {
    struct project_args a;
    float *y0[PROJECT_MAX];     /* what y holds before */
    double *bound[PROJECT_MAX]; /* [n_rows][rows] */
    float *want[PROJECT_MAX];   /* [n_rows][y_stride] */
};

static bool is_weight(enum qtype t)
{
    return qtype_info(t)->decode != NULL;
}

static enum qtype any_type(struct check *c, int64_t cols)
{
    for (;;) {
        enum qtype t = (enum qtype)check_int(c, 1, QTYPE_COUNT - 1);
        if (is_weight(t) && qtype_fits(t, cols))
            return t;
    }
}

static int64_t any_cols(struct check *c, enum qtype t)
{
    int64_t block = qtype_info(t)->block;
    return block * check_count(c, (int)(MAX_COLS / block));
}

/* Random bits of formats with wide floats in them would give sums beyond f32. */
static void tame(struct check *c, const struct qmat *w)
{
    char *p = (char *)(uintptr_t)w->data;
    size_t n_block = (size_t)(w->rows * w->cols / qtype_info(w->type)->block);
    for (size_t b = 0; b < n_block && (w->type == QTYPE_F64 || w->type == QTYPE_Q8_K); b++) {
        double v = check_normal(c);
        float d = check_uniform(c, -0.01f, 0.01f);
        if (w->type == QTYPE_F64)
            memcpy(p + b * sizeof v, &v, sizeof v);
        else
            memcpy(p + b * (size_t)qtype_info(w->type)->block_bytes, &d, sizeof d); /* leads the block */
    }
}

/* Part of a larger matrix, so that row0 is not always 0. */
static struct qmat any_matrix(struct check *c, enum qtype t, int64_t rows, int64_t cols)
{
    int before = check_int(c, 0, 3);
    struct qmat all = check_qmat(c, t, rows + before, cols, 0.05f);
    tame(c, &all);
    return qmat_rows(&all, before, rows);
}

/* The largest weight of a row times the sum of |x|, times the roundings on a product's way, twice for formats
 * whose products are a difference of two sums. */
static void bounds(struct check *c, struct project_case *p, int i)
{
    const struct linear *o = &p->a.out[i];
    int64_t cols = o->w.cols;
    float *row = check_alloc(c, (size_t)cols * sizeof *row, 4);
    p->bound[i] = check_alloc(c, (size_t)p->a.n_rows * (size_t)o->w.rows * sizeof(double), 8);
    for (int64_t r = 0; r < o->w.rows; r++) {
        qmat_decode(&o->w, r, 1, row);
        double w = check_max(row, (size_t)cols);
        for (int t = 0; t < p->a.n_rows; t++) {
            const float *x = p->a.x + (size_t)t * p->a.x_stride;
            double sum = 0;
            for (int64_t k = 0; k < cols; k++)
                sum += fabs((double)x[k]);
            p->bound[i][t * o->w.rows + r] = (2 * w * sum + 10) * (12 + (double)cols / 16) * 0x1p-24;
        }
    }
}

static void make_case(struct check *c, struct project_case *p, enum qtype first, int64_t cols, int n_rows)
{
    struct project_args *a = &p->a;
    *a = (struct project_args){ .n_rows = n_rows,
                                .n_out = check_int(c, 1, PROJECT_MAX),
                                .add = check_int(c, 0, 1) };
    a->x_stride = (size_t)cols + (size_t)check_int(c, 0, 5);
    a->x = check_floats(c, (size_t)n_rows * a->x_stride);
    for (int i = 0; i < a->n_out; i++) {
        int64_t rows = check_count(c, i ? 70 : MAX_OUT);
        struct linear *o = &a->out[i];
        o->w = any_matrix(c, i ? any_type(c, cols) : first, rows, cols);
        o->bias = check_int(c, 0, 1) ? check_floats(c, (size_t)rows) : NULL;
        o->y_stride = (size_t)rows + (size_t)check_int(c, 0, 3);
        p->y0[i] = check_floats(c, (size_t)n_rows * o->y_stride);
        bounds(c, p, i);
    }
}

/* Runs rows [row, row + n) on d; the results land in out[i], which have the case's strides. */
static void run(struct check *c, struct device *d, const struct project_case *p, int row, int n,
                float *out[PROJECT_MAX])
{
    struct project_args a = p->a;
    struct err e = { 0 };
    a.x += (size_t)row * a.x_stride;
    a.n_rows = n;
    for (int i = 0; i < a.n_out; i++)
        a.out[i].y = out[i] + (size_t)row * a.out[i].y_stride;
    check_ok(c, d->ops->project(d, &a, &e), &e);
    check_ok(c, d->ops->sync(d, &e), &e);
}

static void fresh(struct check *c, const struct project_case *p, float *out[PROJECT_MAX])
{
    for (int i = 0; i < p->a.n_out; i++)
        out[i] = check_copy(c, p->y0[i], (size_t)p->a.n_rows * p->a.out[i].y_stride);
}

static void compare(struct check *c, const struct project_case *p, float *got[PROJECT_MAX])
{
    for (int i = 0; i < p->a.n_out; i++) {
        const struct linear *o = &p->a.out[i];
        size_t rows = (size_t)o->w.rows;
        for (size_t t = 0; t < (size_t)p->a.n_rows; t++) {
            const float *w = p->want[i] + t * o->y_stride, *g = got[i] + t * o->y_stride;
            if (!check_close_each(c, qtype_info(o->w.type)->name, w, g, rows, p->bound[i] + t * rows))
                return;
            check_same(c, "padding", p->y0[i] + t * o->y_stride + rows, g + rows,
                       (o->y_stride - rows) * sizeof *g);
        }
    }
}

static void same(struct check *c, const char *what, const struct project_case *p, float *a[PROJECT_MAX],
                 float *b[PROJECT_MAX])
{
    for (int i = 0; i < p->a.n_out; i++)
        check_same(c, what, a[i], b[i], (size_t)p->a.n_rows * p->a.out[i].y_stride * sizeof(float));
}

static void project_case(struct check *c, struct device *ref, struct check_cpu *cpu, int n_cpu, enum qtype t,
                         int n_rows, enum act_mode act)
{
    if (!check_case(c, "project %s, %d rows, %s", qtype_info(t)->name, n_rows,
                    act == ACT_EXACT ? "exact" : "int8"))
        return;
    struct project_case p = { 0 };
    make_case(c, &p, t, any_cols(c, t), n_rows);
    fresh(c, &p, p.want);
    run(c, ref, &p, 0, n_rows, p.want);
    float *one[PROJECT_MAX] = { 0 };
    for (int k = 0; k < n_cpu && !c->failed; k++) {
        float *got[PROJECT_MAX];
        fresh(c, &p, got);
        run(c, cpu[k].dev, &p, 0, n_rows, got);
        compare(c, &p, got);
        if (k && cpu[k].isa == cpu[k - 1].isa)
            same(c, "another number of threads", &p, one, got);
        memcpy(one, got, sizeof one);
        float *alone[PROJECT_MAX];
        fresh(c, &p, alone);
        for (int r = 0, n; r < n_rows; r += n) {
            n = check_int(c, 1, n_rows - r < 3 ? n_rows - r : 3);
            run(c, cpu[k].dev, &p, r, n, alone);
        }
        same(c, "rows in small calls", &p, got, alone);
        if (c->failed)
            check_fail(c, "with %s", cpu[k].name);
    }
    check_done(c);
}

static void embed_case(struct check *c, struct device *ref, struct check_cpu *cpu, int n_cpu, enum qtype t,
                       int n_rows)
{
    if (!check_case(c, "embed %s, %d rows", qtype_info(t)->name, n_rows))
        return;
    struct embed_args a = { .n_rows = n_rows };
    struct err e = { 0 };
    a.table = any_matrix(c, t, check_count(c, 50), any_cols(c, t));
    int32_t *ids = check_alloc(c, (size_t)n_rows * sizeof *ids, sizeof *ids);
    for (int i = 0; i < n_rows; i++)
        ids[i] = check_int(c, 0, (int)a.table.rows - 1);
    size_t n = (size_t)n_rows * (size_t)a.table.cols;
    a.ids = ids;
    float *want = a.y = check_out(c, n);
    check_ok(c, ref->ops->embed(ref, &a, &e), &e);
    for (int k = 0; k < n_cpu; k++) {
        a.y = check_out(c, n);
        check_ok(c, cpu[k].dev->ops->embed(cpu[k].dev, &a, &e), &e);
        check_same(c, cpu[k].name, want, a.y, n * sizeof *want);
    }
    check_done(c);
}

int main(int argc, char **argv)
{
    struct check c;
    check_begin(&c, argc, argv);
    for (int act = ACT_INT8; act <= ACT_EXACT; act++) {
        struct check_cpu cpu[CHECK_CPU_MAX];
        int n_cpu = check_cpus(&c, cpu, (enum act_mode)act, &limits);
        struct device *ref = check_ref(&c, (enum act_mode)act, &limits);
        static const int counts[] = { 1, 2, 8, 9, 27, MAX_ROWS };
        for (int t = 1; t < QTYPE_COUNT; t++)
            for (size_t i = 0; is_weight((enum qtype)t) && i < sizeof counts / sizeof *counts; i++) {
                project_case(&c, ref, cpu, n_cpu, (enum qtype)t, counts[i], (enum act_mode)act);
                if (act == ACT_INT8)
                    embed_case(&c, ref, cpu, n_cpu, (enum qtype)t, counts[i]);
            }
        check_cpus_close(cpu, n_cpu);
        ref->ops->close(ref);
    }
    return check_end(&c);
}
