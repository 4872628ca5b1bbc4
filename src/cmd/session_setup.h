/*
 * session_setup.h: the common path from MODEL to a ready session, in two steps: what is cheap and can fail on
 * user input (files, tokenizer, template, sampling options) first, so that errors come before a long load.
 */
#ifndef TONNE_CMD_SESSION_SETUP_H
#define TONNE_CMD_SESSION_SETUP_H

#include "cmd/options.h"
#include "cmd/plan_setup.h"
#include "engine/engine.h"
#include "text/chat.h"
#include "text/tokenizer.h"

enum { SETUP_MAX_EOS = SHAPE_MAX_EOS * 2 + 2 };

struct setup { /* zero-initialise; setup_close */
    struct model *model;
    struct tokenizer *tokenizer;
    struct threads *threads;
    struct device *device;
    struct plan *plan;
    struct weights *weights;
    struct engine *engine;
    struct session *session;
    struct chat_options chat;        /* family CHAT_UNKNOWN: no known template */
    struct sampler_options sampling; /* bias borrowed from args */
    int32_t eos[SETUP_MAX_EOS];      /* every id that ends an answer */
    int n_eos;
};

/* Opens the model's files and tokenizer; fills chat, sampling and eos. */
int setup_open(struct setup *s, const char *path, const struct args *a, struct err *e);

struct setup_limits {
    int ctx;        /* 0: from args, else the plan's choice */
    int max_logits; /* 0: 1 */
    int batch;      /* 0: from args, else the plan's choice */
};

/* Plans memory, context and batch (s->plan); ERR_NO_ROOM when the model does not fit. */
int setup_plan(struct setup *s, const struct args *a, const struct setup_limits *l, struct err *e);

/* Loads the weights as planned (plans first when nobody has) and opens engine and session. threads and device
 * are started here, too. */
int setup_load(struct setup *s, const struct args *a, const struct setup_limits *l, struct err *e);

/* --cpu: plain, avx2, avx512; NULL: the best there is. */
int setup_isa(const char *name, enum cpu_isa *out, struct err *e);

bool setup_is_eos(const struct setup *s, int32_t id);
void setup_close(struct setup *s);

#endif
