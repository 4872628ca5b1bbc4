/*
 * synth.h: weights without files: random matrices in the format that the plan gives each, for measuring a
 * model's speed and memory before it is downloaded. The text such a model writes is noise.
 *
 * Every matrix is nearly Gaussian, N(0, gain^2 / cols), so that a forward pass stays finite and of order one
 * at any depth; kernels see codes as real quantized weights have them. A pool of such weights is quantized
 * once per (type, sigma), and every matrix is filled with pieces of it from random places: at memory speed,
 * and no two rows are alike. The same seed gives the same weights for any number of threads.
 *
 * Routing: routers are random too, so that over time all experts are used about equally. Real text asks for
 * many of the last token's experts again; to imitate that, the embedding is a random walk: rows i and i + k
 * share 1 - k / SYNTH_WALK of their values. Tokens with near ids (synth_walk) then choose similar experts.
 * How similar is to be measured, not assumed (`tonne bench` prints it).
 */
#ifndef TONNE_LOAD_SYNTH_H
#define TONNE_LOAD_SYNTH_H

#include "load/weights.h"

enum { SYNTH_WALK = 64 };

struct synth_options {
    struct threads *threads; /* borrowed */
    uint64_t seed;
};

/* Places and fills every weight of a plan for a geometry_model (or any model: its files are not read). d's
 * memory must be the host's, else ERR_DEVICE; experts on disk: ERR_USAGE. Gives *out; ended by weights_close
 * before the device. */
int synth_weights(struct weights **out, const struct plan *p, struct device *d,
                  const struct synth_options *opt, struct err *e);

/* Fills token[n] with a random walk over the ids, whose steps are mostly short, so that the embeddings of
 * neighbours are correlated; now and then a jump. Different seeds give different walks. */
void synth_walk(int32_t *token, int n, int n_vocab, uint64_t seed);

/* Writes the weights, filled as the plan of a geometry_model says, as one GGUF that other engines can load;
 * its vocabulary is bytes, a few pairs and padding. ERR_FORMAT for a mix that GGUF cannot store. */
int synth_write_gguf(const struct weights *w, const struct plan *p, const char *path, struct err *e);

#endif
