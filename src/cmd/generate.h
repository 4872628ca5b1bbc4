/*
 * generate.h: prompt tokens -> answer, token by token, as `run` and `chat` need it: reasoning told apart from
 * the answer, stop strings, speeds.
 */
#ifndef TONNE_CMD_GENERATE_H
#define TONNE_CMD_GENERATE_H

#include "cmd/session_setup.h"

struct text { /* growing bytes, zero-terminated; zero-initialise; text_free */
    char *s;
    size_t n, capacity;
};
int text_add(struct text *t, const char *s, size_t n, struct err *e);
void text_free(struct text *t);

enum answer_end { ANSWER_STOP, ANSWER_LENGTH, ANSWER_CONTEXT, ANSWER_INTERRUPTED };
const char *answer_end_name(enum answer_end end); /* OpenAI's words: "stop", "length" */

struct answer { /* zero-initialise; answer_free */
    struct text text, reasoning;
    enum answer_end end;
    int n_prompt, n_answer;                /* tokens */
    double prompt_seconds, answer_seconds; /* evaluating the prompt; from the first token to the last */
    double first_token_seconds;
};
void answer_free(struct answer *a);

/* Called with every piece of text that is certain; reasoning: it belongs to the think block. */
typedef int (*answer_sink)(void *user, const char *text, size_t n, bool reasoning, struct err *e);

struct generate_options {
    struct sampler *sampler; /* borrowed */
    const char *const *stop; /* strings that end the answer; they are not part of it */
    int n_stop;
    int max_tokens;   /* 0: no limit */
    bool raw;         /* no think blocks: every token is the answer */
    bool thinking;    /* the prompt ends inside a think block */
    answer_sink sink; /* may be NULL */
    void *user;
};

/* Appends prompt[0..n) to the session and generates. ids, when given, gets every token that was evaluated:
 * the prompt and the answer's but its last. Ctrl-C ends with ANSWER_INTERRUPTED and 0. */
int generate(struct answer *out, struct setup *s, const struct generate_options *o, const int32_t *prompt,
             int n, struct tokens *ids, struct err *e);

#endif
