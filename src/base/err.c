/* err.c: error values and how they are shown. */
#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int err_set(struct err *e, int code, const char *fmt, ...)
{
    if (!e)
        return code;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(e->what, sizeof e->what, fmt, ap);
    va_end(ap);
    e->code = code;
    e->where[0] = e->hint[0] = '\0';
    return code;
}

void err_where(struct err *e, const char *fmt, ...)
{
    if (!e)
        return;
    char outer[sizeof e->where], inner[sizeof e->where];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(outer, sizeof outer, fmt, ap);
    va_end(ap);
    memcpy(inner, e->where, sizeof inner);
    size_t n = strnlen(outer, sizeof outer - 1);
    memcpy(e->where, outer, n + 1);
    if (inner[0] && n + 3 < sizeof e->where)
        snprintf(e->where + n, sizeof e->where - n, ", %s", inner);
}

void err_hint(struct err *e, const char *fmt, ...)
{
    if (!e || e->hint[0])
        return;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(e->hint, sizeof e->hint, fmt, ap);
    va_end(ap);
}

int err_exit_code(const struct err *e)
{
    switch (e->code) {
    case 0:
        return 0;
    case ERR_USAGE:
        return 2;
    case ERR_NO_ROOM:
        return 3;
    case ERR_FILE:
    case ERR_FORMAT:
        return 4;
    case ERR_DEVICE:
        return 5;
    default:
        return 1;
    }
}

static void print_line(const char *label, const char *text)
{
    fputs(label, stderr);
    for (const unsigned char *p = (const unsigned char *)text; *p; p++)
        fputc(*p < 0x20 || *p == 0x7f ? '?' : *p, stderr);
    fputc('\n', stderr);
}

void err_print(const struct err *e)
{
    print_line("tonne: ", e->what);
    if (e->where[0])
        print_line("  where  ", e->where);
    if (e->hint[0])
        print_line("  try    ", e->hint);
}
