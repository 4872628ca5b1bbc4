/*
 * chat_xml.c: the templates of Qwen3-Coder and Qwen3.5: tool calls are <function=..><parameter=..> blocks.
 * Written beside the released Jinja files, branch by branch, including what these do with odd input.
 */
#include <string.h>

#include "text/chat_write.h"

/* ---- what both share ---- */

static bool is_nested(const json_t *v)
{
    return json_is_object(v) || json_is_array(v);
}

/* Objects and lists as JSON, everything else as Python's str(). */
static void put_mixed(struct chat_writer *w, const json_t *v)
{
    if (is_nested(v))
        chat_json(w, v, "a value");
    else
        chat_print(w, v);
}

/* From the name to the end of a call; what precedes it differs. */
static void put_call(struct chat_writer *w, const json_t *call)
{
    const json_t *function = chat_get(call, "function"), *arguments, *value;
    if (function)
        call = function;
    arguments = chat_get(call, "arguments");
    chat_lit(w, "<tool_call>\n<function=");
    chat_concat(w, chat_get(call, "name"), "the name of a tool call");
    chat_lit(w, ">\n");
    if (arguments && !json_is_object(arguments)) {
        chat_refuse(w, "arguments of a tool call is %s; it must be an object", chat_kind(arguments));
        err_hint(w->e, "parse the JSON text of arguments before rendering");
    }
    const char *key;
    size_t len;
    json_object_keylen_foreach((json_t *)arguments, key, len, value)
    {
        chat_lit(w, "<parameter=");
        chat_data(w, (struct span){ key, len });
        chat_lit(w, ">\n");
        put_mixed(w, value);
        chat_lit(w, "\n</parameter>\n");
    }
    chat_lit(w, "</function>\n</tool_call>");
}

/* Consecutive tool results share one user turn, unless they open the conversation: loop.previtem is not
 * defined there, and the templates then write no header. */
static bool opens_results(const json_t *messages, size_t begin, size_t i)
{
    return i > begin && !chat_is(chat_get(json_array_get(messages, i - 1), "role"), "tool");
}

static bool ends_results(const json_t *messages, size_t i)
{
    return i + 1 == json_array_size(messages) ||
           !chat_is(chat_get(json_array_get(messages, i + 1), "role"), "tool");
}

/* ---- Qwen3-Coder ---- */

static const char coder_system[] =
    "<|im_start|>system\nYou are Qwen, a helpful AI assistant that can interact with "
    "a computer to solve tasks.";
static const char coder_outro[] =
    "\n\nIf you choose to call a tool ONLY reply in the following format with NO suffix:\n\n"
    "<tool_call>\n<function=example_function_name>\n<parameter=example_parameter_1>\nvalue_1\n"
    "</parameter>\n<parameter=example_parameter_2>\nvalue_2\n</parameter>\n</function>\n</tool_call>\n"
    "\n<IMPORTANT>\nReminder:\n"
    "- Function calls MUST follow the specified format: the tool calling block MUST begin with an "
    "opening <tool_call> tag and end with a closing </tool_call> tag.\n"
    "- Required parameters MUST be specified\n"
    "- You may provide optional reasoning for your function call in natural language BEFORE the "
    "function call, but NOT after\n"
    "- If there is no function call available, answer the question like normal with your current "
    "knowledge and do not tell the user about function calls\n</IMPORTANT>";

static void put_tag(struct chat_writer *w, const char *open, struct span key, const char *close)
{
    chat_lit(w, open);
    chat_data(w, key);
    chat_lit(w, close);
}

/* The members of an object that have no place of their own: <key>value</key>. */
static void coder_extra_keys(struct chat_writer *w, const json_t *v, const char *const *handled)
{
    const char *key;
    size_t len;
    json_t *value;
    json_object_keylen_foreach((json_t *)v, key, len, value)
    {
        bool known = false;
        for (const char *const *h = handled; *h; h++)
            known |= strlen(*h) == len && memcmp(*h, key, len) == 0;
        if (known)
            continue;
        put_tag(w, "\n<", (struct span){ key, len }, ">");
        put_mixed(w, value);
        put_tag(w, "</", (struct span){ key, len }, ">");
    }
}

/* {% if v is defined %}<tag>v|trim</tag> */
static void coder_description(struct chat_writer *w, const json_t *v)
{
    if (!v)
        return;
    struct chat_writer text = { .i_message = w->i_message, .e = w->e };
    chat_print(&text, v);
    chat_lit(w, "\n<description>");
    chat_data(w, span_trim((struct span){ text.out.text ? text.out.text : "", text.out.n }));
    chat_lit(w, "</description>");
    if (text.rc && !w->rc)
        w->rc = text.rc;
    chat_writer_free(&text);
}

static void coder_parameter(struct chat_writer *w, struct span name, const json_t *fields)
{
    static const char *const handled[] = { "name", "type", "description", NULL };
    const json_t *type = chat_get(fields, "type");
    chat_lit(w, "\n<parameter>\n<name>");
    chat_data(w, name);
    chat_lit(w, "</name>");
    if (type) {
        chat_lit(w, "\n<type>");
        chat_print(w, type);
        chat_lit(w, "</type>");
    }
    coder_description(w, chat_get(fields, "description"));
    coder_extra_keys(w, fields, handled);
    chat_lit(w, "\n</parameter>");
}

static void coder_tool(struct chat_writer *w, const json_t *tool)
{
    static const char *const in_parameters[] = { "type", "properties", NULL };
    static const char *const in_tool[] = { "type", "name", "description", "parameters", NULL };
    const json_t *function = chat_get(tool, "function"), *parameters;
    if (function)
        tool = function;
    parameters = chat_get(tool, "parameters");
    chat_lit(w, "\n<function>\n<name>");
    chat_print(w, chat_get(tool, "name"));
    chat_lit(w, "</name>");
    coder_description(w, chat_get(tool, "description"));
    chat_lit(w, "\n<parameters>");
    const char *key;
    size_t len;
    json_t *fields;
    json_object_keylen_foreach((json_t *)chat_get(parameters, "properties"), key, len, fields)
        coder_parameter(w, (struct span){ key, len }, fields);
    coder_extra_keys(w, parameters, in_parameters);
    chat_lit(w, "\n</parameters>");
    coder_extra_keys(w, tool, in_tool);
    chat_lit(w, "\n</function>");
}

static void coder_system_turn(struct chat_writer *w, const json_t *system, const json_t *tools)
{
    size_t n = json_array_size(tools);
    if (system) {
        chat_lit(w, "<|im_start|>system\n");
        chat_concat(w, system, "content");
    } else if (n > 0) {
        chat_lit(w, coder_system);
    }
    if (n > 0)
        chat_lit(w, "\n\n# Tools\n\nYou have access to the following tools:\n\n<tools>");
    for (size_t i = 0; i < n && !w->rc; i++)
        coder_tool(w, json_array_get(tools, i));
    if (n > 0) {
        chat_lit(w, "\n</tools>");
        chat_lit(w, coder_outro);
    }
    if (system || n > 0)
        chat_lit(w, "<|im_end|>\n");
}

/* Length of tool_calls as the template's tests see it; what has a length but is no list cannot be rendered.
 */
static size_t coder_calls(struct chat_writer *w, const json_t *calls)
{
    if (json_is_array(calls))
        return json_array_size(calls);
    if (chat_true(calls) && (json_is_object(calls) || json_is_string(calls)))
        chat_refuse(w, "tool_calls is %s; it must be a list of calls", chat_kind(calls));
    return 0;
}

static void coder_assistant(struct chat_writer *w, const json_t *m, size_t n_calls)
{
    const json_t *calls = chat_get(m, "tool_calls");
    struct span content = span_trim(chat_span(chat_get(m, "content")));
    chat_lit(w, "<|im_start|>assistant");
    if (content.n > 0) {
        chat_lit(w, "\n");
        chat_data(w, content);
        chat_lit(w, "\n");
    }
    for (size_t i = 0; i < n_calls; i++) {
        chat_lit(w, "\n");
        put_call(w, json_array_get(calls, i));
    }
    chat_lit(w, "<|im_end|>\n");
}

static void coder_message(struct chat_writer *w, const json_t *messages, size_t begin, size_t i)
{
    const json_t *m = json_array_get(messages, i), *role = chat_get(m, "role");
    size_t n_calls = chat_is(role, "assistant") ? coder_calls(w, chat_get(m, "tool_calls")) : 0;
    if (n_calls > 0) {
        coder_assistant(w, m, n_calls);
    } else if (chat_is(role, "tool")) {
        if (opens_results(messages, begin, i))
            chat_lit(w, "<|im_start|>user\n");
        chat_lit(w, "<tool_response>\n");
        chat_print(w, chat_get(m, "content"));
        chat_lit(w, "\n</tool_response>\n");
        if (ends_results(messages, i))
            chat_lit(w, "<|im_end|>\n");
    } else { /* any other role is written as it is */
        chat_lit(w, "<|im_start|>");
        chat_concat(w, role, "role");
        chat_lit(w, "\n");
        chat_concat(w, chat_get(m, "content"), "content");
        chat_lit(w, "<|im_end|>\n");
    }
}

void chat_coder(struct chat_writer *w, const struct chat_options *o, const json_t *messages,
                const json_t *tools)
{
    if (json_array_size(messages) == 0) {
        chat_refuse(w, "there are no messages");
        return;
    }
    const json_t *first = json_array_get(messages, 0);
    size_t begin = chat_is(chat_get(first, "role"), "system");
    w->i_message = 0;
    coder_system_turn(w, begin ? chat_get(first, "content") : NULL, tools);
    for (size_t i = begin; i < json_array_size(messages) && !w->rc; i++) {
        w->i_message = (int)i;
        coder_message(w, messages, begin, i);
    }
    if (o->add_generation_prompt)
        chat_lit(w, "<|im_start|>assistant\n");
}

/* ---- Qwen3.5 ---- */

static const char qwen35_outro[] =
    "\n\nIf you choose to call a function ONLY reply in the following format with NO suffix:\n\n"
    "<tool_call>\n<function=example_function_name>\n<parameter=example_parameter_1>\nvalue_1\n"
    "</parameter>\n<parameter=example_parameter_2>\nThis is the value for the second parameter\n"
    "that can span\nmultiple lines\n</parameter>\n</function>\n</tool_call>\n\n<IMPORTANT>\nReminder:\n"
    "- Function calls MUST follow the specified format: an inner <function=...></function> block "
    "must be nested within <tool_call></tool_call> XML tags\n- Required parameters MUST be specified\n"
    "- You may provide optional reasoning for your function call in natural language BEFORE the "
    "function call, but NOT after\n"
    "- If there is no function call available, answer the question like normal with your current "
    "knowledge and do not tell the user about function calls\n</IMPORTANT>";

/* 'key' in item: a member of an object, an element of a list, a part of a text. */
static bool has_key(struct chat_writer *w, const json_t *item, const char *key)
{
    if (json_is_object(item))
        return chat_get(item, key) != NULL;
    if (json_is_string(item))
        return span_has(chat_span(item), key);
    if (!json_is_array(item))
        chat_refuse(w, "a content item is %s; it must be an object", chat_kind(item));
    for (size_t i = 0; i < json_array_size(item); i++)
        if (chat_is(json_array_get(item, i), key))
            return true;
    return false;
}

static void qwen35_item(struct chat_writer *w, const json_t *item, bool in_system)
{
    if (has_key(w, item, "image") || has_key(w, item, "image_url") ||
        chat_is(chat_get(item, "type"), "image")) {
        if (in_system)
            chat_refuse(w, "System message cannot contain images.");
        chat_lit(w, "<|vision_start|><|image_pad|><|vision_end|>");
    } else if (has_key(w, item, "video") || chat_is(chat_get(item, "type"), "video")) {
        if (in_system)
            chat_refuse(w, "System message cannot contain videos.");
        chat_lit(w, "<|vision_start|><|video_pad|><|vision_end|>");
    } else if (has_key(w, item, "text")) {
        chat_print(w, chat_get(item, "text"));
    } else {
        chat_refuse(w, "Unexpected item type in content.");
    }
}

/* render_content(...)|trim into *text (replacing what it held); the result lies inside it. A failure is w's.
 */
static struct span qwen35_content(struct chat_writer *w, struct chat_writer *text, const json_t *content,
                                  bool in_system)
{
    text->out.n = 0;
    text->out.n_trusted = 0;
    text->i_message = w->i_message;
    if (json_is_string(content))
        chat_print(text, content);
    else if (json_is_array(content))
        for (size_t i = 0; i < json_array_size(content) && !text->rc; i++)
            qwen35_item(text, json_array_get(content, i), in_system);
    else if (content && !json_is_null(content))
        chat_refuse(text, "Unexpected content type.");
    if (!w->rc)
        w->rc = text->rc;
    return span_trim((struct span){ text->out.text ? text->out.text : "", text->out.n });
}

static void qwen35_system_turn(struct chat_writer *w, struct chat_writer *text, const json_t *first,
                               const json_t *tools)
{
    size_t n = json_array_size(tools);
    bool given = chat_is(chat_get(first, "role"), "system");
    struct span content = { "", 0 };
    if (given)
        content = qwen35_content(w, text, chat_get(first, "content"), true);
    if (!given && n == 0)
        return;
    chat_lit(w, "<|im_start|>system\n");
    if (n > 0)
        chat_lit(w, "# Tools\n\nYou have access to the following functions:\n\n<tools>");
    for (size_t i = 0; i < n; i++) {
        chat_lit(w, "\n");
        chat_json(w, json_array_get(tools, i), "a tool");
    }
    if (n > 0) {
        chat_lit(w, "\n</tools>");
        chat_lit(w, qwen35_outro);
        chat_lit(w, content.n > 0 ? "\n\n" : "");
    }
    chat_copy(w, text, content);
    chat_lit(w, "<|im_end|>\n");
}

/* The last user message that is no wrapped tool result: reasoning before it is dropped. */
static size_t qwen35_last_query(struct chat_writer *w, struct chat_writer *text, const json_t *messages)
{
    for (size_t i = json_array_size(messages); i-- > 0 && !w->rc;) {
        const json_t *m = json_array_get(messages, i);
        if (!chat_is(chat_get(m, "role"), "user"))
            continue;
        w->i_message = (int)i;
        struct span content = qwen35_content(w, text, chat_get(m, "content"), false);
        if (!span_starts(content, "<tool_response>") || !span_ends(content, "</tool_response>"))
            return i;
    }
    w->i_message = -1;
    chat_refuse(w, "No user query found in messages.");
    return 0;
}

static void qwen35_calls(struct chat_writer *w, const json_t *calls, bool has_content)
{
    if (json_is_string(calls) && chat_true(calls))
        chat_refuse(w, "tool_calls is a text; it must be a list of calls");
    for (size_t i = 0; i < json_array_size(calls); i++) {
        chat_lit(w, i > 0 ? "\n" : has_content ? "\n\n" : "");
        put_call(w, json_array_get(calls, i));
    }
}

/* fresh: after the last query; only there reasoning is written, and then always, even when it is empty. */
static void qwen35_assistant(struct chat_writer *w, const struct chat_writer *text, const json_t *m,
                             struct span content, bool fresh)
{
    const json_t *given = chat_get(m, "reasoning_content");
    struct span inside = { "", 0 }; /* reasoning that was in the content */
    if (!json_is_string(given) && span_has(content, "</think>")) {
        inside = span_trim_right(span_before_first(content, "</think>"), '\n');
        inside = span_trim(span_trim_left(span_after_last(inside, "<think>"), '\n'));
        content = span_trim_left(span_after_last(content, "</think>"), '\n');
    }
    chat_lit(w, "<|im_start|>assistant\n");
    if (fresh) {
        chat_lit(w, "<think>\n");
        chat_data(w, span_trim(chat_span(given)));
        chat_copy(w, text, inside);
        chat_lit(w, "\n</think>\n\n");
    }
    chat_copy(w, text, content);
    qwen35_calls(w, chat_get(m, "tool_calls"), span_trim(content).n > 0);
    chat_lit(w, "<|im_end|>\n");
}

static void qwen35_tool_result(struct chat_writer *w, const struct chat_writer *text, const json_t *messages,
                               size_t i, struct span content)
{
    if (opens_results(messages, 0, i))
        chat_lit(w, "<|im_start|>user");
    chat_lit(w, "\n<tool_response>\n");
    chat_copy(w, text, content);
    chat_lit(w, "\n</tool_response>");
    if (ends_results(messages, i))
        chat_lit(w, "<|im_end|>\n");
}

static void qwen35_message(struct chat_writer *w, struct chat_writer *text, const json_t *messages, size_t i,
                           bool fresh)
{
    const json_t *m = json_array_get(messages, i), *role = chat_get(m, "role");
    struct span content = qwen35_content(w, text, chat_get(m, "content"), false);
    if (chat_is(role, "system")) {
        if (i > 0)
            chat_refuse(w, "System message must be at the beginning.");
    } else if (chat_is(role, "user")) {
        chat_lit(w, "<|im_start|>user\n");
        chat_copy(w, text, content);
        chat_lit(w, "<|im_end|>\n");
    } else if (chat_is(role, "assistant")) {
        qwen35_assistant(w, text, m, content, fresh);
    } else if (chat_is(role, "tool")) {
        qwen35_tool_result(w, text, messages, i, content);
    } else {
        chat_refuse(w, "Unexpected message role.");
    }
}

void chat_qwen35(struct chat_writer *w, const struct chat_options *o, const json_t *messages,
                 const json_t *tools)
{
    if (json_array_size(messages) == 0) {
        chat_refuse(w, "No messages provided.");
        return;
    }
    struct chat_writer text = { .e = w->e }; /* the content at hand */
    w->i_message = 0;
    qwen35_system_turn(w, &text, json_array_get(messages, 0), tools);
    size_t last_query = qwen35_last_query(w, &text, messages);
    for (size_t i = 0; i < json_array_size(messages) && !w->rc; i++) {
        w->i_message = (int)i;
        qwen35_message(w, &text, messages, i, i > last_query);
    }
    chat_writer_free(&text);
    if (!o->add_generation_prompt)
        return;
    chat_lit(w, "<|im_start|>assistant\n");
    chat_lit(w, chat_thinks(o) ? "<think>\n" : "<think>\n\n</think>\n\n");
    w->out.opens_thinking = chat_thinks(o);
}
