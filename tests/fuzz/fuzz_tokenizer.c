/*
 * fuzz_tokenizer.c: the input is a tokenizer.json, then, after a zero byte, a text. The text is encoded by
 * what the file gives and by a tokenizer made here, whose ids must decode to the text again.
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz/target.h"
#include "text/pretokenize.h"
#include "text/tokenizer_internal.h"
#include "text/utf8.h"

/* Bytes 0-255, some merges, one special token, no NFC: decoding gives exactly the text. */
static struct tokenizer *made_here(enum pre_rule rule)
{
    static const char *const merge[] = { "a a", "aa aa", "t h", "th e", "b c", "a b", "ab c", "a bc" };
    struct tokenizer *t;
    int rc = build_open(&t, 300, NULL);
    for (int b = 0, other = 0; b < 256 && rc == 0; b++) {
        bool printable = (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
        char text[4];
        size_t n = (size_t)utf8_encode(printable ? (uint32_t)b : 0x100 + (uint32_t)other++, text);
        rc = vocab_add_model(&t->vocab, b, text, n, TOKEN_NORMAL, NULL);
    }
    static const char *const result[] = { "aa", "aaaa", "th", "the", "bc", "ab", "abc" };
    for (int i = 0; i < 7 && rc == 0; i++)
        rc = vocab_add_model(&t->vocab, 256 + i, result[i], strlen(result[i]), TOKEN_NORMAL, NULL);
    if (rc == 0)
        rc = build_added(t, 299, "<|x|>", 5, true, false, TOKEN_CONTROL, NULL);
    if (rc == 0)
        rc = build_merges(t, 8, NULL);
    for (int i = 0; i < 8 && rc == 0; i++) {
        size_t n = strcspn(merge[i], " ");
        rc = build_merge(t, merge[i], n, merge[i] + n + 1, strlen(merge[i] + n + 1), NULL);
    }
    t->rule = rule;
    if (rc == 0)
        rc = build_finish(t, NULL);
    assert(rc == 0);
    return t;
}

static void decode(const struct tokenizer *t, const struct tokens *ids, const char *want, size_t n)
{
    size_t room = token_stream_room(t), at = 0;
    char *out = malloc(room);
    struct token_stream s = { .tokenizer = t };
    for (size_t i = 0; out && i <= ids->n; i++) {
        size_t got =
            i < ids->n ? token_stream_push(&s, ids->id[i], out, room) : token_stream_finish(&s, out, room);
        assert(got <= room && utf8_valid(out, got) == got);
        if (!want)
            continue;
        assert(got <= n - at && memcmp(out, want + at, got) == 0);
        at += got;
    }
    assert(!out || !want || at == n);
    free(out);
}

/* exact: decoding gives the text again; otherwise anything that is UTF-8. */
static void encode(const struct tokenizer *t, const char *text, size_t n, bool exact)
{
    struct trusted_range half = { n / 4, n / 2 };
    for (int n_trusted = -1; n_trusted <= 1; n_trusted++) {
        struct tokens ids = { 0 };
        struct err e = { 0 };
        int rc = tokenizer_encode(t, text, n, &half, n_trusted, &ids, &e);
        assert((rc == 0) == (utf8_valid(text, n) == n));
        if (rc == 0)
            decode(t, &ids, exact ? text : NULL, n);
        for (size_t i = 0; i < ids.n; i++)
            assert(ids.id[i] >= 0 && ids.id[i] < tokenizer_size(t));
        tokens_free(&ids);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static struct tokenizer *known[PRE_COUNT];
    static const char fixed[] = "The caf\x65\xCC\x81's <|im_start|>\n\n  12 \xEA\xB0\x80\xE1\x86\xA8 <think>";
    const char *text = (const char *)data, *zero = n ? memchr(data, 0, n) : NULL;
    size_t n_json = zero ? (size_t)(zero - text) : n, n_text = zero ? n - n_json - 1 : 0;
    struct tokenizer *t = NULL;
    struct err e = { 0 };
    int rc = tokenizer_open_json(&t, text, n_json, &e);
    assert((rc == 0) == (t != NULL) && rc == e.code);
    if (t) {
        encode(t, fixed, sizeof fixed - 1, false);
        if (zero)
            encode(t, zero + 1, n_text, false);
        tokenizer_close(&t);
    }
    for (int r = 0; r < PRE_COUNT && zero; r++) {
        if (!known[r])
            known[r] = made_here((enum pre_rule)r);
        encode(known[r], zero + 1, n_text, true);
    }
    return 0;
}
