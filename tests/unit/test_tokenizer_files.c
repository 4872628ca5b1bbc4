/* test_tokenizer_files.c: tokenizer.json and GGUF keys, right and wrong; the trained model's, where it is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "support/tiny_tokenizer.h"
#include "text/tokenizer.h"

/* ---- wrong files ---- */

/* Sets the value at a path such as "model.merges.0"; numbers index arrays. */
static void set(json_t *root, const char *path, json_t *value)
{
    char part[64];
    json_t *at = root;
    for (;;) {
        size_t n = strcspn(path, ".");
        assert_true(n < sizeof part);
        memcpy(part, path, n);
        part[n] = '\0';
        path += n;
        if (!*path)
            break;
        path++;
        at = json_is_array(at) ? json_array_get(at, (size_t)atoi(part)) : json_object_get(at, part);
        assert_non_null(at);
    }
    if (json_is_array(at))
        json_array_set_new(at, (size_t)atoi(part), value);
    else
        json_object_set_new(at, part, value);
}

static void refused(json_t *root, const char *what)
{
    struct tokenizer *t = NULL;
    struct err e = { 0 };
    assert_int_equal(tinytok_open_json(&t, root, &e), ERR_FORMAT);
    assert_null(t);
    if (!strstr(e.what, what))
        fail_msg("'%s' does not say '%s'", e.what, what);
    assert_true(e.where[0] != '\0' && e.hint[0] != '\0');
}

static void wrong_json(void **state)
{
    (void)state;
    static const struct {
        const char *path, *value, *what;
    } cases[] = {
        { "normalizer", "{\"type\": \"NFKC\"}", "not NFC" },
        { "normalizer",
          "{\"type\": \"Sequence\", \"normalizers\": [{\"type\": \"NFC\"}, {\"type\": \"Strip\"}]}",
          "not NFC" },
        { "pre_tokenizer", "null", "not a Sequence" },
        { "pre_tokenizer.pretokenizers", "[1, 2, 3]", "not a Sequence" },
        { "pre_tokenizer.pretokenizers.0", "5", "not a Split" },
        { "pre_tokenizer.pretokenizers.0.behavior", "\"Removed\"", "not a Split" },
        { "pre_tokenizer.pretokenizers.0.pattern", "{\"Regex\": \"\\\\p{L}+\"}", "unknown: \\p{L}+" },
        { "pre_tokenizer.pretokenizers.1.add_prefix_space", "true", "plain ByteLevel" },
        { "pre_tokenizer.pretokenizers.1.use_regex", "true", "plain ByteLevel" },
        { "decoder", "{\"type\": \"Metaspace\"}", "not ByteLevel" },
        { "model", "[]", "not BPE" },
        { "model.type", "\"Unigram\"", "not BPE" },
        { "model.dropout", "0.5", "at random" },
        { "model.continuing_subword_prefix", "\"##\"", "prefix" },
        { "model.byte_fallback", "true", "byte tokens" },
        { "model.ignore_merges", "3", "not true or false" },
        { "model.vocab", "[]", "no vocabulary" },
        { "model.vocab", "{}", "needs the token 'h'" },
        { "model.vocab.Hello", "\"7\"", "'Hello' is not an integer" },
        { "model.vocab.Hello", "-1", "'Hello' is not an integer" },
        { "model.vocab.Hello", "4000000000", "'Hello' is not an integer" },
        { "model.vocab.Hello", "1e3", "'Hello' is not an integer" },
        { "model.vocab.Hello", "3", "same id 3" },
        { "model.merges", "{}", "no list of merges" },
        { "model.merges.3", "7", "neither" },
        { "model.merges.3", "[\"a\"]", "neither" },
        { "model.merges.3", "[\"a\", 5]", "neither" },
        { "model.merges.3", "[\"a\", \"b\", \"c\"]", "neither" },
        { "model.merges.3", "\"a b c\"", "neither" },
        { "model.merges.3", "\" ab\"", "neither" },
        { "model.merges.3", "\"ab \"", "neither" },
        { "model.merges.3", "\"q zz\"", "needs the token 'zz'" },
        { "model.merges.3", "\"zz q\"", "needs the token 'zz'" },
        { "model.merges.3", "\"q q\"", "needs the token 'qq'" },
        { "model.merges.3", "[\"\", \"q\"]", "needs the token ''" },
        { "added_tokens", "{}", "not a list" },
        { "added_tokens.1", "7", "no id" },
        { "added_tokens.1.id", "null", "no id" },
        { "added_tokens.1.id", "\"301\"", "not an integer" },
        { "added_tokens.1.id", "2000000000", "outside" },
        { "added_tokens.1.id", "300", "has the id 300 of the token '<|im_start|>'" },
        { "added_tokens.1.id", "5", "has the id 5 of the token" },
        { "added_tokens.1.content", "\"Hello\"", "the vocabulary says" },
        { "added_tokens.1.content", "\"<think>\"", "same text '<think>'" },
        { "added_tokens.1.content", "\"\"", "no content" },
        { "added_tokens.1.content", "null", "no content" },
        { "added_tokens.1.special", "\"yes\"", "not true or false" },
        { "added_tokens.1.lstrip", "true", "lstrip" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        json_t *value = json_loads(cases[i].value, JSON_DECODE_ANY, NULL), *root = tinytok_json(PRE_QWEN2);
        assert_non_null(value);
        set(root, cases[i].path, value);
        refused(root, cases[i].what);
    }
    json_t *lacking = tinytok_json(PRE_QWEN2);
    json_object_del(json_object_get(json_object_get(lacking, "model"), "vocab"), "q");
    refused(lacking, "no token for the single byte 0x71");
    static const char *const texts[] = { "", "{", "[]", "{\"model\": {}, \"model\": {}}",
                                         "{\"model\": \"\xFF\"}" };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct tokenizer *t = NULL;
        struct err e = { 0 };
        assert_int_equal(tokenizer_open_json(&t, texts[i], strlen(texts[i]), &e), ERR_FORMAT);
        assert_null(t);
    }
}

static void odd_but_right_json(void **state)
{
    (void)state;
    struct tokenizer *t = NULL;
    struct err e = { 0 };
    json_t *root = tinytok_json(PRE_QWEN2);
    set(root, "normalizer", json_null());
    set(root, "decoder", json_null());
    set(root, "model.continuing_subword_prefix", json_string(""));
    set(root, "model.ignore_merges", json_true());
    set(root, "model.merges", json_array());
    assert_int_equal(tinytok_open_json(&t, root, &e), 0);
    tinytok_expect(t, "Hello hell", NULL, 0, "Hello| |h|e|l|l"); /* whole pre-tokens only */
    tinytok_expect(t, "e\xCC\x81", NULL, 0, "e|\xCC|\x81");      /* no NFC asked for */
    tokenizer_close(&t);
}

/* A token that its own merges do not make is never found as a whole word; with ignore_merges it is. */
static void tokens_out_of_reach(void **state)
{
    (void)state;
    for (int ignore = 0; ignore < 2; ignore++) {
        struct tokenizer *t = NULL;
        struct err e = { 0 };
        json_t *root = tinytok_json(PRE_QWEN2);
        set(root, "model.vocab.bbc", json_integer(290));
        set(root, "model.ignore_merges", json_boolean(ignore));
        assert_int_equal(tinytok_open_json(&t, root, &e), 0);
        tinytok_expect(t, "bbc", NULL, 0, ignore ? "bbc" : "b|bc");
        tokenizer_close(&t);
    }
}

/* Merges are written with one space between their sides, so a space inside a side is written in the alphabet.
 */
static void merges_with_spaces(void **state)
{
    (void)state;
    struct tokenizer *t = NULL;
    struct err e = { 0 };
    json_t *root = tinytok_json(PRE_QWEN2);
    set(root, "model.vocab.a b", json_integer(290));
    set(root, "model.vocab.a bc", json_integer(291));
    set(root, "model.merges.3", json_pack("[ss]", "a b", "c"));
    assert_int_equal(tinytok_open_json(&t, root, &e), 0);
    assert_string_equal(tokenizer_merge(t, 3), "a\xC4\xA0"
                                               "b c");
    tokenizer_close(&t);
}

/* ---- GGUF ---- */

struct gguf_case { /* what the written file says; NULL and 0: as it should be */
    const char *model, *pre;
    int drop_types, bad_type_at, bad_text_at;
    bool merges_missing, merge_unknown, repeat_text;
};

static int open_gguf(struct tokenizer **t, const struct tokenizer *like, const struct gguf_case *c,
                     struct err *e)
{
    enum { PADDED = 310 };
    static const struct gguf_case right;
    char path[] = "/tmp/tonne-test-XXXXXX", padding[PADDED][16];
    struct gguf_string text[PADDED], merge[TINY_MERGES];
    int32_t type[PADDED];
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    c = c ? c : &right;
    for (int i = 0; i < PADDED; i++) {
        snprintf(padding[i], sizeof padding[i], "[PAD%d]", i);
        text[i].data = tokenizer_gguf_text(like, i, &text[i].len);
        if (!text[i].data)
            text[i] = (struct gguf_string){ padding[i], strlen(padding[i]) };
        type[i] = tokenizer_gguf_type(like, i);
    }
    for (int i = 0; i < TINY_MERGES; i++)
        merge[i] = (struct gguf_string){ tokenizer_merge(like, i), strlen(tokenizer_merge(like, i)) };
    if (c->bad_type_at)
        type[c->bad_type_at] = 9;
    if (c->bad_text_at)
        text[c->bad_text_at] = (struct gguf_string){ "\xC3(", 2 };
    if (c->repeat_text)
        text[7] = text[8];
    if (c->merge_unknown)
        merge[5] = (struct gguf_string){ "q zz", 4 };
    struct gguf_writer *w;
    struct gguf_meta *meta = NULL;
    struct tensor_dir *dir = NULL;
    const char *model = c->model ? c->model : "gpt2", *pre = c->pre ? c->pre : tokenizer_pre(like);
    assert_int_equal(gguf_writer_open(&w, path, e), 0);
    gguf_write_str(w, "general.architecture", "qwen2", 5);
    gguf_write_str(w, "tokenizer.ggml.model", model, strlen(model));
    gguf_write_str(w, "tokenizer.ggml.pre", pre, strlen(pre));
    gguf_write_strings(w, "tokenizer.ggml.tokens", text, PADDED);
    gguf_write_array(w, "tokenizer.ggml.token_type", GGUF_I32, type, (uint64_t)(PADDED - c->drop_types));
    if (!c->merges_missing)
        gguf_write_strings(w, "tokenizer.ggml.merges", merge, TINY_MERGES);
    assert_int_equal(gguf_writer_begin(w, e), 0);
    assert_int_equal(gguf_writer_commit(&w, e), 0);
    assert_int_equal(gguf_open(&meta, &dir, path, e), 0);
    int rc = tokenizer_open_gguf(t, meta, e);
    gguf_meta_close(&meta);
    tensor_dir_close(&dir);
    unlink(path);
    return rc;
}

static void gguf_is_the_same_tokenizer(void **state)
{
    (void)state;
    struct tokenizer *json = tinytok_open(PRE_QWEN35), *gguf = NULL;
    struct err e = { 0 };
    assert_int_equal(open_gguf(&gguf, json, NULL, &e), 0);
    assert_string_equal(tokenizer_pre(gguf), "qwen35");
    assert_int_equal(tokenizer_size(gguf), 304); /* padding is not counted */
    assert_int_equal(tokenizer_find(gguf, "</think>"), 303);
    assert_true(tokenizer_is_special(gguf, 300));
    assert_false(tokenizer_is_special(gguf, 303));
    tinytok_expect(gguf, "<|im_start|>user\ncafe\xCC\x81<think>", NULL, TOKENIZE_ALL_TRUSTED,
                   "[<|im_start|>]|user|\n|c|a|f|\xC3\xA9|[<think>]");
    tokenizer_close(&gguf);
    static const struct {
        struct gguf_case c;
        const char *what;
    } wrong[] = {
        { { .model = "llama" }, "not byte-level BPE" },
        { { .pre = "gpt-2" }, "'gpt-2' is not supported" },
        { { .pre = "" }, "'' is not supported" },
        { { .drop_types = 1 }, "as many integers" },
        { { .bad_type_at = 17 }, "unknown type 9" },
        { { .bad_text_at = 17 }, "not UTF-8" },
        { { .merges_missing = true }, "not a list of strings" },
        { { .merge_unknown = true }, "needs the token 'zz'" },
        { { .repeat_text = true }, "same text" },
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        memset(&e, 0, sizeof e);
        assert_int_equal(open_gguf(&gguf, json, &wrong[i].c, &e), ERR_FORMAT);
        assert_null(gguf);
        if (!strstr(e.what, wrong[i].what))
            fail_msg("'%s' does not say '%s'", e.what, wrong[i].what);
        assert_true(e.where[0] != '\0' && e.hint[0] != '\0');
    }
    tokenizer_close(&json);
}

/* ---- the trained model, where it is ---- */

static const char *shared(char *path, size_t room, const char *name)
{
    const char *folder = getenv("TONNE_SHARED");
    snprintf(path, room, "%s/models/%s", folder ? folder : "../shared", name);
    return access(path, R_OK) == 0 ? path : NULL;
}

static struct tokenizer *open_novelist(void)
{
    char path[512], *text;
    size_t n;
    struct err e = { 0 };
    struct tokenizer *t = NULL;
    if (!shared(path, sizeof path, "novelist/tokenizer.json"))
        skip();
    assert_int_equal(file_slurp(path, 1 << 24, &text, &n, &e), 0);
    assert_int_equal(tokenizer_open_json(&t, text, n, &e), 0);
    free(text);
    return t;
}

static void novelist_prompts(void **state)
{
    (void)state;
    struct tokenizer *t = open_novelist();
    struct err e = { 0 };
    char path[512];
    json_t *root, *one;
    size_t i, k;
    assert_non_null(shared(path, sizeof path, "novelist/reference.json"));
    assert_int_equal(json_load_path(path, 1 << 24, &root, &e), 0);
    json_t *greedy = json_object_get(root, "greedy");
    assert_true(json_array_size(greedy) > 0);
    json_array_foreach(greedy, i, one)
    {
        struct tokens ids = { 0 };
        const char *prompt = json_get_str(one, "prompt", NULL);
        const json_t *want = json_object_get(one, "prompt_ids");
        assert_int_equal(tokenizer_encode(t, prompt, strlen(prompt), NULL, 0, &ids, &e), 0);
        assert_int_equal(ids.n, json_array_size(want));
        for (k = 0; k < ids.n; k++)
            assert_int_equal(ids.id[k], json_integer_value(json_array_get(want, k)));
        tokens_free(&ids);
    }
    json_decref(root);
    tokenizer_close(&t);
}

static void from_a_model(void **state)
{
    (void)state;
    struct tokenizer *t = NULL;
    struct err e = { 0 };
    char path[512];
    struct model m = { .kind = MODEL_SAFETENSORS, .path = "/nowhere/at/all", .folder = "/nowhere/at/all" };
    assert_int_equal(tokenizer_open(&t, &m, &e), ERR_FILE);
    assert_non_null(strstr(e.where, "/nowhere/at/all/tokenizer.json"));
    if (!shared(path, sizeof path, "novelist"))
        skip();
    m.path = m.folder = path;
    assert_int_equal(tokenizer_open(&t, &m, &e), 0);
    assert_int_equal(tokenizer_size(t), 8173);
    tokenizer_close(&t);
}

/* What a GGUF writer would store equals what llama.cpp's converter stored. */
static void novelist_gguf(void **state)
{
    (void)state;
    struct tokenizer *json = open_novelist(), *gguf = NULL;
    struct err e = { 0 };
    struct gguf_meta *meta;
    struct tensor_dir *dir;
    char path[512];
    assert_non_null(shared(path, sizeof path, "novelist-q8_0.gguf"));
    assert_int_equal(gguf_open(&meta, &dir, path, &e), 0);
    assert_int_equal(tokenizer_open_gguf(&gguf, meta, &e), 0);
    assert_string_equal(tokenizer_pre(gguf), tokenizer_pre(json));
    assert_int_equal(tokenizer_size(gguf), tokenizer_size(json));
    for (int32_t id = 0; id < tokenizer_size(json); id++) {
        size_t n, m;
        const char *a = tokenizer_gguf_text(json, id, &n), *b = tokenizer_gguf_text(gguf, id, &m);
        assert_int_equal(n, m);
        assert_memory_equal(a, b, n);
        a = tokenizer_bytes(json, id, &n);
        b = tokenizer_bytes(gguf, id, &m);
        assert_int_equal(n, m);
        assert_memory_equal(a, b, n);
        assert_int_equal(tokenizer_gguf_type(json, id), tokenizer_gguf_type(gguf, id));
    }
    assert_int_equal(tokenizer_n_merges(gguf), tokenizer_n_merges(json));
    for (int i = 0; i < tokenizer_n_merges(json); i++)
        assert_string_equal(tokenizer_merge(json, i), tokenizer_merge(gguf, i));
    tokenizer_close(&json);
    tokenizer_close(&gguf);
    gguf_meta_close(&meta);
    tensor_dir_close(&dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wrong_json),
        cmocka_unit_test(odd_but_right_json),
        cmocka_unit_test(tokens_out_of_reach),
        cmocka_unit_test(merges_with_spaces),
        cmocka_unit_test(gguf_is_the_same_tokenizer),
        cmocka_unit_test(from_a_model),
        cmocka_unit_test(novelist_prompts),
        cmocka_unit_test(novelist_gguf),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
