/*
 * fuzz_chat.c: chat rendering on anything. Input: template text, a zero byte, then JSON {"messages",
 * "tools"}; the family found is tried first, then all of them.
 */
#include <stdlib.h>
#include <string.h>

#include "fuzz/target.h"
#include "text/chat.h"

static void check_ranges(const struct chat_text *t)
{
    size_t at = 0;
    for (int i = 0; i < t->n_trusted; i++) {
        if (t->trusted[i].begin < at || t->trusted[i].end <= t->trusted[i].begin || t->trusted[i].end > t->n)
            abort();
        at = t->trusted[i].end + 1; /* touching ranges would have been joined */
    }
    if (strlen(t->text) > t->n)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    char *text = malloc(n + 1);
    if (!text)
        return 0;
    memcpy(text, data, n);
    text[n] = '\0';
    struct chat_options opt = { .add_generation_prompt = true };
    opt.family = chat_detect(text, &opt.thinking_default);
    size_t skip = strlen(text) + 1;
    json_t *request = NULL;
    if (skip < n && json_parse(text + skip, n - skip, &request, NULL) == 0) {
        for (int i = 0; i < 3 * CHAT_COUNT; i++) {
            struct chat_text out;
            struct err e;
            opt.thinking = i % 3 - 1;
            if (i >= 3)
                opt.family = (enum chat_template)(i / 3);
            if (chat_render(&out, &opt, json_object_get(request, "messages"),
                            json_object_get(request, "tools"), &e))
                continue;
            check_ranges(&out);
            chat_text_free(&out);
        }
        json_decref(request);
    }
    free(text);
    return 0;
}
