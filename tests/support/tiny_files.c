/* tiny_files.c: see tiny_files.h. */
#include "support/tiny_files.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/half.h"

enum { MAX_ITEMS = 4096, KEY_BYTES = 4096, GGUF_ALIGN = 32 };

struct item {
    char name[200];
    enum qtype type;
    int n_dims;
    int64_t dim[4];
    size_t bytes;
    uint8_t *data; /* NULL: a hole in the file */
};

struct key {
    char name[100];
    uint8_t value[KEY_BYTES]; /* type and value as they stand in the file */
    size_t bytes;
};

struct tiny {
    struct item item[MAX_ITEMS];
    int n_item;
    struct key key[80];
    int n_key;
    bool holes;
};

static void give_up(const char *what, const char *name)
{
    fprintf(stderr, "tiny_files: %s: %s\n", what, name);
    abort();
}

struct tiny *tiny_new(void)
{
    struct tiny *t = calloc(1, sizeof *t);
    if (!t)
        give_up("no memory", "tiny_new");
    return t;
}

void tiny_free(struct tiny **tp)
{
    for (int i = 0; *tp && i < (*tp)->n_item; i++)
        free((*tp)->item[i].data);
    free(*tp);
    *tp = NULL;
}

void tiny_holes(struct tiny *t)
{
    t->holes = true;
}

/* ---- tensors ---- */

static uint32_t next_random(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

static void fill(struct item *it)
{
    uint32_t state = 2166136261u;
    for (const char *p = it->name; *p; p++)
        state = (state ^ (uint8_t)*p) * 16777619u;
    for (size_t i = 0; i < it->bytes; i++)
        it->data[i] = (uint8_t)(next_random(&state) & 0x3f); /* finite and small in every type used here */
    for (size_t i = 0; i + 4 <= it->bytes && it->type == QTYPE_F32; i += 4) {
        float x = (float)(next_random(&state) % 2001) / 1000.0f - 1.0f;
        memcpy(it->data + i, &x, sizeof x);
    }
    for (size_t i = 0; i + 2 <= it->bytes && it->type == QTYPE_BF16; i += 2) {
        uint16_t x = f32_to_bf16((float)(next_random(&state) % 2001) / 1000.0f - 1.0f);
        memcpy(it->data + i, &x, sizeof x);
    }
}

void tiny_add(struct tiny *t, const char *name, enum qtype type, int n_dims, const int64_t *dim)
{
    if (t->n_item == MAX_ITEMS || n_dims > 4)
        give_up("too much", name);
    struct item *it = &t->item[t->n_item++];
    *it = (struct item){ .type = type, .n_dims = n_dims };
    snprintf(it->name, sizeof it->name, "%s", name);
    const struct qtype_info *info = qtype_info(type);
    size_t elements = 1;
    for (int i = 0; i < n_dims; i++) {
        it->dim[i] = dim[i];
        elements *= (size_t)dim[i];
    }
    it->bytes = elements / (size_t)info->block * (size_t)info->block_bytes;
    if (t->holes)
        return;
    it->data = calloc(it->bytes + 1, 1);
    if (!it->data)
        give_up("no memory", name);
    fill(it);
}

void tiny_add1(struct tiny *t, const char *name, enum qtype type, int64_t a)
{
    tiny_add(t, name, type, 1, &a);
}

void tiny_add2(struct tiny *t, const char *name, enum qtype type, int64_t a, int64_t b)
{
    tiny_add(t, name, type, 2, (int64_t[]){ a, b });
}

void tiny_add3(struct tiny *t, const char *name, enum qtype type, int64_t a, int64_t b, int64_t c)
{
    tiny_add(t, name, type, 3, (int64_t[]){ a, b, c });
}

void tiny_add_text(struct tiny *t, const char *name, const char *text)
{
    tiny_add1(t, name, QTYPE_U8, (int64_t)strlen(text));
    memcpy(t->item[t->n_item - 1].data, text, strlen(text));
}

static struct item *find_item(struct tiny *t, const char *name)
{
    for (int i = 0; i < t->n_item; i++)
        if (!strcmp(t->item[i].name, name))
            return &t->item[i];
    give_up("no such tensor", name);
    return NULL;
}

void tiny_drop(struct tiny *t, const char *name)
{
    struct item *it = find_item(t, name);
    free(it->data);
    memmove(it, it + 1, (size_t)(t->item + t->n_item - (it + 1)) * sizeof *it);
    t->n_item--;
}

void tiny_rename(struct tiny *t, const char *name, const char *new_name)
{
    struct item *it = find_item(t, name);
    snprintf(it->name, sizeof it->name, "%s", new_name);
}

/* ---- keys ---- */

static void put(struct key *k, const void *data, size_t n)
{
    if (k->bytes + n > KEY_BYTES)
        give_up("too long", k->name);
    memcpy(k->value + k->bytes, data, n);
    k->bytes += n;
}

static void put_u32(struct key *k, uint32_t v)
{
    put(k, &v, sizeof v);
}

static void put_u64(struct key *k, uint64_t v)
{
    put(k, &v, sizeof v);
}

static int find_key(const struct tiny *t, const char *name)
{
    int i = 0;
    while (i < t->n_key && strcmp(t->key[i].name, name))
        i++;
    return i;
}

static struct key *new_key(struct tiny *t, const char *name, uint32_t type)
{
    int i = find_key(t, name);
    if (i == (int)(sizeof t->key / sizeof *t->key))
        give_up("too many keys", name);
    t->n_key = i == t->n_key ? i + 1 : t->n_key;
    struct key *k = &t->key[i];
    snprintf(k->name, sizeof k->name, "%s", name);
    k->bytes = 0;
    put_u32(k, type);
    return k;
}

void tiny_key_u32(struct tiny *t, const char *key, uint32_t v)
{
    put_u32(new_key(t, key, 4), v);
}

void tiny_key_f32(struct tiny *t, const char *key, float v)
{
    put(new_key(t, key, 6), &v, sizeof v);
}

void tiny_key_str(struct tiny *t, const char *key, const char *v)
{
    struct key *k = new_key(t, key, 8);
    put_u64(k, strlen(v));
    put(k, v, strlen(v));
}

void tiny_key_u32s(struct tiny *t, const char *key, const uint32_t *v, int n)
{
    struct key *k = new_key(t, key, 9);
    put_u32(k, 4);
    put_u64(k, (uint64_t)n);
    put(k, v, (size_t)n * sizeof *v);
}

void tiny_key_bools(struct tiny *t, const char *key, const uint8_t *v, int n)
{
    struct key *k = new_key(t, key, 9);
    put_u32(k, 7);
    put_u64(k, (uint64_t)n);
    put(k, v, (size_t)n);
}

void tiny_key_drop(struct tiny *t, const char *key)
{
    int i = find_key(t, key);
    if (i == t->n_key)
        give_up("no such key", key);
    t->key[i] = t->key[--t->n_key];
}

/* ---- writing ---- */

static FILE *create(const char *folder, const char *name)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "wb");
    if (!f)
        give_up("cannot write", path);
    return f;
}

static void end(FILE *f, const char *name)
{
    if (ferror(f) || fclose(f))
        give_up("cannot write", name);
}

void tiny_write_safetensors(const struct tiny *t, const char *folder, const char *name)
{
    char *header = NULL;
    size_t n = 0, at = 0;
    FILE *h = open_memstream(&header, &n);
    fprintf(h, "{\"__metadata__\":{\"format\":\"pt\"}");
    for (int i = 0; i < t->n_item; i++) {
        const struct item *it = &t->item[i];
        fprintf(h, ",\"%s\":{\"dtype\":\"%s\",\"shape\":[", it->name, qtype_info(it->type)->st_name);
        for (int d = 0; d < it->n_dims; d++)
            fprintf(h, "%s%lld", d ? "," : "", (long long)it->dim[d]);
        fprintf(h, "],\"data_offsets\":[%zu,%zu]}", at, at + it->bytes);
        at += it->bytes;
    }
    fputc('}', h);
    fflush(h);
    for (size_t pad = (8 - n % 8) % 8; pad; pad--)
        fputc(' ', h);
    fclose(h);
    FILE *f = create(folder, name);
    uint64_t length = n;
    fwrite(&length, 8, 1, f);
    fwrite(header, 1, n, f);
    for (int i = 0; i < t->n_item; i++)
        if (t->item[i].data)
            fwrite(t->item[i].data, 1, t->item[i].bytes, f);
        else if (fseeko(f, (off_t)t->item[i].bytes, SEEK_CUR))
            give_up("cannot leave a hole", name);
    if (fflush(f) || ftruncate(fileno(f), ftello(f)))
        give_up("cannot write", name);
    free(header);
    end(f, name);
}

static void write_u32(FILE *f, uint32_t v)
{
    fwrite(&v, sizeof v, 1, f);
}

static void write_u64(FILE *f, uint64_t v)
{
    fwrite(&v, sizeof v, 1, f);
}

static void write_string(FILE *f, const char *s)
{
    write_u64(f, strlen(s));
    fputs(s, f);
}

static void pad(FILE *f)
{
    while (ftell(f) % GGUF_ALIGN)
        fputc(0, f);
}

void tiny_write_gguf(const struct tiny *t, const char *folder, const char *name)
{
    FILE *f = create(folder, name);
    fputs("GGUF", f);
    write_u32(f, 3);
    write_u64(f, (uint64_t)t->n_item);
    write_u64(f, (uint64_t)t->n_key);
    for (int i = 0; i < t->n_key; i++) {
        write_string(f, t->key[i].name);
        fwrite(t->key[i].value, 1, t->key[i].bytes, f);
    }
    uint64_t at = 0;
    for (int i = 0; i < t->n_item; i++) {
        const struct item *it = &t->item[i];
        write_string(f, it->name);
        write_u32(f, (uint32_t)it->n_dims);
        for (int d = it->n_dims - 1; d >= 0; d--)
            write_u64(f, (uint64_t)it->dim[d]);
        write_u32(f, (uint32_t)qtype_info(it->type)->ggml_id);
        write_u64(f, at);
        at = (at + it->bytes + GGUF_ALIGN - 1) / GGUF_ALIGN * GGUF_ALIGN;
    }
    pad(f);
    for (int i = 0; i < t->n_item; i++) {
        fwrite(t->item[i].data, 1, t->item[i].bytes, f);
        pad(f);
    }
    end(f, name);
}

void tiny_write_text(const char *folder, const char *name, const char *text)
{
    FILE *f = create(folder, name);
    fputs(text, f);
    end(f, name);
}

/* ---- folders ---- */

char *tiny_folder(void)
{
    char *folder = strdup("/tmp/tonne-test-XXXXXX");
    if (!folder || !mkdtemp(folder))
        give_up("cannot make a directory", "/tmp");
    return folder;
}

void tiny_unlink(const char *folder, const char *name)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    if (unlink(path))
        give_up("cannot remove", path);
}

void tiny_folder_end(char **folder)
{
    DIR *d = opendir(*folder);
    for (struct dirent *entry; d && (entry = readdir(d));)
        if (entry->d_name[0] != '.')
            tiny_unlink(*folder, entry->d_name);
    if (d)
        closedir(d);
    rmdir(*folder);
    free(*folder);
    *folder = NULL;
}
