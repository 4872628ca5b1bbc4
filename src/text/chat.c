/*
 * chat.c: which family a template belongs to, and the writer that all families share (chat_write.h). The
 * families themselves are chat_qwen.c (JSON tool calls) and chat_xml.c (XML-like tool calls).
 */
#include "text/chat.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "text/chat_write.h"

/* ---- families ---- */

struct family {
    const char *name;
    const char *must[5];    /* a template of this family contains all of these ... */
    const char *not_any[8]; /* ... and none of these, which belong to others or change what is rendered */
};

/* clang-format off: a table */
static const char function_json[] = "{\\\"name\\\": <function-name>";
static const struct family families[CHAT_COUNT] = {
    [CHAT_CHATML] = { "chatml",
                      { "<|im_start|>", "<|im_end|>", "add_generation_prompt" },
                      { "tool", "macro", "enable_thinking", "<think>", "raise_exception", "trim",
                        "system" } },
    [CHAT_CHATML_THINK] = { "chatml-think",
                            { "<|im_start|>", "<|im_end|>", "enable_thinking is true",
                              "<think>\\n\\n</think>\\n\\n" },
                            { "tool", "macro", "raise_exception", "trim", "reasoning", "system" } },
    [CHAT_QWEN25] = { "qwen2.5",
                      { "<|im_start|>", function_json, "You are Qwen, created by Alibaba Cloud",
                        "<tool_response>" },
                      { "reasoning_content", "enable_thinking", "<function=" } },
    [CHAT_QWEN3] = { "qwen3",
                     { "<|im_start|>", function_json, "reasoning_content", "multi_step_tool",
                       "enable_thinking is false" },
                     { "<function=", "render_content", "message.content is string" } },
    [CHAT_QWEN3_2505] = { "qwen3-2505",
                          { function_json, "message.reasoning_content is string", "message.content is string",
                            "multi_step_tool", "enable_thinking is false" },
                          { "<function=", "render_content", "macro", "raise_exception",
                            "assistant\\n<think>\\n'" } },
    [CHAT_QWEN3_2507] = { "qwen3-2507",
                          { "<|im_start|>", function_json, "message.reasoning_content is string",
                            "message.content is string", "multi_step_tool" },
                          { "<function=", "render_content", "macro", "raise_exception",
                            "assistant\\n<think>\\n'", "enable_thinking" } },
    [CHAT_QWEN3_2507_THINKING] = { "qwen3-2507-thinking",
                                   { function_json, "message.reasoning_content is string",
                                     "message.content is string", "multi_step_tool",
                                     "assistant\\n<think>\\n'" },
                                   { "<function=", "render_content", "macro", "raise_exception",
                                     "enable_thinking" } },
    [CHAT_QWEN3_CODER] = { "qwen3-coder",
                           { "<|im_start|>", "<function=example_function_name>", "render_extra_keys",
                             "<parameters>" },
                           { "reasoning_content", "enable_thinking" } },
    [CHAT_QWEN35] = { "qwen3.5",
                      { "<|im_start|>", "<function=example_function_name>", "render_content",
                        "reasoning_content", "No user query found in messages." },
                      { "render_extra_keys", "reasoning_effort" } },
};
/* clang-format on */

static bool matches(const struct family *f, const char *jinja)
{
    for (int i = 0; i < 5 && f->must[i]; i++)
        if (!strstr(jinja, f->must[i]))
            return false;
    for (int i = 0; i < 8 && f->not_any[i]; i++)
        if (strstr(jinja, f->not_any[i]))
            return false;
    return f->name != NULL;
}

enum chat_template chat_detect(const char *jinja, bool *thinking_default)
{
    *thinking_default = false;
    for (int t = CHAT_UNKNOWN + 1; jinja && t < CHAT_COUNT; t++) {
        if (!matches(&families[t], jinja))
            continue;
        /* "is false" guards the closed block: thinking unless told otherwise; "is true" guards the open one.
         */
        *thinking_default = strstr(jinja, "enable_thinking is false") != NULL;
        return (enum chat_template)t;
    }
    return CHAT_UNKNOWN;
}

enum chat_template chat_from_name(const char *name)
{
    for (int t = CHAT_UNKNOWN + 1; t < CHAT_COUNT; t++)
        if (strcasecmp(name, families[t].name) == 0)
            return (enum chat_template)t;
    return CHAT_UNKNOWN;
}

const char *chat_name(enum chat_template t)
{
    return t > CHAT_UNKNOWN && t < CHAT_COUNT ? families[t].name : "unknown";
}

const char *chat_list(void)
{
    return "chatml chatml-think qwen2.5 qwen3 qwen3-2505 qwen3-2507 qwen3-2507-thinking qwen3-coder qwen3.5";
}

bool chat_thinks(const struct chat_options *o)
{
    return o->thinking < 0 ? o->thinking_default : o->thinking > 0;
}

/* ---- the writer ---- */

static bool make_room(struct chat_writer *w, size_t n)
{
    if (w->rc)
        return false;
    if (n < w->capacity - w->out.n) /* one byte is kept for the terminator */
        return true;
    size_t capacity = w->capacity + n + w->capacity / 2 + 256;
    char *text = capacity > n ? realloc(w->out.text, capacity) : NULL;
    if (!text) {
        w->rc = err_set(w->e, ERR_MEMORY, "no memory for a conversation of %zu bytes", w->out.n + n);
        return false;
    }
    w->out.text = text;
    w->capacity = capacity;
    return true;
}

static void append(struct chat_writer *w, const char *s, size_t n)
{
    if (!make_room(w, n))
        return;
    memcpy(w->out.text + w->out.n, s, n);
    w->out.n += n;
    w->out.text[w->out.n] = '\0';
}

/* The last n bytes are the template's own; joined with the range before when they touch. */
static void trust(struct chat_writer *w, size_t n)
{
    if (w->rc || n == 0)
        return;
    size_t begin = w->out.n - n;
    struct chat_text *o = &w->out;
    if (o->n_trusted > 0 && o->trusted[o->n_trusted - 1].end == begin) {
        o->trusted[o->n_trusted - 1].end = o->n;
        return;
    }
    if (o->n_trusted == w->trusted_capacity) {
        int capacity = 2 * w->trusted_capacity + 16;
        struct trusted_range *r = realloc(o->trusted, (size_t)capacity * sizeof *r);
        if (!r) {
            w->rc = err_set(w->e, ERR_MEMORY, "no memory for %d text ranges", capacity);
            return;
        }
        o->trusted = r;
        w->trusted_capacity = capacity;
    }
    o->trusted[o->n_trusted++] = (struct trusted_range){ begin, o->n };
}

void chat_lit(struct chat_writer *w, const char *literal)
{
    size_t n = strlen(literal);
    append(w, literal, n);
    trust(w, n);
}

void chat_data(struct chat_writer *w, struct span text)
{
    append(w, text.s, text.n);
}

void chat_copy(struct chat_writer *w, const struct chat_writer *from, struct span part)
{
    size_t at = part.n > 0 ? (size_t)(part.s - from->out.text) : 0, end = at + part.n;
    for (int i = 0; i < from->out.n_trusted && at < end; i++) {
        struct trusted_range r = from->out.trusted[i];
        if (r.end <= at || r.begin >= end)
            continue;
        size_t stop = r.end < end ? r.end : end;
        if (r.begin > at) {
            append(w, from->out.text + at, r.begin - at);
            at = r.begin;
        }
        append(w, from->out.text + at, stop - at);
        trust(w, stop - at);
        at = stop;
    }
    append(w, from->out.text ? from->out.text + at : "", end - at);
}

void chat_refuse(struct chat_writer *w, const char *fmt, ...)
{
    if (w->rc)
        return;
    char text[256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    w->rc = err_set(w->e, ERR_USAGE, "%s", text);
    if (w->i_message >= 0)
        err_where(w->e, "messages[%d]", w->i_message);
}

void chat_writer_free(struct chat_writer *w)
{
    chat_text_free(&w->out);
    w->capacity = 0;
    w->trusted_capacity = 0;
}

void chat_text_free(struct chat_text *t)
{
    free(t->text);
    free(t->trusted);
    *t = (struct chat_text){ 0 };
}

/* ---- rendering ---- */

static void render(struct chat_writer *w, const struct chat_options *opt, const json_t *messages,
                   const json_t *tools)
{
    switch (opt->family) {
    case CHAT_CHATML:
    case CHAT_CHATML_THINK:
        chat_plain(w, opt, messages);
        break;
    case CHAT_QWEN25:
        chat_qwen25(w, opt, messages, tools);
        break;
    case CHAT_QWEN3:
    case CHAT_QWEN3_2505:
    case CHAT_QWEN3_2507:
    case CHAT_QWEN3_2507_THINKING:
        chat_qwen3(w, opt, messages, tools);
        break;
    case CHAT_QWEN3_CODER:
        chat_coder(w, opt, messages, tools);
        break;
    case CHAT_QWEN35:
        chat_qwen35(w, opt, messages, tools);
        break;
    default:
        chat_refuse(w, "the model's chat template is of no known family");
        err_hint(w->e, "name one: --template NAME, one of: %s", chat_list());
    }
}

int chat_render(struct chat_text *out, const struct chat_options *opt, const json_t *messages,
                const json_t *tools, struct err *e)
{
    if (!json_is_array(messages))
        return err_set(e, ERR_USAGE, "messages is %s; it must be a list", chat_kind(messages));
    if (tools && !json_is_null(tools) && !json_is_array(tools))
        return err_set(e, ERR_USAGE, "tools is %s; it must be a list", chat_kind(tools));
    struct chat_writer w = { .i_message = -1, .e = e };
    append(&w, "", 0);
    render(&w, opt, messages, tools);
    if (w.rc) {
        chat_writer_free(&w);
        return w.rc;
    }
    *out = w.out;
    return 0;
}
