/*
 * shape.h: config.json or GGUF keys as one struct of numbers. Everything that decides sizes and arithmetic is
 * here; after shape_from_* the rest of the program never looks at a config again.
 */
#ifndef TONNE_MODEL_SHAPE_H
#define TONNE_MODEL_SHAPE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/json.h"
#include "model/gguf.h"

enum arch { ARCH_QWEN35_MOE, ARCH_QWEN35, ARCH_QWEN3_MOE, ARCH_QWEN3, ARCH_QWEN2, ARCH_COUNT };
enum mixer { MIXER_ATTENTION, MIXER_DELTA_NET };

enum { SHAPE_MAX_LAYERS = 512, SHAPE_MAX_EOS = 16 };

struct shape {
    enum arch arch;
    int n_layer; /* main layers, MTP not counted */
    int n_mtp;   /* MTP layers in the file: 0 or 1 */
    int d_model, n_vocab, n_ctx_train;
    bool tied; /* the head is the embedding */
    float rms_eps;

    int n_head, n_head_kv, d_head, n_rot; /* n_rot: rotated dimensions of each head */
    bool attn_gate, qk_norm, qkv_bias;
    double rope_theta;
    double yarn_factor;                    /* 1: none; the other yarn_ numbers mean something only above 1 */
    int yarn_ctx;                          /* original_max_position_embeddings */
    double yarn_beta_fast, yarn_beta_slow; /* turns over yarn_ctx where the ramp ends and begins */
    double yarn_scale;                     /* multiplies cos and sin */
    bool yarn_truncate;                    /* the ramp's ends are whole pair indexes */

    int n_k_head, n_v_head, d_k, d_v, conv_kernel; /* DeltaNet; 0: none */
    bool v_head_tiled;                             /* see delta_net_args */

    int d_ff;                                /* dense MLP width; 0: none */
    int n_expert, top_k, d_expert, d_shared; /* 0: dense / no shared expert */
    bool norm_topk;

    enum mixer mixer[SHAPE_MAX_LAYERS];
    bool moe[SHAPE_MAX_LAYERS];

    int32_t eos[SHAPE_MAX_EOS]; /* stop ids of config/GGUF (generation_config adds its own: text/) */
    int n_eos;
};

/* "qwen3_5_moe" / "qwen35moe": Hugging Face's and GGUF's names of an architecture. */
const char *arch_hf_name(enum arch a);
const char *arch_gguf_name(enum arch a);

/* Fills *s, every number range-checked and mutually consistent (products cannot overflow int64, heads divide,
 * top_k <= n_expert, ...). ERR_FORMAT names the key. An unsupported architecture lists the supported ones. */
int shape_from_config(struct shape *s, const json_t *config, struct err *e);
int shape_from_gguf(struct shape *s, const struct gguf_meta *meta, struct err *e);

/* The consistency rules alone; both readers end with it, model_open again when it has filled in numbers that
 * a GGUF lacks (n_vocab 0 is allowed until then). */
int shape_check(const struct shape *s, bool from_gguf, struct err *e);

/* Radians per position for rotary pairs i = 0..n_rot/2-1 into freq[n_rot / 2], and the cos/sin multiplier
 * (YaRN's attention factor; 1 without). */
float shape_rope(const struct shape *s, float *freq);

/* Derived widths. */
static inline int shape_key_dim(const struct shape *s)
{
    return s->n_k_head * s->d_k;
}
static inline int shape_value_dim(const struct shape *s)
{
    return s->n_v_head * s->d_v;
}
static inline int shape_conv_dim(const struct shape *s)
{
    return 2 * shape_key_dim(s) + shape_value_dim(s);
}
static inline int shape_q_rows(const struct shape *s)
{
    return s->n_head * s->d_head * (s->attn_gate ? 2 : 1);
}

#endif
