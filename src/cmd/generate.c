/* generate.c: see generate.h. */
#include "cmd/generate.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "cmd/terminal.h"

int text_add(struct text *t, const char *s, size_t n, struct err *e)
{
    if (n >= t->capacity - t->n) {
        size_t capacity = t->capacity + t->capacity / 2 + n + 256;
        char *bytes = realloc(t->s, capacity);
        if (!bytes)
            return err_set(e, ERR_MEMORY, "no memory for a text of %zu bytes", t->n + n);
        t->s = bytes;
        t->capacity = capacity;
    }
    memcpy(t->s + t->n, s, n);
    t->n += n;
    t->s[t->n] = '\0';
    return 0;
}

void text_free(struct text *t)
{
    free(t->s);
    *t = (struct text){ 0 };
}

void answer_free(struct answer *a)
{
    text_free(&a->text);
    text_free(&a->reasoning);
    *a = (struct answer){ 0 };
}

const char *answer_end_name(enum answer_end end)
{
    static const char *const name[] = { "stop", "length", "length", "interrupted" };
    return name[end];
}

/* What lies between tokens and text. */
struct writer {
    struct answer *out;
    const struct generate_options *o;
    struct token_stream stream;
    struct text held; /* may be the beginning of a stop string */
    char *piece;      /* text of one token */
    size_t room;
    bool thinking; /* inside the think block */
    bool thought;  /* there was one: line ends after it are not part of the answer */
    bool stopped;  /* a stop string was found */
    int32_t think_open, think_close;
};

static int writer_open(struct writer *w, struct answer *out, const struct setup *s,
                       const struct generate_options *o, struct err *e)
{
    *w = (struct writer){ .out = out, .o = o, .thinking = o->thinking && !o->raw };
    w->stream = (struct token_stream){ .tokenizer = s->tokenizer, .skip_special = true };
    w->room = token_stream_room(s->tokenizer);
    w->think_open = o->raw ? -1 : tokenizer_find(s->tokenizer, "<think>");
    w->think_close = o->raw ? -1 : tokenizer_find(s->tokenizer, "</think>");
    w->thought = w->thinking;
    w->piece = malloc(w->room);
    return w->piece ? 0 : err_set(e, ERR_MEMORY, "no memory for %zu bytes of text", w->room);
}

static void writer_close(struct writer *w)
{
    text_free(&w->held);
    free(w->piece);
}

static int emit(struct writer *w, struct text *to, const char *s, size_t n, struct err *e)
{
    if (to->n == 0 && (w->thinking || w->thought))
        while (n > 0 && *s == '\n') {
            s++;
            n--;
        }
    if (n == 0)
        return 0;
    int rc = text_add(to, s, n, e);
    return rc || !w->o->sink ? rc : w->o->sink(w->o->user, s, n, w->thinking, e);
}

/* The length of the longest end of s[0..n) that begins a stop string. */
static size_t could_stop(const struct generate_options *o, const char *s, size_t n)
{
    size_t longest = 0;
    for (int i = 0; i < o->n_stop; i++) {
        size_t len = strlen(o->stop[i]) - 1;
        for (len = len < n ? len : n; len > longest; len--)
            if (memcmp(s + n - len, o->stop[i], len) == 0)
                longest = len;
    }
    return longest;
}

/* Writes what is certain of held; last: no more text will come. */
static int release(struct writer *w, bool last, struct err *e)
{
    const struct generate_options *o = w->o;
    struct text *h = &w->held;
    size_t n = h->n;
    for (int i = 0; i < o->n_stop; i++) {
        char *at = memmem(h->s, n, o->stop[i], strlen(o->stop[i]));
        if (at) {
            n = (size_t)(at - h->s);
            w->stopped = true;
        }
    }
    if (!last && !w->stopped)
        n -= could_stop(o, h->s, n);
    int rc = emit(w, &w->out->text, h->s, n, e);
    if (h->n > n)
        memmove(h->s, h->s + n, h->n - n);
    h->n -= n;
    return rc;
}

static int put(struct writer *w, const char *s, size_t n, struct err *e)
{
    if (n == 0)
        return 0;
    if (w->thinking)
        return emit(w, &w->out->reasoning, s, n, e);
    int rc = text_add(&w->held, s, n, e);
    return rc ? rc : release(w, false, e);
}

static int put_token(struct writer *w, int32_t id, struct err *e)
{
    bool opens = id == w->think_open && !w->thinking && w->out->text.n == 0 && w->held.n == 0;
    bool closes = id == w->think_close && w->thinking;
    if (opens || closes) {
        int rc = put(w, w->piece, token_stream_finish(&w->stream, w->piece, w->room), e);
        w->thinking = opens && id >= 0;
        w->thought = true;
        return rc;
    }
    return put(w, w->piece, token_stream_push(&w->stream, id, w->piece, w->room), e);
}

static int finish(struct writer *w, struct err *e)
{
    if (w->stopped)
        return 0;
    int rc = put(w, w->piece, token_stream_finish(&w->stream, w->piece, w->room), e);
    return rc || w->held.n == 0 ? rc : release(w, true, e);
}

/* Picks, writes and evaluates tokens until something ends the answer. */
static int answer_loop(struct writer *w, struct setup *s, struct tokens *ids, struct err *e)
{
    const struct generate_options *o = w->o;
    struct answer *out = w->out;
    for (int rc = 0;;) {
        int32_t id = sampler_pick(o->sampler, engine_logits(s->engine, 0));
        out->end = ANSWER_STOP;
        if (setup_is_eos(s, id))
            return 0;
        sampler_accept(o->sampler, id, true);
        out->n_answer++;
        if ((rc = put_token(w, id, e)) || w->stopped)
            return rc;
        out->end = terminal_interrupted()           ? ANSWER_INTERRUPTED
                   : out->n_answer == o->max_tokens ? ANSWER_LENGTH
                                                    : ANSWER_CONTEXT;
        if (out->end != ANSWER_CONTEXT || session_position(s->session) == session_ctx(s->session))
            return 0;
        rc = session_append(s->session, &id, 1, NULL, NULL, e);
        if (!rc && ids)
            rc = tokens_push(ids, id, e);
        if (rc)
            return rc;
    }
}

static int evaluate_prompt(struct setup *s, const struct generate_options *o, const int32_t *prompt, int n,
                           struct tokens *ids, struct err *e)
{
    int rc = session_append(s->session, prompt, n, terminal_poll, NULL, e);
    for (int i = 0; i < n && !rc; i++) {
        sampler_accept(o->sampler, prompt[i], false);
        if (ids)
            rc = tokens_push(ids, prompt[i], e);
    }
    return rc;
}

int generate(struct answer *out, struct setup *s, const struct generate_options *o, const int32_t *prompt,
             int n, struct tokens *ids, struct err *e)
{
    struct writer w;
    double begin = clock_seconds();
    int rc = writer_open(&w, out, s, o, e);
    if (!rc)
        rc = evaluate_prompt(s, o, prompt, n, ids, e);
    double evaluated = clock_seconds();
    out->n_prompt = n;
    out->prompt_seconds = out->first_token_seconds = evaluated - begin;
    if (!rc) {
        rc = answer_loop(&w, s, ids, e);
        out->answer_seconds = clock_seconds() - evaluated;
    } else if (rc == ERR_CANCELED) {
        out->end = ANSWER_INTERRUPTED;
        rc = 0;
    }
    if (!rc)
        rc = finish(&w, e);
    writer_close(&w);
    return rc;
}
