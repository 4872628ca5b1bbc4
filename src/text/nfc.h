/* nfc.h: canonical composition (NFC) as the reference library does it, in time linear in the text. */
#ifndef TONNE_TEXT_NFC_H
#define TONNE_TEXT_NFC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "text/char_class.h"

struct nfc { /* scratch, reused from piece to piece; zero-initialise; nfc_free */
    char *text;
    size_t n, capacity;
    int32_t *cp; /* one segment's code points, then room to sort them */
    size_t cp_capacity;
};

/* Normalises *text of *n bytes. Already normal text is left alone; otherwise *text points into s, borrowed
 * until the next call, and *changed is true. */
int nfc_normalise(struct nfc *s, const struct char_classes *c, const char **text, size_t *n, bool *changed,
                  struct err *e);
void nfc_free(struct nfc *s);

#endif
