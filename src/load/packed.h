/*
 * packed.h: the finished bytes of a model quantized while it was loaded, kept as a file: the next start reads
 * them back, and experts that do not fit into RAM are read from it one by one.
 *
 * A pack belongs to a key made of the source files and of what each weight became, so nothing needs to be
 * decided when it is found: it is these very bytes or it is not used. It appears under its name when it is
 * complete. Every 1 MiB piece of a weight has a checksum, verified while it is read.
 *
 * File: header, item table, checksums; from a multiple of 4096 on the weights, each at a multiple of 64 as
 * codes, zeros up to a multiple of 64, scale plane. The three matrices of an expert stand together in an
 * extent of whole 4096-byte pages, so that it can be read past the page cache.
 */
#ifndef TONNE_LOAD_PACKED_H
#define TONNE_LOAD_PACKED_H

#include "base/log.h"
#include "model/model.h"
#include "plan/plan.h"
#include "quant/qtype.h"

enum { PACKED_ALIGN = 64, PACKED_PAGE = 4096, PACKED_PIECE = PLAN_PIECE_BYTES };

/* One weight; the caller fills in the first seven, packed_layout the rest. */
struct packed_item {
    enum role role;
    int layer, expert; /* as in model_find; the matrices of one expert are neighbours in the list */
    enum qtype type;
    int64_t rows, cols;
    size_t data_bytes, scale_bytes;
    /* Its span: scale_at bytes from its beginning (codes and zeros), then the plane. */
    size_t scale_at, bytes;
    uint64_t at; /* of the span in the file */
};

struct packed_key {
    uint64_t low, high;
    uint64_t
        origin; /* the model's place and the list: packs of this origin with another key are out of date */
};

struct packed_options {
    const char *folder;   /* made if it is missing */
    uint64_t limit_bytes; /* of all packs in it, the least recently used go first; 0: 200 GiB */
    uint64_t spare_bytes; /* stay free on the drive; 0: 1 GiB */
    /* One line about what was wrong with a pack that is not used; may be NULL. */
    void (*say)(void *user, const char *line);
    void *say_user;
};

/* Identity of the source files (sizes, times, inodes, headers and samples of the data; not their paths) and
 * of what becomes of each weight. ERR_FILE when they cannot be read. */
int packed_key_of(struct packed_key *key, const struct model *m, const struct packed_item *item, int n,
                  struct err *e);

/* Fills in spans and places, which depend on the list alone; returns the length of the file. */
uint64_t packed_layout(struct packed_item *item, int n);

/* ---- reading ---- */

struct packed;

/* Gives *out, or NULL where there is no valid pack of this key (a bad one is removed, with a line). item:
 * laid out, borrowed. Only ERR_MEMORY. */
int packed_open(struct packed **out, const struct packed_options *opt, const struct packed_key *key,
                const struct packed_item *item, int n, struct err *e);
void packed_close(struct packed **p); /* NULL is fine */

int packed_pieces(const struct packed *p,
                  int i); /* pieces of item i: PACKED_PIECE bytes of its span each, the last less */
/* Fills dst with a piece. ERR_FORMAT when its checksum is wrong, ERR_FILE when it cannot be read: then
 * packed_drop and make the weights anew. Thread-safe. */
int packed_read(const struct packed *p, int i, int piece, void *dst, struct err *e);
/* Whether n bytes read otherwise are what was written as this piece. */
bool packed_piece_is(const struct packed *p, int i, int piece, const void *bytes);
/* Removes the file and says so; ends p. */
void packed_drop(struct packed **p, const char *why);
/* Where a piece lies in the file. */
void packed_piece_at(const struct packed *p, int i, int piece, uint64_t *offset, size_t *bytes);
/* The file, open; for reading it otherwise. Path and fd are valid until packed_close. */
struct tensor_file packed_file(const struct packed *p);

/* ---- writing ---- */

struct packed_writer;

/* Makes room (removes leftovers, packs that are out of date, and least recently used ones beyond the limit)
 * and takes it on the drive. ERR_NO_ROOM when the drive lacks it or the limit is too small, ERR_IO when the
 * folder cannot be written. item: laid out, borrowed. Gives *out. */
int packed_begin(struct packed_writer **out, const struct packed_options *opt, const struct packed_key *key,
                 const struct packed_item *item, int n, struct err *e);
/* Writes the span of item i, each exactly once in any order. Thread-safe. */
int packed_put(struct packed_writer *w, int i, const void *span, struct err *e);
/* Completes the file; all items were put. Ends w, also on failure. */
int packed_commit(struct packed_writer **w, struct err *e);
void packed_abort(struct packed_writer **w); /* NULL is fine */

#endif
