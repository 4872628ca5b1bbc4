/*
 * names.c: what every weight is called and how large it must be: one table, one row per role.
 *
 * Safetensors names are PREFIX + suffix, where the prefix differs between releases (model.c finds it). GGUF
 * names are "blk.N." + suffix, or the suffix alone outside the layers.
 */
#include <stdio.h>
#include <string.h>

#include "model/names.h"

/* Where in a checkpoint a role lives. */
enum scope { TEXT, HEAD, LAYER, MTP };

struct role_names {
    enum scope scope;
    const char *hf;
    const char *hf_expert; /* per-expert spelling, %d is the expert; NULL: not an expert */
    const char *gguf;
    const char *gguf_old; /* for qwen3moe, qwen3 and qwen2 where it differs */
};

static const struct role_names names[ROLE_COUNT] = {
    [ROLE_EMBED] = { TEXT, "embed_tokens.weight", NULL, "token_embd.weight", NULL },
    [ROLE_OUT_NORM] = { TEXT, "norm.weight", NULL, "output_norm.weight", NULL },
    [ROLE_HEAD] = { HEAD, "lm_head.weight", NULL, "output.weight", NULL },

    [ROLE_NORM_MIXER] = { LAYER, "input_layernorm.weight", NULL, "attn_norm.weight", NULL },
    [ROLE_NORM_MLP] = { LAYER, "post_attention_layernorm.weight", NULL, "post_attention_norm.weight",
                        "ffn_norm.weight" },

    [ROLE_Q] = { LAYER, "self_attn.q_proj.weight", NULL, "attn_q.weight", NULL },
    [ROLE_K] = { LAYER, "self_attn.k_proj.weight", NULL, "attn_k.weight", NULL },
    [ROLE_V] = { LAYER, "self_attn.v_proj.weight", NULL, "attn_v.weight", NULL },
    [ROLE_O] = { LAYER, "self_attn.o_proj.weight", NULL, "attn_output.weight", NULL },
    [ROLE_Q_BIAS] = { LAYER, "self_attn.q_proj.bias", NULL, "attn_q.bias", NULL },
    [ROLE_K_BIAS] = { LAYER, "self_attn.k_proj.bias", NULL, "attn_k.bias", NULL },
    [ROLE_V_BIAS] = { LAYER, "self_attn.v_proj.bias", NULL, "attn_v.bias", NULL },
    [ROLE_Q_NORM] = { LAYER, "self_attn.q_norm.weight", NULL, "attn_q_norm.weight", NULL },
    [ROLE_K_NORM] = { LAYER, "self_attn.k_norm.weight", NULL, "attn_k_norm.weight", NULL },

    [ROLE_DN_QKV] = { LAYER, "linear_attn.in_proj_qkv.weight", NULL, "attn_qkv.weight", NULL },
    [ROLE_DN_Z] = { LAYER, "linear_attn.in_proj_z.weight", NULL, "attn_gate.weight", NULL },
    [ROLE_DN_B] = { LAYER, "linear_attn.in_proj_b.weight", NULL, "ssm_beta.weight", NULL },
    [ROLE_DN_A] = { LAYER, "linear_attn.in_proj_a.weight", NULL, "ssm_alpha.weight", NULL },
    [ROLE_DN_CONV] = { LAYER, "linear_attn.conv1d.weight", NULL, "ssm_conv1d.weight", NULL },
    [ROLE_DN_DT_BIAS] = { LAYER, "linear_attn.dt_bias", NULL, "ssm_dt.bias", NULL },
    [ROLE_DN_A_LOG] = { LAYER, "linear_attn.A_log", NULL, "ssm_a", NULL },
    [ROLE_DN_NORM] = { LAYER, "linear_attn.norm.weight", NULL, "ssm_norm.weight", NULL },
    [ROLE_DN_OUT] = { LAYER, "linear_attn.out_proj.weight", NULL, "ssm_out.weight", NULL },

    [ROLE_GATE] = { LAYER, "mlp.gate_proj.weight", NULL, "ffn_gate.weight", NULL },
    [ROLE_UP] = { LAYER, "mlp.up_proj.weight", NULL, "ffn_up.weight", NULL },
    [ROLE_DOWN] = { LAYER, "mlp.down_proj.weight", NULL, "ffn_down.weight", NULL },

    [ROLE_ROUTER] = { LAYER, "mlp.gate.weight", NULL, "ffn_gate_inp.weight", NULL },
    [ROLE_EXPERT_GATE] = { LAYER, "mlp.experts.gate_up_proj", "mlp.experts.%d.gate_proj.weight",
                           "ffn_gate_exps.weight", NULL },
    [ROLE_EXPERT_UP] = { LAYER, "mlp.experts.gate_up_proj", "mlp.experts.%d.up_proj.weight",
                         "ffn_up_exps.weight", NULL },
    [ROLE_EXPERT_DOWN] = { LAYER, "mlp.experts.down_proj", "mlp.experts.%d.down_proj.weight",
                           "ffn_down_exps.weight", NULL },

    [ROLE_SHARED_GATE_PROJ] = { LAYER, "mlp.shared_expert.gate_proj.weight", NULL, "ffn_gate_shexp.weight",
                                NULL },
    [ROLE_SHARED_UP] = { LAYER, "mlp.shared_expert.up_proj.weight", NULL, "ffn_up_shexp.weight", NULL },
    [ROLE_SHARED_DOWN] = { LAYER, "mlp.shared_expert.down_proj.weight", NULL, "ffn_down_shexp.weight", NULL },
    [ROLE_SHARED_GATE] = { LAYER, "mlp.shared_expert_gate.weight", NULL, "ffn_gate_inp_shexp.weight", NULL },

    [ROLE_MTP_FC] = { MTP, "fc.weight", NULL, "nextn.eh_proj.weight", NULL },
    [ROLE_MTP_NORM_EMBED] = { MTP, "pre_fc_norm_embedding.weight", NULL, "nextn.enorm.weight", NULL },
    [ROLE_MTP_NORM_HIDDEN] = { MTP, "pre_fc_norm_hidden.weight", NULL, "nextn.hnorm.weight", NULL },
    [ROLE_MTP_OUT_NORM] = { MTP, "norm.weight", NULL, "nextn.shared_head_norm.weight", NULL },
};

static bool is_qwen35(const struct shape *s)
{
    return s->arch == ARCH_QWEN35_MOE || s->arch == ARCH_QWEN35;
}

void role_gguf_name(const struct shape *s, enum role role, int layer, char *name)
{
    const struct role_names *r = &names[role];
    const char *suffix = r->gguf_old && !is_qwen35(s) ? r->gguf_old : r->gguf;
    if (r->scope == LAYER || r->scope == MTP)
        snprintf(name, GGUF_NAME_ROOM, "blk.%d.%s", layer, suffix);
    else
        snprintf(name, GGUF_NAME_ROOM, "%s", suffix);
}

const struct hf_prefixes *hf_released_prefixes(const struct shape *s)
{
    static const struct hf_prefixes nested = { "model.language_model.", "", "mtp." };
    static const struct hf_prefixes flat = { "model.", "", "mtp." };
    return is_qwen35(s) ? &nested : &flat;
}

void hf_name(const struct shape *s, const struct hf_prefixes *p, enum role role, int layer, int expert,
             char *name)
{
    const struct role_names *r = &names[role];
    char suffix[96];
    if (expert >= 0 && r->hf_expert)
        snprintf(suffix, sizeof suffix, r->hf_expert, expert);
    else
        snprintf(suffix, sizeof suffix, "%s", r->hf);
    if (r->scope == TEXT || r->scope == HEAD)
        snprintf(name, HF_NAME_ROOM, "%s%s", r->scope == TEXT ? p->text : p->head, suffix);
    else if (r->scope == MTP)
        snprintf(name, HF_NAME_ROOM, "%s%s", p->mtp, suffix);
    else if (layer == s->n_layer)
        snprintf(name, HF_NAME_ROOM, "%slayers.0.%s", p->mtp, suffix);
    else
        snprintf(name, HF_NAME_ROOM, "%slayers.%d.%s", p->text, layer, suffix);
}

void role_hf_name(const struct shape *s, enum role role, int layer, int expert, char *name)
{
    hf_name(s, hf_released_prefixes(s), role, layer, s->arch == ARCH_QWEN35_MOE ? -1 : expert, name);
}

bool role_is_expert(enum role role)
{
    return names[role].hf_expert != NULL;
}

bool model_has(const struct shape *s, enum role role, int layer)
{
    if (role >= ROLE_COUNT)
        return false;
    enum scope scope = names[role].scope;
    if (scope == TEXT || scope == HEAD)
        return layer == -1 && !(role == ROLE_HEAD && s->tied);
    if (layer < 0 || layer >= s->n_layer + s->n_mtp)
        return false;
    bool mtp = layer == s->n_layer;
    if (scope == MTP)
        return mtp;
    bool attention = mtp || s->mixer[layer] == MIXER_ATTENTION;
    bool moe = mtp ? s->n_expert > 0 : s->moe[layer];
    if (role >= ROLE_Q_BIAS && role <= ROLE_V_BIAS)
        return attention && s->qkv_bias;
    if (role == ROLE_Q_NORM || role == ROLE_K_NORM)
        return attention && s->qk_norm;
    if (role >= ROLE_Q && role <= ROLE_O)
        return attention;
    if (role >= ROLE_DN_QKV && role <= ROLE_DN_OUT)
        return !attention;
    if (role >= ROLE_GATE && role <= ROLE_DOWN)
        return !moe;
    if (role >= ROLE_ROUTER && role <= ROLE_EXPERT_DOWN)
        return moe;
    if (role >= ROLE_SHARED_GATE_PROJ && role <= ROLE_SHARED_GATE)
        return moe && s->d_shared > 0;
    return true; /* the two norms of every layer */
}

struct dims {
    int n; /* matrices */
    int64_t rows, cols;
};

static struct dims dims_of(const struct shape *s, enum role role)
{
    int d = s->d_model, kv = s->n_head_kv * s->d_head;
    switch (role) {
    case ROLE_EMBED:
    case ROLE_HEAD:
        return (struct dims){ 1, s->n_vocab, d };
    case ROLE_OUT_NORM:
    case ROLE_NORM_MIXER:
    case ROLE_NORM_MLP:
    case ROLE_SHARED_GATE:
    case ROLE_MTP_NORM_EMBED:
    case ROLE_MTP_NORM_HIDDEN:
    case ROLE_MTP_OUT_NORM:
        return (struct dims){ 1, 1, d };
    case ROLE_Q:
        return (struct dims){ 1, shape_q_rows(s), d };
    case ROLE_K:
    case ROLE_V:
        return (struct dims){ 1, kv, d };
    case ROLE_O:
        return (struct dims){ 1, d, s->n_head * s->d_head };
    case ROLE_Q_BIAS:
        return (struct dims){ 1, 1, shape_q_rows(s) };
    case ROLE_K_BIAS:
    case ROLE_V_BIAS:
        return (struct dims){ 1, 1, kv };
    case ROLE_Q_NORM:
    case ROLE_K_NORM:
        return (struct dims){ 1, 1, s->d_head };
    case ROLE_DN_QKV:
        return (struct dims){ 1, shape_conv_dim(s), d };
    case ROLE_DN_Z:
        return (struct dims){ 1, shape_value_dim(s), d };
    case ROLE_DN_B:
    case ROLE_DN_A:
        return (struct dims){ 1, s->n_v_head, d };
    case ROLE_DN_CONV:
        return (struct dims){ 1, shape_conv_dim(s), s->conv_kernel };
    case ROLE_DN_DT_BIAS:
    case ROLE_DN_A_LOG:
        return (struct dims){ 1, 1, s->n_v_head };
    case ROLE_DN_NORM:
        return (struct dims){ 1, 1, s->d_v };
    case ROLE_DN_OUT:
        return (struct dims){ 1, d, shape_value_dim(s) };
    case ROLE_GATE:
    case ROLE_UP:
        return (struct dims){ 1, s->d_ff, d };
    case ROLE_DOWN:
        return (struct dims){ 1, d, s->d_ff };
    case ROLE_ROUTER:
        return (struct dims){ 1, s->n_expert, d };
    case ROLE_EXPERT_GATE:
    case ROLE_EXPERT_UP:
        return (struct dims){ s->n_expert, s->d_expert, d };
    case ROLE_EXPERT_DOWN:
        return (struct dims){ s->n_expert, d, s->d_expert };
    case ROLE_SHARED_GATE_PROJ:
    case ROLE_SHARED_UP:
        return (struct dims){ 1, s->d_shared, d };
    case ROLE_SHARED_DOWN:
        return (struct dims){ 1, d, s->d_shared };
    case ROLE_MTP_FC:
        return (struct dims){ 1, d, 2 * d };
    case ROLE_COUNT:
        break;
    }
    return (struct dims){ 0, 0, 0 };
}

void role_dims(const struct shape *s, enum role role, int *n, int64_t *rows, int64_t *cols)
{
    struct dims d = dims_of(s, role);
    *n = d.n;
    *rows = d.rows;
    *cols = d.cols;
}
