/* tokenizer_internal.h: the tokenizer's parts, and how the two readers (JSON, GGUF) put them together. */
#ifndef TONNE_TEXT_TOKENIZER_INTERNAL_H
#define TONNE_TEXT_TOKENIZER_INTERNAL_H

#include "text/added_tokens.h"
#include "text/bpe.h"
#include "text/char_class.h"
#include "text/pretokenize.h"
#include "text/tokenizer.h"
#include "text/vocab.h"

struct tokenizer {
    struct vocab vocab;
    struct bpe bpe;
    struct added_tokens raw;        /* matched in the text as it is */
    struct added_tokens normalized; /* matched after NFC, in what raw left over */
    enum pre_rule rule;
    bool nfc;
    bool ignore_merges; /* a pre-token that is in the vocabulary is taken whole */
    int32_t size;       /* highest used id + 1 */
    int n_merges;
    uint32_t *merge; /* [n_merges] position of "a b" in merge_pool */
    char *merge_pool;
    size_t n_merge_pool, merge_pool_capacity;
    struct char_classes classes;
};

/* Readers: build_open, then all tokens by vocab_add_model and build_added, build_merges, each build_merge in
 * order of rank, build_finish. After a failure: tokenizer_close. */
int build_open(struct tokenizer **out, int64_t n_ids, struct err *e);
int build_added(struct tokenizer *t, int64_t id, const char *text, size_t n, bool special, bool normalized,
                int type, struct err *e);
int build_merges(struct tokenizer *t, uint64_t n, struct err *e);
int build_merge(struct tokenizer *t, const char *left, size_t n_left, const char *right, size_t n_right,
                struct err *e);
int build_finish(struct tokenizer *t, struct err *e);

#endif
