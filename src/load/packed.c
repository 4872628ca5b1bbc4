/* packed.c: see packed.h. */
#include "load/packed.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/checked.h"
#include "base/file.h"
#include "load/packed_private.h"

const char packed_magic[8] = { 't', 'o', 'n', 'n', 'e', 'p', 'a', 'k' };

struct record { /* of the item table */
    int32_t role, layer, expert, type;
    int64_t rows, cols;
    uint64_t at, data_bytes, scale_bytes;
};

struct packed {
    struct packed_options opt;
    const struct packed_item *item;
    int n, fd;
    char *path;
    uint64_t *first; /* [n] of the item's checksums */
    uint64_t *sum;   /* [pieces of all items] */
};

struct packed_writer {
    const struct packed_item *item;
    int n;
    struct packed_key key;
    uint64_t file_bytes, n_sum;
    uint64_t *first, *sum;
    struct file_writer *file;
    char *path;
};

/* ---- layout ---- */

static uint64_t pieces_of(const struct packed_item *it)
{
    return (it->bytes + PACKED_PIECE - 1) / PACKED_PIECE;
}

static size_t piece_bytes(const struct packed_item *it, int piece)
{
    size_t begin = (size_t)piece * PACKED_PIECE;
    return it->bytes - begin < PACKED_PIECE ? it->bytes - begin : PACKED_PIECE;
}

static bool same_extent(const struct packed_item *a, const struct packed_item *b)
{
    return a->layer == b->layer && a->expert == b->expert;
}

uint64_t packed_layout(struct packed_item *item, int n)
{
    uint64_t n_sum = 0;
    for (int i = 0; i < n; i++) {
        struct packed_item *it = &item[i];
        it->scale_at = align_up(it->data_bytes, PACKED_ALIGN);
        it->bytes = it->scale_bytes ? it->scale_at + it->scale_bytes : it->data_bytes;
        n_sum += pieces_of(it);
    }
    uint64_t at = sizeof(struct packed_head) + (uint64_t)n * sizeof(struct record) + n_sum * sizeof(uint64_t);
    at = align_up(at, PACKED_PAGE);
    for (int i = 0; i < n; i++) {
        bool begins = item[i].expert >= 0 && (i == 0 || !same_extent(&item[i], &item[i - 1]));
        bool ends = item[i].expert >= 0 && (i + 1 == n || !same_extent(&item[i], &item[i + 1]));
        item[i].at = align_up(at, begins ? PACKED_PAGE : PACKED_ALIGN);
        at = item[i].at + item[i].bytes;
        if (ends)
            at = align_up(at, PACKED_PAGE);
    }
    return align_up(at, PACKED_PAGE);
}

static uint64_t file_length(const struct packed_item *item, int n)
{
    return n ? align_up(item[n - 1].at + item[n - 1].bytes, PACKED_PAGE) : PACKED_PAGE;
}

/* Index of each item's first checksum, one more for their number; malloc'ed. */
static uint64_t *index_sums(const struct packed_item *item, int n)
{
    uint64_t *first = malloc(((size_t)n + 1) * sizeof *first), at = 0;
    for (int i = 0; first && i <= n; i++) {
        first[i] = at;
        at += i < n ? pieces_of(&item[i]) : 0;
    }
    return first;
}

/* The item table, malloc'ed. */
static struct record *make_records(const struct packed_item *item, int n)
{
    struct record *r = calloc((size_t)n + 1, sizeof *r);
    for (int i = 0; r && i < n; i++)
        r[i] = (struct record){ (int32_t)item[i].role, item[i].layer, item[i].expert, (int32_t)item[i].type,
                                item[i].rows,          item[i].cols,  item[i].at,     item[i].data_bytes,
                                item[i].scale_bytes };
    return r;
}

static uint64_t head_sum(const struct packed_head *h)
{
    return XXH3_64bits(h, offsetof(struct packed_head, head_sum));
}

bool packed_head_valid(const struct packed_head *h)
{
    return memcmp(h->magic, packed_magic, sizeof h->magic) == 0 && h->version == PACKED_VERSION &&
           h->head_sum == head_sum(h);
}

/* ---- the key ---- */

enum { HASH_BUFFER = 1 << 20, SAMPLES = 64, SAMPLE_BYTES = 4096 };

static int hash_range(XXH3_state_t *x, int fd, uint64_t at, uint64_t n, char *buffer, struct err *e)
{
    for (uint64_t done = 0; done < n;) {
        size_t part = n - done < HASH_BUFFER ? (size_t)(n - done) : HASH_BUFFER;
        int rc = file_read(fd, buffer, part, at + done, e);
        if (rc)
            return rc;
        XXH3_128bits_update(x, buffer, part);
        done += part;
    }
    return 0;
}

/* Two trainings of one model can agree in all but the data, also in their times if both came out of an
 * archive: so some of the data counts too. */
static int hash_file(XXH3_state_t *x, const struct model *m, int file, char *buffer, struct err *e)
{
    const struct tensor_file *f = &m->dir->file[file];
    struct stat st;
    if (fstat(f->fd, &st))
        return err_set(e, ERR_FILE, "the file cannot be examined: %s", strerror(errno));
    int64_t id[4] = { st.st_size, st.st_mtim.tv_sec, st.st_mtim.tv_nsec, (int64_t)st.st_ino };
    XXH3_128bits_update(x, id, sizeof id);
    uint64_t head = f->bytes;
    for (int i = 0; i < m->dir->n_tensor; i++)
        if (m->dir->tensor[i].file == file && m->dir->tensor[i].offset < head)
            head = m->dir->tensor[i].offset;
    int rc = hash_range(x, f->fd, 0, head, buffer, e);
    uint64_t step = (f->bytes - head) / SAMPLES;
    for (int i = 0; i < SAMPLES && step >= SAMPLE_BYTES && !rc; i++)
        rc = hash_range(x, f->fd, head + step * (uint64_t)i, SAMPLE_BYTES, buffer, e);
    if (step < SAMPLE_BYTES && !rc)
        rc = hash_range(x, f->fd, head, f->bytes - head, buffer, e);
    return rc;
}

static uint64_t hash_items(XXH3_state_t *x, const struct model *m, const struct packed_item *item, int n)
{
    XXH3_128bits_update(x, &(int){ PACKED_VERSION }, sizeof(int));
    XXH3_128bits_update(x, &(int[2]){ (int)m->shape.arch, (int)m->kind }, 2 * sizeof(int));
    for (int i = 0; i < n; i++) {
        const struct packed_item *it = &item[i];
        const char *type = qtype_info(it->type)->name;
        int64_t what[5] = { it->role, it->layer, it->expert, it->rows, it->cols };
        XXH3_128bits_update(x, what, sizeof what);
        XXH3_128bits_update(x, type, strlen(type) + 1);
    }
    return XXH3_128bits_digest(x).low64;
}

int packed_key_of(struct packed_key *key, const struct model *m, const struct packed_item *item, int n,
                  struct err *e)
{
    XXH3_state_t *x = XXH3_createState();
    char *buffer = malloc(HASH_BUFFER), *place = realpath(m->path, NULL);
    int rc = x && buffer ? 0 : err_set(e, ERR_MEMORY, "no memory for a checksum");
    if (!rc) {
        XXH3_128bits_reset(x);
        uint64_t items = hash_items(x, m, item, n);
        key->origin = XXH3_64bits_withSeed(place ? place : m->path, strlen(place ? place : m->path), items);
    }
    for (int i = 0; i < m->dir->n_file && !rc; i++) {
        rc = hash_file(x, m, i, buffer, e);
        if (rc)
            err_where(e, "%s", m->dir->file[i].path);
    }
    if (!rc) {
        XXH128_hash_t h = XXH3_128bits_digest(x);
        key->low = h.low64;
        key->high = h.high64;
    }
    XXH3_freeState(x);
    free(buffer);
    free(place);
    return rc;
}

/* ---- reading ---- */

void packed_close(struct packed **pp)
{
    struct packed *p = *pp;
    *pp = NULL;
    if (!p)
        return;
    if (p->fd >= 0)
        close(p->fd);
    free(p->path);
    free(p->first);
    free(p->sum);
    free(p);
}

void packed_drop(struct packed **pp, const char *why)
{
    struct packed *p = *pp;
    struct stat ours, now;
    packed_say(&p->opt, "packed model %s: %s; making it anew", p->path, why);
    if (fstat(p->fd, &ours) == 0 && stat(p->path, &now) == 0 && ours.st_ino == now.st_ino &&
        ours.st_dev == now.st_dev)
        unlink(p->path); /* unless another process has just put a good one there */
    packed_close(pp);
}

/* Compares head, table and length with what they must be and loads the checksums. Gives NULL, or what is
 * wrong. */
static const char *verify(struct packed *p, const struct packed_key *key, uint64_t file_bytes)
{
    struct packed_head h;
    struct stat st;
    uint64_t n_sum = p->first[p->n], records = (uint64_t)p->n * sizeof(struct record);
    if (fstat(p->fd, &st) || (uint64_t)st.st_size != file_bytes)
        return "its length is wrong";
    if (file_read(p->fd, &h, sizeof h, 0, NULL))
        return "it cannot be read";
    if (!packed_head_valid(&h))
        return "its beginning is damaged";
    if (h.key.low != key->low || h.key.high != key->high || h.n_item != (uint32_t)p->n ||
        h.file_bytes != file_bytes || h.table_bytes != records + n_sum * sizeof *p->sum)
        return "it belongs to another model";
    char *table = malloc((size_t)h.table_bytes + 1);
    struct record *want = make_records(p->item, p->n);
    p->sum = malloc((size_t)(n_sum + 1) * sizeof *p->sum);
    const char *wrong = NULL;
    if (!table || !want || !p->sum)
        wrong = "no memory for its table";
    else if (file_read(p->fd, table, (size_t)h.table_bytes, sizeof h, NULL))
        wrong = "it cannot be read";
    else if (XXH3_64bits(table, (size_t)h.table_bytes) != h.table_sum)
        wrong = "its table is damaged";
    else if (memcmp(table, want, (size_t)records))
        wrong = "it holds other weights";
    else
        memcpy(p->sum, table + records, (size_t)n_sum * sizeof *p->sum);
    free(table);
    free(want);
    return wrong;
}

int packed_open(struct packed **out, const struct packed_options *opt, const struct packed_key *key,
                const struct packed_item *item, int n, struct err *e)
{
    *out = NULL;
    struct packed *p = calloc(1, sizeof *p);
    if (!p)
        return err_set(e, ERR_MEMORY, "no memory for a packed model's records");
    *p = (struct packed){ .opt = *opt, .item = item, .n = n, .fd = -1 };
    p->path = packed_file_name(opt, key);
    p->first = index_sums(item, n);
    if (!p->path || !p->first) {
        packed_close(&p);
        return err_set(e, ERR_MEMORY, "no memory for a packed model's records");
    }
    p->fd = open(p->path, O_RDONLY | O_CLOEXEC);
    if (p->fd < 0) {
        if (errno != ENOENT && errno != ENOTDIR)
            packed_say(opt, "packed model %s: it cannot be opened (%s)", p->path, strerror(errno));
        packed_close(&p);
        return 0;
    }
    const char *wrong = verify(p, key, file_length(item, n));
    if (wrong) {
        packed_drop(&p, wrong);
        return 0;
    }
    futimens(p->fd, NULL); /* used now: the last to be removed */
    *out = p;
    return 0;
}

int packed_pieces(const struct packed *p, int i)
{
    return (int)pieces_of(&p->item[i]);
}

bool packed_piece_is(const struct packed *p, int i, int piece, const void *bytes)
{
    return XXH3_64bits(bytes, piece_bytes(&p->item[i], piece)) == p->sum[p->first[i] + (uint64_t)piece];
}

int packed_read(const struct packed *p, int i, int piece, void *dst, struct err *e)
{
    const struct packed_item *it = &p->item[i];
    int rc = file_read(p->fd, dst, piece_bytes(it, piece), it->at + (uint64_t)piece * PACKED_PIECE, e);
    if (!rc && !packed_piece_is(p, i, piece, dst))
        rc = err_set(e, ERR_FORMAT, "a checksum is wrong");
    if (rc)
        err_where(e, "%s", p->path);
    return rc;
}

void packed_piece_at(const struct packed *p, int i, int piece, uint64_t *offset, size_t *bytes)
{
    *offset = p->item[i].at + (uint64_t)piece * PACKED_PIECE;
    *bytes = piece_bytes(&p->item[i], piece);
}

struct tensor_file packed_file(const struct packed *p)
{
    return (struct tensor_file){ p->path, p->fd, file_length(p->item, p->n) };
}

/* ---- writing ---- */

static void writer_free(struct packed_writer *w)
{
    file_writer_abort(&w->file);
    free(w->first);
    free(w->sum);
    free(w->path);
    free(w);
}

void packed_abort(struct packed_writer **wp)
{
    if (*wp)
        writer_free(*wp);
    *wp = NULL;
}

static int prepare(struct packed_writer *w, const struct packed_options *opt, struct err *e)
{
    w->file_bytes = file_length(w->item, w->n);
    w->path = packed_file_name(opt, &w->key);
    w->first = index_sums(w->item, w->n);
    w->sum = w->first ? calloc((size_t)w->first[w->n] + 1, sizeof *w->sum) : NULL;
    return w->path && w->sum ? 0 : err_set(e, ERR_MEMORY, "no memory for a packed model's records");
}

int packed_begin(struct packed_writer **out, const struct packed_options *opt, const struct packed_key *key,
                 const struct packed_item *item, int n, struct err *e)
{
    struct packed_writer *w = calloc(1, sizeof *w);
    if (!w)
        return err_set(e, ERR_MEMORY, "no memory for a packed model's records");
    *w = (struct packed_writer){ .item = item, .n = n, .key = *key };
    int rc = prepare(w, opt, e);
    if (!rc)
        rc = packed_make_room(opt, key, w->file_bytes, e);
    if (!rc)
        rc = file_writer_open(&w->file, w->path, e);
    if (!rc)
        rc = file_writer_reserve(w->file, w->file_bytes, e);
    if (!rc) /* gives it its length where nothing can be reserved */
        rc = file_writer_at(w->file, "", 1, w->file_bytes - 1, e);
    if (rc) {
        packed_abort(&w);
        return rc;
    }
    *out = w;
    return 0;
}

static int put_piece(struct packed_writer *w, int i, int piece, const char *bytes, struct err *e)
{
    const struct packed_item *it = &w->item[i];
    size_t n = piece_bytes(it, piece);
    w->sum[w->first[i] + (uint64_t)piece] = XXH3_64bits(bytes, n);
    return file_writer_at(w->file, bytes, n, it->at + (uint64_t)piece * PACKED_PIECE, e);
}

int packed_put(struct packed_writer *w, int i, const void *span, struct err *e)
{
    int rc = 0, n = (int)pieces_of(&w->item[i]);
    for (int piece = 0; piece < n && !rc; piece++)
        rc = put_piece(w, i, piece, (const char *)span + (size_t)piece * PACKED_PIECE, e);
    return rc;
}

static int write_head(struct packed_writer *w, struct err *e)
{
    size_t records = (size_t)w->n * sizeof(struct record), sums = (size_t)w->first[w->n] * sizeof *w->sum;
    struct record *r = make_records(w->item, w->n);
    char *table = malloc(records + sums + 1);
    int rc = r && table ? 0 : err_set(e, ERR_MEMORY, "no memory for a packed model's table");
    if (!rc) {
        memcpy(table, r, records);
        memcpy(table + records, w->sum, sums);
        struct packed_head h = { .version = PACKED_VERSION,
                                 .n_item = (uint32_t)w->n,
                                 .key = w->key,
                                 .file_bytes = w->file_bytes,
                                 .table_bytes = records + sums,
                                 .table_sum = XXH3_64bits(table, records + sums) };
        memcpy(h.magic, packed_magic, sizeof h.magic);
        h.head_sum = head_sum(&h);
        rc = file_writer_at(w->file, &h, sizeof h, 0, e);
        if (!rc)
            rc = file_writer_at(w->file, table, records + sums, sizeof h, e);
    }
    free(r);
    free(table);
    return rc;
}

int packed_commit(struct packed_writer **wp, struct err *e)
{
    struct packed_writer *w = *wp;
    int rc = write_head(w, e);
    if (!rc)
        rc = file_writer_commit(&w->file, e);
    packed_abort(wp);
    return rc;
}
