/*
 * shape_limits.h: the largest numbers a configuration may state. Generous against every released model, and
 * small enough that the widths derived from them fit an int and the sizes of tensors an int64:
 * experts * width * width < 2^14 * 2^19 * 2^19 = 2^52.
 */
#ifndef TONNE_MODEL_SHAPE_LIMITS_H
#define TONNE_MODEL_SHAPE_LIMITS_H

enum {
    MAX_WIDTH = 1 << 19, /* hidden, MLP and expert widths */
    MAX_VOCAB = 1 << 24,
    MAX_CONTEXT = 1 << 28,
    MAX_HEADS = 1 << 10,
    MAX_HEAD_WIDTH = 1 << 10,
    MAX_CONV = 16,
    MAX_EXPERTS = 1 << 14
};

#define SHAPE_SUPPORTED_HF   "qwen3_5_moe, qwen3_5, qwen3_moe, qwen3, qwen2"
#define SHAPE_SUPPORTED_GGUF "qwen35moe, qwen35, qwen3moe, qwen3, qwen2"

#endif
