/* added_tokens.h: finds added tokens (<|im_end|>, <think>) in a text: the leftmost, and there the longest. */
#ifndef TONNE_TEXT_ADDED_TOKENS_H
#define TONNE_TEXT_ADDED_TOKENS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct added_token {
    char *text; /* owned; a 0 byte follows */
    size_t n;   /* > 0 */
    int32_t id;
    bool special;
};

struct added_tokens {          /* zero-initialise; added_tokens_free */
    struct added_token *token; /* sorted by text after added_tokens_seal */
    size_t n, capacity;
    bool begins[256]; /* some token begins with this byte */
};

/* Copies text. */
int added_tokens_add(struct added_tokens *a, const char *text, size_t n, int32_t id, bool special,
                     struct err *e);
/* Sorts; ERR_FORMAT when two tokens have the same text. */
int added_tokens_seal(struct added_tokens *a, struct err *e);
void added_tokens_free(struct added_tokens *a);

/* The token of exactly this text, or NULL. */
const struct added_token *added_tokens_find(const struct added_tokens *a, const char *text, size_t n);

/* Which special tokens count: special tokens at text[at..at+n) only where allowed says so. */
struct added_filter {
    bool (*allowed)(const void *ctx, size_t at, size_t n);
    const void *ctx;
};

/* The first token at or after from, its position in *at; NULL: none. Tokens that the filter refuses do not
 * exist. */
const struct added_token *added_tokens_next(const struct added_tokens *a, const char *text, size_t n,
                                            size_t from, const struct added_filter *filter, size_t *at);

#endif
