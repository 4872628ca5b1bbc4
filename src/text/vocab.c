/* vocab.c: see vocab.h. Texts and bytes of all tokens lie in one pool; positions, not pointers, because it
 * grows. */
#include "text/vocab.h"

#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "text/utf8.h"

struct vocab_slot {
    uint32_t hash;
    int32_t id; /* -1: free */
};

int vocab_open(struct vocab *v, int64_t n, struct err *e)
{
    *v = (struct vocab){ 0 };
    if (n < 1 || n > VOCAB_MAX_IDS)
        return err_set(e, ERR_FORMAT, "the vocabulary has %lld ids; 1 to %d are possible", (long long)n,
                       VOCAB_MAX_IDS);
    v->token = calloc((size_t)n, sizeof *v->token);
    if (!v->token)
        return err_set(e, ERR_MEMORY, "no memory for %lld tokens", (long long)n);
    v->n = (int32_t)n;
    return 0;
}

void vocab_close(struct vocab *v)
{
    vocab_end_texts(v);
    free(v->by_bytes.slot);
    free(v->token);
    free(v->pool);
    *v = (struct vocab){ 0 };
}

void vocab_end_texts(struct vocab *v)
{
    free(v->by_text.slot);
    v->by_text = (struct vocab_index){ 0 };
}

/* ---- the pool ---- */

static int pool_add(struct vocab *v, const char *s, size_t n, uint32_t *at, struct err *e)
{
    if (n > UINT32_MAX / 4 || v->n_pool + n + 1 > UINT32_MAX / 2)
        return err_set(e, ERR_FORMAT, "the tokens' texts are longer than 2 GiB");
    if (v->n_pool + n + 1 > v->pool_capacity) {
        size_t capacity = 2 * (v->n_pool + n) + 4096;
        char *pool = realloc(v->pool, capacity);
        if (!pool)
            return err_set(e, ERR_MEMORY, "no memory for %zu bytes of token texts", capacity);
        v->pool = pool;
        v->pool_capacity = capacity;
    }
    *at = (uint32_t)v->n_pool;
    memcpy(v->pool + v->n_pool, s, n);
    v->pool[v->n_pool + n] = '\0';
    v->n_pool += n + 1;
    return 0;
}

/* ---- the byte alphabet ---- */

/* The byte that a character stands for, or -1. The 68 unprintable bytes are U+0100 onwards, in their order.
 */
static int alphabet_byte(uint32_t cp)
{
    if ((cp >= 0x21 && cp <= 0x7E) || (cp >= 0xA1 && cp <= 0xAC) || (cp >= 0xAE && cp <= 0xFF))
        return (int)cp;
    if (cp >= 0x100 && cp <= 0x120)
        return (int)cp - 0x100; /* 0x00-0x20 */
    if (cp >= 0x121 && cp <= 0x142)
        return (int)cp - 0x121 + 0x7F; /* 0x7F-0xA0 */
    return cp == 0x143 ? 0xAD : -1;
}

/* Fills out[0..return) with the bytes that a text in the alphabet stands for; -1: it is not in the alphabet.
 */
static int64_t alphabet_decode(const char *text, size_t n, char *out)
{
    int64_t count = 0;
    int len;
    for (size_t i = 0; i < n; i += (size_t)len) {
        int b = alphabet_byte(utf8_decode(text + i, &len));
        if (b < 0)
            return -1;
        out[count++] = (char)b;
    }
    return count;
}

/* Adds to the pool what the token's text stands for; a text outside the alphabet stands for itself. */
static int add_bytes(struct vocab *v, struct vocab_token *t, struct err *e)
{
    char small[256], *bytes = t->n_text <= sizeof small ? small : malloc(t->n_text);
    if (!bytes)
        return err_set(e, ERR_MEMORY, "no memory for a token of %u bytes", t->n_text);
    int rc = 0;
    int64_t n = alphabet_decode(v->pool + t->text, t->n_text, bytes);
    t->bytes = t->text;
    t->n_bytes = t->n_text;
    if (n >= 0) {
        rc = pool_add(v, bytes, (size_t)n, &t->bytes, e);
        t->n_bytes = (uint32_t)n;
        t->flags |= VOCAB_BYTES;
    }
    if (bytes != small)
        free(bytes);
    return rc;
}

/* ---- indexes ---- */

static uint32_t hash_of(const char *s, size_t n)
{
    return (uint32_t)(XXH3_64bits(s, n) >> 16);
}

static int index_open(struct vocab_index *x, int32_t n, struct err *e)
{
    uint32_t slots = 16;
    while (slots / 2 < (uint32_t)n)
        slots *= 2;
    x->slot = malloc(slots * sizeof *x->slot);
    if (!x->slot)
        return err_set(e, ERR_MEMORY, "no memory to index %d tokens", n);
    memset(x->slot, 0xFF, slots * sizeof *x->slot);
    x->mask = slots - 1;
    return 0;
}

static void index_enter(struct vocab_index *x, uint32_t hash, int32_t id)
{
    uint32_t i = hash & x->mask;
    while (x->slot[i].id >= 0)
        i = (i + 1) & x->mask;
    x->slot[i] = (struct vocab_slot){ hash, id };
}

int32_t vocab_find_text(const struct vocab *v, const char *text, size_t n)
{
    if (!v->by_text.slot)
        return -1;
    uint32_t hash = hash_of(text, n);
    for (uint32_t i = hash & v->by_text.mask; v->by_text.slot[i].id >= 0; i = (i + 1) & v->by_text.mask) {
        const struct vocab_token *t = &v->token[v->by_text.slot[i].id];
        if (v->by_text.slot[i].hash == hash && t->n_text == n && memcmp(v->pool + t->text, text, n) == 0)
            return v->by_text.slot[i].id;
    }
    return -1;
}

int vocab_index_bytes(struct vocab *v, struct err *e)
{
    return index_open(&v->by_bytes, v->n, e);
}

void vocab_enter_bytes(struct vocab *v, int32_t id)
{
    const struct vocab_token *t = &v->token[id];
    index_enter(&v->by_bytes, hash_of(v->pool + t->bytes, t->n_bytes), id);
}

int32_t vocab_find_bytes(const struct vocab *v, const char *bytes, size_t n)
{
    uint32_t hash = hash_of(bytes, n);
    for (uint32_t i = hash & v->by_bytes.mask; v->by_bytes.slot[i].id >= 0; i = (i + 1) & v->by_bytes.mask) {
        const struct vocab_token *t = &v->token[v->by_bytes.slot[i].id];
        if (v->by_bytes.slot[i].hash == hash && t->n_bytes == n && memcmp(v->pool + t->bytes, bytes, n) == 0)
            return v->by_bytes.slot[i].id;
    }
    return -1;
}

/* ---- adding ---- */

static int check_token(const struct vocab *v, int64_t id, const char *text, size_t n, struct err *e)
{
    if (id < 0 || id >= v->n)
        return err_set(e, ERR_FORMAT, "the token '%.*s' has the id %lld, outside 0..%d",
                       (int)(n < 40 ? n : 40), text, (long long)id, v->n - 1);
    if (n == 0)
        return err_set(e, ERR_FORMAT, "token %lld has no text", (long long)id);
    size_t good = utf8_valid(text, n);
    if (good != n)
        return err_set(e, ERR_FORMAT, "token %lld is not UTF-8 at byte %zu", (long long)id, good);
    return 0;
}

int vocab_add_model(struct vocab *v, int64_t id, const char *text, size_t n, int type, struct err *e)
{
    int rc = check_token(v, id, text, n, e);
    if (rc == 0 && !v->by_text.slot)
        rc = index_open(&v->by_text, v->n, e);
    if (rc)
        return rc;
    struct vocab_token *t = &v->token[id];
    int width = (int)(n < 40 ? n : 40);
    if (t->flags)
        return err_set(e, ERR_FORMAT, "the tokens '%.40s' and '%.*s' have the same id %lld",
                       v->pool + t->text, width, text, (long long)id);
    if (vocab_find_text(v, text, n) >= 0)
        return err_set(e, ERR_FORMAT, "the tokens %d and %lld have the same text '%.*s'",
                       vocab_find_text(v, text, n), (long long)id, width, text);
    rc = pool_add(v, text, n, &t->text, e);
    if (rc)
        return rc;
    t->n_text = (uint32_t)n;
    t->type = (uint8_t)type;
    t->flags = VOCAB_MODEL;
    index_enter(&v->by_text, hash_of(text, n), (int32_t)id);
    return add_bytes(v, t, e);
}

int vocab_add_added(struct vocab *v, int64_t id, const char *text, size_t n, bool special, int type,
                    struct err *e)
{
    int rc = check_token(v, id, text, n, e);
    if (rc)
        return rc;
    struct vocab_token *t = &v->token[id];
    bool same = t->flags == 0 || (t->n_text == n && memcmp(v->pool + t->text, text, n) == 0);
    int32_t other = vocab_find_text(v, text, n);
    if (!same || (t->flags & VOCAB_ADDED))
        return err_set(e, ERR_FORMAT, "the added token '%.*s' has the id %lld of the token '%.40s'",
                       (int)(n < 40 ? n : 40), text, (long long)id, v->pool + t->text);
    if (other >= 0 && other != id)
        return err_set(e, ERR_FORMAT, "the added token '%.*s' has the id %lld, but the vocabulary says %d",
                       (int)(n < 40 ? n : 40), text, (long long)id, other);
    if (t->flags == 0) { /* a token of the vocabulary keeps its bytes: BPE produces it for them */
        rc = pool_add(v, text, n, &t->text, e);
        if (rc)
            return rc;
        t->bytes = t->text;
        t->n_bytes = t->n_text = (uint32_t)n;
    }
    t->type = (uint8_t)type;
    t->flags |= VOCAB_ADDED | (special ? VOCAB_SPECIAL : 0);
    return 0;
}

int vocab_byte_ids(const struct vocab *v, uint32_t id[256], struct err *e)
{
    for (int b = 0; b < 256; b++)
        id[b] = UINT32_MAX;
    for (int32_t i = 0; i < v->n; i++) {
        const struct vocab_token *t = &v->token[i];
        if ((t->flags & VOCAB_MODEL) && (t->flags & VOCAB_BYTES) && t->n_bytes == 1)
            id[(unsigned char)v->pool[t->bytes]] = (uint32_t)i;
    }
    for (int b = 0; b < 256; b++)
        if (id[b] == UINT32_MAX) {
            err_set(e, ERR_FORMAT, "the vocabulary has no token for the single byte 0x%02X", b);
            err_hint(e, "only byte-level BPE tokenizers (Qwen's) are supported");
            return ERR_FORMAT;
        }
    return 0;
}
