/*
 * test_tokenizer.c: encoding and decoding on a vocabulary made in support/tiny_tokenizer.c;
 * tools/tokenizer_parity.py compares with the reference library on thousands of texts.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "support/tiny_tokenizer.h"
#include "text/tokenizer.h"

static void encoding(void **state)
{
    (void)state;
    struct tokenizer *t = tinytok_open(PRE_QWEN35);
    assert_string_equal(tokenizer_pre(t), "qwen35");
    assert_int_equal(tokenizer_size(t), 304);
    tinytok_expect(t, "", NULL, 0, "");
    tinytok_expect(t, "Hello user", NULL, 0, "Hello| |user");
    tinytok_expect(t, "hell", NULL, 0, "he|ll");
    tinytok_expect(t, "elk", NULL, 0, "el|k");
    tinytok_expect(t, "abc", NULL, 0, "a|bc");
    tinytok_expect(t, "aaaaaaa", NULL, 0, "aaaa|aa|a");
    tinytok_expect(t, "cafe\xCC\x81", NULL, 0, "c|a|f|\xC3\xA9");
    tinytok_expect(t, "     w", NULL, 0, "    | w");
    tinytok_expect(t, "x\n\n\n", NULL, 0, "x|\n\n|\n");
    tokenizer_close(&t);
    assert_null(t);
    t = tinytok_open(PRE_QWEN2);
    assert_string_equal(tokenizer_pre(t), "qwen2");
    tokenizer_close(&t);
}

static void chat_turns(void **state)
{
    (void)state;
    struct tokenizer *t = tinytok_open(PRE_QWEN35);
    tinytok_expect(
        t, "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n", NULL,
        TOKENIZE_ALL_TRUSTED,
        "[<|im_start|>]|user|\n|Hello|[<|im_end|>]|\n|[<|im_start|>]|assistant|\n|[<think>]|\n\n|[</"
        "think>]|\n\n");
    tokenizer_close(&t);
}

static void only_trusted_text_gives_control_tokens(void **state)
{
    (void)state;
    struct tokenizer *t = tinytok_open(PRE_QWEN35);
    const char *text = "<|im_end|>a<|im_end|>";
    tinytok_expect(t, text, NULL, 0, "<|||i|m|_|e|n|d|||>|a|<|||i|m|_|e|n|d|||>");
    tinytok_expect(t, text, NULL, TOKENIZE_ALL_TRUSTED, "[<|im_end|>]|a|[<|im_end|>]");
    struct trusted_range first = { 0, 10 }, last = { 11, 21 }, late = { 12, 21 }, early = { 11, 20 };
    tinytok_expect(t, text, &first, 1, "[<|im_end|>]|a|<|||i|m|_|e|n|d|||>");
    tinytok_expect(t, text, &last, 1, "<|||i|m|_|e|n|d|||>|a|[<|im_end|>]");
    tinytok_expect(t, text, &late, 1, "<|||i|m|_|e|n|d|||>|a|<|||i|m|_|e|n|d|||>");
    tinytok_expect(t, text, &early, 1, "<|||i|m|_|e|n|d|||>|a|<|||i|m|_|e|n|d|||>");
    struct trusted_range pieces[] = { { 0, 4 }, { 4, 4 }, { 4, 10 }, { 11, 15 }, { 16, 21 } };
    tinytok_expect(t, text, pieces, 5, "[<|im_end|>]|a|<|||i|m|_|e|n|d|||>"); /* touching ranges are one */
    tinytok_expect(t, "<think>", NULL, 0, "[<think>]");                       /* not special: everywhere */
    struct tokens ids = { 0 };
    struct err e = { 0 };
    struct trusted_range wrong[] = { { 4, 8 }, { 2, 3 } }, beyond = { 4, 99 };
    assert_int_equal(tokenizer_encode(t, text, 21, wrong, 2, &ids, &e), ERR_USAGE);
    assert_int_equal(tokenizer_encode(t, text, 21, &beyond, 1, &ids, &e), ERR_USAGE);
    assert_int_equal(ids.n, 0);
    tokens_free(&ids);
    tokenizer_close(&t);
}

/* The leftmost, there the longest; an untrusted one must not hide a shorter one. */
static void overlapping_added_tokens(void **state)
{
    (void)state;
    json_t *root = tinytok_json(PRE_QWEN35), *added = json_object_get(root, "added_tokens");
    struct tokenizer *t = NULL;
    struct err e = { 0 };
    tinytok_add(added, 304, "<think>x", true);
    tinytok_add(added, 305, "<thi", false);
    tinytok_add(added, 306, "hink>xy", false);
    json_t *last = json_object();
    json_array_append_new(added, last);
    json_object_set_new(last, "id", json_integer(307));
    json_object_set_new(last, "content", json_string("e\xCC\x81!")); /* normalized by default */
    assert_int_equal(tinytok_open_json(&t, root, &e), 0);
    tinytok_expect(t, "<think>xy", NULL, TOKENIZE_ALL_TRUSTED, "[<think>x]|y");
    tinytok_expect(t, "<think>xy", NULL, 0, "[<think>]|x|y");
    tinytok_expect(t, "<thinhink>xy", NULL, 0, "[<thi]|n|[hink>xy]");
    tinytok_expect(t, "a\xC3\xA9!b", NULL, 0, "a|[e\xCC\x81!]|b");
    tinytok_expect(t, "ae\xCC\x81!b", NULL, 0, "a|[e\xCC\x81!]|b");
    tokenizer_close(&t);
}

/* Normalized special tokens: after NFC has moved the text, only a piece that is trusted as a whole counts. */
static void trust_survives_normalisation(void **state)
{
    (void)state;
    json_t *root = tinytok_json(PRE_QWEN35), *added = json_object_get(root, "added_tokens"), *last;
    struct tokenizer *t = NULL;
    struct err e = { 0 };
    tinytok_add(added, 304, "<q>", true);
    last = json_pack("{s:i,s:s,s:b}", "id", 305, "content", "<s>", "special", true);
    json_array_append_new(added, last);
    assert_int_equal(tinytok_open_json(&t, root, &e), 0);
    struct trusted_range end = { 3, 6 }, all[] = { { 0, 3 }, { 3, 7 } };
    tinytok_expect(t, "\xC3\xA9 <s>", NULL, 0, "\xC3\xA9| |<|s|>");
    tinytok_expect(t, "\xC3\xA9 <s>", &end, 1, "\xC3\xA9| |[<s>]");
    tinytok_expect(t, "e\xCC\x81 <s>", &end, 1, "\xC3\xA9| |<|s|>");
    tinytok_expect(t, "e\xCC\x81 <s>", all, 2, "\xC3\xA9| |[<s>]");
    tinytok_expect(t, "e\xCC\x81<q><s>", NULL, TOKENIZE_ALL_TRUSTED, "\xC3\xA9|[<q>]|[<s>]");
    tokenizer_close(&t);
}

static void text_that_is_not_utf8(void **state)
{
    (void)state;
    struct tokenizer *t = tinytok_open(PRE_QWEN35);
    struct tokens ids = { 0 };
    struct err e = { 0 };
    assert_int_equal(tokens_push(&ids, 7, &e), 0);
    assert_int_equal(tokenizer_encode(t, "ok \xC3(", 5, NULL, 0, &ids, &e), ERR_USAGE);
    assert_string_equal(e.what, "the text is not UTF-8: byte 0xC3 at position 3");
    assert_true(e.hint[0] != '\0');
    assert_int_equal(ids.n, 1);
    assert_int_equal(tokenizer_encode(t, "a\0b", 3, NULL, 0, &ids, &e), 0); /* a zero byte is text */
    assert_int_equal(ids.n, 4);
    tokens_free(&ids);
    tokenizer_close(&t);
}

/* A megabyte without a place to cut, and a megabyte of marks in the worst order: hours if a step were
 * quadratic. */
static void hostile_lengths(void **state)
{
    (void)state;
    enum { N = 1 << 20 };
    struct tokenizer *t = tinytok_open(PRE_QWEN35);
    struct tokens ids = { 0 };
    struct err e = { 0 };
    char *text = malloc(N);
    assert_non_null(text);
    memset(text, 'a', N);
    assert_int_equal(tokenizer_encode(t, text, N, NULL, 0, &ids, &e), 0);
    assert_int_equal(ids.n, N / 4);
    for (size_t i = 0; i < N; i += 2) /* classes 230 and 220 in turn: the worst order */
        memcpy(text + i, i % 4 ? "\xCC\xA3" : "\xCC\x81", 2);
    ids.n = 0;
    assert_int_equal(tokenizer_encode(t, text, N, NULL, 0, &ids, &e), 0);
    size_t n;
    assert_int_equal(ids.n, N);
    assert_memory_equal(tokenizer_bytes(t, ids.id[1], &n), "\xA3", 1); /* all dots below come first now */
    assert_memory_equal(tokenizer_bytes(t, ids.id[N - 1], &n), "\x81", 1);
    memset(text, ' ', N);
    ids.n = 0;
    assert_int_equal(tokenizer_encode(t, text, N, NULL, 0, &ids, &e), 0);
    assert_int_equal(ids.n, N / 4);
    free(text);
    tokens_free(&ids);
    tokenizer_close(&t);
}

/* ---- decoding ---- */

static void push(struct token_stream *s, int32_t id, const char *want)
{
    char out[256];
    size_t n = token_stream_push(s, id, out, token_stream_room(s->tokenizer));
    out[n] = '\0';
    assert_string_equal(out, want);
}

static void finish(struct token_stream *s, const char *want)
{
    char out[8];
    size_t n = token_stream_finish(s, out, sizeof out);
    out[n] = '\0';
    assert_string_equal(out, want);
}

static void streaming(void **state)
{
    (void)state;
    struct tokenizer *t = tinytok_open(PRE_QWEN35);
    assert_true(token_stream_room(t) <= 256);
    int32_t byte[256];
    for (int32_t id = 0; id < 256; id++) {
        size_t n;
        byte[(unsigned char)*tokenizer_bytes(t, id, &n)] = id;
        assert_int_equal(n, 1);
    }
    struct token_stream s = { .tokenizer = t };
    push(&s, byte['a'], "a");
    push(&s, byte[0xE2], "");
    push(&s, byte[0x82], "");
    push(&s, byte[0xAC], "\xE2\x82\xAC");
    push(&s, byte[0xF0], "");
    push(&s, byte[0x9F], "");
    push(&s, byte['b'],
         "\xEF\xBF\xBD"
         "b"); /* one sign for the two bytes that began well */
    push(&s, byte[0xFF], "\xEF\xBF\xBD");
    push(&s, byte[0xE0], "");
    push(&s, byte[0x80], "\xEF\xBF\xBD\xEF\xBF\xBD"); /* overlong: not even a beginning */
    push(&s, byte[0xED], "");
    push(&s, byte[0xA0], "\xEF\xBF\xBD\xEF\xBF\xBD"); /* a surrogate */
    push(&s, byte[0xC3], "");
    push(&s, 301, "\xEF\xBF\xBD<|im_end|>");
    s.skip_special = true;
    push(&s, byte[0xC3], "");
    push(&s, 301, "");
    push(&s, byte[0xA9], "\xC3\xA9");
    push(&s, 302, "<think>"); /* not special */
    push(&s, -1, "");
    push(&s, 5000, "");
    push(&s, byte[0xE2], "");
    finish(&s, "\xEF\xBF\xBD");
    finish(&s, "");
    tokenizer_close(&t);
}

static void looking_things_up(void **state)
{
    (void)state;
    struct tokenizer *t = tinytok_open(PRE_QWEN35);
    size_t n;
    assert_int_equal(tokenizer_find(t, "<|im_end|>"), 301);
    assert_int_equal(tokenizer_find(t, "<think>"), 302);
    assert_int_equal(tokenizer_find(t, "Hello"), -1);
    assert_true(tokenizer_is_special(t, 301));
    assert_false(tokenizer_is_special(t, 302));
    assert_false(tokenizer_is_special(t, -5));
    assert_null(tokenizer_bytes(t, 299, &n)); /* a hole */
    assert_null(tokenizer_bytes(t, 304, &n));
    assert_int_equal(tokenizer_gguf_type(t, 1), 1);
    assert_int_equal(tokenizer_gguf_type(t, 301), 3);
    assert_int_equal(tokenizer_gguf_type(t, 302), 4);
    assert_int_equal(tokenizer_gguf_type(t, 299), 5);
    assert_string_equal(tokenizer_gguf_text(t, 301, &n), "<|im_end|>");
    int32_t space = 32;
    assert_memory_equal(tokenizer_bytes(t, space, &n), " ", 1);
    assert_string_equal(tokenizer_gguf_text(t, space, &n), "\xC4\xA0");
    assert_int_equal(tokenizer_n_merges(t), TINY_MERGES);
    assert_string_equal(tokenizer_merge(t, 0), "h e");
    assert_string_equal(tokenizer_merge(t, 1), "l l");
    assert_null(tokenizer_merge(t, TINY_MERGES));
    tokenizer_close(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(encoding),
        cmocka_unit_test(chat_turns),
        cmocka_unit_test(only_trusted_text_gives_control_tokens),
        cmocka_unit_test(overlapping_added_tokens),
        cmocka_unit_test(trust_survives_normalisation),
        cmocka_unit_test(text_that_is_not_utf8),
        cmocka_unit_test(hostile_lengths),
        cmocka_unit_test(streaming),
        cmocka_unit_test(looking_things_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
