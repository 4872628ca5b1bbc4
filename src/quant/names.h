/* names.h: how names of formats and mixes are compared; private to quant/. */
#ifndef TONNE_QUANT_NAMES_H
#define TONNE_QUANT_NAMES_H

#include <ctype.h>
#include <stdbool.h>

static inline int name_char(char c)
{
    return c == '_' ? '-' : tolower((unsigned char)c);
}

/* Letter case is ignored, and '-' and '_' are the same. */
static inline bool same_name(const char *a, const char *b)
{
    while (*a && name_char(*a) == name_char(*b))
        a++, b++;
    return name_char(*a) == name_char(*b);
}

#endif
