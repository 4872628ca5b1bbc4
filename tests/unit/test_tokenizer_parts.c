/* test_tokenizer_parts.c: UTF-8, pre-tokens, NFC and merging, each by itself. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "text/bpe.h"
#include "text/nfc.h"
#include "text/pretokenize.h"
#include "text/utf8.h"

static void utf8_positions(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t good;
    } cases[] = {
        { "", 0 },
        { "plain ascii text", 16 },
        { "\xC3\xA9t\xC3\xA9", 5 },
        { "abcdefgh\xFF", 8 },
        { "a\x80", 1 },
        { "ab\xC3", 2 },
        { "\xC0\x80", 0 },
        { "\xE0\x9F\xBF", 0 },
        { "x\xED\xA0\x80", 1 },
        { "\xF0\x8F\xBF\xBF", 0 },
        { "\xF4\x90\x80\x80", 0 },
        { "\xF4\x8F\xBF\xBF", 4 },
        { "\xE2\x82", 0 },
        { "\xED\x9F\xBF\xEE\x80\x80", 6 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(utf8_valid(cases[i].text, strlen(cases[i].text)), cases[i].good);
}

static void split(enum pre_rule rule, const char *text, const char *want)
{
    static struct char_classes classes;
    if (!classes.low['a'])
        char_classes_fill(&classes);
    char out[512];
    size_t n = strlen(text), to = 0;
    for (size_t at = 0; at < n;) {
        size_t end = pre_token_end(rule, &classes, text, n, at);
        assert_true(end > at && end <= n);
        to +=
            (size_t)snprintf(out + to, sizeof out - to, "%s%.*s", at ? "|" : "", (int)(end - at), text + at);
        at = end;
    }
    assert_string_equal(out, want);
}

static void pre_tokens(void **state)
{
    (void)state;
    static const char *const both[][2] = {
        { "Hello world 123", "Hello| world| |1|2|3" },
        { "a  b", "a| | b" },
        { "don't", "don|'t" },
        { "foo.\n\nbar", "foo|.\n\n|bar" },
        { "x\n  y", "x|\n| | y" },
        { "  \n \n  x", "  \n \n| | x" },
        { "a   ", "a|   " },
        { "a \t\r\n\t1", "a| \t\r\n|\t|1" },
        { "'S'LL'x'", "'S|'LL|'x|'" },
        { "'\xC5\xBFx", "'\xC5\xBF|x" },    /* long s folds to s */
        { "\xC2\xA0word", "\xC2\xA0word" }, /* any single character but CR and LF goes with the word */
        { "\xE3\x80\x80\xE3\x80\x80 a", "\xE3\x80\x80\xE3\x80\x80| a" },
        { "\nword", "\n|word" },
        { " .\r\n\nx", " .\r\n\n|x" },
        { "(f(x))", "(f|(x|))" },
        { "\xC2\xBD\xE2\x85\xA7", "\xC2\xBD|\xE2\x85\xA7" }, /* No, Nl */
        { "\xE4\xBD\xA0\xE5\xA5\xBD"
          "1",
          "\xE4\xBD\xA0\xE5\xA5\xBD|1" },
        { "\xF0\xA0\x80\x80"
          "b!",
          "\xF0\xA0\x80\x80"
          "b|!" },
    };
    for (size_t i = 0; i < sizeof both / sizeof *both; i++) {
        split(PRE_QWEN2, both[i][0], both[i][1]);
        split(PRE_QWEN35, both[i][0], both[i][1]);
    }
    /* Devanagari ki: consonant, vowel sign (a mark), consonant. */
    split(PRE_QWEN35, "\xE0\xA4\x95\xE0\xA4\xBF\xE0\xA4\x95", "\xE0\xA4\x95\xE0\xA4\xBF\xE0\xA4\x95");
    split(PRE_QWEN2, "\xE0\xA4\x95\xE0\xA4\xBF\xE0\xA4\x95", "\xE0\xA4\x95|\xE0\xA4\xBF\xE0\xA4\x95");
    split(PRE_QWEN35, ".\xCC\x81!", ".\xCC\x81|!");
    split(PRE_QWEN2, ".\xCC\x81!", ".\xCC\x81!");
    split(PRE_QWEN35, "\xCC\x81", "\xCC\x81");
    split(PRE_QWEN35,
          "\xCC\x81"
          "1",
          "\xCC\x81|1");
}

static void normalised(const struct char_classes *c, const char *text, const char *want)
{
    struct nfc s = { 0 };
    struct err e = { 0 };
    size_t n = strlen(text);
    bool changed;
    const char *out = text;
    assert_int_equal(nfc_normalise(&s, c, &out, &n, &changed, &e), 0);
    assert_int_equal(n, strlen(want));
    assert_memory_equal(out, want, n);
    assert_int_equal(changed, strcmp(text, want) != 0);
    nfc_free(&s);
}

static void composition(void **state)
{
    (void)state;
    static struct char_classes c;
    char_classes_fill(&c);
    normalised(&c, "caf\xC3\xA9", "caf\xC3\xA9");
    normalised(&c, "cafe\xCC\x81 ok", "caf\xC3\xA9 ok");
    normalised(&c, "\xCC\x81x", "\xCC\x81x");
    normalised(&c, "s\xCC\x87\xCC\xA3", "\xE1\xB9\xA9"); /* dot above, dot below: reordered, then joined */
    normalised(&c, "\xC3\xA9\xCC\xA3", "\xE1\xBA\xB9\xCC\x81"); /* the composed one is taken apart first */
    normalised(&c, "\xE1\x84\x80\xE1\x85\xA1\xE1\x86\xA8", "\xEA\xB0\x81"); /* Hangul */
    normalised(&c, "\xEA\xB0\x80\xE1\x86\xA7",
               "\xEA\xB0\x80\xE1\x86\xA7");                     /* U+11A7 is not a final consonant */
    normalised(&c, "\xE2\x84\xAB", "\xC3\x85");                 /* Angstrom sign */
    normalised(&c, "\xE0\xA5\x98", "\xE0\xA4\x95\xE0\xA4\xBC"); /* excluded from composition */
    normalised(&c, "a\xDF\xBD\xCC\x81", "a\xDF\xBD\xCC\x81");   /* U+07FD: newer than the reference's data */
}

/* The definition, in quadratic time: the lowest rank, the leftmost of equals. */
static size_t merge_slowly(const struct bpe *b, const uint32_t (*pair)[4], int n_pairs, const char *word,
                           size_t n, int32_t *out)
{
    for (size_t i = 0; i < n; i++)
        out[i] = (int32_t)b->byte_id[(unsigned char)word[i]];
    for (;;) {
        int best = n_pairs;
        size_t where = 0;
        for (size_t i = 0; i + 1 < n; i++)
            for (int k = 0; k < best; k++)
                if (pair[k][0] == (uint32_t)out[i] && pair[k][1] == (uint32_t)out[i + 1])
                    best = k, where = i;
        if (best == n_pairs)
            return n;
        out[where] = (int32_t)pair[best][2];
        memmove(out + where + 1, out + where + 2, (n - where - 2) * sizeof *out);
        n--;
    }
}

static void merging_short_and_long(void **state)
{
    (void)state;
    enum { PAIRS = 60, LONGEST = 200 };
    struct bpe b = { 0 };
    struct err e = { 0 };
    struct bpe_scratch scratch = { 0 };
    uint32_t pair[PAIRS][4], seed = 12345;
    assert_int_equal(bpe_open(&b, PAIRS, &e), 0);
    for (int i = 0; i < 256; i++)
        b.byte_id[i] = (uint32_t)i % 4;
    for (uint32_t k = 0; k < PAIRS; k++) { /* of the first 4 + k symbols, so that long words merge far */
        do {
            pair[k][0] = (seed = seed * 1664525 + 1013904223) >> 8 & 0xFFFF;
            pair[k][1] = (seed = seed * 1664525 + 1013904223) >> 8 & 0xFFFF;
            pair[k][0] %= 4 + k / 3;
            pair[k][1] %= 4 + k / 3;
            pair[k][3] = 0;
            for (uint32_t i = 0; i < k; i++)
                pair[k][3] |= pair[i][0] == pair[k][0] && pair[i][1] == pair[k][1];
        } while (pair[k][3]);
        pair[k][2] = 4 + k;
        assert_int_equal(bpe_add(&b, pair[k][0], pair[k][1], k, 4 + k, &e), 0);
    }
    size_t merged = 0;
    for (int round = 0; round < 2000; round++) {
        char word[LONGEST];
        int32_t fast[LONGEST], slow[LONGEST];
        size_t n = 1 + (seed >> 9) % (round % 2 ? 40 : LONGEST), n_fast;
        for (size_t i = 0; i < n; i++)
            word[i] = (char)((seed = seed * 1664525 + 1013904223) >> 16);
        assert_int_equal(bpe_merge(&b, &scratch, word, n, fast, &n_fast, &e), 0);
        assert_int_equal(n_fast, merge_slowly(&b, (const uint32_t(*)[4])pair, PAIRS, word, n, slow));
        assert_memory_equal(fast, slow, n_fast * sizeof *fast);
        merged += n - n_fast;
    }
    assert_true(merged > 50000);
    bpe_scratch_free(&scratch);
    bpe_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(utf8_positions),
        cmocka_unit_test(pre_tokens),
        cmocka_unit_test(composition),
        cmocka_unit_test(merging_short_and_long),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
