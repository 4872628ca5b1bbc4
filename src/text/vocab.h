/*
 * vocab.h: every token's text and bytes, and the way from bytes back to the token.
 * Vocabularies are written in a byte alphabet: each byte is one printable character (space: U+0120).
 */
#ifndef TONNE_TEXT_VOCAB_H
#define TONNE_TEXT_VOCAB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum { VOCAB_MAX_IDS = 1 << 24 };

/* GGUF's token types. */
enum { TOKEN_NORMAL = 1, TOKEN_UNKNOWN, TOKEN_CONTROL, TOKEN_USER_DEFINED, TOKEN_UNUSED, TOKEN_BYTE };

enum {
    VOCAB_MODEL = 1,   /* part of the BPE vocabulary: merges may produce it */
    VOCAB_ADDED = 2,   /* matched in the text before BPE */
    VOCAB_SPECIAL = 4, /* added with special = true */
    VOCAB_BYTES = 8    /* written in the byte alphabet throughout, so BPE can reach it */
};

struct vocab_token {
    uint32_t text, n_text;   /* as the file spells it, in the pool */
    uint32_t bytes, n_bytes; /* what it stands for, in the pool */
    uint8_t flags;           /* 0: no such token */
    uint8_t type;            /* GGUF's */
};

struct vocab_index { /* open addressing; keys are texts or bytes of tokens */
    struct vocab_slot *slot;
    uint32_t mask;
};

struct vocab {
    struct vocab_token *token; /* [n] by id */
    int32_t n;                 /* highest id + 1 */
    char *pool;
    size_t n_pool, pool_capacity;
    struct vocab_index by_text;  /* model tokens; only while building */
    struct vocab_index by_bytes; /* tokens that stand for a whole pre-token */
};

/* Makes room for ids 0..n-1, none of them used. */
int vocab_open(struct vocab *v, int64_t n, struct err *e);
void vocab_close(struct vocab *v);

/* Adds a token of the BPE vocabulary. ERR_FORMAT: id outside, used before, or text used before. */
int vocab_add_model(struct vocab *v, int64_t id, const char *text, size_t n, int type, struct err *e);
/* Adds an added token; the id may be one of the BPE vocabulary if its text is the same. */
int vocab_add_added(struct vocab *v, int64_t id, const char *text, size_t n, bool special, int type,
                    struct err *e);

/* The model token with this text, or -1. Valid until vocab_end_texts. */
int32_t vocab_find_text(const struct vocab *v, const char *text, size_t n);
void vocab_end_texts(struct vocab *v);

/* Fills id[256] with the tokens of the single bytes; ERR_FORMAT when one is missing. */
int vocab_byte_ids(const struct vocab *v, uint32_t id[256], struct err *e);

/* The index from bytes to tokens: make room, enter, look up (-1: none). */
int vocab_index_bytes(struct vocab *v, struct err *e);
void vocab_enter_bytes(struct vocab *v, int32_t id);
int32_t vocab_find_bytes(const struct vocab *v, const char *bytes, size_t n);

#endif
