/*
 * quantize.c: `tonne quantize IN OUT --type T`: writes a model in another format.
 *
 * Lives elsewhere: what is written (load/export_gguf.c, load/export_bnb.c), which types exist (quant/mix.c).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "cmd/options.h"
#include "cmd/terminal.h"
#include "load/export.h"

static int refuse(struct err *e, const char *out, const char *what)
{
    err_set(e, ERR_USAGE, "%s", what);
    err_where(e, "%s", out);
    return ERR_USAGE;
}

static bool is_folder(const char *path)
{
    struct stat st;
    return !stat(path, &st) && S_ISDIR(st.st_mode);
}

static bool same_file(const char *a, const char *b)
{
    struct stat sa, sb;
    return !stat(a, &sa) && !stat(b, &sb) && sa.st_dev == sb.st_dev && sa.st_ino == sb.st_ino;
}

/* Refuses what would only fail after the work is done. */
static int check_output(const char *in, const char *out, bool folder, struct err *e)
{
    size_t n = strlen(out);
    bool named_gguf = n > 5 && !strcmp(out + n - 5, ".gguf");
    int rc = 0;
    if (same_file(in, out)) {
        rc = refuse(e, out, "the output is the model itself");
        err_hint(e, "name another output");
    } else if (folder && named_gguf) {
        rc = refuse(e, out, "this type is written as a folder of safetensors, not as GGUF");
        err_hint(e, "leave .gguf away, or choose a type such as q4_k_m");
    } else if (!folder && is_folder(out)) {
        rc = refuse(e, out, "this type is written as one file, but the output is a folder");
        err_hint(e, "name a file: %s/model.gguf", out);
    } else if (!folder && !named_gguf) {
        rc = refuse(e, out, "this type is written as a GGUF file, whose name ends in .gguf");
        err_hint(e, "write it to %s.gguf", out);
    }
    return rc;
}

static int read_type(const struct args *a, enum mix *mix, struct err *e)
{
    *mix = a->type ? mix_from_name(a->type) : MIX_NONE;
    if (*mix != MIX_NONE)
        return 0;
    if (a->type)
        err_set(e, ERR_USAGE, "there is no type \"%.40s\"", a->type);
    else
        err_set(e, ERR_USAGE, "the type to write is missing");
    err_hint(e, "--type with one of: %s", mix_list());
    return ERR_USAGE;
}

static int convert(const struct model *m, const char *out, struct export_options *opt, struct err *e)
{
    struct progress_line line = { 0 };
    opt->progress = terminal_progress;
    opt->progress_user = &line;
    terminal_catch_interrupt();
    int rc = export_is_folder(opt->mix) ? export_safetensors(m, out, opt, e) : export_gguf(m, out, opt, e);
    terminal_progress_end(&line);
    return rc;
}

static int quantize(const struct args *a, struct err *e)
{
    const char *in = a->word[0], *out = a->word[1];
    struct model *m = NULL;
    struct threads *threads = NULL;
    struct export_options opt = { 0 };
    double begin = clock_seconds();
    int rc = read_type(a, &opt.mix, e);
    if (!rc)
        rc = check_output(in, out, export_is_folder(opt.mix), e);
    if (!rc)
        rc = model_open(&m, in, e);
    if (!rc)
        rc = threads_open(&threads, a->threads, e);
    opt.threads = threads;
    if (!rc)
        rc = convert(m, out, &opt, e);
    if (!rc) {
        printf("wrote %s as %s in %.1f s\n", out, mix_name(opt.mix), clock_seconds() - begin);
        rc = terminal_flush(e);
    }
    threads_close(&threads);
    model_close(&m);
    return rc;
}

/* clang-format off: a table */
static const struct option own[] = {
    OPT_TEXT("type", "TYPE", type, "what to write: q4_k_m, q8_0, nf4, nf4-dq, bf16, ..."),
    OPT_COUNT("threads", "N", threads, 1, 1024,
              "CPU threads (default: the physical cores this process may use)"),
    { 0 }
};
/* clang-format on */
static const struct option_group group = { "Options", own };

const struct command command_quantize = {
    .name = "quantize",
    .usage = "MODEL OUT --type TYPE",
    .summary = "write a model in another format",
    .help = "Reads safetensors or GGUF and writes GGUF, or, for nf4, nf4-dq and fp4, a folder of\n"
            "safetensors in the layout of bitsandbytes. Types: f32 f16 bf16 q8_0 q4_0 q4_k_s q4_k_m\n"
            "q5_k_s q5_k_m q6_k iq4_nl mxfp4 nf4 nf4-dq fp4. Needs little memory whatever the model's\n"
            "size; the output appears when it is complete.\n"
            "\n"
            "Examples\n"
            "  tonne quantize Qwen3-30B-A3B qwen3-30b.gguf --type q4_k_m\n"
            "  tonne quantize Qwen3.5-35B-A3B qwen3.5-35b-nf4 --type nf4-dq\n",
    .min_words = 2,
    .max_words = 2,
    .group = { &group },
    .run = quantize,
};
