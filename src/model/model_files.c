/*
 * model_files.c: see model_files.h. A directory may hold more than the model: vision towers (mmproj-*.gguf),
 * draft heads (mtp-*.gguf), adapters, reference outputs. Shard names are arbitrary, so the index decides
 * where there is one.
 */
#include "model/model_files.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"

enum { MAX_INDEX = 512 << 20, MAX_FILES = 100000 };

static const char st_suffix[] = ".safetensors";
static const char index_suffix[] = ".safetensors.index.json";

struct names {
    char **v;
    int n;
};

static void names_free(struct names *list)
{
    for (int i = 0; i < list->n; i++)
        free(list->v[i]);
    free(list->v);
    *list = (struct names){ 0 };
}

static int names_add(struct names *list, const char *text, struct err *e)
{
    char *copy = strdup(text);
    char **more = realloc(list->v, ((size_t)list->n + 1) * sizeof *more);
    if (more)
        list->v = more;
    if (!copy || !more || list->n == MAX_FILES) {
        free(copy);
        return err_set(e, ERR_MEMORY, "no memory for a list of files");
    }
    list->v[list->n++] = copy;
    return 0;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void names_sort_unique(struct names *list)
{
    if (list->n == 0)
        return;
    qsort(list->v, (size_t)list->n, sizeof *list->v, by_text);
    int kept = 1;
    for (int i = 1; i < list->n; i++) {
        if (strcmp(list->v[i], list->v[kept - 1]))
            list->v[kept++] = list->v[i];
        else
            free(list->v[i]);
    }
    list->n = kept;
}

static bool ends_with(const char *text, const char *suffix)
{
    size_t n = strlen(text), k = strlen(suffix);
    return n >= k && !strcmp(text + n - k, suffix);
}

char *path_join(const char *folder, const char *name)
{
    char *path;
    return asprintf(&path, "%s%s%s", folder, ends_with(folder, "/") ? "" : "/", name) < 0 ? NULL : path;
}

static int add_path(struct model_files *f, const char *name, struct err *e)
{
    struct names list = { f->path, f->n_path };
    char *path = path_join(f->folder, name);
    int rc = path ? names_add(&list, path, e) : err_set(e, ERR_MEMORY, "no memory for a path");
    free(path);
    f->path = list.v;
    f->n_path = list.n;
    return rc;
}

static bool exists(const struct model_files *f, const char *name)
{
    char *path = path_join(f->folder, name);
    bool yes = path && access(path, F_OK) == 0;
    free(path);
    return yes;
}

/* ---- safetensors ---- */

/* Reads the distinct file names of weight_map. They must be plain names: an index cannot point elsewhere. */
static int read_index(const struct model_files *f, const char *index, struct names *shards, struct err *e)
{
    char *path = path_join(f->folder, index);
    json_t *json = NULL;
    int rc =
        path ? json_load_path(path, MAX_INDEX, &json, e) : err_set(e, ERR_MEMORY, "no memory for a path");
    const json_t *map = json_object_get(json, "weight_map");
    const char *last = "", *key;
    json_t *file;
    if (!rc && json_object_size(map) == 0)
        rc = err_set(e, ERR_FORMAT, "the index has no \"weight_map\"");
    json_object_foreach((json_t *)map, key, file)
    {
        const char *name = json_string_value(file);
        if (rc)
            break;
        if (!name || !*name || strchr(name, '/') || !ends_with(name, st_suffix))
            rc = err_set(e, ERR_FORMAT,
                         "the index names something that is no .safetensors file beside it, for %.100s", key);
        else if (strcmp(name, last)) /* runs of tensors share a file: keeps the list short before sorting */
            rc = names_add(shards, name, e);
        last = rc ? last : name;
        if (!rc && shards->n == MAX_FILES / 2)
            names_sort_unique(shards);
    }
    names_sort_unique(shards);
    if (rc && path && rc == ERR_FORMAT && !e->where[0])
        err_where(e, "%s", path);
    if (rc)
        err_hint(e, "download the index again");
    /* names were copied */
    json_decref(json);
    free(path);
    return rc;
}

static int files_of_index(struct model_files *f, const char *index, struct err *e)
{
    struct names shards = { 0 };
    int rc = read_index(f, index, &shards, e);
    for (int i = 0; i < shards.n && !rc; i++) {
        if (!exists(f, shards.v[i])) {
            rc = err_set(e, ERR_FILE, "the shard %.200s is missing; %s lists %d files", shards.v[i], index,
                         shards.n);
            err_where(e, "%s", f->folder);
            err_hint(e, "finish the download of the model into this directory");
        } else {
            rc = add_path(f, shards.v[i], e);
        }
    }
    names_free(&shards);
    return rc;
}

/* Reads "-%05d-of-%05d" before the suffix; n of how many, or false. */
static bool split_name(const char *name, const char *suffix, int *part, int *parts, size_t *prefix)
{
    size_t n = strlen(name), tail = strlen("-00001-of-00002") + strlen(suffix);
    int used = 0;
    if (n <= tail || !ends_with(name, suffix))
        return false;
    *prefix = n - tail;
    return sscanf(name + *prefix, "-%5d-of-%5d%n", part, parts, &used) == 2 && used == 15 && *part > 0 &&
           *parts > 0;
}

/* Without an index: one file, or all parts of one split. */
static int files_without_index(struct model_files *f, const struct names *st, struct err *e)
{
    int part, parts = 0;
    size_t prefix, first_prefix = 0;
    bool one_set = st->n == 1 && !split_name(st->v[0], st_suffix, &part, &parts, &prefix);
    if (!one_set && split_name(st->v[0], st_suffix, &part, &parts, &first_prefix)) {
        one_set = st->n == parts;
        for (int i = 0, n; i < st->n && one_set; i++)
            one_set = split_name(st->v[i], st_suffix, &part, &n, &prefix) && n == parts && part == i + 1 &&
                      prefix == first_prefix && !strncmp(st->v[i], st->v[0], prefix);
    }
    if (!one_set) {
        err_set(e, ERR_FILE,
                "the directory has %d .safetensors files and no index that says which belong together",
                st->n);
        err_where(e, "%s", f->folder);
        err_hint(
            e, "download model.safetensors.index.json and all files it lists, or name one .safetensors file");
        return ERR_FILE;
    }
    int rc = 0;
    for (int i = 0; i < st->n && !rc; i++)
        rc = add_path(f, st->v[i], e);
    return rc;
}

static int need_config(const struct model_files *f, struct err *e)
{
    if (exists(f, "config.json"))
        return 0;
    err_set(e, ERR_FILE, "there are safetensors here, but no config.json that says what model they are");
    err_where(e, "%s", f->folder);
    err_hint(
        e, "download the model's config.json, tokenizer.json and tokenizer_config.json into this directory");
    return ERR_FILE;
}

/* ---- directories ---- */

struct listing {
    struct names st, indexes, gguf;
    bool side_gguf, pickles;
};

static void sort_into(struct listing *l, const char *name, int *rc, struct err *e)
{
    if (ends_with(name, index_suffix))
        *rc = names_add(&l->indexes, name, e);
    else if (ends_with(name, st_suffix))
        *rc = names_add(&l->st, name, e);
    else if (ends_with(name, ".gguf") && (strcasestr(name, "mmproj") || !strncasecmp(name, "mtp-", 4)))
        l->side_gguf = true;
    else if (ends_with(name, ".gguf"))
        *rc = names_add(&l->gguf, name, e);
    else if (ends_with(name, ".bin") || ends_with(name, ".pt") || ends_with(name, ".pth"))
        l->pickles = true;
}

static int list_folder(struct listing *l, const char *folder, struct err *e)
{
    DIR *d = opendir(folder);
    int rc = 0;
    if (!d) {
        err_set(e, ERR_FILE, "the directory cannot be read: %s", strerror(errno));
        err_where(e, "%s", folder);
        err_hint(e, "check its permissions: ls -ld \"%s\"", folder);
        return ERR_FILE;
    }
    for (struct dirent *entry; !rc && (entry = readdir(d));)
        if (entry->d_name[0] != '.')
            sort_into(l, entry->d_name, &rc, e);
    closedir(d);
    names_sort_unique(&l->st);
    names_sort_unique(&l->indexes);
    names_sort_unique(&l->gguf);
    return rc;
}

static bool same_split(const char *a, const char *b)
{
    int part, na, nb;
    size_t pa, pb;
    return split_name(a, ".gguf", &part, &na, &pa) && split_name(b, ".gguf", &part, &nb, &pb) && na == nb &&
           pa == pb && !strncmp(a, b, pa);
}

static int pick_gguf(struct model_files *f, const struct names *gguf, struct err *e)
{
    char list[200] = "";
    int models = 0;
    for (int i = 0; i < gguf->n; i++) {
        if (i && same_split(gguf->v[i], gguf->v[i - 1]))
            continue;
        size_t n = strlen(list);
        if (models++ < 3)
            snprintf(list + n, sizeof list - n, "%s%.60s", n ? ", " : "", gguf->v[i]);
    }
    f->kind = MODEL_GGUF;
    if (models == 1)
        return add_path(f, gguf->v[0], e);
    err_set(e, ERR_FILE, "the directory has %d GGUF models: %s%s", models, list, models > 3 ? ", ..." : "");
    err_where(e, "%s", f->folder);
    err_hint(e, "name one of the files instead of the directory");
    return ERR_FILE;
}

static int no_model(const struct model_files *f, const struct listing *l, struct err *e)
{
    if (l->pickles)
        err_set(e, ERR_FILE, "the directory has only pickled weights, which would run code when read");
    else if (l->side_gguf)
        err_set(e, ERR_FILE, "the directory has only side files of a GGUF model (mmproj-*, mtp-*)");
    else
        err_set(e, ERR_FILE, "the directory has no model: neither .safetensors nor .gguf files");
    err_where(e, "%s", f->folder);
    err_hint(e, l->pickles ? "use the model's safetensors release"
                           : "name the directory that holds the model's files");
    return ERR_FILE;
}

static int find_in_folder(struct model_files *f, struct err *e)
{
    struct listing l = { 0 };
    int rc = list_folder(&l, f->folder, e);
    bool st = l.st.n || l.indexes.n;
    if (!rc && st && (l.gguf.n == 0 || exists(f, "config.json"))) {
        f->kind = MODEL_SAFETENSORS;
        rc = need_config(f, e);
        if (!rc && exists(f, "model.safetensors.index.json"))
            rc = files_of_index(f, "model.safetensors.index.json", e);
        else if (!rc && l.indexes.n == 1)
            rc = files_of_index(f, l.indexes.v[0], e);
        else if (!rc && exists(f, "model.safetensors"))
            rc = add_path(f, "model.safetensors", e);
        else if (!rc)
            rc = files_without_index(f, &l.st, e);
    } else if (!rc && l.gguf.n) {
        rc = pick_gguf(f, &l.gguf, e);
    } else if (!rc) {
        rc = no_model(f, &l, e);
    }
    names_free(&l.st);
    names_free(&l.indexes);
    names_free(&l.gguf);
    return rc;
}

/* ---- single files ---- */

/* A shard stands for its whole checkpoint; any other .safetensors for itself. */
static int find_safetensors_file(struct model_files *f, const char *name, struct err *e)
{
    f->kind = MODEL_SAFETENSORS;
    int rc = need_config(f, e), part, parts;
    size_t prefix;
    if (rc)
        return rc;
    if (ends_with(name, index_suffix))
        return files_of_index(f, name, e);
    if (!split_name(name, st_suffix, &part, &parts, &prefix) || !exists(f, "model.safetensors.index.json"))
        return add_path(f, name, e);
    return files_of_index(f, "model.safetensors.index.json", e);
}

static bool has_gguf_magic(const char *path)
{
    int fd;
    uint64_t bytes;
    char magic[4];
    if (file_open(path, &fd, &bytes, NULL))
        return false;
    bool yes = file_read(fd, magic, sizeof magic, 0, NULL) == 0 && !memcmp(magic, "GGUF", 4);
    close(fd);
    return yes;
}

static int find_file(struct model_files *f, const char *path, const char *name, struct err *e)
{
    if (ends_with(name, st_suffix) || ends_with(name, index_suffix))
        return find_safetensors_file(f, name, e);
    if (ends_with(name, ".gguf") || has_gguf_magic(path)) {
        f->kind = MODEL_GGUF;
        return add_path(f, name, e);
    }
    err_set(e, ERR_FORMAT, "this file is neither GGUF nor safetensors");
    err_where(e, "%s", path);
    err_hint(e, "name a model directory, a .gguf file or a .safetensors file");
    return ERR_FORMAT;
}

int model_files_find(struct model_files *f, const char *path, struct err *e)
{
    memset(f, 0, sizeof *f);
    struct stat st;
    if (stat(path, &st)) {
        err_set(e, ERR_FILE,
                errno == ENOENT ? "there is no such file or directory" : "the model cannot be opened: %s",
                strerror(errno));
        err_where(e, "%s", path);
        err_hint(e, "name a model directory or a .gguf file; check the path: ls \"%s\"", path);
        return ERR_FILE;
    }
    bool is_folder = S_ISDIR(st.st_mode);
    const char *slash = strrchr(path, '/');
    f->folder = is_folder       ? strdup(path)
                : slash == path ? strdup("/")
                : slash         ? strndup(path, (size_t)(slash - path))
                                : strdup(".");
    if (!f->folder)
        return err_set(e, ERR_MEMORY, "no memory for a path");
    if (is_folder)
        return find_in_folder(f, e);
    return find_file(f, path, slash ? slash + 1 : path, e);
}

void model_files_close(struct model_files *f)
{
    struct names list = { f->path, f->n_path };
    names_free(&list);
    free(f->folder);
    memset(f, 0, sizeof *f);
}
