/*
 * bench_plot.c: a sweep as an SVG: tokens per second over threads, batch or depth. One line for each test,
 * its median with whiskers from the slowest to the fastest run, named at its right end. Colours are readable
 * on light and on dark; text and axes take the reader's scheme.
 */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "cmd/bench.h"

enum { WIDTH = 760, HEIGHT = 440, LEFT = 70, RIGHT = 190, TOP = 64, BOTTOM = 60, N_COLOUR = 6 };

static const char *const colours[N_COLOUR] = { "#2b7bba", "#e07b00", "#3a9a4b",
                                               "#c0457e", "#8a63d2", "#7d7d7d" };

enum axis { AXIS_THREADS, AXIS_BATCH, AXIS_DEPTH };
static const char *const axis_names[] = { "threads", "prompt tokens evaluated at once", "tokens before" };

struct figure {
    const struct bench *b;
    enum axis axis;
    int x[BENCH_MAX_ROWS], n_x; /* ascending */
    double top;                 /* tokens per second at the upper edge */
    double step;                /* between grid lines */
    char *text;
    size_t used, room;
    bool failed;
};

__attribute__((format(printf, 2, 3))) static void put(struct figure *f, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(f->text + f->used, f->room - f->used, fmt, ap);
    va_end(ap);
    if (n < 0 || (size_t)n >= f->room - f->used)
        f->failed = true;
    else
        f->used += (size_t)n;
}

/* ---- what is drawn ---- */

static int value_on(enum axis axis, const struct bench_row *r)
{
    return axis == AXIS_THREADS ? r->threads : axis == AXIS_BATCH ? r->batch : r->depth;
}

/* Generated tokens have no batch, and prompts no depth. */
static bool is_on(enum axis axis, const struct bench_row *r)
{
    return axis == AXIS_THREADS || r->prompt == (axis == AXIS_BATCH);
}

static int ascending(const void *a, const void *b)
{
    return *(const int *)a - *(const int *)b;
}

static void collect_x(struct figure *f)
{
    f->n_x = 0;
    for (int i = 0; i < f->b->n_row; i++) {
        int v = value_on(f->axis, &f->b->row[i]), k = 0;
        if (!is_on(f->axis, &f->b->row[i]))
            continue;
        while (k < f->n_x && f->x[k] != v)
            k++;
        if (k == f->n_x)
            f->x[f->n_x++] = v;
    }
    qsort(f->x, (size_t)f->n_x, sizeof *f->x, ascending);
}

static bool choose_axis(struct figure *f)
{
    for (int axis = AXIS_THREADS; axis <= AXIS_DEPTH; axis++) {
        f->axis = (enum axis)axis;
        collect_x(f);
        if (f->n_x > 1)
            return true;
    }
    return false;
}

/* Rows that differ in the axis only belong to one line. */
static bool same_line(enum axis axis, const struct bench_row *a, const struct bench_row *b)
{
    return is_on(axis, a) && is_on(axis, b) && a->prompt == b->prompt && a->n == b->n &&
           (axis == AXIS_THREADS || a->threads == b->threads) &&
           (axis == AXIS_BATCH || a->batch == b->batch) && (axis == AXIS_DEPTH || a->depth == b->depth);
}

/* Four to ten grid lines at 1, 2 or 5 times a power of ten. */
static void choose_scale(struct figure *f)
{
    double most = 0;
    for (int i = 0; i < f->b->n_row; i++)
        if (is_on(f->axis, &f->b->row[i]))
            most = fmax(most, f->b->row[i].most);
    most = most > 0 ? most : 1;
    double power = pow(10, floor(log10(most / 4)));
    f->step = most / power >= 20 ? 5 * power : most / power >= 8 ? 2 * power : power;
    f->top = f->step * ceil(most * 1.03 / f->step);
}

/* Values on the x axis stand at equal distances: sweeps go by factors. */
static double at_x(const struct figure *f, int v)
{
    int k = 0;
    while (f->x[k] != v)
        k++;
    return LEFT + 24 + (WIDTH - LEFT - RIGHT - 48) * (double)k / (f->n_x - 1);
}

static double at_y(const struct figure *f, double tps)
{
    return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * tps / f->top;
}

/* ---- drawing ---- */

static void put_escaped(struct figure *f, const char *text)
{
    for (; *text; text++) {
        if (*text == '<' || *text == '&' || (unsigned char)*text < 0x20)
            put(f, *text == '<' ? "&lt;" : *text == '&' ? "&amp;" : "?");
        else
            put(f, "%c", *text);
    }
}

static void draw_frame(struct figure *f)
{
    put(f,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\" height=\"%d\" "
        "font-family=\"system-ui, sans-serif\" font-size=\"13\">\n"
        "<style>.t{fill:#222}.m{fill:#666}.g{stroke:#ddd}.a{stroke:#666}.b{fill:#fff}"
        "@media(prefers-color-scheme:dark){.t{fill:#eee}.m{fill:#aaa}.g{stroke:#3a3a3a}.a{stroke:#aaa}"
        ".b{fill:#1b1b1b}}</style>\n"
        "<rect class=\"b\" width=\"%d\" height=\"%d\"/>\n",
        WIDTH, HEIGHT, WIDTH, HEIGHT, WIDTH, HEIGHT);
    put(f, "<text class=\"t\" x=\"%d\" y=\"26\" font-size=\"16\" font-weight=\"600\">", LEFT);
    put_escaped(f, f->b->name);
    put(f, "%s</text>\n<text class=\"m\" x=\"%d\" y=\"46\">", f->b->synthetic ? ", synthetic weights" : "",
        LEFT);
    put_escaped(f, f->b->machine.cpu);
    put(f, "; median, slowest and fastest of %d</text>\n", f->b->runs);
}

static void draw_axes(struct figure *f)
{
    int right = WIDTH - RIGHT, bottom = HEIGHT - BOTTOM;
    for (double v = 0; v < f->top + f->step / 2; v += f->step) {
        put(f, "<line class=\"%s\" x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\"/>", v > 0 ? "g" : "a", LEFT,
            right, at_y(f, v), at_y(f, v));
        put(f, "<text class=\"m\" x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%.10g</text>\n", LEFT - 8,
            at_y(f, v) + 4.5, v);
    }
    for (int k = 0; k < f->n_x; k++)
        put(f, "<text class=\"m\" x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%d</text>\n", at_x(f, f->x[k]),
            bottom + 20, f->x[k]);
    put(f, "<text class=\"t\" x=\"%d\" y=\"%d\" text-anchor=\"middle\">%s</text>\n", (LEFT + right) / 2,
        bottom + 44, axis_names[f->axis]);
    put(f,
        "<text class=\"t\" transform=\"translate(20 %d) rotate(-90)\" text-anchor=\"middle\">tokens per "
        "second"
        "</text>\n",
        (TOP + bottom) / 2);
}

static void name_line(struct figure *f, const struct bench_row *r, double y, const char *colour)
{
    put(f, "<text x=\"%d\" y=\"%.1f\" fill=\"%s\">", WIDTH - RIGHT - 14, y + 4.5, colour);
    if (r->prompt)
        put(f, "prompt of %d", r->n);
    else if (f->axis == AXIS_DEPTH)
        put(f, "generation");
    else
        put(f, "generation at depth %d", r->depth);
    if (f->axis != AXIS_THREADS && f->b->threads.n > 1)
        put(f, ", %d threads", r->threads);
    if (f->axis == AXIS_THREADS && r->prompt && f->b->batches.n > 1)
        put(f, ", batch %d", r->batch);
    put(f, "</text>\n");
}

static void draw_point(struct figure *f, const struct bench_row *r, const char *colour)
{
    double x = at_x(f, value_on(f->axis, r));
    put(f, "<path d=\"M%.1f %.1fV%.1f\" stroke=\"%s\" stroke-width=\"1.5\"/>", x, at_y(f, r->least),
        at_y(f, r->most), colour);
    put(f, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3.5\" fill=\"%s\"/>\n", x, at_y(f, r->median), colour);
}

/* Gives where the line ends, by row of its last point. */
static const struct bench_row *draw_line(struct figure *f, int first, const char *colour)
{
    const struct bench_row *row = f->b->row, *last = NULL;
    put(f, "<path fill=\"none\" stroke=\"%s\" stroke-width=\"2\" d=\"", colour);
    for (int k = 0; k < f->n_x; k++)
        for (int i = first; i < f->b->n_row; i++)
            if (same_line(f->axis, &row[first], &row[i]) && value_on(f->axis, &row[i]) == f->x[k]) {
                put(f, "%s%.1f %.1f", last ? "L" : "M", at_x(f, f->x[k]), at_y(f, row[i].median));
                last = &row[i];
            }
    put(f, "\"/>\n");
    for (int i = first; i < f->b->n_row; i++)
        if (same_line(f->axis, &row[first], &row[i]))
            draw_point(f, &row[i], colour);
    return last;
}

struct end {
    const struct bench_row *row;
    const char *colour;
    double y;
};

static int by_height(const void *a, const void *b)
{
    const struct end *x = a, *y = b;
    return (x->y > y->y) - (x->y < y->y);
}

static void draw_lines(struct figure *f)
{
    struct end end[BENCH_MAX_ROWS];
    int n = 0;
    for (int i = 0; i < f->b->n_row; i++) {
        bool begins = is_on(f->axis, &f->b->row[i]);
        for (int k = 0; k < i; k++)
            begins &= !same_line(f->axis, &f->b->row[k], &f->b->row[i]);
        if (!begins)
            continue;
        const char *colour = colours[n % N_COLOUR];
        const struct bench_row *last = draw_line(f, i, colour);
        end[n++] = (struct end){ last, colour, at_y(f, last->median) };
    }
    qsort(end, (size_t)n, sizeof *end, by_height);
    for (int i = 0; i < n; i++) { /* names move down until they do not overlap */
        end[i].y = i && end[i].y < end[i - 1].y + 17 ? end[i - 1].y + 17 : end[i].y;
        name_line(f, end[i].row, end[i].y, end[i].colour);
    }
}

static int write_file(const char *path, const struct figure *f, struct err *e)
{
    struct file_writer *w;
    int rc = file_writer_open(&w, path, e);
    if (rc)
        return rc;
    rc = file_writer_append(w, f->text, f->used, e);
    if (!rc)
        return file_writer_commit(&w, e);
    file_writer_abort(&w);
    return rc;
}

int bench_plot_check(const struct bench *b, struct err *e)
{
    struct figure f = { .b = b };
    if (choose_axis(&f))
        return 0;
    err_set(e, ERR_USAGE, "there is nothing to plot: threads, batch and depth have one value each");
    err_hint(e, "name several, such as --threads 1,2,4");
    return ERR_USAGE;
}

int bench_plot(const struct bench *b, const char *path, struct err *e)
{
    struct figure *f = calloc(1, sizeof *f);
    if (!f)
        return err_set(e, ERR_MEMORY, "no memory for a plot");
    f->b = b;
    f->room = 8192 + (size_t)b->n_row * 1024;
    f->text = malloc(f->room);
    int rc = f->text ? 0 : err_set(e, ERR_MEMORY, "no memory for a plot");
    if (!rc && choose_axis(f)) {
        choose_scale(f);
        draw_frame(f);
        draw_axes(f);
        draw_lines(f);
        put(f, "</svg>\n");
        rc = f->failed ? err_set(e, ERR_MEMORY, "the plot has too many lines") : write_file(path, f, e);
    }
    free(f->text);
    free(f);
    return rc;
}
