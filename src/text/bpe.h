/*
 * bpe.h: merges bytes into tokens: always the adjacent pair of lowest rank, the leftmost of equals, until no
 * pair has a merge. Works on ids alone; texts are vocab.c's business.
 */
#ifndef TONNE_TEXT_BPE_H
#define TONNE_TEXT_BPE_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct merge_slot { /* of an open-addressing table keyed by the pair of ids */
    uint32_t left, right;
    uint32_t rank; /* BPE_NO_RANK: free */
    uint32_t id;   /* what the pair becomes */
};

enum { BPE_NO_RANK = UINT32_MAX >> 1 };

struct bpe {
    struct merge_slot *slot;
    uint32_t mask;         /* slots - 1, a power of two minus one */
    uint32_t byte_id[256]; /* the token of each single byte */
};

/* Makes an empty table for up to n merges. */
int bpe_open(struct bpe *b, uint32_t n, struct err *e);
void bpe_close(struct bpe *b);
/* Adds a merge; a later one of the same pair replaces the earlier, as the reference does. ERR_FORMAT when the
 * table is made to collide (no honest file is). */
int bpe_add(struct bpe *b, uint32_t left, uint32_t right, uint32_t rank, uint32_t id, struct err *e);

struct bpe_scratch { /* for long words; zero-initialise; bpe_scratch_free */
    struct bpe_node *node;
    uint64_t *heap; /* [2 n] rank << 32 | position */
    size_t capacity;
};
void bpe_scratch_free(struct bpe_scratch *s);

/* Fills out[0..*n_out) with the tokens of word[0..n); room for n. n < 2^31. */
int bpe_merge(const struct bpe *b, struct bpe_scratch *s, const char *word, size_t n, int32_t *out,
              size_t *n_out, struct err *e);

#endif
