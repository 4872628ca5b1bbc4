/*
 * conversation.h: a chat's messages and the session that has read them. A new turn evaluates only what the
 * session does not hold yet.
 *
 * Templates drop the reasoning of earlier turns, so the rendered past changes behind the last user message,
 * and a recurrent state cannot be cut back. Therefore the session is copied at the end of every user message,
 * before the answer; the next turn goes on from there when the answer's own tokens are not what the template
 * renders now.
 */
#ifndef TONNE_CMD_CONVERSATION_H
#define TONNE_CMD_CONVERSATION_H

#include "cmd/generate.h"

struct conversation { /* zero-initialise; conversation_close */
    json_t *messages;
    struct tokens held; /* what the session has evaluated */
    struct tokens mark; /* what it had at the copy */
    void *copy;         /* session_snapshot; NULL: none */
    size_t copy_bytes;
    int n_reused; /* tokens of the last turn that needed no evaluation */
};

int conversation_open(struct conversation *c, const char *system, struct err *e);
void conversation_close(struct conversation *c);

/* Forgets all messages but the system's. */
int conversation_reset(struct conversation *c, struct err *e);
/* Replaces, adds or (NULL) removes the system message. */
int conversation_set_system(struct conversation *c, const char *system, struct err *e);
/* Borrowed; NULL: none. */
const char *conversation_system(const struct conversation *c);

/* {"messages": [...]}: written whole or not at all; a wrong file leaves the conversation alone. */
int conversation_save(const struct conversation *c, const char *path, struct err *e);
int conversation_load(struct conversation *c, const char *path, struct err *e);

/* Adds text as a user message, generates the answer and adds it. On failure the messages are as before. */
int conversation_turn(struct conversation *c, struct setup *s, const struct generate_options *o,
                      const char *text, size_t n, struct answer *out, struct err *e);

#endif
