/*
 * tiny_tokenizer.h: a small tokenizer for tests: 256 bytes, then the results of these merges in this order:
 * h+e l+l H+e Hell+.. Hello e+l, user, assistant (letter by letter), two newlines, 2 and 4 spaces, e acute,
 * aa, aaaa, bc, ab, " w". Added: 300 <|im_start|>, 301 <|im_end|> (special), 302 <think>, 303 </think> (not).
 * NFC.
 */
#ifndef TONNE_TESTS_TINY_TOKENIZER_H
#define TONNE_TESTS_TINY_TOKENIZER_H

#include "base/json.h"
#include "text/pretokenize.h"
#include "text/tokenizer.h"

enum { TINY_MERGES = 26 };

/* The tokenizer.json, to be changed before it is opened. */
json_t *tinytok_json(enum pre_rule rule);
/* Appends an added token, not normalized, to a list of them. */
void tinytok_add(json_t *list, int id, const char *text, bool special);
/* Opens root's text; takes root. */
int tinytok_open_json(struct tokenizer **t, json_t *root, struct err *e);
/* Opens tinytok_json(rule); fails the test when that fails. */
struct tokenizer *tinytok_open(enum pre_rule rule);

/* Encodes and compares: tokens separated by |, added tokens in brackets. */
void tinytok_expect(const struct tokenizer *t, const char *text, const struct trusted_range *r, int n_r,
                    const char *want);

#endif
