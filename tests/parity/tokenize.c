/*
 * tokenize.c: the tokenizer as a filter, driven by tools/tokenizer_parity.py.
 *   tokenize encode FILE all|none   stdin: u32 length, bytes, ...        stdout: u32 count, i32 ids, ...
 *   tokenize decode FILE all|skip   stdin: u32 count, i32 ids, ...       stdout: u32 length, bytes, ...
 *   tokenize speed FILE TEXT N      encodes N copies of TEXT as one; prints seconds to open, bytes, seconds,
 * tokens FILE is a tokenizer.json or a .gguf. decode goes through the stream and fails when a piece is not
 * whole UTF-8.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "text/tokenizer.h"
#include "text/utf8.h"

static int fail(const struct err *e)
{
    err_print(e);
    return 1;
}

static int open_file(struct tokenizer **t, const char *path, struct err *e)
{
    size_t len = strlen(path), n;
    char *text;
    int rc;
    if (len > 5 && strcmp(path + len - 5, ".gguf") == 0) {
        struct gguf_meta *meta;
        struct tensor_dir *dir;
        rc = gguf_open(&meta, &dir, path, e);
        if (rc)
            return rc;
        rc = tokenizer_open_gguf(t, meta, e);
        gguf_meta_close(&meta);
        tensor_dir_close(&dir);
        return rc;
    }
    rc = file_slurp(path, (size_t)1 << 28, &text, &n, e);
    if (rc)
        return rc;
    rc = tokenizer_open_json(t, text, n, e);
    free(text);
    return rc;
}

static void *read_block(size_t unit, uint32_t *count)
{
    if (fread(count, sizeof *count, 1, stdin) != 1)
        return NULL;
    char *block = malloc(*count * unit + 1);
    if (block && fread(block, unit, *count, stdin) != *count) {
        free(block);
        return NULL;
    }
    return block;
}

static int encode(const struct tokenizer *t, int n_trusted)
{
    struct tokens out = { 0 };
    struct err e = { 0 };
    uint32_t n;
    char *text;
    while ((text = read_block(1, &n)) != NULL) {
        out.n = 0;
        if (tokenizer_encode(t, text, n, NULL, n_trusted, &out, &e))
            return fail(&e);
        uint32_t count = (uint32_t)out.n;
        fwrite(&count, sizeof count, 1, stdout);
        fwrite(out.id, sizeof *out.id, out.n, stdout);
        free(text);
    }
    tokens_free(&out);
    return 0;
}

static int decode_one(const struct tokenizer *t, const int32_t *id, uint32_t n, bool skip_special)
{
    size_t room = token_stream_room(t), total = 0;
    char *text = malloc((n + 1) * room);
    struct token_stream s = { .tokenizer = t, .skip_special = skip_special };
    if (!text)
        return 1;
    for (uint32_t i = 0; i <= n; i++) {
        size_t got = i < n ? token_stream_push(&s, id[i], text + total, room)
                           : token_stream_finish(&s, text + total, room);
        if (utf8_valid(text + total, got) != got) {
            fprintf(stderr, "piece %u is not whole UTF-8\n", i);
            free(text);
            return 1;
        }
        total += got;
    }
    uint32_t length = (uint32_t)total;
    fwrite(&length, sizeof length, 1, stdout);
    fwrite(text, 1, total, stdout);
    free(text);
    return 0;
}

static int decode(const struct tokenizer *t, bool skip_special)
{
    uint32_t n;
    int32_t *id;
    while ((id = read_block(sizeof *id, &n)) != NULL) {
        int rc = decode_one(t, id, n, skip_special);
        free(id);
        if (rc)
            return rc;
    }
    return 0;
}

static int speed(const struct tokenizer *t, double open_seconds, const char *path, int copies)
{
    struct err e = { 0 };
    struct tokens out = { 0 };
    char *one;
    size_t n;
    if (file_slurp(path, (size_t)1 << 30, &one, &n, &e))
        return fail(&e);
    char *text = malloc(n * (size_t)copies);
    if (!text)
        return 1;
    for (int i = 0; i < copies; i++)
        memcpy(text + n * (size_t)i, one, n);
    double begin = clock_seconds();
    if (tokenizer_encode(t, text, n * (size_t)copies, NULL, 0, &out, &e))
        return fail(&e);
    printf("%.6f %zu %.6f %zu\n", open_seconds, n * (size_t)copies, clock_seconds() - begin, out.n);
    tokens_free(&out);
    free(text);
    free(one);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc < 4) {
        puts("run by tools/tokenizer_parity.py");
        return 77;
    }
    struct tokenizer *t = NULL;
    struct err e = { 0 };
    double begin = clock_seconds();
    int rc = open_file(&t, argv[2], &e);
    double open_seconds = clock_seconds() - begin;
    if (rc)
        return fail(&e);
    if (strcmp(argv[1], "encode") == 0)
        rc = encode(t, strcmp(argv[3], "all") == 0 ? TOKENIZE_ALL_TRUSTED : 0);
    else if (strcmp(argv[1], "decode") == 0)
        rc = decode(t, strcmp(argv[3], "skip") == 0);
    else
        rc = speed(t, open_seconds, argv[3], argc > 4 ? atoi(argv[4]) : 1);
    tokenizer_close(&t);
    return rc;
}
