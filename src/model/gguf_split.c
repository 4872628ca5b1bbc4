/*
 * gguf_split.c: opens a GGUF file, or all parts of a split one (PREFIX-%05d-of-%05d.gguf), as one directory.
 *
 * Any part may be named. The first part holds the metadata; a tensor is never cut across parts.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "model/gguf_private.h"

enum { FIRST_WINDOW = 1 << 20, MAX_PARTS = 65535, SUFFIX = 20 /* "-00001-of-00002.gguf" */ };

/* Reads the header of an open file through windows that grow until it fits. */
static int read_header(struct gguf_meta **meta, struct tensor_build *b, int fd, uint64_t bytes, struct err *e)
{
    size_t have = 0, want = bytes < FIRST_WINDOW ? (size_t)bytes : FIRST_WINDOW;
    char *window = NULL;
    for (;;) {
        char *more = realloc(window, want + 1);
        if (!more) {
            free(window);
            return err_set(e, ERR_MEMORY, "no memory for a header of %zu bytes", want);
        }
        window = more;
        int rc = file_read(fd, window + have, want - have, have, e);
        size_t need = 0;
        if (!rc)
            rc = gguf_parse(meta, b, window, want, bytes, &need, e);
        if (rc <= 0) {
            if (rc)
                free(window);
            return rc;
        }
        have = want;
        want = need > 4 * have ? need : 4 * have;
        if (want > GGUF_MAX_HEADER)
            want = GGUF_MAX_HEADER;
        if (want > bytes)
            want = (size_t)bytes;
    }
}

static int add_file(struct gguf_meta **meta, struct tensor_build *b, const char *path, struct err *e)
{
    int fd;
    uint64_t bytes;
    int rc = file_open(path, &fd, &bytes, e);
    if (rc)
        return rc;
    rc = tensor_build_file(b, path, fd, bytes, e);
    if (!rc)
        rc = read_header(meta, b, fd, bytes, e);
    if (rc)
        err_where(e, "%s", path);
    return rc;
}

struct split {                   /* what a part says about the whole */
    int64_t no, count, n_tensor; /* from 0; count 0: not split; -1: not said */
};

static int read_split(const struct gguf_meta *m, struct split *s, struct err *e)
{
    int rc = gguf_get_int(m, "split.no", 0, MAX_PARTS - 1, 0, &s->no, e);
    if (!rc)
        rc = gguf_get_int(m, "split.count", 0, MAX_PARTS, 0, &s->count, e);
    if (!rc)
        rc = gguf_get_int(m, "split.tensors.count", 0, INT32_MAX, -1, &s->n_tensor, e);
    if (!rc && s->no > 0 && s->no >= s->count)
        rc = tensor_file_broken(e, "split.no is %lld, but split.count is %lld", (long long)s->no,
                                (long long)s->count);
    return rc;
}

/* The path of part `no` (from 0) of the same split, into out[strlen(path) + 1]. false: path is no part's
 * name. */
static bool part_path(const char *path, int64_t no, int64_t count, char *out)
{
    size_t n = strlen(path);
    int had_no, had_count, end = 0;
    if (n < SUFFIX || sscanf(path + n - SUFFIX, "-%5d-of-%5d.gguf%n", &had_no, &had_count, &end) != 2 ||
        end != SUFFIX || had_count != count)
        return false;
    char suffix[64];
    snprintf(suffix, sizeof suffix, "-%05lld-of-%05lld.gguf", (long long)no + 1, (long long)count);
    memcpy(out, path, n - SUFFIX);
    memcpy(out + n - SUFFIX, suffix, SUFFIX + 1);
    return true;
}

static int check_part(const struct gguf_meta *m, int64_t no, int64_t count, const char *path, struct err *e)
{
    struct split s;
    int rc = read_split(m, &s, e);
    if (!rc && (s.no != no || s.count != count)) {
        err_set(e, ERR_FORMAT, "by its name this is part %lld of %lld, by its keys part %lld of %lld",
                (long long)no + 1, (long long)count, (long long)s.no + 1, (long long)s.count);
        err_hint(e, "download the parts again, keeping their names");
        rc = ERR_FORMAT;
    }
    if (rc)
        err_where(e, "%s", path);
    return rc;
}

static int add_part(struct tensor_build *b, struct gguf_meta **first, const char *path, const struct split *s,
                    int64_t no, struct err *e)
{
    struct gguf_meta *m = NULL;
    int rc = add_file(&m, b, path, e);
    if (rc == ERR_FILE) {
        err_set(e, ERR_FILE, "part %lld of %lld is missing or cannot be opened", (long long)no + 1,
                (long long)s->count);
        err_where(e, "%s", path);
        err_hint(e, "put all %lld parts into one folder", (long long)s->count);
    }
    if (!rc)
        rc = check_part(m, no, s->count, path, e);
    if (!rc && no == 0)
        *first = m;
    else
        gguf_meta_close(&m);
    return rc;
}

/* path was found to be one part of several: opens all of them afresh, in order. */
static int open_parts(struct gguf_meta **meta, struct tensor_build *b, const char *path,
                      const struct split *s, struct err *e)
{
    char *part = malloc(strlen(path) + 1);
    if (!part)
        return err_set(e, ERR_MEMORY, "no memory for a path");
    int rc = 0;
    for (int64_t no = 0; no < s->count && !rc; no++) {
        if (part_path(path, no, s->count, part)) {
            rc = add_part(b, meta, part, s, no, e);
        } else {
            err_set(e, ERR_FORMAT, "this is part %lld of %lld, but its name does not say so",
                    (long long)s->no + 1, (long long)s->count);
            err_where(e, "%s", path);
            err_hint(e, "name the parts NAME-%05lld-of-%05lld.gguf and so on, in one folder",
                     (long long)s->no + 1, (long long)s->count);
            rc = ERR_FORMAT;
        }
    }
    free(part);
    if (!rc && s->n_tensor >= 0 && b->dir->n_tensor != s->n_tensor) {
        rc = tensor_file_broken(e, "the parts hold %d tensors together, split.tensors.count says %lld",
                                b->dir->n_tensor, (long long)s->n_tensor);
        err_where(e, "%s", path);
    }
    return rc;
}

int gguf_open(struct gguf_meta **meta, struct tensor_dir **dir, const char *path, struct err *e)
{
    struct gguf_meta *m = NULL;
    struct tensor_build b;
    struct split s = { 0 };
    int rc = tensor_build_open(&b, e);
    if (!rc)
        rc = add_file(&m, &b, path, e);
    if (!rc) {
        rc = read_split(m, &s, e);
        if (rc)
            err_where(e, "%s", path);
    }
    if (!rc && s.count > 1) {
        gguf_meta_close(&m);
        tensor_build_abort(&b);
        rc = tensor_build_open(&b, e);
        if (!rc)
            rc = open_parts(&m, &b, path, &s, e);
    }
    if (!rc)
        rc = tensor_build_finish(&b, dir, e);
    if (rc) {
        tensor_build_abort(&b);
        gguf_meta_close(&m);
        return rc;
    }
    m->n_split = s.count > 1 ? (int)s.count : 1;
    *meta = m;
    return 0;
}
