/* tokenizer_build.c: puts a tokenizer together from tokens and merges, whatever file they come from. */
#include <stdlib.h>
#include <string.h>

#include "text/nfc.h"
#include "text/tokenizer_internal.h"

int build_open(struct tokenizer **out, int64_t n_ids, struct err *e)
{
    struct tokenizer *t = calloc(1, sizeof *t);
    if (!t)
        return err_set(e, ERR_MEMORY, "no memory for the tokenizer");
    int rc = vocab_open(&t->vocab, n_ids, e);
    if (rc) {
        free(t);
        return rc;
    }
    char_classes_fill(&t->classes);
    *out = t;
    return 0;
}

void tokenizer_close(struct tokenizer **tokenizer)
{
    struct tokenizer *t = *tokenizer;
    if (!t)
        return;
    vocab_close(&t->vocab);
    bpe_close(&t->bpe);
    added_tokens_free(&t->raw);
    added_tokens_free(&t->normalized);
    free(t->merge);
    free(t->merge_pool);
    free(t);
    *tokenizer = NULL;
}

int build_added(struct tokenizer *t, int64_t id, const char *text, size_t n, bool special, bool normalized,
                int type, struct err *e)
{
    int rc = vocab_add_added(&t->vocab, id, text, n, special, type, e);
    if (rc)
        return rc;
    if (!normalized)
        return added_tokens_add(&t->raw, text, n, (int32_t)id, special, e);
    struct nfc nfc = { 0 };
    bool changed;
    if (t->nfc)
        rc = nfc_normalise(&nfc, &t->classes, &text, &n, &changed, e);
    if (rc == 0)
        rc = added_tokens_add(&t->normalized, text, n, (int32_t)id, special, e);
    nfc_free(&nfc);
    return rc;
}

int build_merges(struct tokenizer *t, uint64_t n, struct err *e)
{
    if (n > VOCAB_MAX_IDS)
        return err_set(e, ERR_FORMAT, "%llu merges are more than the %d possible", (unsigned long long)n,
                       VOCAB_MAX_IDS);
    t->merge = calloc(n + 1, sizeof *t->merge);
    if (!t->merge)
        return err_set(e, ERR_MEMORY, "no memory for %llu merges", (unsigned long long)n);
    return bpe_open(&t->bpe, (uint32_t)n, e);
}

static int reserve_merge(struct tokenizer *t, size_t n, struct err *e)
{
    if (t->merge_pool_capacity - t->n_merge_pool >= n)
        return 0;
    size_t capacity = 2 * (t->n_merge_pool + n) + 4096;
    if (capacity > UINT32_MAX)
        return err_set(e, ERR_FORMAT, "the merges' texts are longer than 2 GiB");
    char *pool = realloc(t->merge_pool, capacity);
    if (!pool)
        return err_set(e, ERR_MEMORY, "no memory for %zu bytes of merges", capacity);
    t->merge_pool = pool;
    t->merge_pool_capacity = capacity;
    return 0;
}

/* Appends one side; a space inside it would make "a b" ambiguous and is written in the byte alphabet
 * (U+0120). */
static void append_side(struct tokenizer *t, const char *side, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        char *to = t->merge_pool + t->n_merge_pool;
        if (side[i] == ' ') {
            memcpy(to, "\xC4\xA0", 2);
            t->n_merge_pool += 2;
        } else {
            *to = side[i];
            t->n_merge_pool++;
        }
    }
}

static int missing(int rank, const char *text, size_t n, struct err *e)
{
    return err_set(e, ERR_FORMAT, "merge %d needs the token '%.*s', which the vocabulary lacks", rank,
                   (int)(n < 60 ? n : 60), text);
}

int build_merge(struct tokenizer *t, const char *left, size_t n_left, const char *right, size_t n_right,
                struct err *e)
{
    int rank = t->n_merges;
    int rc = reserve_merge(t, 2 * (n_left + n_right) + 2, e);
    if (rc)
        return rc;
    char *joined = t->merge_pool + t->n_merge_pool; /* scratch, until the text itself is written there */
    memcpy(joined, left, n_left);
    memcpy(joined + n_left, right, n_right);
    int32_t l = vocab_find_text(&t->vocab, left, n_left), r = vocab_find_text(&t->vocab, right, n_right);
    int32_t id = vocab_find_text(&t->vocab, joined, n_left + n_right);
    if (l < 0 || r < 0)
        return l < 0 ? missing(rank, left, n_left, e) : missing(rank, right, n_right, e);
    if (id < 0)
        return missing(rank, joined, n_left + n_right, e);
    rc = bpe_add(&t->bpe, (uint32_t)l, (uint32_t)r, (uint32_t)rank, (uint32_t)id, e);
    if (rc)
        return rc;
    t->merge[t->n_merges++] = (uint32_t)t->n_merge_pool;
    append_side(t, left, n_left);
    t->merge_pool[t->n_merge_pool++] = ' ';
    append_side(t, right, n_right);
    t->merge_pool[t->n_merge_pool++] = '\0';
    return 0;
}

enum { WHOLE_MAX = 128 }; /* bytes; longer tokens are left to the merges */

/* Enters the tokens that a whole pre-token can be replaced by: those that the merges make of their own bytes,
 * or all with ignore_merges. Most pre-tokens of ordinary text then cost one look-up. */
static int enter_whole_tokens(struct tokenizer *t, struct err *e)
{
    struct vocab *v = &t->vocab;
    struct bpe_scratch scratch = { 0 };
    int32_t out[WHOLE_MAX];
    int rc = vocab_index_bytes(v, e);
    for (int32_t id = 0; id < v->n && rc == 0; id++) {
        const struct vocab_token *k = &v->token[id];
        if (!(k->flags & VOCAB_MODEL) || !(k->flags & VOCAB_BYTES))
            continue;
        size_t n = 0;
        if (!t->ignore_merges && k->n_bytes <= WHOLE_MAX)
            rc = bpe_merge(&t->bpe, &scratch, v->pool + k->bytes, k->n_bytes, out, &n, e);
        if (rc == 0 && (t->ignore_merges || (n == 1 && out[0] == id)))
            vocab_enter_bytes(v, id);
    }
    bpe_scratch_free(&scratch);
    return rc;
}

int build_finish(struct tokenizer *t, struct err *e)
{
    int rc = vocab_byte_ids(&t->vocab, t->bpe.byte_id, e);
    if (rc) {
        err_where(e, "vocabulary");
        return rc;
    }
    rc = added_tokens_seal(&t->raw, e);
    if (rc == 0)
        rc = added_tokens_seal(&t->normalized, e);
    if (rc) {
        err_where(e, "added tokens");
        return rc;
    }
    rc = enter_whole_tokens(t, e);
    vocab_end_texts(&t->vocab);
    for (int32_t id = 0; id < t->vocab.n; id++)
        if (t->vocab.token[id].flags)
            t->size = id + 1;
    return rc;
}
