/*
 * tokenizer.h: byte-level BPE as Qwen models use it, from tokenizer.json or GGUF keys; equal to Hugging Face
 * `tokenizers` (NFC, pre-token rules qwen2 and qwen35, added tokens). Immutable after opening; thread-safe.
 */
#ifndef TONNE_TEXT_TOKENIZER_H
#define TONNE_TEXT_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "model/gguf.h"
#include "model/model.h"

struct tokenizer;

/* From the model's files: tokenizer.json in its folder, or its GGUF keys. */
int tokenizer_open(struct tokenizer **out, const struct model *m, struct err *e);
int tokenizer_open_json(struct tokenizer **out, const char *text, size_t n,
                        struct err *e); /* tokenizer.json's text */
int tokenizer_open_gguf(struct tokenizer **out, const struct gguf_meta *meta, struct err *e);
void tokenizer_close(struct tokenizer **t);

struct tokens { /* a growing list; zero-initialise; tokens_free */
    int32_t *id;
    size_t n, capacity;
};
int tokens_push(struct tokens *t, int32_t id, struct err *e);
void tokens_free(struct tokens *t);

/* Byte ranges of the text that come from a template: only there are added tokens with special = true
 * recognised. (Added tokens with special = false, such as <think>, are recognised everywhere, as the
 * reference does.) */
struct trusted_range {
    size_t begin, end;
};

/* Appends the ids of text[0..n) to *out. trusted NULL with n_trusted 0: nothing is trusted;
 * TOKENIZE_ALL_TRUSTED as n_trusted: all of it. Ranges ascend; two that touch count as one. Text that is not
 * UTF-8 is ERR_USAGE with the byte's position. */
enum { TOKENIZE_ALL_TRUSTED = -1 };
int tokenizer_encode(const struct tokenizer *t, const char *text, size_t n,
                     const struct trusted_range *trusted, int n_trusted, struct tokens *out, struct err *e);

int tokenizer_size(const struct tokenizer *t); /* ids are below this; padding rows not counted */
/* The bytes of one token, borrowed; added tokens give their text. NULL for ids without one. */
const char *tokenizer_bytes(const struct tokenizer *t, int32_t id, size_t *n);
bool tokenizer_is_special(const struct tokenizer *t, int32_t id);    /* added with special = true */
int32_t tokenizer_find(const struct tokenizer *t, const char *text); /* the added token, or -1 */
const char *tokenizer_pre(const struct tokenizer *t);                /* "qwen2" or "qwen35" */

/* What a GGUF writer stores (tokenizer.ggml.*): text in the byte alphabet, type as in GGUF, merges "a b".
 * Borrowed. For an id without a token: NULL and type 5 (unused); converters write "[PAD<id>]" there. */
int tokenizer_n_merges(const struct tokenizer *t);
const char *tokenizer_merge(const struct tokenizer *t, int i);
const char *tokenizer_gguf_text(const struct tokenizer *t, int32_t id, size_t *n);
int tokenizer_gguf_type(const struct tokenizer *t, int32_t id);

/* Turns ids into text piece by piece, never ending inside a UTF-8 character: incomplete bytes are held back
 * until they are complete, or replaced by U+FFFD when they cannot become valid. */
struct token_stream {
    const struct tokenizer *tokenizer;
    bool skip_special;
    char pending[8];
    int n_pending;
};
/* Fills out (room for 3 * (token bytes + 8)) with the text that id completes; returns its length. */
size_t token_stream_push(struct token_stream *s, int32_t id, char *out, size_t room);
size_t token_stream_room(const struct tokenizer *t); /* a room that is enough for every token */
/* What is left at the end (U+FFFD for an incomplete character). */
size_t token_stream_finish(struct token_stream *s, char *out, size_t room);

#endif
