/*
 * shape.c: what config.json and GGUF have in common: names of architectures, consistency rules, RoPE.
 *
 * Lives elsewhere: reading config.json (shape_config.c) and GGUF keys (shape_gguf.c); their range tables
 * bound every single number, so that the sums and products of shape.h and role_dims cannot overflow.
 */
#include "model/shape.h"

#include <math.h>

static const struct {
    const char *hf, *gguf;
} arch_names[ARCH_COUNT] = {
    [ARCH_QWEN35_MOE] = { "qwen3_5_moe", "qwen35moe" },
    [ARCH_QWEN35] = { "qwen3_5", "qwen35" },
    [ARCH_QWEN3_MOE] = { "qwen3_moe", "qwen3moe" },
    [ARCH_QWEN3] = { "qwen3", "qwen3" },
    [ARCH_QWEN2] = { "qwen2", "qwen2" },
};

const char *arch_hf_name(enum arch a)
{
    return arch_names[a].hf;
}

const char *arch_gguf_name(enum arch a)
{
    return arch_names[a].gguf;
}

/* How the two kinds of file call the numbers that must agree with each other. */
struct key_names {
    const char *source, *vocab, *heads, *kv_heads, *rotary, *k_heads, *v_heads, *experts, *top_k, *d_expert,
        *d_ff;
};

static const struct key_names config_names = {
    "config.json",
    "vocab_size",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim * partial_rotary_factor",
    "linear_num_key_heads",
    "linear_num_value_heads",
    "num_experts",
    "num_experts_per_tok",
    "moe_intermediate_size",
    "intermediate_size",
};

static const struct key_names gguf_names = {
    "the file's metadata",        "vocab_size",           "attention.head_count",
    "attention.head_count_kv",    "rope.dimension_count", "ssm.group_count",
    "ssm.time_step_rank",         "expert_count",         "expert_used_count",
    "expert_feed_forward_length", "feed_forward_length",
};

static int check_heads(const struct shape *s, const struct key_names *k, struct err *e)
{
    if (s->n_head % s->n_head_kv)
        return err_set(e, ERR_FORMAT, "%s is %d, not a multiple of %s, which is %d", k->heads, s->n_head,
                       k->kv_heads, s->n_head_kv);
    if (s->n_rot < 2 || s->n_rot % 2 || s->n_rot > s->d_head)
        return err_set(e, ERR_FORMAT, "%s is %d, not an even number from 2 to the head's width of %d",
                       k->rotary, s->n_rot, s->d_head);
    if (s->n_k_head && s->n_v_head % s->n_k_head)
        return err_set(e, ERR_FORMAT, "%s is %d, not a multiple of %s, which is %d", k->v_heads, s->n_v_head,
                       k->k_heads, s->n_k_head);
    return 0;
}

static int check_mlp(const struct shape *s, const struct key_names *k, struct err *e)
{
    bool dense = false, moe = false;
    for (int i = 0; i < s->n_layer; i++) {
        dense |= !s->moe[i];
        moe |= s->moe[i];
    }
    if (moe && (s->n_expert < 1 || s->d_expert < 1))
        return err_set(e, ERR_FORMAT, "%s is %d and %s is %d in a mixture-of-experts model", k->experts,
                       s->n_expert, k->d_expert, s->d_expert);
    if (moe && (s->top_k < 1 || s->top_k > s->n_expert))
        return err_set(e, ERR_FORMAT, "%s is %d, outside 1..%d (%s)", k->top_k, s->top_k, s->n_expert,
                       k->experts);
    if (dense && s->d_ff < 1)
        return err_set(e, ERR_FORMAT, "%s is missing, and some layers have a dense MLP", k->d_ff);
    return 0;
}

int shape_check(const struct shape *s, bool from_gguf, struct err *e)
{
    const struct key_names *k = from_gguf ? &gguf_names : &config_names;
    int rc = check_heads(s, k, e);
    if (!rc)
        rc = check_mlp(s, k, e);
    if (rc)
        err_hint(e, "compare %s with the model's original", k->source);
    return rc;
}

/* Pair index whose frequency makes `turns` full turns over the original context. */
static double yarn_pair(const struct shape *s, double turns)
{
    return s->n_rot * log(s->yarn_ctx / (turns * 2 * M_PI)) / (2 * log(s->rope_theta));
}

/* Frequencies are rounded to f32 where the reference rounds them: a relative error of 2^-24 in a frequency is
 * 0.002 radians at position 30,000, so it is worth having the same ones. */
float shape_rope(const struct shape *s, float *freq)
{
    bool yarn = s->yarn_factor > 1;
    double low = 0, high = 0;
    if (yarn) {
        low = yarn_pair(s, s->yarn_beta_fast);
        high = yarn_pair(s, s->yarn_beta_slow);
        low = fmax(s->yarn_truncate ? floor(low) : low, 0);
        high = fmin(s->yarn_truncate ? ceil(high) : high, s->n_rot - 1);
        if (low == high)
            high += 0.001;
    }
    for (int i = 0; i < s->n_rot / 2; i++) {
        float exponent = (float)(2 * i) / (float)s->n_rot;
        float turn = (float)pow(s->rope_theta, exponent); /* positions per radian */
        freq[i] = 1.0f / turn;
        if (!yarn)
            continue;
        float ramp = ((float)i - (float)low) / (float)(high - low); /* 0: keep, 1: stretch by the factor */
        float keep = 1.0f - fminf(fmaxf(ramp, 0.0f), 1.0f);
        float slow = 1.0f / ((float)s->yarn_factor * turn);
        freq[i] = slow * (1.0f - keep) + freq[i] * keep;
    }
    return yarn ? (float)s->yarn_scale : 1.0f;
}
