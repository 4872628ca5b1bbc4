/*
 * chat_write.h: what the template families (chat_qwen.c, chat_xml.c) are written with; private to chat*.c.
 *
 * A writer collects text and remembers which bytes the template itself wrote. The first failure sticks and
 * later calls do nothing, so a family reads like its Jinja original and its caller looks at w->rc once, at
 * the end. Values are JSON; NULL is what Jinja calls undefined. Python's spelling of values is in
 * chat_value.c.
 */
#ifndef TONNE_TEXT_CHAT_WRITE_H
#define TONNE_TEXT_CHAT_WRITE_H

#include "text/chat.h"

struct chat_writer {
    struct chat_text out;
    size_t capacity;      /* of out.text */
    int trusted_capacity; /* of out.trusted */
    int i_message;        /* being rendered, for error messages; -1: none */
    int rc;               /* 0 or the first failure's code, described in *e */
    struct err *e;
};

struct span { /* borrowed bytes */
    const char *s;
    size_t n;
};

/* The template's own text: trusted. */
void chat_lit(struct chat_writer *w, const char *literal);
/* Text from a message or a tool: not trusted. */
void chat_data(struct chat_writer *w, struct span text);
/* A part of another writer's text, with its trust. */
void chat_copy(struct chat_writer *w, const struct chat_writer *from, struct span part);
/* {{ v }}: Python's str(v); undefined prints nothing. */
void chat_print(struct chat_writer *w, const json_t *v);
/* '...' + v: a string, anything else is refused; what names it for the user. */
void chat_concat(struct chat_writer *w, const json_t *v, const char *what);
/* {{ v | tojson }} as transformers defines it: json.dumps(v, ensure_ascii=False). Undefined is refused. */
void chat_json(struct chat_writer *w, const json_t *v, const char *what);
/* Fails with ERR_USAGE. */
void chat_refuse(struct chat_writer *w, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void chat_writer_free(struct chat_writer *w);

/* ---- Jinja's and Python's view of a value ---- */

const json_t *chat_get(const json_t *v, const char *key); /* v.key; undefined when v is no object */
bool chat_is(const json_t *v, const char *text);          /* v == 'text' */
bool chat_true(const json_t *v);                          /* {% if v %} */
const char *chat_kind(const json_t *v);                   /* "missing", "null", "a list", ... for messages */
struct span chat_span(const json_t *string);              /* its bytes; {"", 0} when it is no string */

/* str.strip() / |trim: Unicode white space as Python defines it. */
struct span span_trim(struct span s);
struct span span_trim_left(struct span s, char c);  /* .lstrip(c) */
struct span span_trim_right(struct span s, char c); /* .rstrip(c) */
bool span_starts(struct span s, const char *with);
bool span_ends(struct span s, const char *with);
bool span_has(struct span s, const char *needle);
struct span span_before_first(struct span s, const char *sep); /* s.split(sep)[0] */
struct span span_after_last(struct span s, const char *sep);   /* s.split(sep)[-1] */

/* ---- families; messages is an array of any JSON values, tools an array (maybe empty) or NULL ---- */

void chat_plain(struct chat_writer *w, const struct chat_options *o, const json_t *messages);
void chat_qwen25(struct chat_writer *w, const struct chat_options *o, const json_t *messages,
                 const json_t *tools);
void chat_qwen3(struct chat_writer *w, const struct chat_options *o, const json_t *messages,
                const json_t *tools);
void chat_coder(struct chat_writer *w, const struct chat_options *o, const json_t *messages,
                const json_t *tools);
void chat_qwen35(struct chat_writer *w, const struct chat_options *o, const json_t *messages,
                 const json_t *tools);

/* enable_thinking after its default. */
bool chat_thinks(const struct chat_options *o);

#endif
