/* load.h: weights for tests that are about something else: a plan without a budget, carried out. */
#ifndef TONNE_TESTS_LOAD_H
#define TONNE_TESTS_LOAD_H

#include "load/weights.h"

/* Loads all of m, MTP included, into d's memory, quantized or (MIX_NONE) as stored. Gives *out. */
int test_load(struct weights **out, const struct model *m, struct device *d, enum mix mix, struct threads *t,
              struct err *e);

#endif
