/*
 * mix.c: which tensor gets which type, for each target that --type names.
 *
 * The GGUF mixes follow llama.cpp's presets without importance matrix, so that files are alike:
 *   - vectors, norms, routers and the DeltaNet convolution stay F32 in every mix;
 *   - the head (or tied embedding) is Q6_K in every quantized mix but Q8_0 and MXFP4, also Q4_0 and IQ4_NL;
 *   - some mixes spend more bits on attn_v and ffn_down in a part of the layers (enum spend);
 *   - models with exactly 8 experts get Q8_0 for keys and values, which are small there;
 *   - MXFP4 is llama.cpp's MXFP4_MOE: experts MXFP4, every other matrix Q8_0. A dense model is then all Q8_0.
 * NF4 and FP4 follow bitsandbytes: every linear layer (our extension: also fused experts); embedding and head
 * BF16.
 */
#include <string.h>

#include "quant/names.h"
#include "quant/qtype.h"

/* Which tensors of a mix get the type `more` in place of `base`. */
enum spend {
    SPEND_NONE,
    SPEND_SPREAD, /* attn_v and ffn_down in the first and last eighth and every third layer between */
    SPEND_FIRST,  /* the first 4 attn_v, ffn_down in the first eighth of the layers */
    SPEND_GQA     /* attn_v when at least 4 heads share it, ffn_down in the first eighth of the layers */
};

struct mix_rule {
    const char *name;
    uint32_t file_type; /* GGUF's general.file_type */
    enum qtype base, head;
    enum qtype embed; /* token_embd that has no part as the head */
    enum spend spend;
    enum qtype more;
};

/* clang-format off */
static const struct mix_rule rules[MIX_COUNT] = {
    /* name, GGUF's number, base, head, embed, spend, more */
    [MIX_NONE]   = { "none",   UINT32_MAX, QTYPE_NONE,   QTYPE_NONE, QTYPE_NONE,   SPEND_NONE,   QTYPE_NONE },
    [MIX_F32]    = { "f32",             0, QTYPE_F32,    QTYPE_F32,  QTYPE_F32,    SPEND_NONE,   QTYPE_NONE },
    [MIX_F16]    = { "f16",             1, QTYPE_F16,    QTYPE_F16,  QTYPE_F16,    SPEND_NONE,   QTYPE_NONE },
    [MIX_BF16]   = { "bf16",           32, QTYPE_BF16,   QTYPE_BF16, QTYPE_BF16,   SPEND_NONE,   QTYPE_NONE },
    [MIX_Q8_0]   = { "q8_0",            7, QTYPE_Q8_0,   QTYPE_Q8_0, QTYPE_Q8_0,   SPEND_NONE,   QTYPE_NONE },
    [MIX_Q4_0]   = { "q4_0",            2, QTYPE_Q4_0,   QTYPE_Q6_K, QTYPE_Q4_0,   SPEND_NONE,   QTYPE_NONE },
    [MIX_Q4_K_S] = { "q4_k_s",         14, QTYPE_Q4_K,   QTYPE_Q6_K, QTYPE_Q4_K,   SPEND_FIRST,  QTYPE_Q5_K },
    [MIX_Q4_K_M] = { "q4_k_m",         15, QTYPE_Q4_K,   QTYPE_Q6_K, QTYPE_Q4_K,   SPEND_SPREAD, QTYPE_Q6_K },
    [MIX_Q5_K_S] = { "q5_k_s",         16, QTYPE_Q5_K,   QTYPE_Q6_K, QTYPE_Q5_K,   SPEND_NONE,   QTYPE_NONE },
    [MIX_Q5_K_M] = { "q5_k_m",         17, QTYPE_Q5_K,   QTYPE_Q6_K, QTYPE_Q5_K,   SPEND_SPREAD, QTYPE_Q6_K },
    [MIX_Q6_K]   = { "q6_k",           18, QTYPE_Q6_K,   QTYPE_Q6_K, QTYPE_Q6_K,   SPEND_NONE,   QTYPE_NONE },
    [MIX_IQ4_NL] = { "iq4_nl",         25, QTYPE_IQ4_NL, QTYPE_Q6_K, QTYPE_IQ4_NL, SPEND_GQA,    QTYPE_Q5_K },
    [MIX_MXFP4]  = { "mxfp4",          38, QTYPE_MXFP4,  QTYPE_Q8_0, QTYPE_Q8_0,   SPEND_NONE,   QTYPE_NONE },
    [MIX_NF4]    = { "nf4",    UINT32_MAX, QTYPE_NF4,    QTYPE_BF16, QTYPE_BF16,   SPEND_NONE,   QTYPE_NONE },
    [MIX_NF4_DQ] = { "nf4-dq", UINT32_MAX, QTYPE_NF4_DQ, QTYPE_BF16, QTYPE_BF16,   SPEND_NONE,   QTYPE_NONE },
    [MIX_FP4]    = { "fp4",    UINT32_MAX, QTYPE_FP4,    QTYPE_BF16, QTYPE_BF16,   SPEND_NONE,   QTYPE_NONE },
};
/* clang-format on */

static const struct mix_rule *rule_of(enum mix m)
{
    return (unsigned)m < MIX_COUNT ? &rules[m] : &rules[MIX_NONE];
}

enum mix mix_from_name(const char *name)
{
    for (int m = MIX_NONE + 1; m < MIX_COUNT; m++)
        if (same_name(rules[m].name, name))
            return (enum mix)m;
    return MIX_NONE;
}

const char *mix_name(enum mix m)
{
    return rule_of(m)->name;
}

const char *mix_list(void)
{
    return "f32 f16 bf16 q8_0 q4_0 q4_k_s q4_k_m q5_k_s q5_k_m q6_k iq4_nl mxfp4 nf4 nf4-dq fp4";
}

uint32_t mix_file_type(enum mix m)
{
    return rule_of(m)->file_type;
}

static bool ends_with(const char *name, const char *end)
{
    size_t n = strlen(name), n_end = strlen(end);
    return n >= n_end && !strcmp(name + n - n_end, end);
}

/* Tensors that are small and sensitive: quantizing them saves nothing. */
static bool never_quantized(const struct mix_tensor *t)
{
    const char *name = t->gguf_name;
    return t->n_dims < 2 || !ends_with(name, ".weight") || ends_with(name, "_norm.weight") ||
           strstr(name, "ffn_gate_inp") || strstr(name, "ssm_conv1d") || strstr(name, "position_embd") ||
           strstr(name, "token_types");
}

static bool is_value(const char *name)
{
    return ends_with(name, "attn_v.weight") || ends_with(name, "attn_qkv.weight") ||
           ends_with(name, "attn_kv_b.weight");
}

/* Place i of n in the first or last eighth, or every third between. */
static bool in_spread(int i, int n)
{
    return i < n / 8 || i >= 7 * n / 8 || (i - n / 8) % 3 == 2;
}

static bool value_gets_more(enum spend spend, const struct mix_tensor *t)
{
    switch (spend) {
    case SPEND_SPREAD:
        return in_spread(t->i_attn_v, t->n_attn_v);
    case SPEND_FIRST:
        return t->i_attn_v < 4;
    case SPEND_GQA:
        return t->n_head_kv > 0 && t->n_head / t->n_head_kv >= 4;
    default:
        return false;
    }
}

static bool down_gets_more(enum spend spend, const struct mix_tensor *t)
{
    switch (spend) {
    case SPEND_SPREAD:
        return in_spread(t->layer, t->n_layer);
    case SPEND_FIRST:
    case SPEND_GQA:
        return t->layer < t->n_layer / 8;
    default:
        return false;
    }
}

static bool is_plain(enum qtype t)
{
    return t == QTYPE_F32 || t == QTYPE_F16 || t == QTYPE_BF16;
}

static bool is_bnb(enum qtype t)
{
    return t == QTYPE_NF4 || t == QTYPE_NF4_DQ || t == QTYPE_FP4 || t == QTYPE_FP4_DQ;
}

/* The type that the mix wants for a matrix inside the layers, before its shape is looked at. */
static enum qtype pick_in_layer(const struct mix_rule *r, const struct mix_tensor *t)
{
    const char *name = t->gguf_name;
    if (is_plain(r->base) || is_bnb(r->base))
        return r->base;
    if (r->base == QTYPE_MXFP4)
        return t->n_dims == 3 ? QTYPE_MXFP4 : QTYPE_Q8_0;
    bool eight_experts = t->n_expert == 8;
    if (eight_experts && (is_value(name) || ends_with(name, "attn_k.weight")))
        return QTYPE_Q8_0;
    if (eight_experts && ends_with(name, "attn_output.weight") &&
        (r->base == QTYPE_Q4_K || r->base == QTYPE_IQ4_NL))
        return QTYPE_Q5_K;
    if (is_value(name))
        return value_gets_more(r->spend, t) ? r->more : r->base;
    if (strstr(name, ".ffn_down"))
        return down_gets_more(r->spend, t) ? r->more : r->base;
    return r->base;
}

/* What a row of cols can be stored as: the wanted type, its published replacement, or 16 bits. */
static enum qtype fit(enum qtype wanted, int64_t cols)
{
    if (qtype_fits(wanted, cols))
        return wanted;
    if (is_bnb(wanted))
        return QTYPE_BF16;
    enum qtype smaller = wanted == QTYPE_Q4_K   ? QTYPE_Q5_0
                         : wanted == QTYPE_Q5_K ? QTYPE_Q5_1
                         : wanted == QTYPE_Q6_K ? QTYPE_Q8_0
                                                : QTYPE_F16;
    return qtype_fits(smaller, cols) ? smaller : QTYPE_F16;
}

enum qtype mix_pick(enum mix m, const struct mix_tensor *t)
{
    const struct mix_rule *r = rule_of(m);
    bool embed = !strcmp(t->gguf_name, "token_embd.weight");
    if (r->base == QTYPE_NONE)
        return QTYPE_NONE;
    if (never_quantized(t))
        return QTYPE_F32;
    if (!strcmp(t->gguf_name, "output.weight") || (embed && t->tied))
        return fit(r->head, t->cols);
    if (embed)
        return fit(r->embed, t->cols);
    return fit(pick_in_layer(r, t), t->cols);
}
