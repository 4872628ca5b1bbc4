/*
 * names.h: parts of names.c that only src/model uses; the rest is in model.h.
 */
#ifndef TONNE_MODEL_NAMES_H
#define TONNE_MODEL_NAMES_H

#include "model/model.h"

enum { GGUF_NAME_ROOM = 64, HF_NAME_ROOM = 192 };

const struct hf_prefixes *hf_released_prefixes(const struct shape *s);

/* The name under these prefixes; expert >= 0: per-expert spelling, -1: fused (and everything else). */
void hf_name(const struct shape *s, const struct hf_prefixes *p, enum role role, int layer, int expert,
             char *name);

/* True for the three matrices of routed experts. */
bool role_is_expert(enum role role);

#endif
