/* conversation.c: see conversation.h. */
#include "cmd/conversation.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "cmd/terminal.h"

enum { MAX_SAVED_BYTES = 64 << 20 };

static int no_memory(struct err *e)
{
    return err_set(e, ERR_MEMORY, "no memory for the conversation");
}

/* Takes message; NULL (it could not be made) is ERR_MEMORY. */
static int add_message(json_t *messages, json_t *message, struct err *e)
{
    return json_array_append_new(messages, message) ? no_memory(e) : 0;
}

int conversation_open(struct conversation *c, const char *system, struct err *e)
{
    c->messages = json_array();
    if (!c->messages)
        return no_memory(e);
    return system ? conversation_set_system(c, system, e) : 0;
}

static void drop_copy(struct conversation *c)
{
    free(c->copy);
    tokens_free(&c->mark);
    c->copy = NULL;
    c->mark = (struct tokens){ 0 };
}

void conversation_close(struct conversation *c)
{
    json_decref(c->messages);
    drop_copy(c);
    tokens_free(&c->held);
    *c = (struct conversation){ 0 };
}

const char *conversation_system(const struct conversation *c)
{
    const json_t *first = json_array_get(c->messages, 0);
    return strcmp(json_get_str(first, "role", ""), "system") == 0 ? json_get_str(first, "content", "") : NULL;
}

int conversation_set_system(struct conversation *c, const char *system, struct err *e)
{
    json_t *message = system ? json_pack("{s:s, s:s}", "role", "system", "content", system) : NULL;
    if (system && !message)
        return err_set(e, ERR_USAGE, "the system message is not valid UTF-8");
    if (conversation_system(c))
        json_array_remove(c->messages, 0);
    return system && json_array_insert_new(c->messages, 0, message) ? no_memory(e) : 0;
}

int conversation_reset(struct conversation *c, struct err *e)
{
    size_t keep = conversation_system(c) ? 1 : 0;
    while (json_array_size(c->messages) > keep)
        if (json_array_remove(c->messages, json_array_size(c->messages) - 1))
            return no_memory(e);
    return 0;
}

int conversation_save(const struct conversation *c, const char *path, struct err *e)
{
    struct file_writer *w = NULL;
    json_t *root = json_pack("{s:O}", "messages", c->messages);
    char *text = root ? json_dumps(root, JSON_INDENT(1)) : NULL;
    int rc = text ? file_writer_open(&w, path, e) : no_memory(e);
    if (!rc)
        rc = file_writer_append(w, text, strlen(text), e);
    if (!rc)
        rc = file_writer_append(w, "\n", 1, e);
    if (!rc)
        rc = file_writer_commit(&w, e);
    file_writer_abort(&w);
    free(text);
    json_decref(root);
    return rc;
}

int conversation_load(struct conversation *c, const char *path, struct err *e)
{
    json_t *root;
    int rc = json_load_path(path, MAX_SAVED_BYTES, &root, e);
    if (rc)
        return rc;
    json_t *messages = json_object_get(root, "messages");
    bool good = json_is_array(messages);
    for (size_t i = 0; i < json_array_size(messages); i++)
        good &= json_get_str(json_array_get(messages, i), "role", NULL) != NULL;
    if (good) {
        json_decref(c->messages);
        c->messages = json_incref(messages);
    } else {
        rc = err_set(e, ERR_FORMAT, "this is not a saved conversation");
        err_where(e, "%s", path);
    }
    json_decref(root);
    return rc;
}

/* ---- a turn ---- */

static int encode(struct tokens *out, bool *thinking, const struct conversation *c, const struct setup *s,
                  bool prompt, struct err *e)
{
    struct chat_options options = s->chat;
    struct chat_text text;
    options.add_generation_prompt = prompt;
    int rc = chat_render(&text, &options, c->messages, NULL, e);
    if (rc)
        return rc;
    *thinking = text.opens_thinking;
    rc = tokenizer_encode(s->tokenizer, text.text, text.n, text.trusted, text.n_trusted, out, e);
    chat_text_free(&text);
    return rc;
}

static size_t common_prefix(const struct tokens *a, const struct tokens *b)
{
    size_t n = a->n < b->n ? a->n : b->n, i = 0;
    while (i < n && a->id[i] == b->id[i])
        i++;
    return i;
}

/* True when the session, having read `held`, can go on to `want`: at least one token is left to evaluate. */
static bool leads_to(const struct tokens *held, const struct tokens *want)
{
    return held->n < want->n && common_prefix(held, want) == held->n;
}

static int copy_tokens(struct tokens *to, const struct tokens *from, struct err *e)
{
    int rc = 0;
    to->n = 0;
    for (size_t i = 0; i < from->n && !rc; i++)
        rc = tokens_push(to, from->id[i], e);
    return rc;
}

/* Brings the session to a state that leads to want: as it is, from the copy, or empty. */
static int rewind_to(struct conversation *c, struct setup *s, const struct tokens *want, struct err *e)
{
    if ((size_t)session_position(s->session) == c->held.n && leads_to(&c->held, want))
        return 0;
    if (c->copy && leads_to(&c->mark, want)) {
        int rc = session_restore(s->session, c->copy, c->copy_bytes, e);
        return rc ? rc : copy_tokens(&c->held, &c->mark, e);
    }
    session_reset(s->session);
    c->held.n = 0;
    return 0;
}

/* Evaluates want up to `end` and copies the session there. */
static int evaluate_and_copy(struct conversation *c, struct setup *s, const struct tokens *want, size_t end,
                             struct err *e)
{
    int rc = 0;
    if (end <= c->held.n)
        return 0;
    rc = session_append(s->session, want->id + c->held.n, (int)(end - c->held.n), terminal_poll, NULL, e);
    for (size_t i = c->held.n; i < end && !rc; i++)
        rc = tokens_push(&c->held, want->id[i], e);
    if (rc)
        return rc;
    drop_copy(c);
    size_t bytes = session_snapshot_bytes(s->session);
    if (!(c->copy = malloc(bytes))) /* without a copy the next turn evaluates everything again */
        return 0;
    c->copy_bytes = bytes;
    rc = session_snapshot(s->session, c->copy, bytes, e);
    return rc ? rc : copy_tokens(&c->mark, &c->held, e);
}

static int check_room(const struct tokens *t, const struct setup *s, struct err *e)
{
    int ctx = session_ctx(s->session);
    if (t->n < (size_t)ctx)
        return 0;
    err_set(e, ERR_USAGE, "the conversation has %zu tokens; the context holds %d", t->n, ctx);
    err_hint(e, "/new starts another one; --ctx %zu would hold it", (t->n + 1024) / 1024 * 1024);
    return ERR_USAGE;
}

static int generate_turn(struct conversation *c, struct setup *s, const struct generate_options *options,
                         struct answer *out, struct err *e)
{
    struct generate_options o = *options;
    struct tokens all = { 0 }, past = { 0 };
    bool ignored;
    int rc = encode(&all, &o.thinking, c, s, true, e);
    if (!rc)
        rc = check_room(&all, s, e);
    if (!rc)
        rc = encode(&past, &ignored, c, s, false, e);
    if (!rc)
        rc = rewind_to(c, s, &all, e);
    c->n_reused = (int)c->held.n;
    double begin = clock_seconds();
    if (!rc)
        rc = evaluate_and_copy(c, s, &all, common_prefix(&all, &past), e);
    double before = clock_seconds() - begin; /* the session's copy counts as evaluation */
    if (!rc) {
        sampler_reset(o.sampler);
        for (size_t i = 0; i < c->held.n; i++)
            sampler_accept(o.sampler, c->held.id[i], false);
        rc = generate(out, s, &o, all.id + c->held.n, (int)(all.n - c->held.n), &c->held, e);
    }
    out->n_prompt = (int)all.n - c->n_reused;
    out->prompt_seconds += before;
    out->first_token_seconds += before;
    tokens_free(&all);
    tokens_free(&past);
    return rc;
}

int conversation_turn(struct conversation *c, struct setup *s, const struct generate_options *o,
                      const char *text, size_t n, struct answer *out, struct err *e)
{
    size_t before = json_array_size(c->messages);
    json_t *message = json_pack("{s:s, s:s%}", "role", "user", "content", text, n);
    if (!message)
        return err_set(e, ERR_USAGE, "the message is not valid UTF-8");
    int rc = add_message(c->messages, message, e);
    if (!rc)
        rc = generate_turn(c, s, o, out, e);
    if (!rc)
        rc = add_message(c->messages,
                         json_pack("{s:s, s:s%}", "role", "assistant", "content",
                                   out->text.s ? out->text.s : "", out->text.n),
                         e);
    if (!rc && out->reasoning.n > 0)
        json_object_set_new(json_array_get(c->messages, before + 1), "reasoning_content",
                            json_stringn(out->reasoning.s, out->reasoning.n));
    while (rc && json_array_size(c->messages) > before)
        json_array_remove(c->messages, json_array_size(c->messages) - 1);
    return rc;
}
