/*
 * export_tokens.c: tokenizer.* keys of a GGUF from tokenizer.json, in the order of llama.cpp's converter.
 *
 * GGUF says the splitting rule by a name, so only tokenizers with one of the two known expressions can be
 * written.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "load/export_keys.h"

enum { MAX_TOKENIZER = 256 << 20, TYPE_NORMAL = 1, TYPE_CONTROL = 3, TYPE_USER_DEFINED = 4, TYPE_UNUSED = 5 };

static const struct {
    const char *pre, *regex;
} rules[] = {
    { "qwen2",
      "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"
      "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+" },
    { "qwen35", "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| "
                "?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+" },
};

const char *export_pre_regex(const char *pre)
{
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
        if (!strcmp(rules[i].pre, pre))
            return rules[i].regex;
    return NULL;
}

static int refuse(struct err *e, const char *what)
{
    err_set(e, ERR_FORMAT, "the tokenizer cannot be written to a GGUF: %s", what);
    err_where(e, "tokenizer.json");
    err_hint(e, "supported: byte-level BPE as in Qwen2, Qwen2.5, Qwen3 and Qwen3.5");
    return ERR_FORMAT;
}

/* The rule's name, from the Split step of the pre-tokenizer. */
static const char *pre_of(const json_t *root)
{
    const json_t *steps = json_object_get(json_object_get(root, "pre_tokenizer"), "pretokenizers");
    for (size_t i = 0; i < json_array_size(steps); i++) {
        const json_t *step = json_array_get(steps, i);
        const char *regex = json_get_str(json_object_get(step, "pattern"), "Regex", "");
        for (size_t r = 0; r < sizeof rules / sizeof *rules; r++)
            if (!strcmp(rules[r].regex, regex))
                return rules[r].pre;
    }
    return NULL;
}

struct tokens {
    struct gguf_string *text; /* [n]; a NULL data: no token has this id */
    int32_t *type;            /* [n] */
    char *pads;               /* texts of the ids without a token */
    int64_t n;
};

static void tokens_free(struct tokens *t)
{
    free(t->text);
    free(t->type);
    free(t->pads);
}

/* Tokens of this form are control tokens whatever the file says, as for the converter. */
static bool looks_special(const char *s)
{
    size_t n = strlen(s);
    return n >= 4 && !strncmp(s, "<|", 2) && !strcmp(s + n - 2, "|>");
}

static int add_token(struct tokens *t, const json_t *text, int64_t id, int32_t type, struct err *e)
{
    if (!json_is_string(text) || id < 0 || id >= t->n)
        return refuse(e, "a token has no text, or an id outside the vocabulary");
    t->text[id] = (struct gguf_string){ json_string_value(text), json_string_length(text) };
    t->type[id] = type;
    return 0;
}

static int add_vocabulary(struct tokens *t, json_t *vocab, struct err *e)
{
    const char *word;
    json_t *id;
    json_object_foreach(vocab, word, id)
    {
        int64_t i = json_is_integer(id) ? json_integer_value(id) : -1;
        if (i < 0 || i >= t->n)
            return refuse(e, "a token has an id outside the vocabulary");
        t->text[i] = (struct gguf_string){ word, strlen(word) };
        t->type[i] = TYPE_NORMAL;
    }
    return 0;
}

static int add_added(struct tokens *t, const json_t *added, struct err *e)
{
    int rc = 0;
    for (size_t i = 0; i < json_array_size(added) && !rc; i++) {
        const json_t *a = json_array_get(added, i), *text = json_object_get(a, "content");
        bool control = json_is_true(json_object_get(a, "special")) ||
                       (json_is_string(text) && looks_special(json_string_value(text)));
        const json_t *id = json_object_get(a, "id");
        rc = add_token(t, text, json_is_integer(id) ? json_integer_value(id) : -1,
                       control ? TYPE_CONTROL : TYPE_USER_DEFINED, e);
    }
    return rc;
}

/* "[PAD8173]" for the rows that the embedding has beyond the tokens. */
static void fill_padding(struct tokens *t)
{
    enum { ROOM = 32 };
    for (int64_t i = 0; i < t->n; i++) {
        if (t->text[i].data)
            continue;
        char *text = t->pads + i * ROOM;
        t->text[i] = (struct gguf_string){ text, (size_t)snprintf(text, ROOM, "[PAD%lld]", (long long)i) };
        t->type[i] = TYPE_UNUSED;
    }
}

static int write_tokens(struct gguf_writer *w, const struct model *m, json_t *root, struct err *e)
{
    struct tokens t = { .n = m->shape.n_vocab };
    t.text = calloc((size_t)t.n, sizeof *t.text);
    t.type = calloc((size_t)t.n, sizeof *t.type);
    t.pads = malloc((size_t)t.n * 32);
    int rc =
        t.text && t.type && t.pads ? 0 : err_set(e, ERR_MEMORY, "no memory for %lld tokens", (long long)t.n);
    if (!rc)
        rc = add_vocabulary(&t, json_object_get(json_object_get(root, "model"), "vocab"), e);
    if (!rc)
        rc = add_added(&t, json_object_get(root, "added_tokens"), e);
    if (!rc) {
        fill_padding(&t);
        gguf_write_strings(w, "tokenizer.ggml.tokens", t.text, (uint64_t)t.n);
        gguf_write_array(w, "tokenizer.ggml.token_type", GGUF_I32, t.type, (uint64_t)t.n);
    }
    tokens_free(&t);
    return rc;
}

/* ---- merges ---- */

/* Appends one side of a merge; a space is written as the alphabet's letter for it, U+0120. */
static char *put_side(char *out, const char *side)
{
    for (; *side; side++) {
        if (*side == ' ')
            out = stpcpy(out, "\xc4\xa0");
        else
            *out++ = *side;
    }
    return out;
}

/* "a b" of a merge in either spelling; malloc'ed, NULL when it is none. */
static char *merge_text(const json_t *merge)
{
    if (json_is_string(merge))
        return strdup(json_string_value(merge));
    const char *a = json_string_value(json_array_get(merge, 0)),
               *b = json_string_value(json_array_get(merge, 1));
    if (json_array_size(merge) != 2 || !a || !b)
        return NULL;
    char *text = malloc(2 * (strlen(a) + strlen(b)) + 2), *end;
    if (!text)
        return NULL;
    end = put_side(text, a);
    *end++ = ' ';
    *put_side(end, b) = '\0';
    return text;
}

static int write_merges(struct gguf_writer *w, const json_t *merges, struct err *e)
{
    size_t n = json_array_size(merges), made = 0;
    struct gguf_string *list = calloc(n + 1, sizeof *list);
    int rc = list ? 0 : err_set(e, ERR_MEMORY, "no memory for %zu merges", n);
    for (; made < n && !rc; made++) {
        char *text = merge_text(json_array_get(merges, made));
        if (!text)
            rc = refuse(e, "a merge is not a pair of tokens");
        else
            list[made] = (struct gguf_string){ text, strlen(text) };
    }
    if (!rc)
        gguf_write_strings(w, "tokenizer.ggml.merges", list, n);
    for (size_t i = 0; i < made; i++)
        free((char *)list[i].data);
    free(list);
    return rc;
}

/* ---- special ids ---- */

/* The id of tokenizer_config's "eos_token" (a string, or an object with content) among the added tokens; -1:
 * none. */
static int64_t configured_id(const json_t *config, const json_t *added, const char *kind)
{
    char key[32];
    snprintf(key, sizeof key, "%s_token", kind);
    const json_t *entry = json_object_get(config, key);
    const char *text =
        json_is_object(entry) ? json_get_str(entry, "content", NULL) : json_string_value(entry);
    for (size_t i = 0; i < json_array_size(added) && text; i++) {
        const json_t *a = json_array_get(added, i);
        if (!strcmp(json_get_str(a, "content", ""), text))
            return json_integer_value(json_object_get(a, "id"));
    }
    return -1;
}

static int64_t model_id(const struct model *m, const char *kind)
{
    char key[32];
    snprintf(key, sizeof key, "%s_token_id", kind);
    const json_t *id = json_object_get(m->config, key);
    if (!id || json_is_null(id))
        id = json_object_get(json_object_get(m->config, "text_config"), key);
    return json_is_integer(id) ? json_integer_value(id) : -1;
}

static void write_special_ids(struct gguf_writer *w, const struct model *m, const json_t *added)
{
    static const struct {
        const char *kind, *key;
    } kinds[] = { { "bos", "tokenizer.ggml.bos_token_id" },
                  { "eos", "tokenizer.ggml.eos_token_id" },
                  { "unk", "tokenizer.ggml.unknown_token_id" },
                  { "pad", "tokenizer.ggml.padding_token_id" } };
    int64_t id[4];
    bool written[4] = { false };
    for (int i = 0; i < 4; i++) { /* first those the tokenizer names, then those only config.json has */
        id[i] = configured_id(m->tokenizer_config, added, kinds[i].kind);
        if (id[i] >= 0 && id[i] < m->shape.n_vocab) {
            gguf_write_u32(w, kinds[i].key, (uint32_t)id[i]);
            written[i] = true;
        }
    }
    for (int i = 0; i < 4; i++) {
        id[i] = model_id(m, kinds[i].kind);
        if (!written[i] && id[i] >= 0 && id[i] < m->shape.n_vocab)
            gguf_write_u32(w, kinds[i].key, (uint32_t)id[i]);
    }
    const json_t *add_bos = json_object_get(m->tokenizer_config, "add_bos_token");
    if (json_is_boolean(add_bos))
        gguf_write_bool(w, "tokenizer.ggml.add_bos_token", json_is_true(add_bos));
}

int export_tokenizer_keys(struct gguf_writer *w, const struct model *m, struct err *e)
{
    char path[4096];
    json_t *root;
    snprintf(path, sizeof path, "%s/tokenizer.json", m->folder);
    int rc = json_load_path(path, MAX_TOKENIZER, &root, e);
    if (rc)
        return rc;
    const json_t *model = json_object_get(root, "model");
    const char *pre = pre_of(root);
    if (strcmp(json_get_str(model, "type", "BPE"), "BPE") || !json_is_object(json_object_get(model, "vocab")))
        rc = refuse(e, "it is not byte-pair encoding");
    else if (!pre)
        rc = refuse(e, "its pre-token expression is not one of Qwen's");
    if (!rc) {
        gguf_write_str(w, "tokenizer.ggml.model", "gpt2", 4);
        gguf_write_str(w, "tokenizer.ggml.pre", pre, strlen(pre));
        rc = write_tokens(w, m, root, e);
    }
    if (!rc)
        rc = write_merges(w, json_object_get(model, "merges"), e);
    if (!rc) {
        write_special_ids(w, m, json_object_get(root, "added_tokens"));
        if (m->chat_template)
            gguf_write_str(w, "tokenizer.chat_template", m->chat_template, strlen(m->chat_template));
    }
    json_decref(root);
    return rc;
}
