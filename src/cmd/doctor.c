/*
 * doctor.c: `tonne doctor [PATH]`: measures this machine, says what that means for a model, and keeps the
 * result where `plan` and `run` find it.
 */
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/clock.h"
#include "base/size.h"
#include "cmd/cache_dir.h"
#include "cmd/options.h"
#include "cmd/terminal.h"
#include "plan/machine.h"

/* Two well-known models at 4.5 bits per weight, for the sentences. GB = 1e9 bytes. */
struct model_scale {
    const char *name;
    double active;    /* parameters multiplied for a token */
    double expert_gb; /* routed experts read for a token */
    double total_gb;
};
static const struct model_scale large = { "Qwen3.5-397B", 17e9, 4.25, 223 };
static const struct model_scale small = { "Qwen3.5-35B", 3e9, 0.57, 19.7 };
static const double GB_PER_WEIGHT = 4.5 / 8 / 1e9;

/* Weights read for a token when all of them are on the CPU. */
static double token_gb(const struct model_scale *s)
{
    return s->active * GB_PER_WEIGHT;
}

/* ---- a table of findings: label, figure, sentence ---- */

enum { LABEL_WIDTH = 12, FIGURE_WIDTH = 16, MOST_WIDTH = 100, LEAST_WIDTH = 60 };

static int table_width(void)
{
    struct winsize w;
    int width = terminal_is(stdout) && ioctl(fileno(stdout), TIOCGWINSZ, &w) == 0 && w.ws_col ? w.ws_col : 88;
    return width > MOST_WIDTH ? MOST_WIDTH : width < LEAST_WIDTH ? LEAST_WIDTH : width;
}

/* Prints words up to the width, further lines below the first. */
static void print_wrapped(const char *text, int indent, int width)
{
    int column = indent;
    while (*text) {
        int n = (int)strcspn(text, " ");
        if (column > indent && column + 1 + n > width) {
            printf("\n%*s", indent, "");
            column = indent;
        } else if (column > indent) {
            putchar(' ');
            column++;
        }
        printf("%.*s", n, text);
        column += n;
        text += n + strspn(text + n, " ");
    }
    putchar('\n');
}

__attribute__((format(printf, 3, 4))) static void finding(const char *label, const char *figure,
                                                          const char *fmt, ...)
{
    char text[800];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    for (char *p = text; *p; p++) /* the processor's name comes from outside */
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            *p = '?';
    printf("%-*s%-*s", LABEL_WIDTH, label, FIGURE_WIDTH, figure);
    print_wrapped(text, LABEL_WIDTH + FIGURE_WIDTH, table_width());
}

/* ---- the findings ---- */

static const char *plural(int n)
{
    return n == 1 ? "" : "s";
}

static void show_processor(const struct machine *m)
{
    char figure[32], nodes[48] = "";
    snprintf(figure, sizeof figure, "%d core%s", m->cores, plural(m->cores));
    if (m->numa_nodes > 1)
        snprintf(nodes, sizeof nodes, " on %d NUMA nodes", m->numa_nodes);
    if (m->usable_cores < m->cores)
        finding("processor", figure, "%s%s; only %d of the cores may be used by this process.", m->cpu, nodes,
                m->usable_cores);
    else
        finding("processor", figure, "%s%s; all cores may be used.", m->cpu, nodes);
}

static void show_memory(const struct machine *m)
{
    char usable[SIZE_TEXT], total[SIZE_TEXT], limit[SIZE_TEXT], why[96] = "";
    double gb = (double)machine_ram(m) / 1e9;
    size_text(usable, machine_ram(m));
    size_text(total, m->ram_total);
    if (m->cgroup_limit)
        snprintf(why, sizeof why, "; a control group limits this process to %s",
                 size_text(limit, m->cgroup_limit));
    const char *verdict = gb > large.total_gb ? "holds %s at 4 bits."
                          : gb > small.total_gb
                              ? "holds %s at 4 bits, but not Qwen3.5-397B, whose experts stay on disk."
                              : "holds less than %s at 4 bits, whose experts stay on disk.";
    char sentence[160];
    snprintf(sentence, sizeof sentence, verdict, gb > large.total_gb ? large.name : small.name);
    finding("memory", usable, "can be used of %s%s: %s", total, why, sentence);
}

static void show_ram_speed(const struct machine *m)
{
    int threads;
    double gbs = machine_best_ram_gbs(m, &threads);
    char figure[32];
    if (gbs == 0) {
        finding("RAM reads", "unknown", "There is too little free memory to measure beyond the caches.");
        return;
    }
    snprintf(figure, sizeof figure, "%.1f GB/s", gbs);
    finding(
        "RAM reads", figure,
        "at %d thread%s (%.1f with one): at most %.1f tokens/s on 397B at 4 bits when a GPU holds all but "
        "the experts, %.1f without; %.0f on 35B.",
        threads, plural(threads), m->ram_gbs[0], gbs / large.expert_gb, gbs / token_gb(&large),
        gbs / token_gb(&small));
}

static void show_arithmetic(const struct machine *m)
{
    char figure[32];
    snprintf(figure, sizeof figure, "%.0f GMAC/s", m->int8_gmacs);
    finding(
        "arithmetic", figure,
        "int8 on all threads (bf16 %.0f, f32 %.0f; billions of multiply-adds): a prompt is read with at most "
        "%.0f tokens/s on 397B, %.0f on 35B.",
        m->bf16_gmacs, m->f32_gmacs, m->int8_gmacs * 1e9 / large.active, m->int8_gmacs * 1e9 / small.active);
}

static void show_drive(const struct machine *m)
{
    char figure[32], room[SIZE_TEXT];
    size_text(room, m->disk_free);
    if (m->disk_gbs == 0) {
        finding(
            "drive", "unknown",
            "%s are free. To measure it, name a folder you can write to, or a model file of 256 MiB or more.",
            room);
        return;
    }
    snprintf(figure, sizeof figure, "%.2f GB/s", m->disk_gbs);
    finding("drive", figure,
            "with %d read%s of 7.1 MB at a time (%.2f with 1.8 MB): %.2f tokens/s on 397B when every expert "
            "comes from it, %.0f s to load its %.0f GB; %s are free.",
            m->disk_depth, plural(m->disk_depth), m->disk_small_gbs, m->disk_gbs / large.expert_gb,
            large.total_gb / m->disk_gbs, large.total_gb, room);
    snprintf(figure, sizeof figure, "%.2f ms", m->disk_latency_us / 1e3);
    finding("", figure, "for one such read alone (%.2f ms for 1.8 MB).", m->disk_small_latency_us / 1e3);
    if (!m->disk_direct)
        finding("", "no O_DIRECT",
                "This filesystem refuses direct reads: they go through the page cache, which "
                "costs memory and time.");
    if (!m->disk_uring)
        finding("", "no io_uring",
                "The system refuses it (containers often do): every read at once needs a thread.");
}

static void show_gpus(const struct machine *m)
{
    for (int i = 0; i < m->n_gpu; i++) {
        char figure[SIZE_TEXT];
        finding(i ? "" : "GPU", size_text(figure, m->gpu[i].free_bytes), "are free on %s; link %.1f GB/s.",
                m->gpu[i].name, m->gpu[i].link_gbs);
    }
}

/* ---- the command ---- */

static void show_step(void *user, const char *step)
{
    (void)user;
    if (terminal_is(stderr))
        fprintf(stderr, "\r%s ...\033[K", step);
}

static int measure(struct machine *m, const char *path, int n_threads, struct err *e)
{
    struct threads *t;
    int rc = threads_open(&t, n_threads, e);
    if (rc)
        return rc;
    struct machine_measure_options opt = { .path = path, .threads = t, .progress = show_step };
    rc = machine_measure(m, &opt, e);
    if (terminal_is(stderr))
        fputs("\r\033[K", stderr);
    threads_close(&t);
    return rc;
}

static int print_json(const struct machine *m, struct err *e)
{
    json_t *root = machine_json(m);
    char *text = root ? json_dumps(root, JSON_INDENT(1) | JSON_REAL_PRECISION(6)) : NULL;
    json_decref(root);
    if (!text)
        return err_set(e, ERR_MEMORY, "no memory for the JSON text");
    puts(text);
    free(text);
    return terminal_flush(e);
}

static int print_table(const struct machine *m, double load, double seconds, struct err *e)
{
    show_processor(m);
    show_memory(m);
    show_ram_speed(m);
    show_arithmetic(m);
    show_drive(m);
    show_gpus(m);
    printf("\n");
    print_wrapped("Speeds are measured; tokens/s are arithmetic on them: the most that reading each weight "
                  "once per token "
                  "allows.",
                  0, table_width());
    if (load > 0.5 * m->usable_cores)
        print_wrapped("Other programs were running: measure again when the machine is idle.", 0,
                      table_width());
    printf("Took %.1f s.", seconds);
    return terminal_flush(e);
}

static int save(const struct machine *m, char *path, size_t n, struct err *e)
{
    int rc = cache_path(path, n, "machine.json", e);
    if (!rc)
        rc = cache_make_folders(path, e);
    return rc ? rc : machine_save(m, path, e);
}

static int doctor(const struct args *a, struct err *e)
{
    const char *path = a->n_word ? a->word[0] : ".";
    char kept[PATH_MAX];
    struct machine m;
    double begin = clock_seconds(), load = 0;
    getloadavg(&load, 1);
    int rc = machine_look(&m, path, e);
    if (!rc)
        rc = measure(&m, path, a->threads, e);
    if (rc)
        return rc;
    rc = a->json ? print_json(&m, e) : print_table(&m, load, clock_seconds() - begin, e);
    if (!rc)
        rc = save(&m, kept, sizeof kept, e);
    if (a->json)
        return rc;
    printf(rc ? "\n" : " Kept in %s\n", kept);
    return rc ? rc : terminal_flush(e);
}

/* clang-format off: a table */
static const struct option own[] = {
    OPT_COUNT("threads", "N", threads, 1, 1024,
              "measure with up to N threads (default: the physical cores this process may use)"),
    OPT_FLAG("json", json, 1, "print one JSON object"),
    { 0 }
};
/* clang-format on */
static const struct option_group group = { "Options", own };

const struct command command_doctor = {
    .name = "doctor",
    .usage = "[PATH]",
    .summary = "measure this machine: memory, arithmetic, drive",
    .help = "Measures how fast this machine reads memory, multiplies, and reads experts from the\n"
            "drive that holds PATH (a model file or a folder; default: the current folder), and says\n"
            "what that means for a model. Takes less than 15 seconds; best while nothing else runs.\n"
            "\n"
            "The result is kept in $XDG_CACHE_HOME/tonne/machine.json (~/.cache/tonne), where other\n"
            "commands find it. To measure a drive without a model on it, up to 1 GiB is written to a\n"
            "file without a name, which is gone when the measurement ends, in whatever way.\n"
            "\n"
            "Examples\n"
            "  tonne doctor\n"
            "  tonne doctor /mnt/models/Qwen3.5-397B-A17B\n"
            "  tonne doctor --json > machine.json\n",
    .max_words = 1,
    .group = { &group },
    .run = doctor,
};
