/*
 * tiny_model.h: whole checkpoints of a few kilobytes for tests of model/: the tensors of a shape in every
 * spelling that releases use.
 */
#ifndef TONNE_TESTS_TINY_MODEL_H
#define TONNE_TESTS_TINY_MODEL_H

#include "model/model.h"
#include "support/tiny_files.h"

enum tiny_style {
    TINY_PLAIN = 0, /* BF16, fused experts */
    TINY_SPLIT = 1, /* experts one by one */
    TINY_FP8 = 2,   /* matrices in FP8 with 128 x 128 scales */
    TINY_NF4 = 4,   /* matrices in bitsandbytes' layout, fused experts in ours */
    TINY_NESTED = 8 /* ... with quantized scales */
};

/* The config.json of a Qwen3.5-MoE with two layers (linear, full), MTP, 3 experts of width 128, hidden 192.
 */
extern const char tiny_moe_config[];
/* ... of a dense Qwen3 with tied embeddings, a Qwen2 with biases, and a Qwen3-MoE whose first layer is dense.
 */
extern const char tiny_qwen3_config[];
extern const char tiny_qwen2_config[];
extern const char tiny_qwen3_moe_config[];

/* Fills *s from a config text, which must be right. */
void tiny_shape(struct shape *s, const char *config);

/* Every tensor of the shape under its released names. */
void tiny_add_weights(struct tiny *t, const struct shape *s, unsigned style);
/* ... and under GGUF's, with the keys. matrices: the type of what is not a norm. */
void tiny_add_gguf(struct tiny *t, const struct shape *s, enum qtype matrices, bool fused_gate_up);

/* Adds X in bitsandbytes' layout: n_matrices matrices of [rows][cols] (1: a linear layer). */
void tiny_add_nf4(struct tiny *t, const char *name, int n_dims, const int64_t *dim, int n_matrices,
                  bool nested);

/* A folder with config.json and model.safetensors. */
char *tiny_checkpoint(const char *config, unsigned style);

#endif
