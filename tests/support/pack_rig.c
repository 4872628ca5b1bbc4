/* pack_rig.c: see pack_rig.h. */
#include "support/pack_rig.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/tiny_model.h"

static void give_up(const char *what)
{
    fprintf(stderr, "pack_rig: %s\n", what);
    abort();
}

static void note(void *user, const char *line)
{
    struct pack_rig *r = user;
    r->n_lines++;
    snprintf(r->line, sizeof r->line, "%s", line);
}

static void add(struct pack_rig *r, int *n, enum role role, int expert, enum qtype type, int64_t rows,
                int64_t cols)
{
    r->item[(*n)++] = (struct packed_item){ .role = role,
                                            .layer = role == ROLE_EMBED ? -1 : 0,
                                            .expert = expert,
                                            .type = type,
                                            .rows = rows,
                                            .cols = cols };
}

static void list(struct pack_rig *r)
{
    int n = 0;
    add(r, &n, ROLE_NORM_MLP, -1, QTYPE_F32, 1, 100);
    add(r, &n, ROLE_EMBED, -1, QTYPE_NF4, 16384, 4096); /* 32 MiB and 4 MiB */
    add(r, &n, ROLE_ROUTER, -1, QTYPE_Q8_0, 3, 192);
    for (int expert = 0; expert < 4; expert++)
        for (int part = 0; part < 3; part++)
            add(r, &n, ROLE_EXPERT_GATE + part, expert, QTYPE_NF4_DQ, 128, 192);
    for (int i = 0; i < n; i++) {
        struct packed_item *it = &r->item[i];
        if (!qtype_sizes(it->type, it->rows, it->cols, &it->data_bytes, &it->scale_bytes))
            give_up("sizes");
    }
    if (n != PACK_ITEMS)
        give_up("number of items");
}

void pack_rig_begin(struct pack_rig *r)
{
    struct err e = { 0 };
    struct shape s;
    memset(r, 0, sizeof *r);
    struct tiny *t = tiny_new();
    tiny_shape(&s, tiny_moe_config);
    tiny_add_weights(t, &s, TINY_PLAIN);
    r->model_folder = tiny_folder();
    r->folder = tiny_folder();
    tiny_write_text(r->model_folder, "config.json", tiny_moe_config);
    tiny_write_safetensors(t, r->model_folder, "model.safetensors");
    tiny_free(&t);
    list(r);
    r->file_bytes = packed_layout(r->item, PACK_ITEMS);
    r->opt = (struct packed_options){ .folder = r->folder, .say = note, .say_user = r };
    if (model_open(&r->m, r->model_folder, &e) || packed_key_of(&r->key, r->m, r->item, PACK_ITEMS, &e))
        give_up(e.what);
}

void pack_rig_end(struct pack_rig *r)
{
    model_close(&r->m);
    tiny_folder_end(&r->model_folder);
    tiny_folder_end(&r->folder);
}

char *pack_span(const struct pack_rig *r, int i)
{
    size_t n = r->item[i].bytes;
    char *span = malloc(n + 8);
    uint64_t x = (uint64_t)i + 1;
    for (size_t at = 0; span && at < n; at += 8) {
        x = x * 6364136223846793005u + 1442695040888963407u;
        memcpy(span + at, &x, 8);
    }
    if (!span)
        give_up("memory");
    return span;
}

int pack_write(const struct pack_rig *r, struct err *e)
{
    struct packed_writer *w;
    int rc = packed_begin(&w, &r->opt, &r->key, r->item, PACK_ITEMS, e);
    if (rc)
        return rc;
    for (int i = PACK_ITEMS - 1; i >= 0 && !rc; i--) {
        char *span = pack_span(r, i);
        rc = packed_put(w, i, span, e);
        free(span);
    }
    if (!rc)
        return packed_commit(&w, e);
    packed_abort(&w);
    return rc;
}

int pack_check(struct pack_rig *r)
{
    struct err e = { 0 };
    struct packed *p;
    if (packed_open(&p, &r->opt, &r->key, r->item, PACK_ITEMS, &e))
        return -1;
    if (!p)
        return 0;
    int all = 1;
    for (int i = 0; i < PACK_ITEMS; i++) {
        char *want = pack_span(r, i), *got = malloc(r->item[i].bytes);
        for (int piece = 0; piece < packed_pieces(p, i); piece++)
            if (!got || packed_read(p, i, piece, got + (size_t)piece * PACKED_PIECE, &e))
                all = -1;
        if (all == 1 && memcmp(got, want, r->item[i].bytes))
            all = -1;
        free(want);
        free(got);
    }
    packed_close(&p);
    return all;
}

int pack_entries(const struct pack_rig *r)
{
    DIR *d = opendir(r->folder);
    int n = 0;
    while (d && readdir(d))
        n++;
    if (d)
        closedir(d);
    return n - 2;
}
