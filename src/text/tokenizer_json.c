/* tokenizer_json.c: reads tokenizer.json, refusing what this tokenizer would do differently from the
 * reference. */
#include <string.h>

#include "base/json.h"
#include "text/tokenizer_internal.h"

static int refuse(struct err *e, const char *where, const char *what)
{
    err_set(e, ERR_FORMAT, "%s", what);
    err_where(e, "%s", where);
    err_hint(e, "byte-level BPE tokenizers of Qwen2, Qwen2.5, Qwen3 and Qwen3.5 are supported; check the "
                "model's files");
    return ERR_FORMAT;
}

static const char *type_of(const json_t *obj)
{
    return json_get_str(obj, "type", "");
}

static bool is_null(const json_t *v)
{
    return !v || json_is_null(v);
}

/* null, NFC, or a Sequence of NFC alone. */
static int read_normalizer(const json_t *root, bool *nfc, struct err *e)
{
    const json_t *n = json_object_get(root, "normalizer");
    *nfc = false;
    if (is_null(n))
        return 0;
    const json_t *list = json_object_get(n, "normalizers");
    bool sequence = strcmp(type_of(n), "Sequence") == 0 && json_is_array(list);
    size_t count = sequence ? json_array_size(list) : 1;
    for (size_t i = 0; i < count; i++) {
        const json_t *one = sequence ? json_array_get(list, i) : n;
        if (strcmp(type_of(one), "NFC") != 0)
            return refuse(e, "normalizer", "the tokenizer's normalizer is not NFC");
        *nfc = true;
    }
    return 0;
}

static int read_split(const json_t *split, enum pre_rule *rule, struct err *e)
{
    const char *regex = json_get_str(json_object_get(split, "pattern"), "Regex", NULL);
    bool invert = json_is_true(json_object_get(split, "invert"));
    if (strcmp(type_of(split), "Split") != 0 || !regex || invert ||
        strcmp(json_get_str(split, "behavior", ""), "Isolated") != 0)
        return refuse(e, "pre_tokenizer",
                      "the first pre-tokenizer is not a Split by a regular expression, isolated");
    for (int r = 0; r < PRE_COUNT; r++)
        if (strcmp(regex, pre_rule_regex((enum pre_rule)r)) == 0) {
            *rule = (enum pre_rule)r;
            return 0;
        }
    err_set(e, ERR_FORMAT, "the pre-tokenizer's regular expression is unknown: %.200s", regex);
    err_where(e, "pre_tokenizer");
    err_hint(e, "the expressions of Qwen2 and Qwen3.5 are supported");
    return ERR_FORMAT;
}

static int read_pre_tokenizer(const json_t *root, enum pre_rule *rule, struct err *e)
{
    const json_t *pre = json_object_get(root, "pre_tokenizer"), *list = json_object_get(pre, "pretokenizers");
    if (strcmp(type_of(pre), "Sequence") != 0 || json_array_size(list) != 2)
        return refuse(e, "pre_tokenizer", "the pre-tokenizer is not a Sequence of Split and ByteLevel");
    const json_t *level = json_array_get(list, 1), *use_regex = json_object_get(level, "use_regex");
    if (strcmp(type_of(level), "ByteLevel") != 0 ||
        json_is_true(json_object_get(level, "add_prefix_space")) || !json_is_false(use_regex))
        return refuse(e, "pre_tokenizer", "the second pre-tokenizer is not a plain ByteLevel");
    return read_split(json_array_get(list, 0), rule, e);
}

static bool empty_string(const json_t *v)
{
    return is_null(v) || (json_is_string(v) && json_string_length(v) == 0);
}

static int check_model(const json_t *model, bool *ignore_merges, struct err *e)
{
    const json_t *dropout = json_object_get(model, "dropout");
    if (!json_is_object(model) || strcmp(json_get_str(model, "type", "BPE"), "BPE") != 0)
        return refuse(e, "model", "the tokenizer's model is not BPE");
    if (!is_null(dropout) && json_number_value(dropout) != 0)
        return refuse(e, "model.dropout", "the tokenizer drops merges at random");
    if (!empty_string(json_object_get(model, "continuing_subword_prefix")) ||
        !empty_string(json_object_get(model, "end_of_word_suffix")))
        return refuse(e, "model", "the tokenizer marks parts of words with a prefix or suffix");
    if (json_is_true(json_object_get(model, "byte_fallback")))
        return refuse(e, "model.byte_fallback", "the tokenizer falls back to byte tokens");
    int rc = json_get_bool(model, "ignore_merges", false, ignore_merges, e);
    if (rc)
        err_where(e, "model");
    return rc;
}

/* One more than the highest id. Few holes are allowed, so that a tiny file cannot ask for a huge table. */
static int count_ids(const json_t *vocab, const json_t *added, int64_t *n, struct err *e)
{
    const char *key;
    const json_t *v;
    size_t i, entries = json_object_size(vocab) + json_array_size(added);
    int64_t last = -1, limit = 2 * (int64_t)entries + 65536;
    json_object_foreach((json_t *)vocab, key, v)
    {
        if (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) >= limit) {
            err_set(e, ERR_FORMAT, "the id of the token '%.60s' is not an integer from 0 to %lld", key,
                    (long long)limit - 1);
            err_where(e, "model.vocab");
            return ERR_FORMAT;
        }
        last = json_integer_value(v) > last ? json_integer_value(v) : last;
    }
    json_array_foreach(added, i, v)
    {
        int64_t id;
        int rc = json_get_int(v, "id", 0, limit - 1, -1, &id, e);
        if (rc || id < 0) {
            if (rc == 0)
                err_set(e, ERR_FORMAT, "an added token has no id");
            err_where(e, "added_tokens, entry %zu", i);
            return ERR_FORMAT;
        }
        last = id > last ? id : last;
    }
    *n = last + 1;
    return 0;
}

/* The type that GGUF converters give an added token: some files say special = false for what is one. */
static int gguf_type_of(const char *text, size_t n, bool special)
{
    static const char *const exact[] = { "<pad>", "<mask>", "<2mass>", "[@BOS@]" };
    static const struct {
        const char *begin, *end;
    } shape[] = { { "<|", "|>" }, { "<\xEF\xBD\x9C", "\xEF\xBD\x9C>" }, { "<unused", ">" } };
    bool looks = special;
    for (size_t i = 0; i < sizeof exact / sizeof *exact; i++)
        looks = looks || (strlen(exact[i]) == n && memcmp(text, exact[i], n) == 0);
    for (size_t i = 0; i < sizeof shape / sizeof *shape; i++) {
        size_t b = strlen(shape[i].begin), l = strlen(shape[i].end);
        looks = looks || (n >= b && n >= l && memcmp(text, shape[i].begin, b) == 0 &&
                          memcmp(text + n - l, shape[i].end, l) == 0);
    }
    return looks ? TOKEN_CONTROL : TOKEN_USER_DEFINED;
}

static int read_added(struct tokenizer *t, const json_t *a, struct err *e)
{
    static const char *const unsupported[] = { "single_word", "lstrip", "rstrip" };
    const json_t *content = json_object_get(a, "content");
    bool special, normalized, flag;
    int rc = json_get_bool(a, "special", false, &special, e);
    if (rc == 0)
        rc = json_get_bool(a, "normalized", true, &normalized, e);
    for (size_t i = 0; i < sizeof unsupported / sizeof *unsupported && rc == 0; i++) {
        rc = json_get_bool(a, unsupported[i], false, &flag, e);
        if (rc == 0 && flag)
            rc = err_set(e, ERR_FORMAT, "an added token with %s is not supported", unsupported[i]);
    }
    if (rc)
        return rc;
    if (!json_is_string(content) || json_string_length(content) == 0)
        return err_set(e, ERR_FORMAT, "an added token has no content");
    const char *text = json_string_value(content);
    size_t n = json_string_length(content);
    int64_t id = json_integer_value(json_object_get(a, "id"));
    return build_added(t, id, text, n, special, normalized, gguf_type_of(text, n, special), e);
}

static int read_tokens(struct tokenizer *t, const json_t *vocab, const json_t *added, struct err *e)
{
    const char *key;
    const json_t *v;
    size_t i;
    json_object_foreach((json_t *)vocab, key, v)
    {
        int rc = vocab_add_model(&t->vocab, json_integer_value(v), key, strlen(key), TOKEN_NORMAL, e);
        if (rc) {
            err_where(e, "model.vocab");
            return rc;
        }
    }
    json_array_foreach(added, i, v)
    {
        int rc = read_added(t, v, e);
        if (rc) {
            err_where(e, "added_tokens, entry %zu", i);
            return rc;
        }
    }
    return 0;
}

/* ["a", "b"], or "a b" in older files. */
static int read_merge(struct tokenizer *t, const json_t *m, struct err *e)
{
    const json_t *a = json_array_get(m, 0), *b = json_array_get(m, 1);
    if (json_array_size(m) == 2 && json_is_string(a) && json_is_string(b))
        return build_merge(t, json_string_value(a), json_string_length(a), json_string_value(b),
                           json_string_length(b), e);
    const char *text = json_string_value(m), *space = text ? strchr(text, ' ') : NULL;
    if (!space || space == text || !space[1] || strchr(space + 1, ' '))
        return err_set(e, ERR_FORMAT, "it is neither a pair of tokens nor two tokens with a space between");
    return build_merge(t, text, (size_t)(space - text), space + 1, strlen(space + 1), e);
}

static int read_merges(struct tokenizer *t, const json_t *merges, struct err *e)
{
    size_t i;
    const json_t *m;
    if (!json_is_array(merges))
        return refuse(e, "model.merges", "the tokenizer has no list of merges");
    int rc = build_merges(t, json_array_size(merges), e);
    json_array_foreach(merges, i, m)
    {
        if (rc)
            break;
        rc = read_merge(t, m, e);
        if (rc)
            err_where(e, "model.merges, entry %zu", i);
    }
    return rc;
}

static int read_all(struct tokenizer **out, const json_t *root, struct err *e)
{
    const json_t *model = json_object_get(root, "model"), *vocab = json_object_get(model, "vocab");
    const json_t *added = json_object_get(root, "added_tokens"), *decoder = json_object_get(root, "decoder");
    bool nfc, ignore_merges;
    enum pre_rule rule;
    int64_t n = 0;
    int rc = read_normalizer(root, &nfc, e);
    if (rc == 0)
        rc = read_pre_tokenizer(root, &rule, e);
    if (rc == 0)
        rc = check_model(model, &ignore_merges, e);
    if (rc)
        return rc;
    if (!json_is_object(vocab))
        return refuse(e, "model.vocab", "the tokenizer has no vocabulary");
    if (!is_null(added) && !json_is_array(added))
        return refuse(e, "added_tokens", "the added tokens are not a list");
    if (!is_null(decoder) && strcmp(type_of(decoder), "ByteLevel") != 0)
        return refuse(e, "decoder", "the decoder is not ByteLevel");
    rc = count_ids(vocab, added, &n, e);
    if (rc == 0)
        rc = build_open(out, n, e);
    if (rc)
        return rc;
    struct tokenizer *t = *out;
    t->nfc = nfc;
    t->rule = rule;
    t->ignore_merges = ignore_merges;
    rc = read_tokens(t, vocab, added, e);
    if (rc == 0)
        rc = read_merges(t, json_object_get(model, "merges"), e);
    return rc ? rc : build_finish(t, e);
}

int tokenizer_open_json(struct tokenizer **out, const char *text, size_t n, struct err *e)
{
    json_t *root;
    struct tokenizer *t = NULL;
    int rc = json_parse(text, n, &root, e);
    if (rc == 0) {
        rc = read_all(&t, root, e);
        json_decref(root);
    }
    if (rc) {
        tokenizer_close(&t);
        err_hint(e, "fetch the model's tokenizer.json again");
        return rc;
    }
    *out = t;
    return 0;
}
