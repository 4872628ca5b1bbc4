/*
 * geometry.h: released models by name: their shape, known without their files, and a model without files that
 * has it. For planning and measuring before anything is downloaded. Numbers: the releases' configurations.
 */
#ifndef TONNE_MODEL_GEOMETRY_H
#define TONNE_MODEL_GEOMETRY_H

#include "model/model.h"

/* Fills *s with the text model of this name (letters in any case), without MTP head, cut to its first
 * `layers` layers (0: all). ERR_USAGE lists the names, or says how many layers there are. */
int geometry_shape(struct shape *s, const char *name, int layers, struct err *e);
const char *geometry_list(void); /* "qwen3.5-397b-a17b qwen3.5-122b-a10b ..." */
/* The candidate for suggestions: name i, or NULL beyond the last. */
const char *geometry_name(int i);

/* Parameters of all matrices and vectors, MTP head included when s has one. */
uint64_t geometry_weights(const struct shape *s);

/* A model of this shape as GGUF would name its tensors, all of them BF16 as released, with no file behind
 * them: it can be planned; reading a weight fails. Gives *out; ended by model_close. */
int geometry_model(struct model **out, const char *name, const struct shape *s, struct err *e);

#endif
