/*
 * shape_config.c: config.json -> struct shape. Accepts the keys under text_config or at the top,
 * rope_parameters or the older rope_theta + rope_scaling, and the defaults of the reference implementation's
 * classes for keys that older files lack. A key that would change the arithmetic in a way this program cannot
 * compute is refused, never ignored.
 */
#include <math.h>
#include <string.h>

#include "model/shape.h"
#include "model/shape_limits.h"

struct int_key {
    const char *key;
    size_t field; /* offset of an int in struct shape */
    int min, max;
    int fallback; /* REQUIRED: none */
};

enum { REQUIRED = -1 };

#define FIELD(name) offsetof(struct shape, name)

static const struct int_key common_keys[] = {
    { "num_hidden_layers", FIELD(n_layer), 1, SHAPE_MAX_LAYERS, REQUIRED },
    { "hidden_size", FIELD(d_model), 1, MAX_WIDTH, REQUIRED },
    { "vocab_size", FIELD(n_vocab), 1, MAX_VOCAB, REQUIRED },
    { "max_position_embeddings", FIELD(n_ctx_train), 1, MAX_CONTEXT, 32768 },
    { "num_attention_heads", FIELD(n_head), 1, MAX_HEADS, REQUIRED },
};

static const struct int_key delta_net_keys[] = {
    { "linear_num_key_heads", FIELD(n_k_head), 1, MAX_HEADS, 16 },
    { "linear_num_value_heads", FIELD(n_v_head), 1, MAX_HEADS, 32 },
    { "linear_key_head_dim", FIELD(d_k), 1, MAX_HEAD_WIDTH, 128 },
    { "linear_value_head_dim", FIELD(d_v), 1, MAX_HEAD_WIDTH, 128 },
    { "linear_conv_kernel_dim", FIELD(conv_kernel), 2, MAX_CONV, 4 },
};

static const struct int_key moe_keys[] = {
    { "num_experts_per_tok", FIELD(top_k), 1, MAX_EXPERTS, REQUIRED },
    { "moe_intermediate_size", FIELD(d_expert), 1, MAX_WIDTH, REQUIRED },
};

static const struct int_key shared_key = { "shared_expert_intermediate_size", FIELD(d_shared), 1, MAX_WIDTH,
                                           REQUIRED };
static const struct int_key dense_key = { "intermediate_size", FIELD(d_ff), 1, MAX_WIDTH, 0 };

static int hint_range(struct err *e, const char *key, int min, int max)
{
    err_hint(e, "accepted: \"%s\" as an integer %d..%d; compare config.json with the model's original", key,
             min, max);
    return ERR_FORMAT;
}

static int read_int(const json_t *cfg, const char *key, int min, int max, int fallback, int *out,
                    struct err *e)
{
    const json_t *v = json_object_get(cfg, key);
    if (fallback == REQUIRED && (!v || json_is_null(v))) {
        err_set(e, ERR_FORMAT, "the key \"%s\" is missing", key);
        return hint_range(e, key, min, max);
    }
    int64_t value;
    if (json_get_int(cfg, key, min, max, fallback, &value, e))
        return hint_range(e, key, min, max);
    *out = (int)value;
    return 0;
}

static int read_ints(struct shape *s, const json_t *cfg, const struct int_key *k, size_t n, struct err *e)
{
    int rc = 0;
    for (size_t i = 0; i < n && !rc; i++)
        rc = read_int(cfg, k[i].key, k[i].min, k[i].max, k[i].fallback, (int *)((char *)s + k[i].field), e);
    return rc;
}

/* A real in (above, max]. */
static int read_real(const json_t *cfg, const char *key, double above, double max, double fallback,
                     double *out, struct err *e)
{
    int rc = json_get_real(cfg, key, fallback, out, e);
    if (!rc && !(*out > above && *out <= max))
        rc = err_set(e, ERR_FORMAT, "%s is %g, not above %g and up to %g", key, *out, above, max);
    if (rc)
        err_hint(e, "accepted: \"%s\" as a number above %g and up to %g", key, above, max);
    return rc;
}

/* ---- architecture ---- */

static int read_arch(struct shape *s, const json_t *config, const json_t *text, struct err *e)
{
    const char *type = json_get_str(config, "model_type", json_get_str(text, "model_type", NULL));
    if (!type) {
        err_set(e, ERR_FORMAT, "the configuration does not say which architecture this is (\"model_type\")");
        err_hint(e, "supported: %s", SHAPE_SUPPORTED_HF);
        return ERR_FORMAT;
    }
    size_t n = strlen(type);
    if (n > 5 && !strcmp(type + n - 5, "_text"))
        n -= 5; /* text-only exports name the inner configuration */
    for (int a = 0; a < ARCH_COUNT; a++) {
        const char *name = arch_hf_name((enum arch)a);
        if (strlen(name) == n && !strncmp(type, name, n)) {
            s->arch = (enum arch)a;
            return 0;
        }
    }
    err_set(e, ERR_FORMAT, "the architecture \"%.64s\" is not supported", type);
    err_hint(e, "supported: %s", SHAPE_SUPPORTED_HF);
    return ERR_FORMAT;
}

static bool is_qwen35(const struct shape *s)
{
    return s->arch == ARCH_QWEN35_MOE || s->arch == ARCH_QWEN35;
}

/* ---- what we would compute wrongly ---- */

static int refuse(struct err *e, const char *why)
{
    err_set(e, ERR_FORMAT, "this model is not supported: %s", why);
    err_hint(e, "use a release of the model without that setting");
    return ERR_FORMAT;
}

static int check_unsupported(const struct shape *s, const json_t *cfg, struct err *e)
{
    bool sliding, bias, dedicated;
    int rc = json_get_bool(cfg, "use_sliding_window", false, &sliding, e);
    if (!rc)
        rc = json_get_bool(cfg, "attention_bias", false, &bias, e);
    if (!rc)
        rc = json_get_bool(cfg, "mtp_use_dedicated_embeddings", false, &dedicated, e);
    if (rc)
        return rc;
    if (sliding)
        return refuse(e, "\"use_sliding_window\" is true, and only full attention is implemented");
    if (bias && s->arch != ARCH_QWEN2)
        return refuse(e, "\"attention_bias\" is true, and this architecture's releases have no such biases");
    if (dedicated)
        return refuse(e,
                      "\"mtp_use_dedicated_embeddings\" is true, and only shared embeddings are implemented");
    if (strcmp(json_get_str(cfg, "hidden_act", "silu"), "silu"))
        return refuse(e, "\"hidden_act\" is not \"silu\"");
    return 0;
}

/* ---- attention ---- */

static int read_attention(struct shape *s, const json_t *cfg, struct err *e)
{
    int rc = read_int(cfg, "num_key_value_heads", 1, MAX_HEADS, s->n_head, &s->n_head_kv, e);
    if (rc)
        return rc;
    int derived = s->d_model / s->n_head;
    int fallback = is_qwen35(s) ? 256 : s->arch == ARCH_QWEN3 ? 128 : derived;
    rc = read_int(cfg, "head_dim", 1, MAX_HEAD_WIDTH, fallback, &s->d_head, e);
    if (rc)
        return rc;
    if (s->d_head < 1 || s->d_head > MAX_HEAD_WIDTH) { /* only a derived width can be outside */
        err_set(e, ERR_FORMAT, "hidden_size %d over num_attention_heads %d gives no usable head width",
                s->d_model, s->n_head);
        return hint_range(e, "head_dim", 1, MAX_HEAD_WIDTH);
    }
    s->qk_norm = s->arch != ARCH_QWEN2;
    s->qkv_bias = s->arch == ARCH_QWEN2;
    return json_get_bool(cfg, "attn_output_gate", is_qwen35(s), &s->attn_gate, e);
}

/* attention_factor as written, or from the factor and the optional mscale pair. */
static int read_yarn_scale(struct shape *s, const json_t *rope, struct err *e)
{
    double mscale, mscale_all;
    int rc = json_get_real(rope, "mscale", 0, &mscale, e);
    if (!rc)
        rc = json_get_real(rope, "mscale_all_dim", 0, &mscale_all, e);
    if (rc)
        return rc;
    double grow = 0.1 * log(s->yarn_factor), fallback = grow + 1;
    if (mscale != 0 && mscale_all != 0)
        fallback = (grow * mscale + 1) / (grow * mscale_all + 1);
    return read_real(rope, "attention_factor", 0, 1e6, fallback, &s->yarn_scale, e);
}

static int read_yarn(struct shape *s, const json_t *cfg, const json_t *rope, struct err *e)
{
    int outer;
    int rc = read_int(cfg, "original_max_position_embeddings", 1, MAX_CONTEXT, s->n_ctx_train, &outer, e);
    if (!rc)
        rc = read_int(rope, "original_max_position_embeddings", 1, MAX_CONTEXT, outer, &s->yarn_ctx, e);
    if (!rc) /* without a factor the two context lengths say it */
        rc = read_real(rope, "factor", 0, 1e6, (double)s->n_ctx_train / s->yarn_ctx, &s->yarn_factor, e);
    if (!rc)
        rc = read_real(rope, "beta_fast", 0, 1e6, 32, &s->yarn_beta_fast, e);
    if (!rc)
        rc = read_real(rope, "beta_slow", 0, 1e6, 1, &s->yarn_beta_slow, e);
    if (!rc)
        rc = json_get_bool(rope, "truncate", true, &s->yarn_truncate, e);
    if (!rc && s->yarn_factor < 1)
        rc = err_set(e, ERR_FORMAT, "the YaRN \"factor\" is %g; it must be at least 1", s->yarn_factor);
    return rc ? rc : read_yarn_scale(s, rope, e);
}

/* Newer files: rope_parameters with everything. Older: rope_theta and partial_rotary_factor beside
 * rope_scaling. */
static int read_rope(struct shape *s, const json_t *cfg, struct err *e)
{
    const json_t *rope = json_object_get(cfg, "rope_parameters");
    if (!json_is_object(rope))
        rope = json_object_get(cfg, "rope_scaling");
    if (rope && !json_is_object(rope) && !json_is_null(rope))
        return err_set(e, ERR_FORMAT, "rope_scaling is not an object");
    if (!json_is_object(rope))
        rope = NULL;
    double theta, part;
    int rc = read_real(cfg, "rope_theta", 1, 1e15, 10000, &theta, e); /* 10000: what the reference assumes */
    if (!rc)
        rc = read_real(rope, "rope_theta", 1, 1e15, theta, &s->rope_theta, e);
    if (!rc)
        rc = read_real(cfg, "partial_rotary_factor", 0, 1, is_qwen35(s) ? 0.25 : 1, &part, e);
    if (!rc)
        rc = read_real(rope, "partial_rotary_factor", 0, 1, part, &part, e);
    if (rc)
        return rc;
    s->n_rot = (int)(s->d_head * part);
    s->yarn_factor = 1;
    const char *type = json_get_str(rope, "rope_type", json_get_str(rope, "type", "default"));
    if (!strcmp(type, "yarn"))
        return read_yarn(s, cfg, rope, e);
    /* mrope has three position streams that are equal for text */
    if (!strcmp(type, "default") || (is_qwen35(s) && !strcmp(type, "mrope")))
        return 0;
    err_set(e, ERR_FORMAT, "the RoPE type \"%.32s\" is not supported", type);
    err_hint(e, "supported: default, yarn");
    return ERR_FORMAT;
}

/* ---- layers ---- */

static int set_mixer(struct shape *s, int i, const char *type, struct err *e)
{
    bool linear = !strcmp(type, "linear_attention") || !strcmp(type, "mamba");
    bool full = !strcmp(type, "full_attention") || !strcmp(type, "attention");
    if (!full && !(linear && is_qwen35(s))) {
        err_set(e, ERR_FORMAT, "layer_types[%d] is \"%.32s\", which %s does not have", i, type,
                arch_hf_name(s->arch));
        err_hint(e, "accepted: %s", is_qwen35(s) ? "full_attention, linear_attention" : "full_attention");
        return ERR_FORMAT;
    }
    s->mixer[i] = full ? MIXER_ATTENTION : MIXER_DELTA_NET;
    return 0;
}

static int read_mixers(struct shape *s, const json_t *cfg, struct err *e)
{
    const json_t *types = json_object_get(cfg, "layer_types");
    if (!types || json_is_null(types)) {
        int interval;
        int rc = read_int(cfg, "full_attention_interval", 1, SHAPE_MAX_LAYERS, 4, &interval, e);
        for (int i = 0; i < s->n_layer && !rc; i++)
            s->mixer[i] = is_qwen35(s) && (i + 1) % interval ? MIXER_DELTA_NET : MIXER_ATTENTION;
        return rc;
    }
    if (!json_is_array(types) || json_array_size(types) != (size_t)s->n_layer) {
        err_set(e, ERR_FORMAT, "layer_types does not list %d layers (num_hidden_layers)", s->n_layer);
        err_hint(e, "accepted: an array of %d strings; compare config.json with the model's original",
                 s->n_layer);
        return ERR_FORMAT;
    }
    for (int i = 0; i < s->n_layer; i++) {
        const char *type = json_string_value(json_array_get(types, (size_t)i));
        if (set_mixer(s, i, type ? type : "", e))
            return ERR_FORMAT;
    }
    return 0;
}

/* mlp_only_layers: these stay dense in a mixture-of-experts model. */
static int apply_dense_layers(struct shape *s, const json_t *cfg, struct err *e)
{
    const json_t *list = json_object_get(cfg, "mlp_only_layers");
    if (!list || json_is_null(list))
        return 0;
    if (!json_is_array(list))
        return err_set(e, ERR_FORMAT, "mlp_only_layers is not an array");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *v = json_array_get(list, i);
        json_int_t layer = json_is_integer(v) ? json_integer_value(v) : -1;
        if (layer < 0 || layer >= s->n_layer) {
            err_set(e, ERR_FORMAT, "mlp_only_layers[%zu] is not a layer", i);
            err_hint(e, "accepted: integers 0..%d", s->n_layer - 1);
            return ERR_FORMAT;
        }
        s->moe[layer] = false;
    }
    return 0;
}

static int read_moe(struct shape *s, const json_t *cfg, struct err *e)
{
    int step;
    /* newer writers call it num_local_experts */
    const char *key = json_object_get(cfg, "num_experts") ? "num_experts" : "num_local_experts";
    int rc = read_int(cfg, key, 0, MAX_EXPERTS, REQUIRED, &s->n_expert, e);
    if (rc || !s->n_expert)
        return rc;
    rc = read_ints(s, cfg, moe_keys, sizeof moe_keys / sizeof *moe_keys, e);
    if (!rc && s->arch == ARCH_QWEN35_MOE)
        rc = read_ints(s, cfg, &shared_key, 1, e);
    if (!rc) /* Qwen3.5 always renormalises, whatever the key says */
        rc = json_get_bool(cfg, "norm_topk_prob", false, &s->norm_topk, e);
    if (!rc)
        rc = read_int(cfg, "decoder_sparse_step", 1, SHAPE_MAX_LAYERS, 1, &step, e);
    if (rc)
        return rc;
    s->norm_topk |= s->arch == ARCH_QWEN35_MOE;
    for (int i = 0; i < s->n_layer; i++)
        s->moe[i] = (i + 1) % step == 0;
    return apply_dense_layers(s, cfg, e);
}

static int read_layers(struct shape *s, const json_t *cfg, struct err *e)
{
    int rc = read_mixers(s, cfg, e);
    if (!rc && is_qwen35(s))
        rc = read_ints(s, cfg, delta_net_keys, sizeof delta_net_keys / sizeof *delta_net_keys, e);
    if (!rc && is_qwen35(s)) /* whether its tensors exist decides model_open */
        rc = read_int(cfg, "mtp_num_hidden_layers", 0, 1, 1, &s->n_mtp, e);
    if (!rc && (s->arch == ARCH_QWEN35_MOE || s->arch == ARCH_QWEN3_MOE))
        rc = read_moe(s, cfg, e);
    return rc ? rc : read_ints(s, cfg, &dense_key, 1, e);
}

/* ---- stop ids ---- */

static int add_eos(struct shape *s, const json_t *v, struct err *e)
{
    json_int_t id = json_is_integer(v) ? json_integer_value(v) : -1;
    if (id < 0 || id > INT32_MAX || s->n_eos == SHAPE_MAX_EOS) {
        err_set(e, ERR_FORMAT, "eos_token_id is not a token id or a list of up to %d", SHAPE_MAX_EOS);
        err_hint(e, "accepted: an integer from 0 on, or a list of them");
        return ERR_FORMAT;
    }
    if (id < s->n_vocab) /* one beyond the vocabulary can never be produced */
        s->eos[s->n_eos++] = (int32_t)id;
    return 0;
}

static int read_eos(struct shape *s, const json_t *config, const json_t *cfg, struct err *e)
{
    const json_t *v = json_object_get(cfg, "eos_token_id");
    if (!v || json_is_null(v))
        v = json_object_get(config, "eos_token_id");
    if (!v || json_is_null(v))
        return 0;
    if (!json_is_array(v))
        return add_eos(s, v, e);
    int rc = 0;
    for (size_t i = 0; i < json_array_size(v) && !rc; i++)
        rc = add_eos(s, json_array_get(v, i), e);
    return rc;
}

/* The outer level counts where both have the key, as in the reference. */
static int read_tied(struct shape *s, const json_t *config, const json_t *cfg, struct err *e)
{
    int rc = json_get_bool(cfg, "tie_word_embeddings", false, &s->tied, e);
    return rc ? rc : json_get_bool(config, "tie_word_embeddings", s->tied, &s->tied, e);
}

int shape_from_config(struct shape *s, const json_t *config, struct err *e)
{
    memset(s, 0, sizeof *s);
    const json_t *cfg = json_object_get(config, "text_config");
    if (!cfg || json_is_null(cfg))
        cfg = config;
    if (cfg && !json_is_object(cfg))
        return err_set(e, ERR_FORMAT, "text_config is not an object");
    double eps = 0;
    int rc = read_arch(s, config, cfg, e);
    if (!rc)
        rc = read_ints(s, cfg, common_keys, sizeof common_keys / sizeof *common_keys, e);
    if (!rc)
        rc = read_real(cfg, "rms_norm_eps", 1e-20, 0.1, 1e-6, &eps, e);
    s->rms_eps = (float)eps;
    if (!rc)
        rc = check_unsupported(s, cfg, e);
    if (!rc)
        rc = read_attention(s, cfg, e);
    if (!rc)
        rc = read_rope(s, cfg, e);
    if (!rc)
        rc = read_layers(s, cfg, e);
    if (!rc)
        rc = read_tied(s, config, cfg, e);
    if (!rc)
        rc = read_eos(s, config, cfg, e);
    return rc ? rc : shape_check(s, false, e);
}
