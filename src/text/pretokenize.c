/*
 * pretokenize.c: the alternatives of the expression, tried in order at each position. Each takes the longest
 * match that backtracking would find; the comments say where that is not the plain greedy one.
 */
#include "text/pretokenize.h"

#include <stdbool.h>

#include "text/utf8.h"

struct scan {
    const struct char_classes *c;
    const char *text;
    size_t n;
    unsigned word;  /* classes that continue a word: letters, in qwen35 also marks */
    unsigned other; /* classes that end a run of signs: space, word, number */
};

const char *pre_rule_name(enum pre_rule rule)
{
    return rule == PRE_QWEN2 ? "qwen2" : "qwen35";
}

const char *pre_rule_regex(enum pre_rule rule)
{
    if (rule == PRE_QWEN2)
        return "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| "
               "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"
               "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
    return "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| "
           "?[^\\s\\p{L}\\p{M}\\p{N}]+"
           "[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
}

/* The class of the character at s->text[at], at < n; *end is where the next one begins. */
static inline unsigned class_at(const struct scan *s, size_t at, size_t *end)
{
    unsigned char b = (unsigned char)s->text[at];
    if (b < 0x80) {
        *end = at + 1;
        return s->c->low[b];
    }
    int len;
    uint32_t cp = utf8_decode(s->text + at, &len);
    *end = at + (size_t)len;
    return char_class(s->c, cp);
}

/* 's 't 're 've 'm 'll 'd in any case; U+017F (long s) folds to s. 0: none here. */
static size_t contraction(const struct scan *s, size_t at)
{
    const unsigned char *p = (const unsigned char *)s->text + at + 1;
    size_t left = s->n - at - 1;
    if (left == 0)
        return 0;
    unsigned char a = p[0] | 0x20, b = left > 1 ? p[1] | 0x20 : 0;
    if (p[0] < 0x80 && (a == 's' || a == 't' || a == 'm' || a == 'd'))
        return at + 2;
    if (left > 1 && p[0] < 0x80 && p[1] < 0x80 &&
        ((a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l')))
        return at + 3;
    if (left > 1 && p[0] == 0xC5 && p[1] == 0xBF)
        return at + 3;
    return 0;
}

static size_t word_end(const struct scan *s, size_t at)
{
    size_t next;
    while (at < s->n && class_at(s, at, &next) & s->word)
        at = next;
    return at;
}

/* Signs up to a space, word or number, then any CR and LF. */
static size_t signs_end(const struct scan *s, size_t at)
{
    size_t next;
    while (at < s->n && !(class_at(s, at, &next) & s->other))
        at = next;
    while (at < s->n && (s->text[at] == '\r' || s->text[at] == '\n'))
        at++;
    return at;
}

/* White space: up to its last CR or LF; without one, all of it at the end of the text, otherwise all but the
 * last character, which goes to what follows; a single one stands alone. */
static size_t space_end(const struct scan *s, size_t at)
{
    size_t end = at, last = at, after_newline = 0, next;
    while (end < s->n) {
        unsigned class = class_at(s, end, &next);
        if (!(class & CHAR_SPACE))
            break;
        if (class & CHAR_NEWLINE)
            after_newline = next;
        last = end;
        end = next;
    }
    if (after_newline)
        return after_newline;
    return end == s->n || last == at ? end : last;
}

size_t pre_token_end(enum pre_rule rule, const struct char_classes *c, const char *text, size_t n, size_t at)
{
    unsigned word = rule == PRE_QWEN2 ? CHAR_LETTER : CHAR_LETTER | CHAR_MARK;
    struct scan s = { c, text, n, word, CHAR_SPACE | CHAR_NUMBER | word };
    size_t second, third = n, end;
    unsigned first_class = class_at(&s, at, &second);
    if (text[at] == '\'' && (end = contraction(&s, at)) != 0)
        return end;
    unsigned second_class = second < n ? class_at(&s, second, &third) : CHAR_SPACE;
    /* A word with one character before it that is neither CR, LF, letter nor number. A mark may be that
     * character; when no word follows, qwen35 takes it as the word itself. */
    if (!(first_class & (CHAR_NEWLINE | CHAR_LETTER | CHAR_NUMBER)) && second_class & word)
        return word_end(&s, third);
    if (first_class & word)
        return word_end(&s, second);
    if (first_class & CHAR_NUMBER)
        return second;
    if (text[at] == ' ' && !(second_class & s.other))
        return signs_end(&s, third);
    if (!(first_class & s.other))
        return signs_end(&s, second);
    return space_end(&s, at);
}
