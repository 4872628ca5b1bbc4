/* tiny_model.c: see tiny_model.h. */
#include "support/tiny_model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char tiny_moe_config[] =
    "{\"model_type\": \"qwen3_5_moe\", \"text_config\": {\"vocab_size\": 20, \"hidden_size\": 192,"
    "\"num_hidden_layers\": 2, \"num_attention_heads\": 2, \"num_key_value_heads\": 1, \"head_dim\": 64,"
    "\"full_attention_interval\": 2, \"linear_num_key_heads\": 1, \"linear_num_value_heads\": 2,"
    "\"linear_key_head_dim\": 32, \"linear_value_head_dim\": 32, \"num_experts\": 3, "
    "\"num_experts_per_tok\": 2,"
    "\"moe_intermediate_size\": 128, \"shared_expert_intermediate_size\": 64, \"eos_token_id\": 7,"
    "\"rope_parameters\": {\"rope_theta\": 10000000, \"partial_rotary_factor\": 0.25}}}";

const char tiny_qwen3_config[] =
    "{\"model_type\": \"qwen3\", \"vocab_size\": 20, \"hidden_size\": 64, \"intermediate_size\": 96,"
    "\"num_hidden_layers\": 2, \"num_attention_heads\": 4, \"num_key_value_heads\": 2, \"head_dim\": 32,"
    "\"tie_word_embeddings\": true}";

const char tiny_qwen2_config[] =
    "{\"model_type\": \"qwen2\", \"vocab_size\": 20, \"hidden_size\": 72, \"intermediate_size\": 96,"
    "\"num_hidden_layers\": 1, \"num_attention_heads\": 4, \"num_key_value_heads\": 2}";

const char tiny_qwen3_moe_config[] =
    "{\"model_type\": \"qwen3_moe\", \"vocab_size\": 20, \"hidden_size\": 64, \"intermediate_size\": 96,"
    "\"num_hidden_layers\": 2, \"num_attention_heads\": 4, \"num_key_value_heads\": 2, \"head_dim\": 16,"
    "\"num_experts\": 4, \"num_experts_per_tok\": 2, \"moe_intermediate_size\": 64, \"mlp_only_layers\": "
    "[0]}";

void tiny_shape(struct shape *s, const char *config)
{
    json_t *json = NULL;
    struct err e = { 0 };
    if (json_parse(config, strlen(config), &json, &e) || shape_from_config(s, json, &e)) {
        fprintf(stderr, "tiny_shape: %s\n", e.what);
        abort();
    }
    json_decref(json);
}

void tiny_add_nf4(struct tiny *t, const char *name, int n_dims, const int64_t *dim, int n_matrices,
                  bool nested)
{
    char part[300], json[300], shape[100] = "";
    int64_t elements = 1;
    for (int i = 0; i < n_dims; i++) {
        elements *= dim[i];
        size_t at = strlen(shape);
        snprintf(shape + at, sizeof shape - at, "%s%lld", i ? ", " : "", (long long)dim[i]);
    }
    int64_t blocks = (elements / n_matrices + 63) / 64, groups = (blocks + 255) / 256;
    if (n_matrices > 1)
        tiny_add3(t, name, QTYPE_U8, dim[0], dim[1], dim[2] / 2);
    else
        tiny_add2(t, name, QTYPE_U8, (elements + 1) / 2, 1);
    snprintf(part, sizeof part, "%s.absmax", name);
    tiny_add1(t, part, nested ? QTYPE_U8 : QTYPE_F32, blocks * n_matrices);
    snprintf(part, sizeof part, "%s.quant_map", name);
    tiny_add1(t, part, QTYPE_F32, 16);
    if (nested) {
        snprintf(part, sizeof part, "%s.nested_absmax", name);
        tiny_add1(t, part, QTYPE_F32, groups * n_matrices);
        snprintf(part, sizeof part, "%s.nested_quant_map", name);
        tiny_add1(t, part, QTYPE_F32, 256);
    }
    if (nested && n_matrices > 1) {
        snprintf(part, sizeof part, "%s.nested_offset", name);
        tiny_add1(t, part, QTYPE_F32, n_matrices);
    }
    snprintf(json, sizeof json,
             "{\"quant_type\": \"nf4\", \"blocksize\": 64, \"dtype\": \"bfloat16\", \"shape\": [%s]%s", shape,
             nested ? ", \"nested_blocksize\": 256, \"nested_dtype\": \"float32\"" : "");
    size_t at = strlen(json);
    if (n_matrices > 1)
        snprintf(json + at, sizeof json - at, ", \"matrices\": %d}", n_matrices);
    else
        snprintf(json + at, sizeof json - at, "%s}", nested ? ", \"nested_offset\": 0.25" : "");
    snprintf(part, sizeof part, "%s.quant_state.bitsandbytes__nf4", name);
    tiny_add_text(t, part, json);
}

/* What releases quantize: projections, not norms, routers or the DeltaNet's small parts. */
static bool is_projection(enum role r)
{
    return (r >= ROLE_Q && r <= ROLE_O) || r == ROLE_DN_QKV || r == ROLE_DN_Z || r == ROLE_DN_OUT ||
           (r >= ROLE_GATE && r <= ROLE_DOWN) || (r >= ROLE_EXPERT_GATE && r <= ROLE_SHARED_DOWN);
}

static void add_one(struct tiny *t, const char *name, enum role role, int n_dims, const int64_t *dim,
                    int n_matrices, unsigned style)
{
    if ((style & TINY_NF4) && is_projection(role)) {
        tiny_add_nf4(t, name, n_dims, dim, n_matrices, style & TINY_NESTED);
    } else if ((style & TINY_FP8) && is_projection(role)) {
        char scale[300];
        int64_t tiles[3];
        for (int i = 0; i < n_dims; i++)
            tiles[i] = n_dims == 3 && i == 0 ? dim[i] : (dim[i] + 127) / 128;
        tiny_add(t, name, QTYPE_FP8_E4M3, n_dims, dim);
        snprintf(scale, sizeof scale, "%s_scale_inv", name);
        tiny_add(t, scale, QTYPE_BF16, n_dims, tiles);
    } else {
        tiny_add(t, name, QTYPE_BF16, n_dims, dim);
    }
}

static void add_experts(struct tiny *t, const struct shape *s, enum role role, int layer, unsigned style)
{
    const char *part = role == ROLE_EXPERT_GATE ? "gate" : role == ROLE_EXPERT_UP ? "up" : "down";
    int n;
    int64_t rows, cols;
    char router[192], name[300];
    role_dims(s, role, &n, &rows, &cols);
    role_hf_name(s, ROLE_ROUTER, layer, -1, router); /* "...mlp.gate.weight" */
    int mlp = (int)(strstr(router, "mlp.") - router) + 4;
    if (!(style & TINY_SPLIT)) {
        int halves = role == ROLE_EXPERT_GATE ? 2 : 1;
        snprintf(name, sizeof name, "%.*sexperts.%s", mlp, router,
                 halves == 2 ? "gate_up_proj" : "down_proj");
        if (role != ROLE_EXPERT_UP)
            add_one(t, name, role, 3, (int64_t[]){ n, rows * halves, cols }, n * halves, style);
        return;
    }
    for (int i = 0; i < n; i++) {
        snprintf(name, sizeof name, "%.*sexperts.%d.%s_proj.weight", mlp, router, i, part);
        add_one(t, name, role, 2, (int64_t[]){ rows, cols }, 1, style);
    }
}

void tiny_add_weights(struct tiny *t, const struct shape *s, unsigned style)
{
    for (int layer = -1; layer < s->n_layer + s->n_mtp; layer++) {
        for (int r = 0; r < ROLE_COUNT; r++) {
            enum role role = (enum role)r;
            int n;
            int64_t rows, cols;
            char name[192];
            if (!model_has(s, role, layer))
                continue;
            role_dims(s, role, &n, &rows, &cols);
            role_hf_name(s, role, layer, 0, name);
            if (role >= ROLE_EXPERT_GATE && role <= ROLE_EXPERT_DOWN)
                add_experts(t, s, role, layer, style);
            else if (role == ROLE_DN_CONV)
                tiny_add3(t, name, QTYPE_BF16, rows, 1, cols);
            else if (rows == 1 && role != ROLE_SHARED_GATE)
                tiny_add1(t, name, QTYPE_BF16, cols);
            else
                add_one(t, name, role, 2, (int64_t[]){ rows, cols }, 1, style);
        }
    }
}

/* ---- GGUF ---- */

static void key_u32(struct tiny *t, const struct shape *s, const char *name, int v)
{
    char key[100];
    snprintf(key, sizeof key, "%s.%s", arch_gguf_name(s->arch), name);
    tiny_key_u32(t, key, (uint32_t)v);
}

static void add_keys(struct tiny *t, const struct shape *s)
{
    char key[100];
    tiny_key_str(t, "general.architecture", arch_gguf_name(s->arch));
    key_u32(t, s, "block_count", s->n_layer + s->n_mtp);
    key_u32(t, s, "context_length", s->n_ctx_train);
    key_u32(t, s, "embedding_length", s->d_model);
    key_u32(t, s, "attention.head_count", s->n_head);
    key_u32(t, s, "attention.head_count_kv", s->n_head_kv);
    key_u32(t, s, "attention.key_length", s->d_head);
    key_u32(t, s, "attention.value_length", s->d_head);
    key_u32(t, s, "rope.dimension_count", s->n_rot);
    snprintf(key, sizeof key, "%s.rope.freq_base", arch_gguf_name(s->arch));
    tiny_key_f32(t, key, (float)s->rope_theta);
    snprintf(key, sizeof key, "%s.attention.layer_norm_rms_epsilon", arch_gguf_name(s->arch));
    tiny_key_f32(t, key, s->rms_eps);
    if (s->d_ff)
        key_u32(t, s, "feed_forward_length", s->d_ff);
    if (s->n_expert) {
        key_u32(t, s, "expert_count", s->n_expert);
        key_u32(t, s, "expert_used_count", s->top_k);
        key_u32(t, s, "expert_feed_forward_length", s->d_expert);
    }
    if (s->d_shared)
        key_u32(t, s, "expert_shared_feed_forward_length", s->d_shared);
    if (s->n_mtp)
        key_u32(t, s, "nextn_predict_layers", s->n_mtp);
    if (s->n_k_head) {
        key_u32(t, s, "ssm.conv_kernel", s->conv_kernel);
        key_u32(t, s, "ssm.state_size", s->d_k);
        key_u32(t, s, "ssm.group_count", s->n_k_head);
        key_u32(t, s, "ssm.time_step_rank", s->n_v_head);
        key_u32(t, s, "ssm.inner_size", s->n_v_head * s->d_v);
        key_u32(t, s, "full_attention_interval", 2);
    }
}

void tiny_add_gguf(struct tiny *t, const struct shape *s, enum qtype matrices, bool fused_gate_up)
{
    add_keys(t, s);
    for (int layer = -1; layer < s->n_layer + s->n_mtp; layer++) {
        for (int r = 0; r < ROLE_COUNT; r++) {
            enum role role = (enum role)r;
            int n;
            int64_t rows, cols;
            char name[64];
            if (!model_has(s, role, layer))
                continue;
            role_dims(s, role, &n, &rows, &cols);
            role_gguf_name(s, role, layer, name);
            if (fused_gate_up && role == ROLE_EXPERT_UP)
                continue;
            if (fused_gate_up && role == ROLE_EXPERT_GATE) {
                snprintf(name, sizeof name, "blk.%d.ffn_gate_up_exps.weight", layer);
                rows *= 2;
            }
            if (n > 1)
                tiny_add3(t, name, matrices, n, rows, cols);
            else if (rows == 1)
                tiny_add1(t, name, QTYPE_F32, cols);
            else if (role == ROLE_DN_CONV || role == ROLE_ROUTER)
                tiny_add2(t, name, QTYPE_F32, rows, cols);
            else
                tiny_add2(t, name, matrices, rows, cols);
        }
    }
}

char *tiny_checkpoint(const char *config, unsigned style)
{
    struct shape s;
    tiny_shape(&s, config);
    struct tiny *t = tiny_new();
    tiny_add_weights(t, &s, style);
    char *folder = tiny_folder();
    tiny_write_text(folder, "config.json", config);
    tiny_write_safetensors(t, folder, "model.safetensors");
    tiny_free(&t);
    return folder;
}
