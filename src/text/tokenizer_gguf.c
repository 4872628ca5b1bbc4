/*
 * tokenizer_gguf.c: reads tokenizer.ggml.* keys. GGUF has no flag for NFC; it is applied, as the
 * tokenizer.json of the same models says, so both files of a model give the same ids.
 */
#include <stdio.h>
#include <string.h>

#include "text/tokenizer_internal.h"

static int wrong_key(struct err *e, const char *key, const char *what)
{
    err_set(e, ERR_FORMAT, "%s", what);
    err_where(e, "key %s", key);
    err_hint(e, "the GGUF file needs the complete tokenizer of a Qwen model; convert it again");
    return ERR_FORMAT;
}

static bool same(struct gguf_string s, const char *text)
{
    return s.data && s.len == strlen(text) && memcmp(s.data, text, s.len) == 0;
}

static const struct gguf_value *strings(const struct gguf_meta *meta, const char *key)
{
    const struct gguf_value *v = gguf_find(meta, key);
    return v && v->type == GGUF_ARRAY && v->elem_type == GGUF_STRING ? v : NULL;
}

/* Converters fill ids without a token with "[PAD<id>]" of type unused. */
static bool is_padding(struct gguf_string s, int64_t type, uint64_t id)
{
    char text[32];
    snprintf(text, sizeof text, "[PAD%llu]", (unsigned long long)id);
    return type == TOKEN_UNUSED && same(s, text);
}

static int add_token(struct tokenizer *t, struct gguf_string s, int64_t type, uint64_t id, struct err *e)
{
    switch (type) {
    case TOKEN_CONTROL:
    case TOKEN_USER_DEFINED:
        return build_added(t, (int64_t)id, s.data, s.len, type == TOKEN_CONTROL, false, (int)type, e);
    case TOKEN_NORMAL:
    case TOKEN_UNKNOWN:
    case TOKEN_UNUSED:
    case TOKEN_BYTE:
        return is_padding(s, type, id) ? 0
                                       : vocab_add_model(&t->vocab, (int64_t)id, s.data, s.len, (int)type, e);
    default:
        return err_set(e, ERR_FORMAT, "token %llu has the unknown type %lld", (unsigned long long)id,
                       (long long)type);
    }
}

static int add_tokens(struct tokenizer *t, const struct gguf_value *tokens, const struct gguf_value *types,
                      struct err *e)
{
    const struct gguf_string *s = tokens->array;
    for (uint64_t id = 0; id < tokens->count; id++) {
        int64_t type;
        if (!gguf_array_int(types, id, &type))
            return wrong_key(e, "tokenizer.ggml.token_type",
                             "the token types are not as many integers as tokens");
        int rc = add_token(t, s[id], type, id, e);
        if (rc) {
            err_where(e, "key tokenizer.ggml.tokens");
            return rc;
        }
    }
    return 0;
}

static int add_merges(struct tokenizer *t, const struct gguf_value *merges, struct err *e)
{
    const struct gguf_string *s = merges->array;
    int rc = build_merges(t, merges->count, e);
    for (uint64_t i = 0; i < merges->count && rc == 0; i++) {
        const char *end = s[i].data + s[i].len, *space = s[i].len ? memchr(s[i].data, ' ', s[i].len) : NULL;
        if (!space || space == s[i].data || space + 1 == end ||
            memchr(space + 1, ' ', (size_t)(end - space - 1)))
            rc = err_set(e, ERR_FORMAT, "merge %llu is not two tokens with a space between",
                         (unsigned long long)i);
        else
            rc = build_merge(t, s[i].data, (size_t)(space - s[i].data), space + 1, (size_t)(end - space - 1),
                             e);
    }
    if (rc)
        err_where(e, "key tokenizer.ggml.merges");
    return rc;
}

static int find_rule(const struct gguf_meta *meta, enum pre_rule *rule, struct err *e)
{
    struct gguf_string pre = gguf_get_str(meta, "tokenizer.ggml.pre");
    for (int r = 0; r < PRE_COUNT; r++)
        if (same(pre, pre_rule_name((enum pre_rule)r))) {
            *rule = (enum pre_rule)r;
            return 0;
        }
    err_set(e, ERR_FORMAT, "the pre-tokenizer '%.*s' is not supported", (int)(pre.len < 40 ? pre.len : 40),
            pre.data ? pre.data : "");
    err_where(e, "key tokenizer.ggml.pre");
    err_hint(e, "GGUF files of Qwen models say qwen2 or qwen35 there");
    return ERR_FORMAT;
}

int tokenizer_open_gguf(struct tokenizer **out, const struct gguf_meta *meta, struct err *e)
{
    const struct gguf_value *tokens = strings(meta, "tokenizer.ggml.tokens");
    const struct gguf_value *merges = strings(meta, "tokenizer.ggml.merges");
    const struct gguf_value *types = gguf_find(meta, "tokenizer.ggml.token_type");
    enum pre_rule rule;
    struct tokenizer *t = NULL;
    if (!same(gguf_get_str(meta, "tokenizer.ggml.model"), "gpt2"))
        return wrong_key(e, "tokenizer.ggml.model", "the tokenizer is not byte-level BPE (gpt2)");
    if (!tokens || !merges)
        return wrong_key(e, tokens ? "tokenizer.ggml.merges" : "tokenizer.ggml.tokens",
                         "it is not a list of strings");
    if (!types || types->type != GGUF_ARRAY || types->count != tokens->count || tokens->count > VOCAB_MAX_IDS)
        return wrong_key(e, "tokenizer.ggml.token_type",
                         "the token types are not as many integers as tokens");
    int rc = find_rule(meta, &rule, e);
    if (rc == 0)
        rc = build_open(&t, (int64_t)tokens->count, e);
    if (rc)
        return rc;
    t->rule = rule;
    t->nfc = true;
    rc = add_tokens(t, tokens, types, e);
    if (rc == 0)
        rc = add_merges(t, merges, e);
    if (rc == 0)
        rc = build_finish(t, e);
    if (rc) {
        tokenizer_close(&t);
        err_hint(e, "convert the GGUF file again");
        return rc;
    }
    *out = t;
    return 0;
}
