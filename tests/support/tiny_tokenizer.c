/* tiny_tokenizer.c: see tiny_tokenizer.h. */
#include "support/tiny_tokenizer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "text/tokenizer.h"
#include "text/utf8.h"

/* The character of the byte alphabet for one byte, as UTF-8. */
static void alphabet(int byte, char out[4])
{
    uint32_t cp = 0x100;
    for (int b = 0; b <= byte; b++) {
        bool printable = (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
        if (b == byte && printable)
            cp = (uint32_t)b;
        else if (b < byte && !printable)
            cp++;
    }
    out[utf8_encode(cp, out)] = '\0';
}

/* "Hello", "user", "assistant" and "\n\n" become one token each. */
static const char *const merges[] = { "h e",    "l l",     "H e",      "He ll",     "Hell o",     "e l",
                                      "u s",    "us e",    "use r",    "a s",       "as s",       "ass i",
                                      "assi s", "assis t", "assist a", "assista n", "assistan t", "Ċ Ċ",
                                      "Ġ Ġ",    "ĠĠ ĠĠ",   "Ã ©",      "a a",       "aa aa",      "b c",
                                      "a b",    "Ġ w" };

_Static_assert(sizeof merges / sizeof *merges == TINY_MERGES, "the header says how many");

void tinytok_add(json_t *list, int id, const char *text, bool special)
{
    json_array_append_new(list, json_pack("{s:i,s:s,s:b,s:b,s:b,s:b,s:b}", "id", id, "content", text,
                                          "special", special, "normalized", false, "single_word", false,
                                          "lstrip", false, "rstrip", false));
}

static json_t *tiny_model(void)
{
    json_t *vocab = json_object(), *list = json_array();
    int id = 0;
    for (int b = 0; b < 256; b++) {
        char text[4];
        alphabet(b, text);
        json_object_set_new(vocab, text, json_integer(id++));
    }
    for (int i = 0; i < TINY_MERGES; i++) {
        char left[32], right[32], joined[64];
        assert_int_equal(sscanf(merges[i], "%31s %31s", left, right), 2);
        snprintf(joined, sizeof joined, "%s%s", left, right);
        json_object_set_new(vocab, joined, json_integer(id++));
        json_array_append_new(list, i % 2 ? json_pack("[ss]", left, right) : json_string(merges[i]));
    }
    return json_pack("{s:s,s:o,s:o,s:n,s:b}", "type", "BPE", "vocab", vocab, "merges", list, "dropout",
                     "ignore_merges", false);
}

json_t *tinytok_json(enum pre_rule rule)
{
    json_t *added = json_array();
    tinytok_add(added, 300, "<|im_start|>", true);
    tinytok_add(added, 301, "<|im_end|>", true);
    tinytok_add(added, 302, "<think>", false);
    tinytok_add(added, 303, "</think>", false);
    json_t *split = json_pack("{s:s,s:{s:s},s:s,s:b}", "type", "Split", "pattern", "Regex",
                              pre_rule_regex(rule), "behavior", "Isolated", "invert", false);
    json_t *level =
        json_pack("{s:s,s:b,s:b}", "type", "ByteLevel", "add_prefix_space", false, "use_regex", false);
    json_t *pre = json_pack("{s:s,s:[oo]}", "type", "Sequence", "pretokenizers", split, level);
    return json_pack("{s:{s:s},s:o,s:o,s:o,s:{s:s}}", "normalizer", "type", "NFC", "pre_tokenizer", pre,
                     "model", tiny_model(), "added_tokens", added, "decoder", "type", "ByteLevel");
}

int tinytok_open_json(struct tokenizer **t, json_t *root, struct err *e)
{
    char *text = json_dumps(root, JSON_COMPACT);
    assert_non_null(text);
    int rc = tokenizer_open_json(t, text, strlen(text), e);
    free(text);
    json_decref(root);
    return rc;
}

struct tokenizer *tinytok_open(enum pre_rule rule)
{
    struct tokenizer *t = NULL;
    struct err e = { 0 };
    int rc = tinytok_open_json(&t, tinytok_json(rule), &e);
    if (rc)
        fail_msg("%s (%s)", e.what, e.where);
    return t;
}

/* The ids as "text|text|...", added tokens in brackets. */
static const char *shown(const struct tokenizer *t, const struct tokens *ids)
{
    static char out[4096];
    size_t n = 0;
    for (size_t i = 0; i < ids->n; i++) {
        size_t len;
        const char *bytes = tokenizer_bytes(t, ids->id[i], &len);
        assert_non_null(bytes);
        bool added = ids->id[i] >= 300;
        n += (size_t)snprintf(out + n, sizeof out - n, "%s%s%.*s%s", i ? "|" : "", added ? "[" : "", (int)len,
                              bytes, added ? "]" : "");
        assert_true(n < sizeof out);
    }
    out[n] = '\0';
    return out;
}

void tinytok_expect(const struct tokenizer *t, const char *text, const struct trusted_range *r, int n_r,
                    const char *want)
{
    struct tokens ids = { 0 };
    struct err e = { 0 };
    assert_int_equal(tokenizer_encode(t, text, strlen(text), r, n_r, &ids, &e), 0);
    assert_string_equal(shown(t, &ids), want);
    tokens_free(&ids);
}
