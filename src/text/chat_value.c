/*
 * chat_value.c: JSON values as Jinja templates see and spell them, that is, as Python does: str(), repr(),
 * json.dumps, truth, strip and split. Templates print these into prompts, so every byte counts.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "text/chat_write.h"

enum {
    MAX_DEPTH = 128
}; /* of nested values: ours is recursive, the caller's JSON may not come from a file */

const json_t *chat_get(const json_t *v, const char *key)
{
    return json_object_get(v, key);
}

bool chat_is(const json_t *v, const char *text)
{
    size_t n = strlen(text);
    return json_is_string(v) && json_string_length(v) == n && memcmp(json_string_value(v), text, n) == 0;
}

bool chat_true(const json_t *v)
{
    if (!v)
        return false;
    switch (json_typeof(v)) {
    case JSON_OBJECT:
        return json_object_size(v) > 0;
    case JSON_ARRAY:
        return json_array_size(v) > 0;
    case JSON_STRING:
        return json_string_length(v) > 0;
    case JSON_INTEGER:
        return json_integer_value(v) != 0;
    case JSON_REAL:
        return json_real_value(v) != 0;
    case JSON_TRUE:
        return true;
    default:
        return false;
    }
}

const char *chat_kind(const json_t *v)
{
    static const char *const name[] = {
        [JSON_OBJECT] = "an object", [JSON_ARRAY] = "a list",  [JSON_STRING] = "a text",
        [JSON_INTEGER] = "a number", [JSON_REAL] = "a number", [JSON_TRUE] = "true",
        [JSON_FALSE] = "false",      [JSON_NULL] = "null",
    };
    return v ? name[json_typeof(v)] : "missing";
}

struct span chat_span(const json_t *string)
{
    struct span none = { "", 0 };
    return json_is_string(string) ? (struct span){ json_string_value(string), json_string_length(string) }
                                  : none;
}

/* ---- strip and split ---- */

/* str.isspace(): bidirectional type WS, B or S, or category Zs. */
static bool is_space(int32_t c)
{
    return (c >= 9 && c <= 13) || (c >= 0x1c && c <= 0x20) || c == 0x85 || c == 0xa0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f ||
           c == 0x3000;
}

/* Decodes the character at p (n bytes are left, n > 0); invalid bytes count as one character of no kind. */
static size_t decode(const char *p, size_t n, int32_t *c)
{
    utf8proc_int32_t code;
    utf8proc_ssize_t len = utf8proc_iterate((const utf8proc_uint8_t *)p, (utf8proc_ssize_t)n, &code);
    *c = len > 0 ? code : -1;
    return len > 0 ? (size_t)len : 1;
}

/* The same for the character that ends at p + n. */
static size_t decode_last(const char *p, size_t n, int32_t *c)
{
    size_t len = 1;
    while (len < n && len < 4 && ((unsigned char)p[n - len] & 0xc0) == 0x80)
        len++;
    if (decode(p + n - len, len, c) == len)
        return len;
    *c = -1;
    return 1;
}

struct span span_trim(struct span s)
{
    int32_t c;
    size_t len;
    while (s.n > 0 && (len = decode(s.s, s.n, &c), is_space(c)))
        s = (struct span){ s.s + len, s.n - len };
    while (s.n > 0 && (len = decode_last(s.s, s.n, &c), is_space(c)))
        s.n -= len;
    return s;
}

struct span span_trim_left(struct span s, char c)
{
    while (s.n > 0 && s.s[0] == c)
        s = (struct span){ s.s + 1, s.n - 1 };
    return s;
}

struct span span_trim_right(struct span s, char c)
{
    while (s.n > 0 && s.s[s.n - 1] == c)
        s.n--;
    return s;
}

bool span_starts(struct span s, const char *with)
{
    size_t n = strlen(with);
    return s.n >= n && memcmp(s.s, with, n) == 0;
}

bool span_ends(struct span s, const char *with)
{
    size_t n = strlen(with);
    return s.n >= n && memcmp(s.s + s.n - n, with, n) == 0;
}

bool span_has(struct span s, const char *needle)
{
    return memmem(s.s, s.n, needle, strlen(needle)) != NULL;
}

struct span span_before_first(struct span s, const char *sep)
{
    const char *at = memmem(s.s, s.n, sep, strlen(sep));
    return at ? (struct span){ s.s, (size_t)(at - s.s) } : s;
}

struct span span_after_last(struct span s, const char *sep)
{
    size_t n = strlen(sep);
    for (const char *at; (at = memmem(s.s, s.n, sep, n)) != NULL;)
        s = (struct span){ at + n, s.n - (size_t)(at + n - s.s) };
    return s;
}

/* ---- numbers ---- */

struct decimal { /* 0.d1d2..dn * 10^point, no trailing zeros */
    char digit[24];
    int n, point;
};

/* The shortest decimal that reads back as x > 0. The rounded one of each length is tried, and the next one
 * up: just above a power of two the doubles lie wider apart than below it, so that only the farther one may
 * hit. */
static struct decimal shortest_decimal(double x)
{
    struct decimal d;
    for (int places = 1;; places++) {
        char text[48];
        snprintf(text, sizeof text, "%.*e", places - 1, x);
        unsigned long long m = 0;
        char *p = text;
        for (; *p != 'e'; p++)
            if (*p != '.')
                m = 10 * m + (unsigned long long)(*p - '0');
        int exponent = atoi(p + 1) - (places - 1);
        for (int up = 0; up < 2; up++, m++) {
            snprintf(text, sizeof text, "%llue%d", m, exponent);
            if (strtod(text, NULL) != x && !(places >= 17 && up == 0))
                continue;
            d.n = snprintf(d.digit, sizeof d.digit, "%llu", m);
            d.point = exponent + d.n;
            while (d.n > 1 && d.digit[d.n - 1] == '0')
                d.n--;
            return d;
        }
    }
}

/* float.__repr__: fixed notation from 1e-4 up to 1e16, else an exponent of at least two digits. */
static void real_repr(double x, char out[64])
{
    if (x == 0 || !isfinite(x)) {
        snprintf(out, 64, "%s",
                 x != x   ? "nan"
                 : x == 0 ? (signbit(x) ? "-0.0" : "0.0")
                 : x < 0  ? "-inf"
                          : "inf");
        return;
    }
    struct decimal d = shortest_decimal(fabs(x));
    const char *sign = x < 0 ? "-" : "", *zeros = "0000000000000000";
    if (d.point <= -4 || d.point > 16)
        snprintf(out, 64, "%s%c%s%.*se%+03d", sign, d.digit[0], d.n > 1 ? "." : "", d.n - 1, d.digit + 1,
                 d.point - 1);
    else if (d.point <= 0)
        snprintf(out, 64, "%s0.%.*s%.*s", sign, -d.point, zeros, d.n, d.digit);
    else if (d.point >= d.n)
        snprintf(out, 64, "%s%.*s%.*s.0", sign, d.n, d.digit, d.point - d.n, zeros);
    else
        snprintf(out, 64, "%s%.*s.%.*s", sign, d.point, d.digit, d.n - d.point, d.digit + d.point);
}

/* ---- printing ---- */

static void put(struct chat_writer *w, const char *s)
{
    chat_data(w, (struct span){ s, strlen(s) });
}

/* Numbers, true, false and null; the two notations differ in the words. */
static void put_scalar(struct chat_writer *w, const json_t *v, bool json)
{
    char text[64];
    switch (json_typeof(v)) {
    case JSON_INTEGER:
        snprintf(text, sizeof text, "%" JSON_INTEGER_FORMAT, json_integer_value(v));
        break;
    case JSON_REAL:
        real_repr(json_real_value(v), text);
        break;
    case JSON_TRUE:
        snprintf(text, sizeof text, json ? "true" : "True");
        break;
    case JSON_FALSE:
        snprintf(text, sizeof text, json ? "false" : "False");
        break;
    default:
        snprintf(text, sizeof text, json ? "null" : "None");
    }
    put(w, text);
}

/* json.dumps(s, ensure_ascii=False): only quotes, backslashes and C0 controls are escaped. */
static void put_json_string(struct chat_writer *w, struct span s)
{
    static const char plain[] = "\"\\\n\r\t\b\f", letter[] = "\"\\nrtbf";
    put(w, "\"");
    size_t begin = 0;
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.s[i];
        if (c >= 0x20 && c != '"' && c != '\\')
            continue;
        chat_data(w, (struct span){ s.s + begin, i - begin });
        begin = i + 1;
        const char *at = c ? strchr(plain, c) : NULL;
        char text[8];
        if (at)
            snprintf(text, sizeof text, "\\%c", letter[at - plain]);
        else
            snprintf(text, sizeof text, "\\u%04x", c);
        put(w, text);
    }
    chat_data(w, (struct span){ s.s + begin, s.n - begin });
    put(w, "\"");
}

/* str.isprintable() of one character. */
static bool is_printable(int32_t c)
{
    switch (utf8proc_category(c)) {
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
        return false;
    case UTF8PROC_CATEGORY_ZS:
        return c == ' ';
    default:
        return true;
    }
}

/* repr(s): single quotes unless only double ones avoid escaping; unprintable characters as \x, \u, \U. */
static void put_repr_string(struct chat_writer *w, struct span s)
{
    char quote = memchr(s.s, '\'', s.n) && !memchr(s.s, '"', s.n) ? '"' : '\'';
    chat_data(w, (struct span){ &quote, 1 });
    while (s.n > 0) {
        int32_t c;
        size_t len = decode(s.s, s.n, &c);
        char text[16] = "";
        if (c == quote || c == '\\')
            snprintf(text, sizeof text, "\\%c", (char)c);
        else if (c == '\n' || c == '\r' || c == '\t')
            snprintf(text, sizeof text, "\\%c", c == '\n' ? 'n' : c == '\r' ? 'r' : 't');
        else if (c >= 0 && !is_printable(c))
            snprintf(text, sizeof text,
                     c < 0x100     ? "\\x%02x"
                     : c < 0x10000 ? "\\u%04x"
                                   : "\\U%08x",
                     (unsigned)c);
        if (text[0])
            put(w, text);
        else
            chat_data(w, (struct span){ s.s, len });
        s = (struct span){ s.s + len, s.n - len };
    }
    chat_data(w, (struct span){ &quote, 1 });
}

/* A value inside a list or object: json.dumps, or Python's repr. Both separate with ", " and ": ". */
static void put_value(struct chat_writer *w, const json_t *v, bool json, int depth)
{
    void (*string)(struct chat_writer *, struct span) = json ? put_json_string : put_repr_string;
    if (depth > MAX_DEPTH) {
        chat_refuse(w, "a value is nested more than %d levels deep", MAX_DEPTH);
    } else if (json_is_string(v)) {
        string(w, chat_span(v));
    } else if (json_is_array(v)) {
        put(w, "[");
        for (size_t i = 0; i < json_array_size(v) && !w->rc; i++) {
            put(w, i ? ", " : "");
            put_value(w, json_array_get(v, i), json, depth + 1);
        }
        put(w, "]");
    } else if (json_is_object(v)) {
        const char *key;
        json_t *item;
        size_t len, i = 0;
        put(w, "{");
        json_object_keylen_foreach((json_t *)v, key, len, item)
        {
            put(w, i++ ? ", " : "");
            string(w, (struct span){ key, len });
            put(w, ": ");
            put_value(w, item, json, depth + 1);
            if (w->rc)
                break;
        }
        put(w, "}");
    } else {
        put_scalar(w, v, json);
    }
}

void chat_print(struct chat_writer *w, const json_t *v)
{
    if (json_is_string(v))
        chat_data(w, chat_span(v));
    else if (v)
        put_value(w, v, false, 0);
}

void chat_json(struct chat_writer *w, const json_t *v, const char *what)
{
    if (v)
        put_value(w, v, true, 0);
    else
        chat_refuse(w, "%s is missing", what);
}

void chat_concat(struct chat_writer *w, const json_t *v, const char *what)
{
    if (json_is_string(v))
        chat_data(w, chat_span(v));
    else
        chat_refuse(w, "%s is %s; this model's chat template takes a text there", what, chat_kind(v));
}
