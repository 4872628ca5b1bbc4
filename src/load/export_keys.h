/* export_keys.h: the metadata of a GGUF made from a checkpoint in Hugging Face's form. */
#ifndef TONNE_LOAD_EXPORT_KEYS_H
#define TONNE_LOAD_EXPORT_KEYS_H

#include "model/model.h"
#include "quant/qtype.h"

/* general.* and the architecture's keys (specs of llama.cpp's converter: same names, types and order). */
int export_model_keys(struct gguf_writer *w, const struct model *m, enum mix mix, struct err *e);

/* tokenizer.* from tokenizer.json, tokenizer_config.json, config.json. ERR_FORMAT for tokenizers that GGUF's
 * "gpt2" model with the qwen2 or qwen35 rule cannot express. */
int export_tokenizer_keys(struct gguf_writer *w, const struct model *m, struct err *e);

/* The regular expression behind tokenizer.ggml.pre "qwen2" or "qwen35"; NULL for other rules. */
const char *export_pre_regex(const char *pre);

#endif
