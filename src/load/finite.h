/* finite.h: finds NaN and infinity in stored weights without decoding them. */
#ifndef TONNE_LOAD_FINITE_H
#define TONNE_LOAD_FINITE_H

#include <stdbool.h>
#include <stdint.h>

#include "quant/qtype.h"

/* True when none of the n values, or none of the block scales of n values, of this format is NaN or infinite.
 * Formats whose scales cannot be either (or lie in a plane of their own) are always finite. */
bool weights_finite(enum qtype type, const void *data, int64_t n);
bool floats_finite(const float *x, int64_t n);

#endif
