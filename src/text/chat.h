/*
 * chat.h: conversations as the models' released Jinja templates render them. We do not run Jinja (nothing
 * executes from a model repository): each known template family is code here, chosen by the features of the
 * model's template text, and tested against jinja2 on the released files.
 */
#ifndef TONNE_TEXT_CHAT_H
#define TONNE_TEXT_CHAT_H

#include <stdbool.h>

#include "base/err.h"
#include "base/json.h"
#include "text/tokenizer.h"

enum chat_template {
    CHAT_UNKNOWN,
    CHAT_CHATML,       /* turns only */
    CHAT_CHATML_THINK, /* the same, and the generation prompt opens or closes a think block */
    CHAT_QWEN25,
    CHAT_QWEN3,               /* the first release of the hybrid models */
    CHAT_QWEN3_2505,          /* their revision: content that is no text counts as empty */
    CHAT_QWEN3_2507,          /* the revision without thinking */
    CHAT_QWEN3_2507_THINKING, /* always thinking: the generation prompt opens the block */
    CHAT_QWEN3_CODER,
    CHAT_QWEN35,
    CHAT_COUNT
};
/* The family of a template's text (NULL: no template). thinking_default: what an undefined enable_thinking
 * means. CHAT_UNKNOWN when no family matches. */
enum chat_template chat_detect(const char *jinja, bool *thinking_default);
enum chat_template chat_from_name(const char *name); /* "chatml", "qwen3.5", ...; CHAT_UNKNOWN */
const char *chat_name(enum chat_template t);
const char *chat_list(void); /* for help and errors */

struct chat_options {
    enum chat_template family;
    int thinking;          /* enable_thinking: -1 undefined, 0 false, 1 true */
    bool thinking_default; /* from chat_detect */
    bool add_generation_prompt;
};

struct chat_text { /* chat_text_free */
    char *text;
    size_t n;
    struct trusted_range *trusted; /* what the template itself wrote */
    int n_trusted;
    bool opens_thinking; /* the generation prompt ends inside a think block */
};

/* Renders messages (array of OpenAI-style objects: role, content string or parts or null, reasoning_content,
 * tool_calls, name) with tools (array or NULL). What the template refuses is ERR_USAGE with its message. */
int chat_render(struct chat_text *out, const struct chat_options *opt, const json_t *messages,
                const json_t *tools, struct err *e);
void chat_text_free(struct chat_text *t);

#endif
