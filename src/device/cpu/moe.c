/*
 * moe.c: routed experts, the shared expert and the dense gated MLP: one job each.
 *
 * A group is one expert with the rows that chose it. First all panels of all groups' gate and up matrices:
 * the thread that computes 32 hidden values of a row also brings them into the form that down reads, so one
 * barrier suffices. Then down, cut by output rows: a thread adds up all experts of its outputs, in ascending
 * order with the shared one last, so that a sum needs no other thread and its order no schedule.
 *
 * In parts (enum moe_parts), a job takes the groups of its list through the halves that are asked for. Hidden
 * values lie where the whole operation would put them, and sums stay in scratch memory, so the parts give the
 * same bits.
 */
#include <math.h>
#include <string.h>

#include "device/cpu/matmul.h"
#include "quant/act.h"

struct mlp_group {
    struct matmul gate, up, down;
    const int *pair;     /* [n] row * top_k + slot; NULL: its rows are 0..n-1 */
    const float *weight; /* of pair or row; NULL: 1 */
    int n;
    char *hidden; /* [n] rows of row_bytes */
    size_t row_bytes;
    int64_t d_ff;
};

struct group_range {
    int begin, end;
};

struct mlp_job {
    const struct cpu_device *c;
    float *h;
    const float *x;
    struct matmul_acts acts;
    struct mlp_group *group;
    int n_group, n_rows, top_k;
    struct group_range in, out; /* groups that go through the first half, and through the second */
    bool zero, end;             /* sums begin with these groups; h gets the sums */
    int64_t d_model, bytes;     /* bytes of the first half's matrices */
    const float *shared_gate;   /* to be applied to x; NULL: none */
};

size_t moe_group_bytes(int n_expert)
{
    return ((size_t)n_expert + 1) * sizeof(struct mlp_group);
}

static int64_t row_of(const struct mlp_job *j, const struct mlp_group *g, int i)
{
    return g->pair ? g->pair[i] / j->top_k : i;
}

static float weight_of(const struct mlp_group *g, int i)
{
    return !g->weight ? 1 : g->weight[g->pair ? g->pair[i] : i];
}

static int64_t gate_up_row_bytes(const struct mlp_group *g)
{
    return (int64_t)(qtype_row_bytes(g->gate.w->type, g->gate.w->cols) +
                     qtype_row_bytes(g->up.w->type, g->up.w->cols));
}

static void add_group(struct mlp_job *j, const struct mlp_weights *w, const int *pair, const float *weight,
                      int n, char *hidden)
{
    struct mlp_group *g = &j->group[j->n_group++];
    *g = (struct mlp_group){
        .gate = matmul_plan(j->c, &w->gate),
        .up = matmul_plan(j->c, &w->up),
        .down = matmul_plan(j->c, &w->down),
        .pair = pair,
        .weight = weight,
        .n = n,
        .hidden = hidden,
        .row_bytes = matmul_row_bytes(w->gate.rows),
        .d_ff = w->gate.rows,
    };
}

/* The groups of the first half, whose activations and bytes the job must know. */
static void first_half(struct mlp_job *j, int begin, int end)
{
    j->in = (struct group_range){ begin, end };
    for (int i = begin; i < end; i++) {
        const struct mlp_group *g = &j->group[i];
        j->bytes += g->d_ff * gate_up_row_bytes(g);
        matmul_acts_need(&j->acts, &g->gate);
        matmul_acts_need(&j->acts, &g->up);
    }
}

/* ---- first half: hidden = silu(gate x) * up x ---- */

static void gate_up_panel(const struct mlp_job *j, const struct mlp_group *g, int thread, int64_t row,
                          int n_rows)
{
    struct qmat gate = matmul_panel(j->c, &g->gate, thread, 0, row, n_rows);
    struct qmat up = matmul_panel(j->c, &g->up, thread, 1, row, n_rows);
    for (int first = 0; first < g->n; first += DOT_MAX_COLS) {
        int n = g->n - first < DOT_MAX_COLS ? g->n - first : DOT_MAX_COLS;
        const void *x_gate[DOT_MAX_COLS], *x_up[DOT_MAX_COLS];
        float y[DOT_MAX_COLS][PANEL_ROWS], u[DOT_MAX_COLS][PANEL_ROWS];
        for (int i = 0; i < n; i++) {
            int64_t r = row_of(j, g, first + i);
            x_gate[i] = matmul_acts_row(&j->acts, g->gate.form, r);
            x_up[i] = matmul_acts_row(&j->acts, g->up.form, r);
        }
        g->gate.run(&gate, 0, n_rows, x_gate, n, y[0], PANEL_ROWS);
        g->up.run(&up, 0, n_rows, x_up, n, u[0], PANEL_ROWS);
        for (int i = 0; i < n; i++) {
            j->c->vec->silu_mul(y[i], y[i], u[i], n_rows);
            matmul_store_block(j->c, g->down.form, g->hidden + (size_t)(first + i) * g->row_bytes, g->d_ff,
                               row, y[i], n_rows);
        }
    }
}

static void gate_up_rows(const struct mlp_job *j, const struct mlp_group *g, int thread, struct range r)
{
    for (int64_t row = r.begin; row < r.end; row += PANEL_ROWS)
        gate_up_panel(j, g, thread, row, (int)(r.end - row < PANEL_ROWS ? r.end - row : PANEL_ROWS));
}

/* Few rows: the weights' bytes are the work, one contiguous share for each thread. */
static void gate_up_few(const struct mlp_job *j, struct threads *t, int thread)
{
    struct byte_share share = byte_share_of(t, thread, j->bytes);
    for (int i = j->in.begin; i < j->in.end; i++) {
        const struct mlp_group *g = &j->group[i];
        gate_up_rows(j, g, thread, byte_share_rows(&share, g->d_ff, gate_up_row_bytes(g), PANEL_ROWS));
    }
}

static void gate_up_many(const struct mlp_job *j, struct threads *t, int thread)
{
    int64_t panel = threads_next(t), first = 0; /* first: the panels before group i */
    for (int i = j->in.begin; i < j->in.end; i++) {
        const struct mlp_group *g = &j->group[i];
        int64_t n = (g->d_ff + PANEL_ROWS - 1) / PANEL_ROWS;
        for (; panel < first + n; panel = threads_next(t)) {
            int64_t begin = (panel - first) * PANEL_ROWS, end = begin + PANEL_ROWS;
            gate_up_rows(j, g, thread, (struct range){ begin, end < g->d_ff ? end : g->d_ff });
        }
        first += n;
    }
}

/* ---- second half: h += sum of weight * down hidden ---- */

static void down_panel(const struct mlp_job *j, const struct mlp_group *g, int thread, int64_t row,
                       int n_rows)
{
    struct qmat down = matmul_panel(j->c, &g->down, thread, 0, row, n_rows);
    for (int first = 0; first < g->n; first += DOT_MAX_COLS) {
        int n = g->n - first < DOT_MAX_COLS ? g->n - first : DOT_MAX_COLS;
        const void *x[DOT_MAX_COLS];
        float y[DOT_MAX_COLS][PANEL_ROWS];
        for (int i = 0; i < n; i++)
            x[i] = g->hidden + (size_t)(first + i) * g->row_bytes;
        g->down.run(&down, 0, n_rows, x, n, y[0], PANEL_ROWS);
        for (int i = 0; i < n; i++) {
            float *sum = j->c->matmul.sum + row_of(j, g, first + i) * j->d_model + row;
            j->c->vec->axpy(sum, weight_of(g, first + i), y[i], n_rows);
        }
    }
}

/* Outputs [r.begin, r.end) of every row. */
static void down_rows(const struct mlp_job *j, int thread, struct range r)
{
    size_t n = (size_t)(r.end - r.begin);
    for (int t = 0; t < j->n_rows && j->zero; t++)
        memset(j->c->matmul.sum + t * j->d_model + r.begin, 0, n * sizeof(float));
    for (int i = j->out.begin; i < j->out.end; i++)
        for (int64_t row = r.begin; row < r.end; row += PANEL_ROWS)
            down_panel(j, &j->group[i], thread, row,
                       (int)(r.end - row < PANEL_ROWS ? r.end - row : PANEL_ROWS));
    for (int t = 0; t < j->n_rows && j->end; t++) {
        const float *sum = j->c->matmul.sum + t * j->d_model;
        float *h = j->h + t * j->d_model;
        for (int64_t i = r.begin; i < r.end; i++)
            h[i] += sum[i];
    }
}

/* ---- the job ---- */

/* The forms of x and the shared expert's gate for rows [begin, end). */
static void prepare(const struct mlp_job *j, int64_t begin, int64_t end)
{
    matmul_acts_fill(j->c, &j->acts, begin, end);
    if (!j->shared_gate)
        return;
    struct qmat gate = { .type = QTYPE_F32, .rows = 1, .cols = j->d_model, .data = j->shared_gate };
    dot_fn dot = dot_pick(QTYPE_F32, QACT_F32, j->c->isa)->run;
    for (int64_t r = begin; r < end; r++) {
        const void *x = j->x + r * j->d_model;
        float y;
        dot(&gate, 0, 1, &x, 1, &y, 1);
        j->c->matmul.shared_scale[r] = 1 / (1 + expf(-y));
    }
}

static void mlp_few(void *arg, struct threads *t, int thread)
{
    const struct mlp_job *j = arg;
    gate_up_few(j, t, thread);
    threads_barrier(t);
    down_rows(j, thread, threads_share(t, thread, j->d_model, SHARE_ROWS));
}

static void mlp_many(void *arg, struct threads *t, int thread)
{
    const struct mlp_job *j = arg;
    struct range mine = threads_share(t, thread, j->n_rows, 1);
    prepare(j, mine.begin, mine.end);
    threads_barrier(t);
    gate_up_many(j, t, thread);
    threads_barrier(t);
    if (thread == 0)
        threads_rewind(t);
    threads_barrier(t);
    for (int64_t row; (row = threads_next(t) * PANEL_ROWS) < j->d_model;) {
        int64_t end = row + PANEL_ROWS;
        down_rows(j, thread, (struct range){ row, end < j->d_model ? end : j->d_model });
    }
}

static void run_job(struct mlp_job *j)
{
    if (matmul_is_few(j->n_rows)) {
        prepare(j, 0, j->n_rows);
        threads_run(j->c->threads, mlp_few, j);
    } else {
        threads_run(j->c->threads, mlp_many, j);
    }
}

static struct mlp_job job_of(const struct cpu_device *c, float *h, const float *x, int n_rows,
                             int64_t d_model)
{
    return (struct mlp_job){
        .c = c,
        .h = h,
        .x = x,
        .n_rows = n_rows,
        .d_model = d_model,
        .acts = matmul_acts_of(c, x, (size_t)d_model, d_model),
        .group = c->matmul.group,
    };
}

/* Counting sort of the pairs by expert; a stable one, so an expert's rows ascend. */
static void sort_pairs(const struct moe_args *a, int *first, int *order)
{
    int n_pair = a->n_rows * a->top_k;
    memset(first, 0, ((size_t)a->n_expert + 1) * sizeof *first);
    for (int i = 0; i < n_pair; i++)
        first[a->ids[i] + 1]++;
    for (int x = 0; x < a->n_expert; x++)
        first[x + 1] += first[x];
    for (int i = 0; i < n_pair; i++)
        order[first[a->ids[i]]++] = i;
    for (int x = a->n_expert; x > 0; x--) /* each has moved to its end: the next one's begin */
        first[x] = first[x - 1];
    first[0] = 0;
}

/* The groups of the call: experts of the list, or all that were chosen, then the shared one. Fills *n_expert
 * with the number of the former. */
static void moe_groups(struct mlp_job *j, const struct moe_args *a, int *n_expert)
{
    const struct matmul_scratch *s = &j->c->matmul;
    size_t row_bytes = matmul_row_bytes(a->w->expert[0].gate.rows);
    int n = a->parts == MOE_WHOLE ? a->n_expert : a->n_list;
    for (int i = 0; i < n; i++) {
        int x = a->parts == MOE_WHOLE ? i : a->list[i], first = s->first[x], n_pair = s->first[x + 1] - first;
        if (n_pair)
            add_group(j, &a->w->expert[x], s->order + first, a->weights, n_pair,
                      s->hidden + (size_t)first * row_bytes);
    }
    *n_expert = j->n_group;
    if (a->w->shared.gate.data)
        add_group(j, &a->w->shared, NULL, a->w->shared_gate ? s->shared_scale : NULL, a->n_rows,
                  s->hidden + (size_t)(a->n_rows * a->top_k) * row_bytes);
}

int cpu_moe(struct device *d, const struct moe_args *a, struct err *e)
{
    (void)e;
    struct cpu_device *c = (struct cpu_device *)d;
    int parts = a->parts == MOE_WHOLE ? MOE_BEGIN | MOE_HIDDEN | MOE_ADD | MOE_END : a->parts, n;
    if (a->n_rows == 0)
        return 0;
    struct mlp_job j = job_of(c, a->h, a->x, a->n_rows, a->w->expert[0].down.rows);
    j.top_k = a->top_k;
    if (parts & MOE_BEGIN) {
        sort_pairs(a, c->matmul.first, c->matmul.order);
        c->matmul.sum_is_empty = true;
    }
    moe_groups(&j, a, &n);
    first_half(&j, parts & MOE_HIDDEN ? 0 : n, parts & MOE_BEGIN ? j.n_group : n);
    j.out = (struct group_range){ parts & MOE_ADD ? 0 : n, parts & MOE_END ? j.n_group : n };
    j.shared_gate = parts & MOE_BEGIN && j.n_group > n ? a->w->shared_gate : NULL;
    j.end = parts & MOE_END;
    if (parts & (MOE_ADD | MOE_END)) {
        j.zero = c->matmul.sum_is_empty;
        c->matmul.sum_is_empty = false;
    }
    run_job(&j);
    return 0;
}

int cpu_mlp(struct device *d, const struct mlp_args *a, struct err *e)
{
    (void)e;
    const struct cpu_device *c = (const struct cpu_device *)d;
    if (a->n_rows == 0)
        return 0;
    struct mlp_job j = job_of(c, a->h, a->x, a->n_rows, a->w->down.rows);
    add_group(&j, a->w, NULL, NULL, a->n_rows, c->matmul.hidden);
    first_half(&j, 0, 1);
    j.out = (struct group_range){ 0, 1 };
    j.zero = j.end = true;
    run_job(&j);
    return 0;
}
