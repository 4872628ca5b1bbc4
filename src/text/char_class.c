/*
 * char_class.c: the table of character classes, from utf8proc where it agrees with the reference library.
 * tools/tokenizer_parity.py compares every code point, so a range missing here is found there.
 */
#include "text/char_class.h"

#include <stddef.h>
#include <string.h>
#include <utf8proc.h>

struct class_range {
    uint32_t first, last;
    uint8_t class;
};

/* Assigned in Unicode 15.1 and 16, newer than the utf8proc of Debian 12. A newer utf8proc agrees with these.
 */
static const struct class_range newer_categories[] = {
    { 0x00897, 0x00897, CHAR_MARK },   { 0x01c89, 0x01c8a, CHAR_LETTER }, { 0x0a7cb, 0x0a7cd, CHAR_LETTER },
    { 0x0a7da, 0x0a7dc, CHAR_LETTER }, { 0x105c0, 0x105f3, CHAR_LETTER }, { 0x10d40, 0x10d49, CHAR_NUMBER },
    { 0x10d4a, 0x10d65, CHAR_LETTER }, { 0x10d69, 0x10d6d, CHAR_MARK },   { 0x10d6f, 0x10d85, CHAR_LETTER },
    { 0x10ec2, 0x10ec4, CHAR_LETTER }, { 0x10efc, 0x10efc, CHAR_MARK },   { 0x11380, 0x11389, CHAR_LETTER },
    { 0x1138b, 0x1138b, CHAR_LETTER }, { 0x1138e, 0x1138e, CHAR_LETTER }, { 0x11390, 0x113b5, CHAR_LETTER },
    { 0x113b7, 0x113b7, CHAR_LETTER }, { 0x113b8, 0x113c0, CHAR_MARK },   { 0x113c2, 0x113c2, CHAR_MARK },
    { 0x113c5, 0x113c5, CHAR_MARK },   { 0x113c7, 0x113ca, CHAR_MARK },   { 0x113cc, 0x113d0, CHAR_MARK },
    { 0x113d1, 0x113d1, CHAR_LETTER }, { 0x113d2, 0x113d2, CHAR_MARK },   { 0x113d3, 0x113d3, CHAR_LETTER },
    { 0x113e1, 0x113e2, CHAR_MARK },   { 0x116d0, 0x116e3, CHAR_NUMBER }, { 0x11bc0, 0x11be0, CHAR_LETTER },
    { 0x11bf0, 0x11bf9, CHAR_NUMBER }, { 0x11f5a, 0x11f5a, CHAR_MARK },   { 0x13460, 0x143fa, CHAR_LETTER },
    { 0x16100, 0x1611d, CHAR_LETTER }, { 0x1611e, 0x1612f, CHAR_MARK },   { 0x16130, 0x16139, CHAR_NUMBER },
    { 0x16d40, 0x16d6c, CHAR_LETTER }, { 0x16d70, 0x16d79, CHAR_NUMBER }, { 0x18cff, 0x18cff, CHAR_LETTER },
    { 0x1ccf0, 0x1ccf9, CHAR_NUMBER }, { 0x1e5d0, 0x1e5ed, CHAR_LETTER }, { 0x1e5ee, 0x1e5ef, CHAR_MARK },
    { 0x1e5f0, 0x1e5f0, CHAR_LETTER }, { 0x1e5f1, 0x1e5fa, CHAR_NUMBER },
};

/* Unknown to the reference library's normaliser (Unicode 9): it treats these as ordinary characters, although
 * they have a combining class since. U+11A7 is no trailing consonant, although utf8proc joins it to a
 * syllable. */
static const struct class_range never_combine[] = {
    { 0x007fd, 0x007fd, 0 }, { 0x00898, 0x0089f, 0 }, { 0x008ca, 0x008d3, 0 }, { 0x009fe, 0x009fe, 0 },
    { 0x00c3c, 0x00c3c, 0 }, { 0x00d3b, 0x00d3c, 0 }, { 0x00eba, 0x00eba, 0 }, { 0x011a7, 0x011a7, 0 },
    { 0x01715, 0x01715, 0 }, { 0x01abf, 0x01ace, 0 }, { 0x01df6, 0x01dfa, 0 }, { 0x0a82c, 0x0a82c, 0 },
    { 0x10d24, 0x10d27, 0 }, { 0x10eab, 0x10eac, 0 }, { 0x10efd, 0x10eff, 0 }, { 0x10f46, 0x10f50, 0 },
    { 0x10f82, 0x10f85, 0 }, { 0x11070, 0x11070, 0 }, { 0x1133b, 0x1133b, 0 }, { 0x1145e, 0x1145e, 0 },
    { 0x11839, 0x1183a, 0 }, { 0x1193d, 0x1193e, 0 }, { 0x11943, 0x11943, 0 }, { 0x119e0, 0x119e0, 0 },
    { 0x11a34, 0x11a34, 0 }, { 0x11a47, 0x11a47, 0 }, { 0x11a99, 0x11a99, 0 }, { 0x11d42, 0x11d42, 0 },
    { 0x11d44, 0x11d45, 0 }, { 0x11d97, 0x11d97, 0 }, { 0x11f41, 0x11f42, 0 }, { 0x16ff0, 0x16ff1, 0 },
    { 0x1e08f, 0x1e08f, 0 }, { 0x1e130, 0x1e136, 0 }, { 0x1e2ae, 0x1e2ae, 0 }, { 0x1e2ec, 0x1e2ef, 0 },
    { 0x1e4ec, 0x1e4ef, 0 },
};

static uint8_t category_class(uint32_t cp)
{
    static const uint32_t other_spaces[] = { 0x85, 0xA0, 0x1680, 0x2028, 0x2029, 0x202F, 0x205F, 0x3000 };
    if (cp == '\r' || cp == '\n')
        return CHAR_SPACE | CHAR_NEWLINE;
    if ((cp >= 9 && cp <= 13) || cp == ' ' || (cp >= 0x2000 && cp <= 0x200A))
        return CHAR_SPACE;
    for (size_t i = 0; i < sizeof other_spaces / sizeof *other_spaces; i++)
        if (cp == other_spaces[i])
            return CHAR_SPACE;
    switch (utf8proc_category((utf8proc_int32_t)cp)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
        return CHAR_LETTER;
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
        return CHAR_MARK;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
        return CHAR_NUMBER;
    default:
        return 0;
    }
}

/* Fills part[0..return) with the full canonical decomposition. */
static int decompose(uint32_t cp, utf8proc_int32_t part[8])
{
    int boundary = 0;
    utf8proc_ssize_t n =
        utf8proc_decompose_char((utf8proc_int32_t)cp, part, 8, UTF8PROC_DECOMPOSE, &boundary);
    return n < 1 || n > 8 ? 1 : (int)n;
}

/* A character that composition gives back unchanged; *last: what joined to its end, 0 if it is simple. */
static int stays_composed(uint32_t cp, uint32_t *last)
{
    utf8proc_int32_t part[8] = { (utf8proc_int32_t)cp };
    int n = decompose(cp, part);
    *last = n > 1 ? (uint32_t)part[n - 1] : 0;
    utf8proc_ssize_t m = utf8proc_normalize_utf32(part, n, UTF8PROC_COMPOSE | UTF8PROC_STABLE);
    return m == 1 && part[0] == (utf8proc_int32_t)cp;
}

static int is_hangul_syllable(uint32_t cp)
{
    return cp >= 0xAC00 && cp <= 0xD7A3;
}

static void mark_nfc(struct char_classes *c, uint32_t cp)
{
    const utf8proc_property_t *p = utf8proc_get_property((utf8proc_int32_t)cp);
    uint32_t last = 0;
    if (p->combining_class != 0)
        c->low[cp] |= CHAR_NFC_LOOK;
    if (p->decomp_type != 0 || p->decomp_seqindex == UINT16_MAX || is_hangul_syllable(cp))
        return;
    if (!stays_composed(cp, &last))
        c->low[cp] |= CHAR_NFC_LOOK;
    else if (last != 0 && last < CHAR_LOW)
        c->low[last] |= CHAR_NFC_LOOK;
}

void char_classes_fill(struct char_classes *c)
{
    memset(c, 0, sizeof *c);
    for (uint32_t cp = 0; cp < CHAR_LOW; cp++) {
        c->low[cp] |= category_class(cp);
        mark_nfc(c, cp);
    }
    for (uint32_t cp = 0x1161; cp <= 0x11C2; cp++) /* Hangul vowels and trailing consonants join syllables */
        if (cp <= 0x1175 || cp >= 0x11A8)
            c->low[cp] |= CHAR_NFC_LOOK;
    for (size_t i = 0; i < sizeof never_combine / sizeof *never_combine; i++)
        for (uint32_t cp = never_combine[i].first; cp <= never_combine[i].last; cp++)
            c->low[cp] &= (uint8_t)~CHAR_NFC_LOOK;
    for (size_t i = 0; i < sizeof newer_categories / sizeof *newer_categories; i++)
        for (uint32_t cp = newer_categories[i].first; cp <= newer_categories[i].last && cp < CHAR_LOW; cp++)
            c->low[cp] = newer_categories[i].class;
}

uint8_t char_class_high(uint32_t cp)
{
    uint8_t class = category_class(cp);
    if (cp >= 0x2EBF0 && cp <= 0x2EE5D) /* CJK extension I, Unicode 15.1 */
        class = CHAR_LETTER;
    if (utf8proc_get_property((utf8proc_int32_t)cp)->decomp_seqindex != UINT16_MAX)
        class |= CHAR_NFC_LOOK;
    return class;
}
