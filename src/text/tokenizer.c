/*
 * tokenizer.c: text to ids: cut out added tokens, normalise the rest, cut it into pre-tokens, merge each.
 * Opening is in tokenizer_json.c, tokenizer_gguf.c and tokenizer_build.c; ids to text in token_stream.c.
 */
#include "text/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "text/nfc.h"
#include "text/tokenizer_internal.h"
#include "text/utf8.h"

enum { MAX_JSON_BYTES = 64 << 20, MAX_TEXT_BYTES = INT32_MAX / 2 };

int tokenizer_open(struct tokenizer **out, const struct model *m, struct err *e)
{
    if (m->kind == MODEL_GGUF) {
        int rc = tokenizer_open_gguf(out, m->gguf, e);
        if (rc)
            err_where(e, "%s", m->path);
        return rc;
    }
    char path[4096], *text;
    size_t n;
    int len = snprintf(path, sizeof path, "%s/tokenizer.json", m->folder);
    if (len < 0 || (size_t)len >= sizeof path)
        return err_set(e, ERR_FILE, "the model's path is too long");
    int rc = file_slurp(path, MAX_JSON_BYTES, &text, &n, e);
    if (rc)
        return rc;
    rc = tokenizer_open_json(out, text, n, e);
    if (rc)
        err_where(e, "%s", path);
    free(text);
    return rc;
}

/* ---- lists of ids ---- */

static int tokens_reserve(struct tokens *t, size_t more, struct err *e)
{
    if (t->capacity - t->n >= more)
        return 0;
    size_t capacity = t->n + more + t->n / 2 + 64;
    int32_t *id = realloc(t->id, capacity * sizeof *id);
    if (!id)
        return err_set(e, ERR_MEMORY, "no memory for %zu tokens", capacity);
    t->id = id;
    t->capacity = capacity;
    return 0;
}

int tokens_push(struct tokens *t, int32_t id, struct err *e)
{
    int rc = tokens_reserve(t, 1, e);
    if (rc == 0)
        t->id[t->n++] = id;
    return rc;
}

void tokens_free(struct tokens *t)
{
    free(t->id);
    *t = (struct tokens){ 0 };
}

/* ---- encoding ---- */

struct encoder { /* one call's state */
    const struct tokenizer *t;
    struct tokens *out;
    const struct trusted_range *trusted;
    int n_trusted;
    struct nfc nfc;
    struct bpe_scratch bpe;
    /* the piece being searched for normalized added tokens, in the caller's text */
    size_t piece_begin, piece_end;
    bool piece_moved; /* NFC changed it, so positions inside do not map back */
};

static int encode_word(struct encoder *x, const char *word, size_t n, struct err *e)
{
    int32_t whole = vocab_find_bytes(&x->t->vocab, word, n);
    if (whole >= 0)
        return tokens_push(x->out, whole, e);
    int rc = tokens_reserve(x->out, n, e);
    if (rc)
        return rc;
    size_t count;
    rc = bpe_merge(&x->t->bpe, &x->bpe, word, n, x->out->id + x->out->n, &count, e);
    x->out->n += count;
    return rc;
}

/* Text without added tokens, normalised. */
static int encode_plain(struct encoder *x, const char *text, size_t n, struct err *e)
{
    int rc = 0;
    for (size_t at = 0; at < n && rc == 0;) {
        size_t end = pre_token_end(x->t->rule, &x->t->classes, text, n, at);
        rc = encode_word(x, text + at, end - at, e);
        at = end;
    }
    return rc;
}

/* True when text[at..at+n) lies in one trusted range; ranges that touch count as one. */
static bool is_trusted(const struct encoder *x, size_t at, size_t n)
{
    if (x->n_trusted == TOKENIZE_ALL_TRUSTED)
        return true;
    int low = 0, high = x->n_trusted; /* the last range that begins at or before at */
    while (low < high) {
        int mid = low + (high - low) / 2;
        if (x->trusted[mid].begin <= at)
            low = mid + 1;
        else
            high = mid;
    }
    if (low == 0)
        return false;
    size_t end = x->trusted[low - 1].end;
    while (end < at + n && low < x->n_trusted && x->trusted[low].begin == end)
        end = x->trusted[low++].end;
    return at + n <= end;
}

static bool trusted_raw(const void *ctx, size_t at, size_t n)
{
    return is_trusted(ctx, at, n);
}

/* Positions after NFC: exact if it changed nothing, otherwise the whole piece has to be trusted. */
static bool trusted_normalized(const void *ctx, size_t at, size_t n)
{
    const struct encoder *x = ctx;
    if (x->piece_moved)
        return is_trusted(x, x->piece_begin, x->piece_end - x->piece_begin);
    return is_trusted(x, x->piece_begin + at, n);
}

/* text[begin..end) holds no raw added token: normalise it, cut out the normalized ones. */
static int encode_piece(struct encoder *x, const char *text, size_t begin, size_t end, struct err *e)
{
    const char *piece = text + begin;
    size_t n = end - begin, at, from = 0;
    bool moved = false;
    int rc = 0;
    if (n == 0)
        return 0;
    if (x->t->nfc)
        rc = nfc_normalise(&x->nfc, &x->t->classes, &piece, &n, &moved, e);
    if (rc)
        return rc;
    x->piece_begin = begin;
    x->piece_end = end;
    x->piece_moved = moved;
    const struct added_filter filter = { trusted_normalized, x };
    const struct added_token *a;
    while (rc == 0 && (a = added_tokens_next(&x->t->normalized, piece, n, from, &filter, &at)) != NULL) {
        rc = encode_plain(x, piece + from, at - from, e);
        if (rc == 0)
            rc = tokens_push(x->out, a->id, e);
        from = at + a->n;
    }
    return rc ? rc : encode_plain(x, piece + from, n - from, e);
}

static int encode_text(struct encoder *x, const char *text, size_t n, struct err *e)
{
    const struct added_filter filter = { trusted_raw, x };
    const struct added_token *a;
    size_t at, from = 0;
    while ((a = added_tokens_next(&x->t->raw, text, n, from, &filter, &at)) != NULL) {
        int rc = encode_piece(x, text, from, at, e);
        if (rc == 0)
            rc = tokens_push(x->out, a->id, e);
        if (rc)
            return rc;
        from = at + a->n;
    }
    return encode_piece(x, text, from, n, e);
}

static int check_ranges(const struct trusted_range *r, int n_ranges, size_t n, struct err *e)
{
    size_t last = 0;
    for (int i = 0; i < n_ranges; i++) {
        if (r[i].begin < last || r[i].end < r[i].begin || r[i].end > n)
            return err_set(e, ERR_USAGE,
                           "trusted range %d is not after the one before or not inside the text", i);
        last = r[i].end;
    }
    return 0;
}

int tokenizer_encode(const struct tokenizer *t, const char *text, size_t n,
                     const struct trusted_range *trusted, int n_trusted, struct tokens *out, struct err *e)
{
    if (n == 0)
        return 0;
    if (n > MAX_TEXT_BYTES)
        return err_set(e, ERR_USAGE, "the text is %zu bytes long; at most %d can be tokenized at once", n,
                       MAX_TEXT_BYTES);
    size_t good = utf8_valid(text, n);
    if (good != n) {
        err_set(e, ERR_USAGE, "the text is not UTF-8: byte 0x%02X at position %zu", (unsigned char)text[good],
                good);
        err_hint(e, "convert the text to UTF-8, for example with iconv -t UTF-8");
        return ERR_USAGE;
    }
    int rc = check_ranges(trusted, n_trusted, n, e);
    if (rc)
        return rc;
    size_t before = out->n;
    struct encoder x = { .t = t, .out = out, .trusted = trusted, .n_trusted = n_trusted };
    rc = encode_text(&x, text, n, e);
    nfc_free(&x.nfc);
    bpe_scratch_free(&x.bpe);
    if (rc)
        out->n = before;
    return rc;
}

/* ---- what is in it ---- */

static const struct vocab_token *token_at(const struct tokenizer *t, int32_t id)
{
    return id >= 0 && id < t->size && t->vocab.token[id].flags ? &t->vocab.token[id] : NULL;
}

int tokenizer_size(const struct tokenizer *t)
{
    return t->size;
}

const char *tokenizer_bytes(const struct tokenizer *t, int32_t id, size_t *n)
{
    const struct vocab_token *k = token_at(t, id);
    *n = k ? k->n_bytes : 0;
    return k ? t->vocab.pool + k->bytes : NULL;
}

bool tokenizer_is_special(const struct tokenizer *t, int32_t id)
{
    const struct vocab_token *k = token_at(t, id);
    return k && (k->flags & VOCAB_SPECIAL);
}

int32_t tokenizer_find(const struct tokenizer *t, const char *text)
{
    const struct added_token *a = added_tokens_find(&t->raw, text, strlen(text));
    if (!a)
        a = added_tokens_find(&t->normalized, text, strlen(text));
    return a ? a->id : -1;
}

const char *tokenizer_pre(const struct tokenizer *t)
{
    return pre_rule_name(t->rule);
}

int tokenizer_n_merges(const struct tokenizer *t)
{
    return t->n_merges;
}

const char *tokenizer_merge(const struct tokenizer *t, int i)
{
    return i >= 0 && i < t->n_merges ? t->merge_pool + t->merge[i] : NULL;
}

const char *tokenizer_gguf_text(const struct tokenizer *t, int32_t id, size_t *n)
{
    const struct vocab_token *k = token_at(t, id);
    *n = k ? k->n_text : 0;
    return k ? t->vocab.pool + k->text : NULL;
}

int tokenizer_gguf_type(const struct tokenizer *t, int32_t id)
{
    const struct vocab_token *k = token_at(t, id);
    return k ? k->type : TOKEN_UNUSED;
}
