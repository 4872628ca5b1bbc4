/* pretokenize.h: where a text is cut before BPE; scanners that equal the regular expressions of the model
 * files. */
#ifndef TONNE_TEXT_PRETOKENIZE_H
#define TONNE_TEXT_PRETOKENIZE_H

#include <stddef.h>

#include "text/char_class.h"

enum pre_rule { PRE_QWEN2, PRE_QWEN35, PRE_COUNT };

/* "qwen2", "qwen35" */
const char *pre_rule_name(enum pre_rule rule);
/* The rule's regular expression as tokenizer.json spells it. */
const char *pre_rule_regex(enum pre_rule rule);

/* The end of the pre-token that begins at text[at], at < n; > at. text is valid UTF-8. */
size_t pre_token_end(enum pre_rule rule, const struct char_classes *c, const char *text, size_t n, size_t at);

#endif
