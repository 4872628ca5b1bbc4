/*
 * render_chat.c: renders conversations for tools/chat_parity.py.  render_chat TEMPLATE.jinja <requests
 * >results A request is a line {"messages": .., "tools": .., "enable_thinking": .., "add_generation_prompt":
 * ..}; a result is a line {"text": .., "trusted": [[begin, end], ..], "opens_thinking": ..} or {"error": ..,
 * "where": ..}.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "text/chat.h"

static json_t *render(const struct chat_options *base, const json_t *request)
{
    struct chat_options opt = *base;
    struct chat_text text;
    struct err e = { 0 };
    const json_t *thinking = json_object_get(request, "enable_thinking");
    opt.thinking = json_is_boolean(thinking) ? json_is_true(thinking) : -1;
    opt.add_generation_prompt = json_is_true(json_object_get(request, "add_generation_prompt"));
    if (chat_render(&text, &opt, json_object_get(request, "messages"), json_object_get(request, "tools"), &e))
        return json_pack("{s:s, s:s}", "error", e.what, "where", e.where);
    json_t *trusted = json_array();
    for (int i = 0; i < text.n_trusted; i++)
        json_array_append_new(
            trusted, json_pack("[I, I]", (json_int_t)text.trusted[i].begin, (json_int_t)text.trusted[i].end));
    json_t *result = json_pack("{s:s%, s:o, s:b}", "text", text.text, text.n, "trusted", trusted,
                               "opens_thinking", text.opens_thinking);
    chat_text_free(&text);
    return result;
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        puts("driven by tools/chat_parity.py (make check-parity)");
        return 77;
    }
    char *jinja, *line = NULL;
    size_t n, room = 0;
    ssize_t len;
    struct err e = { 0 };
    if (file_slurp(argv[1], 1 << 20, &jinja, &n, &e)) {
        err_print(&e);
        return 1;
    }
    struct chat_options opt = { 0 };
    opt.family = chat_detect(jinja, &opt.thinking_default);
    free(jinja);
    while ((len = getline(&line, &room, stdin)) > 0) {
        json_t *request, *result;
        if (json_parse(line, (size_t)len, &request, &e)) {
            err_print(&e);
            return 1;
        }
        result = render(&opt, request);
        json_dumpf(result, stdout, JSON_COMPACT);
        putchar('\n');
        json_decref(result);
        json_decref(request);
    }
    free(line);
    return 0;
}
