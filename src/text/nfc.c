/*
 * nfc.c: only segments around characters that NFC can change are normalised; ordinary text is not copied.
 *
 * utf8proc decomposes and composes. Its own sorting of combining marks takes quadratic time, which a hostile
 * text could use, so the canonical order is made here by counting.
 */
#include "text/nfc.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "text/utf8.h"

enum { MAX_EXPANSION = 4 }; /* code points of the longest canonical decomposition */

void nfc_free(struct nfc *s)
{
    free(s->text);
    free(s->cp);
    *s = (struct nfc){ 0 };
}

static int append(struct nfc *s, const char *bytes, size_t n, struct err *e)
{
    if (n == 0)
        return 0;
    if (s->capacity - s->n < n) {
        size_t capacity = (s->n + n) + (s->n + n) / 2 + 64;
        char *text = realloc(s->text, capacity);
        if (!text)
            return err_set(e, ERR_MEMORY, "no memory to normalise %zu bytes of text", capacity);
        s->text = text;
        s->capacity = capacity;
    }
    memcpy(s->text + s->n, bytes, n);
    s->n += n;
    return 0;
}

/* What the reference library takes for the combining class: 0 for the marks its data does not know. */
static int combining_class(const struct char_classes *c, int32_t cp)
{
    if (!(char_class(c, (uint32_t)cp) & CHAR_NFC_LOOK))
        return 0;
    return utf8proc_get_property(cp)->combining_class;
}

/* Stable, by combining class; room holds n code points. Runs of two or three marks are the rule. */
static void sort_marks(const struct char_classes *c, int32_t *cp, size_t n, int32_t *room)
{
    if (n <= 16) {
        for (size_t i = 1; i < n; i++) {
            int32_t x = cp[i];
            size_t k = i;
            for (; k > 0 && combining_class(c, cp[k - 1]) > combining_class(c, x); k--)
                cp[k] = cp[k - 1];
            cp[k] = x;
        }
        return;
    }
    size_t start[257] = { 0 };
    for (size_t i = 0; i < n; i++)
        start[combining_class(c, cp[i]) + 1]++;
    for (int i = 1; i < 257; i++)
        start[i] += start[i - 1];
    for (size_t i = 0; i < n; i++)
        room[start[combining_class(c, cp[i])]++] = cp[i];
    memcpy(cp, room, n * sizeof *cp);
}

static void order(const struct char_classes *c, int32_t *cp, size_t n, int32_t *room)
{
    size_t i = 0;
    while (i < n) {
        if (combining_class(c, cp[i]) == 0) {
            i++;
            continue;
        }
        size_t end = i + 1;
        while (end < n && combining_class(c, cp[end]) != 0)
            end++;
        sort_marks(c, cp + i, end - i, room);
        i = end;
    }
}

static int reserve_cp(struct nfc *s, size_t n, struct err *e)
{
    if (n <= s->cp_capacity)
        return 0;
    int32_t *cp = realloc(s->cp, n * sizeof *cp);
    if (!cp)
        return err_set(e, ERR_MEMORY, "no memory to normalise %zu code points", n);
    s->cp = cp;
    s->cp_capacity = n;
    return 0;
}

/* Appends the normal form of text[0..n), which begins and ends at segment boundaries. */
static int append_segment(struct nfc *s, const struct char_classes *c, const char *text, size_t n,
                          struct err *e)
{
    int rc = reserve_cp(s, 2 * MAX_EXPANSION * n, e);
    if (rc)
        return rc;
    size_t n_cp = 0, half = MAX_EXPANSION * n;
    for (size_t i = 0; i < n;) {
        int len, boundary = 0;
        int32_t cp = (int32_t)utf8_decode(text + i, &len);
        utf8proc_ssize_t got = utf8proc_decompose_char(cp, s->cp + n_cp, (utf8proc_ssize_t)(half - n_cp),
                                                       UTF8PROC_DECOMPOSE, &boundary);
        if (got < 1 || (size_t)got > half - n_cp)
            return err_set(e, ERR_USAGE, "the text holds a character that cannot be normalised: U+%04X",
                           (unsigned)cp);
        n_cp += (size_t)got;
        i += (size_t)len;
    }
    order(c, s->cp, n_cp, s->cp + half);
    utf8proc_ssize_t m =
        utf8proc_normalize_utf32(s->cp, (utf8proc_ssize_t)n_cp, UTF8PROC_COMPOSE | UTF8PROC_STABLE);
    for (utf8proc_ssize_t i = 0; i < m && rc == 0; i++) {
        char out[4];
        rc = append(s, out, (size_t)utf8_encode((uint32_t)s->cp[i], out), e);
    }
    return rc;
}

static size_t previous_char(const char *text, size_t i)
{
    do
        i--;
    while ((text[i] & 0xC0) == 0x80);
    return i;
}

/* The first character at or after i that NFC has to look at, or n. Nothing below U+0300 (lead byte 0xCC) is.
 */
static size_t next_look(const struct char_classes *c, const char *text, size_t i, size_t n)
{
    while (i < n) {
        if ((unsigned char)text[i] < 0xCC) {
            i++;
            continue;
        }
        int len;
        if (char_class(c, utf8_decode(text + i, &len)) & CHAR_NFC_LOOK)
            return i;
        i += (size_t)len;
    }
    return n;
}

static size_t end_of_looks(const struct char_classes *c, const char *text, size_t i, size_t n)
{
    int len = 0;
    while (i < n && char_class(c, utf8_decode(text + i, &len)) & CHAR_NFC_LOOK)
        i += (size_t)len;
    return i;
}

int nfc_normalise(struct nfc *s, const struct char_classes *c, const char **text, size_t *n, bool *changed,
                  struct err *e)
{
    const char *in = *text;
    size_t copied = 0, total = *n;
    s->n = 0;
    *changed = false;
    for (size_t i = next_look(c, in, 0, total); i < total; i = next_look(c, in, copied, total)) {
        size_t begin = i > copied ? previous_char(in, i) : i, end = end_of_looks(c, in, i, total);
        int rc = append(s, in + copied, begin - copied, e);
        if (rc == 0)
            rc = append_segment(s, c, in + begin, end - begin, e);
        if (rc)
            return rc;
        copied = end;
    }
    if (copied == 0)
        return 0;
    int rc = append(s, in + copied, total - copied, e);
    if (rc)
        return rc;
    *changed = s->n != total || memcmp(s->text, in, total) != 0;
    *text = s->text;
    *n = s->n;
    return 0;
}
