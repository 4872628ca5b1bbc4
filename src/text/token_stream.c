/*
 * token_stream.c: ids to text as they come. Bytes that cannot become a character are replaced as Python's
 * errors="replace" does: one U+FFFD for each longest start of a valid sequence, or for each byte that starts
 * none.
 */
#include <string.h>

#include "text/tokenizer_internal.h"
#include "text/utf8.h"

struct output {
    char *to;
    size_t n, room;
};

/* Whole characters only: what does not fit is left out, never cut. */
static void put(struct output *o, const char *s, size_t n)
{
    if (o->room - o->n < n)
        return;
    memcpy(o->to + o->n, s, n);
    o->n += n;
}

static void put_replacement(struct output *o)
{
    put(o, "\xEF\xBF\xBD", 3);
}

static void push_byte(struct token_stream *s, struct output *o, char c)
{
    unsigned char b = (unsigned char)c;
    if (s->n_pending > 0 && !utf8_continues(s->pending, s->n_pending, b)) {
        put_replacement(o);
        s->n_pending = 0;
    }
    if (s->n_pending == 0 && utf8_length(b) == 0) {
        put_replacement(o);
        return;
    }
    s->pending[s->n_pending++] = c;
    if (s->n_pending == utf8_length((unsigned char)s->pending[0])) {
        put(o, s->pending, (size_t)s->n_pending);
        s->n_pending = 0;
    }
}

size_t token_stream_push(struct token_stream *s, int32_t id, char *out, size_t room)
{
    size_t n;
    const char *bytes = tokenizer_bytes(s->tokenizer, id, &n);
    struct output o = { out, 0, room };
    if (!bytes || (s->skip_special && tokenizer_is_special(s->tokenizer, id)))
        return 0;
    for (size_t i = 0; i < n; i++)
        push_byte(s, &o, bytes[i]);
    return o.n;
}

size_t token_stream_finish(struct token_stream *s, char *out, size_t room)
{
    struct output o = { out, 0, room };
    if (s->n_pending > 0)
        put_replacement(&o);
    s->n_pending = 0;
    return o.n;
}

size_t token_stream_room(const struct tokenizer *t)
{
    size_t longest = 0;
    for (int32_t id = 0; id < t->size; id++)
        if (t->vocab.token[id].n_bytes > longest)
            longest = t->vocab.token[id].n_bytes;
    return 3 * (longest + 8);
}
