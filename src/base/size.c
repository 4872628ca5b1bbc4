/* size.c: see size.h. */
#include "base/size.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The factor that a unit stands for; 0: no such unit. */
static double unit_factor(const char *unit, size_t n)
{
    static const char prefixes[] = "KMGTP";
    if (n == 0 || (n == 1 && (*unit == 'B' || *unit == 'b')))
        return 1;
    char upper = (char)(*unit >= 'a' && *unit <= 'z' ? *unit - 'a' + 'A' : *unit);
    const char *p = memchr(prefixes, upper, sizeof prefixes - 1);
    bool decimal = n == 2 && (unit[1] == 'B' || unit[1] == 'b');
    bool binary =
        n == 1 || (n == 3 && (unit[1] == 'i' || unit[1] == 'I') && (unit[2] == 'B' || unit[2] == 'b'));
    if (!p || (!decimal && !binary))
        return 0;
    double factor = 1;
    for (const char *q = prefixes; q <= p; q++)
        factor *= decimal ? 1000 : 1024;
    return factor;
}

bool size_parse(const char *text, size_t n, uint64_t *bytes)
{
    double value = 0, place = 1;
    size_t i = 0;
    int digits = 0;
    for (; i < n && text[i] >= '0' && text[i] <= '9'; i++, digits++)
        value = 10 * value + (text[i] - '0');
    if (i < n && text[i] == '.')
        for (i++; i < n && text[i] >= '0' && text[i] <= '9'; i++, digits++)
            value += (text[i] - '0') * (place /= 10);
    if (i < n && text[i] == ' ')
        i++;
    double factor = unit_factor(text + i, n - i);
    if (digits == 0 || factor == 0 || !(value * factor < 0x1p62))
        return false;
    *bytes = (uint64_t)(value * factor + 0.5);
    return true;
}

const char *size_text(char *out, uint64_t bytes)
{
    static const char *const units[] = { "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
    double v = (double)bytes / 1024;
    int u = 0;
    while (v >= 1024 && u < 5)
        v /= 1024, u++;
    if (bytes < 1024)
        snprintf(out, SIZE_TEXT, "%d bytes", (int)bytes);
    else
        snprintf(out, SIZE_TEXT, "%.1f %s", v, units[u]);
    return out;
}
