/*
 * char_class.h: what the pre-token rules and NFC need to know of a code point, one byte each.
 * The reference library splits with Unicode 16 categories and normalises with Unicode 9 data; both are kept,
 * because models are trained on exactly that (char_class.c names the differences to utf8proc).
 */
#ifndef TONNE_TEXT_CHAR_CLASS_H
#define TONNE_TEXT_CHAR_CLASS_H

#include <stdint.h>

enum {
    CHAR_LETTER = 1,   /* \p{L} */
    CHAR_MARK = 2,     /* \p{M} */
    CHAR_NUMBER = 4,   /* \p{N} */
    CHAR_SPACE = 8,    /* \s: White_Space */
    CHAR_NEWLINE = 16, /* CR, LF */
    CHAR_NFC_LOOK = 32 /* may change, move or join its neighbours under NFC; all others end a segment */
};

enum { CHAR_LOW = 0x20000 }; /* planes 0 and 1 are tabulated; beyond them nearly everything is a letter */

struct char_classes {
    uint8_t low[CHAR_LOW];
};

void char_classes_fill(struct char_classes *c);
uint8_t char_class_high(uint32_t cp); /* cp >= CHAR_LOW */

static inline unsigned char_class(const struct char_classes *c, uint32_t cp)
{
    return cp < CHAR_LOW ? c->low[cp] : char_class_high(cp);
}

#endif
