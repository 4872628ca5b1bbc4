/*
 * chat_qwen.c: the templates of plain ChatML, Qwen2.5 and Qwen3: content is one string, tools and tool calls
 * are JSON lines. Written beside the released Jinja files, branch by branch, including what these do with odd
 * input.
 */
#include "text/chat_write.h"

/* ---- plain ChatML ---- */

void chat_plain(struct chat_writer *w, const struct chat_options *o, const json_t *messages)
{
    for (size_t i = 0; i < json_array_size(messages) && !w->rc; i++) {
        const json_t *m = json_array_get(messages, i);
        w->i_message = (int)i;
        chat_lit(w, "<|im_start|>");
        chat_concat(w, chat_get(m, "role"), "role");
        chat_lit(w, "\n");
        chat_concat(w, chat_get(m, "content"), "content");
        chat_lit(w, "<|im_end|>\n");
    }
    if (!o->add_generation_prompt)
        return;
    chat_lit(w, "<|im_start|>assistant\n");
    if (o->family != CHAT_CHATML_THINK)
        return;
    chat_lit(w, chat_thinks(o) ? "<think>\n" : "<think>\n\n</think>\n\n");
    w->out.opens_thinking = chat_thinks(o);
}

/* ---- what Qwen2.5 and Qwen3 share ---- */

static const char tools_intro[] =
    "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
    "You are provided with function signatures within <tools></tools> XML tags:\n<tools>";
static const char tools_outro[] =
    "\n</tools>\n\nFor each function call, return a json object with function name and arguments within "
    "<tool_call></tool_call> XML tags:\n<tool_call>\n"
    "{\"name\": <function-name>, \"arguments\": <args-json-object>}\n</tool_call><|im_end|>\n";

static void put_tools(struct chat_writer *w, const json_t *tools)
{
    chat_lit(w, tools_intro);
    for (size_t i = 0; i < json_array_size(tools); i++) {
        chat_lit(w, "\n");
        chat_json(w, json_array_get(tools, i), "a tool");
    }
    chat_lit(w, tools_outro);
}

/* One turn whose content is a string; role is one of the template's own words. */
static void put_turn(struct chat_writer *w, const char *role, const json_t *content)
{
    chat_lit(w, "<|im_start|>");
    chat_lit(w, role);
    chat_lit(w, "\n");
    chat_concat(w, content, "content");
    chat_lit(w, "<|im_end|>\n");
}

/* Consecutive tool results share one user turn. content is message i's, as the family sees it. */
static void put_tool_result(struct chat_writer *w, const json_t *messages, size_t i, const json_t *content)
{
    if (i == 0 || !chat_is(chat_get(json_array_get(messages, i - 1), "role"), "tool"))
        chat_lit(w, "<|im_start|>user");
    chat_lit(w, "\n<tool_response>\n");
    chat_print(w, content);
    chat_lit(w, "\n</tool_response>");
    if (i + 1 == json_array_size(messages) ||
        !chat_is(chat_get(json_array_get(messages, i + 1), "role"), "tool"))
        chat_lit(w, "<|im_end|>\n");
}

/* {% for c in v %} over tool_calls: anything true that is no list has no calls in it. */
static size_t n_calls(struct chat_writer *w, const json_t *v)
{
    if (!json_is_array(v))
        chat_refuse(w, "tool_calls is %s; it must be a list of calls", chat_kind(v));
    return json_array_size(v);
}

static bool is_empty(struct chat_writer *w, const json_t *messages)
{
    if (json_array_size(messages) > 0)
        return false;
    chat_refuse(w, "there are no messages");
    return true;
}

/* ---- Qwen2.5 ---- */

static const char qwen25_system[] = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.";

static void qwen25_system_turn(struct chat_writer *w, const json_t *first, const json_t *tools)
{
    bool given = chat_is(chat_get(first, "role"), "system");
    chat_lit(w, "<|im_start|>system\n");
    if (!given)
        chat_lit(w, qwen25_system);
    else if (json_array_size(tools) > 0)
        chat_print(w, chat_get(first, "content"));
    else
        chat_concat(w, chat_get(first, "content"), "content");
    if (json_array_size(tools) > 0) {
        chat_lit(w, "\n\n");
        put_tools(w, tools);
    } else {
        chat_lit(w, "<|im_end|>\n");
    }
}

static void qwen25_calls(struct chat_writer *w, const json_t *m)
{
    const json_t *content = chat_get(m, "content"), *calls = chat_get(m, "tool_calls");
    chat_lit(w, "<|im_start|>assistant");
    if (chat_true(content)) {
        chat_lit(w, "\n");
        chat_concat(w, content, "content");
    }
    size_t n = n_calls(w, calls);
    for (size_t i = 0; i < n; i++) {
        const json_t *call = json_array_get(calls, i), *function = chat_get(call, "function");
        if (function)
            call = function;
        chat_lit(w, "\n<tool_call>\n{\"name\": \"");
        chat_print(w, chat_get(call, "name"));
        chat_lit(w, "\", \"arguments\": ");
        chat_json(w, chat_get(call, "arguments"), "arguments of a tool call");
        chat_lit(w, "}\n</tool_call>");
    }
    chat_lit(w, "<|im_end|>\n");
}

void chat_qwen25(struct chat_writer *w, const struct chat_options *o, const json_t *messages,
                 const json_t *tools)
{
    if (is_empty(w, messages))
        return;
    w->i_message = 0;
    qwen25_system_turn(w, json_array_get(messages, 0), tools);
    for (size_t i = 0; i < json_array_size(messages) && !w->rc; i++) {
        const json_t *m = json_array_get(messages, i), *role = chat_get(m, "role"),
                     *content = chat_get(m, "content");
        w->i_message = (int)i;
        if (chat_is(role, "user"))
            put_turn(w, "user", content);
        else if (chat_is(role, "system") && i > 0)
            put_turn(w, "system", content);
        else if (chat_is(role, "assistant") && !chat_true(chat_get(m, "tool_calls")))
            put_turn(w, "assistant", content);
        else if (chat_is(role, "assistant"))
            qwen25_calls(w, m);
        else if (chat_is(role, "tool"))
            put_tool_result(w, messages, i, content);
    }
    if (o->add_generation_prompt)
        chat_lit(w, "<|im_start|>assistant\n");
}

/* ---- Qwen3 ---- */

static void qwen3_system_turn(struct chat_writer *w, const json_t *first, const json_t *tools)
{
    bool given = chat_is(chat_get(first, "role"), "system"), has_tools = json_array_size(tools) > 0;
    if (!given && !has_tools)
        return;
    chat_lit(w, "<|im_start|>system\n");
    if (given)
        chat_concat(w, chat_get(first, "content"), "content");
    if (has_tools) {
        chat_lit(w, given ? "\n\n" : "");
        put_tools(w, tools);
    } else {
        chat_lit(w, "<|im_end|>\n");
    }
}

/* The last user message that is no wrapped tool result: reasoning before it is dropped. strict: the first
 * release, which takes nothing but texts. */
static size_t qwen3_last_query(struct chat_writer *w, const json_t *messages, bool strict)
{
    size_t n = json_array_size(messages);
    for (size_t i = n; i-- > 0;) {
        const json_t *m = json_array_get(messages, i), *content = chat_get(m, "content");
        if (!chat_is(chat_get(m, "role"), "user"))
            continue;
        w->i_message = (int)i;
        if (!json_is_string(content)) {
            if (!strict)
                continue;
            chat_refuse(w, "content is %s; this model's chat template takes a text there",
                        chat_kind(content));
            return 0;
        }
        if (!span_starts(chat_span(content), "<tool_response>") ||
            !span_ends(chat_span(content), "</tool_response>"))
            return i;
    }
    return n - 1;
}

static void qwen3_calls(struct chat_writer *w, const json_t *calls, bool has_content)
{
    size_t n = chat_true(calls) ? n_calls(w, calls) : 0;
    for (size_t i = 0; i < n; i++) {
        const json_t *call = json_array_get(calls, i), *function = chat_get(call, "function");
        if (has_content || i > 0)
            chat_lit(w, "\n");
        if (chat_true(function))
            call = function;
        const json_t *arguments = chat_get(call, "arguments");
        chat_lit(w, "<tool_call>\n{\"name\": \"");
        chat_print(w, chat_get(call, "name"));
        chat_lit(w, "\", \"arguments\": ");
        if (json_is_string(arguments))
            chat_print(w, arguments);
        else
            chat_json(w, arguments, "arguments of a tool call");
        chat_lit(w, "}\n</tool_call>");
    }
}

/* Where an assistant turn stands. */
struct place {
    bool strict; /* the first release */
    bool fresh;  /* after the last query: only there, and only if there is any or the turn is last, reasoning
                    stays */
    bool last;
};

/* given is the reasoning_content. */
static void qwen3_assistant(struct chat_writer *w, const json_t *m, const json_t *given, struct place at)
{
    bool reasons = at.strict ? given && !json_is_null(given) : json_is_string(given);
    if (at.strict && !json_is_string(chat_get(m, "content"))) {
        chat_concat(w, chat_get(m, "content"), "content");
        return;
    }
    struct span content = chat_span(chat_get(m, "content")), reasoning = chat_span(given);
    bool has_reasoning = reasons && chat_true(given);
    if (!reasons && span_has(content, "</think>")) {
        reasoning = span_trim_right(span_before_first(content, "</think>"), '\n');
        reasoning = span_trim_left(span_after_last(reasoning, "<think>"), '\n');
        content = span_trim_left(span_after_last(content, "</think>"), '\n');
        has_reasoning = reasoning.n > 0;
    }
    chat_lit(w, "<|im_start|>assistant\n");
    if (at.fresh && (at.last || has_reasoning)) {
        if (reasons && !json_is_string(given))
            chat_concat(w, given, "reasoning_content");
        chat_lit(w, "<think>\n");
        chat_data(w, span_trim_left(span_trim_right(reasoning, '\n'), '\n'));
        chat_lit(w, "\n</think>\n\n");
        chat_data(w, span_trim_left(content, '\n'));
    } else {
        chat_data(w, content);
    }
    qwen3_calls(w, chat_get(m, "tool_calls"), content.n > 0);
    chat_lit(w, "<|im_end|>\n");
}

/* A turn other than the assistant's: in later releases content that is no text counts as empty. */
static void qwen3_turn(struct chat_writer *w, const char *role, const json_t *content, bool strict)
{
    if (strict || json_is_string(content)) {
        put_turn(w, role, content);
        return;
    }
    chat_lit(w, "<|im_start|>");
    chat_lit(w, role);
    chat_lit(w, "\n<|im_end|>\n");
}

static void qwen3_generation_prompt(struct chat_writer *w, const struct chat_options *o)
{
    bool hybrid = o->family == CHAT_QWEN3 || o->family == CHAT_QWEN3_2505;
    w->out.opens_thinking = o->family == CHAT_QWEN3_2507_THINKING;
    chat_lit(w, "<|im_start|>assistant\n");
    if (hybrid && !chat_thinks(o))
        chat_lit(w, "<think>\n\n</think>\n\n");
    if (w->out.opens_thinking)
        chat_lit(w, "<think>\n");
}

void chat_qwen3(struct chat_writer *w, const struct chat_options *o, const json_t *messages,
                const json_t *tools)
{
    size_t n = json_array_size(messages);
    bool strict = o->family == CHAT_QWEN3;
    if (is_empty(w, messages))
        return;
    w->i_message = 0;
    qwen3_system_turn(w, json_array_get(messages, 0), tools);
    size_t last_query = qwen3_last_query(w, messages, strict);
    for (size_t i = 0; i < n && !w->rc; i++) {
        const json_t *m = json_array_get(messages, i), *role = chat_get(m, "role"),
                     *content = chat_get(m, "content");
        w->i_message = (int)i;
        if (chat_is(role, "user"))
            qwen3_turn(w, "user", content, strict);
        else if (chat_is(role, "system") && i > 0)
            qwen3_turn(w, "system", content, strict);
        else if (chat_is(role, "assistant"))
            qwen3_assistant(w, m, chat_get(m, "reasoning_content"),
                            (struct place){ strict, i > last_query, i + 1 == n });
        else if (chat_is(role, "tool"))
            put_tool_result(w, messages, i, strict || json_is_string(content) ? content : NULL);
    }
    if (o->add_generation_prompt)
        qwen3_generation_prompt(w, o);
}
