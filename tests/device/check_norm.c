/* check_norm.c: RMS norm of every cpu device against ref. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "support/check.h"

static const double U = 0x1p-24; /* half a unit in the last place of 1 */

struct timed {
    struct device *dev;
    struct norm_args a;
};

static void run_timed(void *arg)
{
    struct timed *t = arg;
    t->dev->ops->norm(t->dev, &t->a, NULL);
}

static void check_one(struct check *c, struct device *ref, const struct check_cpu *cpu, int n_cpu,
                      int max_rows)
{
    int n_rows = check_count(c, max_rows), d = check_count(c, 5000);
    size_t x_stride = (size_t)d + (size_t)check_int(c, 0, 9),
           y_stride = (size_t)d + (size_t)check_int(c, 0, 9);
    size_t nx = (size_t)(n_rows - 1) * x_stride + (size_t)d, ny = (size_t)(n_rows - 1) * y_stride + (size_t)d;
    float *x = check_floats(c, nx), *w = check_floats(c, (size_t)d), *want = check_out(c, ny);
    double *bound = check_alloc(c, ny * sizeof *bound, sizeof *bound);
    struct norm_args a = { want, x, w, y_stride, x_stride, n_rows, d, 1e-6f };
    struct err e = { 0 };
    check_ok(c, ref->ops->norm(ref, &a, &e), &e);
    for (size_t i = 0; i < ny; i++) /* the sum of d squares, halved by the root, and five operations */
        bound[i] = (d / 32.0 + 12) * U * fabs((double)want[i]);
    const float *first = NULL;
    for (int i = 0; i < n_cpu; i++) {
        struct device *dev = cpu[i].dev;
        float *got = check_out(c, ny), *in_place = check_copy(c, x, nx);
        a = (struct norm_args){ got, x, w, y_stride, x_stride, n_rows, d, 1e-6f };
        check_ok(c, dev->ops->norm(dev, &a, &e), &e);
        check_close_each(c, cpu[i].name, want, got, ny, bound);
        if (cpu[i].n_threads == 1)
            first = got;
        check_same(c, "another number of threads", first, got, ny * sizeof *got);
        a = (struct norm_args){ in_place, in_place, w, x_stride, x_stride, n_rows, d, 1e-6f };
        check_ok(c, dev->ops->norm(dev, &a, &e), &e);
        for (int t = 0; t < n_rows; t++)
            check_same(c, "in place", got + (size_t)t * y_stride, in_place + (size_t)t * x_stride,
                       (size_t)d * sizeof *got);
    }
}

int main(int argc, char **argv)
{
    static struct check c;
    struct check_cpu cpu[CHECK_CPU_MAX];
    struct device_limits limits = { .max_rows = 64, .d_model = 5000, .max_cols = 5000 };
    check_begin(&c, argc, argv);
    struct device *ref = check_ref(&c, ACT_INT8, &limits);
    int n_cpu = check_cpus(&c, cpu, ACT_INT8, &limits);
    for (int i = 0; i < 30; i++)
        if (check_case(&c, "norm %d", i)) {
            check_one(&c, ref, cpu, n_cpu, i % 3 ? 7 : 60);
            check_done(&c);
        }
    for (int i = 0; i < n_cpu && c.bench; i++)
        if (check_case(&c, "norm bench %s", cpu[i].name)) {
            float *x = check_floats(&c, 512 * 4096), *w = check_floats(&c, 4096),
                  *y = check_out(&c, 512 * 4096);
            struct timed t = { cpu[i].dev, { y, x, w, 4096, 4096, 512, 4096, 1e-6f } };
            check_time(&c, cpu[i].name, run_timed, &t, 2.0 * 512 * 4096 * 4);
            check_done(&c);
        }
    check_cpus_close(cpu, n_cpu);
    ref->ops->close(ref);
    return check_end(&c);
}
