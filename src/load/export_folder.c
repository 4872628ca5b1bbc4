/*
 * export_folder.c: see export_folder.h.
 */
#include "load/export_folder.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "load/export.h"

enum { PATH_ROOM = 4096, MAX_SIDE_FILE = 256 << 20 };

struct export_folder {
    char *path;     /* the final name */
    char *tmp_path; /* what exists meanwhile */
};

/* ---- the folder ---- */

bool export_is_folder(enum mix mix)
{
    return mix == MIX_NF4 || mix == MIX_NF4_DQ || mix == MIX_FP4;
}

static int folder_failed(const char *path, struct err *e)
{
    err_set(e, ERR_IO, "the folder cannot be made: %s", strerror(errno));
    err_where(e, "%s", path);
    err_hint(e, "name an output in a folder you can write to");
    return ERR_IO;
}

static bool is_empty_or_missing(const char *path)
{
    DIR *d = opendir(path);
    if (!d)
        return errno == ENOENT;
    bool empty = true;
    for (struct dirent *entry; (entry = readdir(d));)
        empty &= !strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..");
    closedir(d);
    return empty;
}

int export_folder_open(struct export_folder **out, const char *path, struct err *e)
{
    struct export_folder *f = calloc(1, sizeof *f);
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/')
        n--;
    if (f) {
        f->path = strndup(path, n);
        f->tmp_path = malloc(n + 32);
    }
    if (!f || !f->path || !f->tmp_path) {
        export_folder_abort(&f);
        return err_set(e, ERR_MEMORY, "no memory for a path");
    }
    snprintf(f->tmp_path, n + 32, "%s.tmp-%ld", f->path, (long)getpid());
    int rc = 0;
    if (!is_empty_or_missing(f->path)) {
        rc = err_set(e, ERR_USAGE, "the output exists already");
        err_where(e, "%s", f->path);
        err_hint(e, "name a folder that does not exist yet");
    } else if (mkdir(f->tmp_path, 0777)) {
        rc = folder_failed(f->tmp_path, e);
    }
    if (rc) {
        free(f->tmp_path); /* not ours to remove */
        f->tmp_path = NULL;
        export_folder_abort(&f);
        return rc;
    }
    *out = f;
    return 0;
}

const char *export_folder_path(const struct export_folder *f)
{
    return f->tmp_path;
}

int export_folder_commit(struct export_folder **fp, struct err *e)
{
    struct export_folder *f = *fp;
    int rc = rename(f->tmp_path, f->path) ? folder_failed(f->path, e) : 0;
    if (!rc) {
        free(f->tmp_path);
        f->tmp_path = NULL;
    }
    export_folder_abort(fp);
    return rc;
}

static void remove_folder(const char *path)
{
    DIR *d = opendir(path);
    char file[PATH_ROOM];
    for (struct dirent *entry; d && (entry = readdir(d));) {
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
            continue;
        snprintf(file, sizeof file, "%s/%s", path, entry->d_name);
        unlink(file);
    }
    if (d)
        closedir(d);
    rmdir(path);
}

void export_folder_abort(struct export_folder **fp)
{
    struct export_folder *f = *fp;
    *fp = NULL;
    if (!f)
        return;
    if (f->tmp_path)
        remove_folder(f->tmp_path);
    free(f->tmp_path);
    free(f->path);
    free(f);
}

/* ---- small files ---- */

int export_write_text(const char *folder, const char *name, const char *text, size_t n, struct err *e)
{
    char path[PATH_ROOM];
    struct file_writer *w = NULL;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    int rc = file_writer_open(&w, path, e);
    if (!rc && n)
        rc = file_writer_append(w, text, n, e);
    if (!rc)
        rc = file_writer_commit(&w, e);
    file_writer_abort(&w);
    return rc;
}

int export_write_json(const char *folder, const char *name, json_t *value, struct err *e)
{
    char *text = value ? json_dumps(value, JSON_INDENT(2)) : NULL;
    json_decref(value);
    if (!text)
        return err_set(e, ERR_MEMORY, "no memory for %s", name);
    int rc = export_write_text(folder, name, text, strlen(text), e);
    free(text);
    return rc;
}

static int copy_file(const char *from, const char *to, const char *name, struct err *e)
{
    char path[PATH_ROOM], *text;
    size_t n;
    snprintf(path, sizeof path, "%s/%s", from, name);
    if (access(path, F_OK))
        return 0; /* models have different sets of them */
    int rc = file_slurp(path, MAX_SIDE_FILE, &text, &n, e);
    if (rc)
        return rc;
    rc = export_write_text(to, name, text, n, e);
    free(text);
    return rc;
}

static const char *const side_files[] = {
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "preprocessor_config.json",
    "video_preprocessor_config.json",
    "LICENSE",
};

/* ---- config.json ---- */

static json_t *quantization_config(const struct model *m, enum mix mix, const json_t *skipped)
{
    json_t *modules = json_deep_copy(skipped);
    json_array_append_new(modules,
                          json_string("lm_head")); /* also when tied: it is a module of its own there */
    if (m->shape.n_expert)
        json_array_append_new(modules, json_string("mlp.gate"));
    if (m->shape.n_expert && m->shape.d_shared)
        json_array_append_new(modules, json_string("mlp.shared_expert_gate"));
    return json_pack("{s:s, s:b, s:b, s:s, s:b, s:s, s:s, s:o}", "quant_method", "bitsandbytes",
                     "load_in_4bit", 1, "load_in_8bit", 0, "bnb_4bit_quant_type",
                     mix == MIX_FP4 ? "fp4" : "nf4", "bnb_4bit_use_double_quant", mix == MIX_NF4_DQ,
                     "bnb_4bit_compute_dtype", "bfloat16", "bnb_4bit_quant_storage", "uint8",
                     "llm_int8_skip_modules", modules);
}

static int write_config(const struct model *m, const char *folder, enum mix mix, const json_t *skipped,
                        struct err *e)
{
    json_t *config = NULL;
    int rc = 0;
    if (m->kind == MODEL_GGUF)
        rc = export_config_from_gguf(m, &config, e);
    else
        config = json_deep_copy(m->config);
    if (rc)
        return rc;
    json_object_del(json_object_get(config, "text_config"), "quantization_config"); /* the source's */
    if (!config || json_object_set_new(config, "quantization_config", quantization_config(m, mix, skipped))) {
        json_decref(config);
        return err_set(e, ERR_MEMORY, "no memory for config.json");
    }
    return export_write_json(folder, "config.json", config, e);
}

int export_side_files(const struct model *m, const char *folder, enum mix mix, const json_t *skipped,
                      struct err *e)
{
    int rc = write_config(m, folder, mix, skipped, e);
    if (m->kind == MODEL_GGUF)
        return rc ? rc : export_tokenizer_from_gguf(m, folder, e);
    for (size_t i = 0; i < sizeof side_files / sizeof *side_files && !rc; i++)
        rc = copy_file(m->folder, folder, side_files[i], e);
    return rc;
}
