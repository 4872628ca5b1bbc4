/* added_tokens.c: a sorted list serves as the trie: each further byte of the text narrows the range of
 * candidates. */
#include "text/added_tokens.h"

#include <stdlib.h>
#include <string.h>

int added_tokens_add(struct added_tokens *a, const char *text, size_t n, int32_t id, bool special,
                     struct err *e)
{
    if (a->n == a->capacity) {
        size_t capacity = a->capacity ? 2 * a->capacity : 64;
        struct added_token *token = realloc(a->token, capacity * sizeof *token);
        if (!token)
            return err_set(e, ERR_MEMORY, "no memory for %zu added tokens", capacity);
        a->token = token;
        a->capacity = capacity;
    }
    char *copy = malloc(n + 1);
    if (!copy)
        return err_set(e, ERR_MEMORY, "no memory for an added token of %zu bytes", n);
    memcpy(copy, text, n);
    copy[n] = '\0';
    a->token[a->n++] = (struct added_token){ copy, n, id, special };
    a->begins[(unsigned char)text[0]] = true;
    return 0;
}

void added_tokens_free(struct added_tokens *a)
{
    for (size_t i = 0; i < a->n; i++)
        free(a->token[i].text);
    free(a->token);
    *a = (struct added_tokens){ 0 };
}

static int compare_text(const char *a, size_t n_a, const char *b, size_t n_b)
{
    int order = memcmp(a, b, n_a < n_b ? n_a : n_b);
    return order ? order : (n_a > n_b) - (n_a < n_b);
}

static int by_text(const void *a, const void *b)
{
    const struct added_token *x = a, *y = b;
    return compare_text(x->text, x->n, y->text, y->n);
}

int added_tokens_seal(struct added_tokens *a, struct err *e)
{
    if (a->n > 1)
        qsort(a->token, a->n, sizeof *a->token, by_text);
    for (size_t i = 1; i < a->n; i++)
        if (by_text(&a->token[i - 1], &a->token[i]) == 0)
            return err_set(e, ERR_FORMAT, "the added tokens %d and %d have the same text '%.40s'",
                           a->token[i - 1].id, a->token[i].id, a->token[i].text);
    return 0;
}

const struct added_token *added_tokens_find(const struct added_tokens *a, const char *text, size_t n)
{
    size_t low = 0, high = a->n;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        int order = compare_text(a->token[mid].text, a->token[mid].n, text, n);
        if (order == 0)
            return &a->token[mid];
        if (order < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return NULL;
}

/* The first of token[low..high), all equal in their first depth bytes, whose next byte is >= b. Tokens that
 * end after depth bytes come first. */
static size_t lower_bound(const struct added_tokens *a, size_t low, size_t high, size_t depth, int b)
{
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        const struct added_token *t = &a->token[mid];
        int next = t->n > depth ? (unsigned char)t->text[depth] : -1;
        if (next < b)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

/* The longest token at text[at] that the filter lets pass. */
static const struct added_token *longest_at(const struct added_tokens *a, const char *text, size_t n,
                                            size_t at, const struct added_filter *filter)
{
    const struct added_token *best = NULL;
    size_t low = 0, high = a->n;
    for (size_t depth = 0; at + depth < n; depth++) {
        int b = (unsigned char)text[at + depth];
        low = lower_bound(a, low, high, depth, b);
        high = lower_bound(a, low, high, depth, b + 1);
        if (low == high)
            break;
        const struct added_token *t = &a->token[low];
        if (t->n == depth + 1 && (!t->special || filter->allowed(filter->ctx, at, t->n)))
            best = t;
    }
    return best;
}

const struct added_token *added_tokens_next(const struct added_tokens *a, const char *text, size_t n,
                                            size_t from, const struct added_filter *filter, size_t *at)
{
    if (a->n == 0)
        return NULL;
    for (size_t i = from; i < n; i++) {
        if (!a->begins[(unsigned char)text[i]])
            continue;
        const struct added_token *t = longest_at(a, text, n, i, filter);
        if (t) {
            *at = i;
            return t;
        }
    }
    return NULL;
}
