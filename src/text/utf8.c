/* utf8.c: see utf8.h. Well-formed sequences are those of the Unicode standard's table 3-7. */
#include "text/utf8.h"

#include <string.h>

bool utf8_continues(const char *head, int n, unsigned char b)
{
    unsigned char first = (unsigned char)head[0], low = 0x80, high = 0xBF;
    if (n == 1) { /* the second byte excludes overlong forms, surrogates and what lies above U+10FFFF */
        if (first == 0xE0)
            low = 0xA0;
        else if (first == 0xED)
            high = 0x9F;
        else if (first == 0xF0)
            low = 0x90;
        else if (first == 0xF4)
            high = 0x8F;
    }
    return b >= low && b <= high;
}

static size_t skip_ascii(const char *text, size_t i, size_t n)
{
    while (n - i >= 8) {
        uint64_t word;
        memcpy(&word, text + i, 8);
        if (word & 0x8080808080808080u)
            break;
        i += 8;
    }
    while (i < n && !(text[i] & 0x80))
        i++;
    return i;
}

size_t utf8_valid(const char *text, size_t n)
{
    size_t i = 0;
    while ((i = skip_ascii(text, i, n)) < n) {
        int len = utf8_length((unsigned char)text[i]);
        if (len == 0 || n - i < (size_t)len)
            return i;
        for (int k = 1; k < len; k++)
            if (!utf8_continues(text + i, k, (unsigned char)text[i + (size_t)k]))
                return i;
        i += (size_t)len;
    }
    return n;
}
