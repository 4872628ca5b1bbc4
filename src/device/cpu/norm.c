/* norm.c: RMS norm, rows shared among the threads. */
#include "device/cpu/cpu.h"

struct norm_job {
    const struct vec_kernels *vec;
    const struct norm_args *a;
};

static void norm_rows(const struct norm_job *j, int64_t begin, int64_t end)
{
    const struct norm_args *a = j->a;
    for (size_t t = (size_t)begin; t < (size_t)end; t++)
        j->vec->rms_norm(a->y + t * a->y_stride, a->x + t * a->x_stride, a->w, a->d, a->eps);
}

static void norm_run(void *arg, struct threads *t, int thread)
{
    const struct norm_job *j = arg;
    struct range r = threads_share(t, thread, j->a->n_rows, 1);
    norm_rows(j, r.begin, r.end);
}

int cpu_norm(struct device *d, const struct norm_args *a, struct err *e)
{
    (void)e;
    enum { WORTH_THREADS = 32768 }; /* floats: below, waking the others takes longer than the work */
    struct cpu_device *c = (struct cpu_device *)d;
    struct norm_job job = { c->vec, a };
    if ((int64_t)a->n_rows * a->d < WORTH_THREADS)
        norm_rows(&job, 0, a->n_rows);
    else
        threads_run(c->threads, norm_run, &job);
    return 0;
}
