/*
 * sampler.h: logits -> the next token. Order as in the reference: logit bias, repetition / presence /
 * frequency penalties, temperature, top-k, top-p, min-p, draw. The same seed gives the same tokens for the
 * same logits.
 */
#ifndef TONNE_TEXT_SAMPLER_H
#define TONNE_TEXT_SAMPLER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/json.h"

struct logit_bias {
    int32_t id;
    float bias;
};

struct sampler_options {
    float temperature;        /* 0 = greedy */
    int top_k;                /* 0 = off */
    float top_p;              /* 1 = off */
    float min_p;              /* 0 = off */
    float repetition_penalty; /* 1 = off; over prompt and answer, as transformers does */
    float presence_penalty;   /* 0 = off; over the answer */
    float frequency_penalty;  /* 0 = off; over the answer */
    uint64_t seed;
    const struct logit_bias *bias; /* copied by sampler_open */
    int n_bias;
};

/* Greedy, everything off. */
struct sampler_options sampler_defaults(void);
/* Overwrites what generation_config.json (may be NULL) sets; do_sample false gives temperature 0. */
int sampler_from_config(struct sampler_options *opt, const json_t *generation_config, struct err *e);
/* ERR_USAGE with the option's name when a value is out of range. */
int sampler_check(const struct sampler_options *opt, struct err *e);

struct sampler;
/* n_vocab: logits per row; ids >= n_tokens (padding rows) are never chosen. Gives *out. */
int sampler_open(struct sampler **out, const struct sampler_options *opt, int n_vocab, int n_tokens,
                 struct err *e);
void sampler_close(struct sampler **s);
/* Tells the sampler about a token of the prompt (answer = false) or of the answer. */
void sampler_accept(struct sampler *s, int32_t id, bool answer);
/* Chooses the next token; logits[n_vocab] are overwritten. Nothing is allocated. NaN counts as -inf; when no
 * logit is above -inf, token 0 comes out. */
int32_t sampler_pick(struct sampler *s, float *logits);
/* What sampler_pick would draw from: the tokens left and their probabilities (sum 1), at least one; greedy:
 * one. Most probable first when top-k, top-p or min-p is on, else by id. Gives their number; *out is borrowed
 * until the next call. logits[n_vocab] are overwritten; nothing is drawn. */
struct sampler_choice {
    int32_t id;
    float logit; /* after bias and penalties, before temperature */
    double p;
};
int sampler_distribution(struct sampler *s, float *logits, const struct sampler_choice **out);
/* The log-probability of id under logits[n_vocab] (softmax in double). */
double sampler_logprob(const float *logits, int n_vocab, int32_t id);
void sampler_reset(struct sampler *s); /* forgets accepted tokens; the random stream goes on */

#endif
