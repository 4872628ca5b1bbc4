/*
 * shape_gguf.c: GGUF keys -> struct shape. Keys are "ARCH.name"; a quantity that llama.cpp allows per layer
 * may be an array here, as long as every layer that uses it has the same value.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "model/shape.h"
#include "model/shape_limits.h"

enum { KEY_ROOM = 96, REQUIRED = -1 };

struct reader {
    struct shape *s;
    const struct gguf_meta *meta;
    struct err *e;
    int rc; /* the first failure; later reads do nothing */
};

static void full_key(const struct reader *r, const char *name, char key[KEY_ROOM])
{
    snprintf(key, KEY_ROOM, "%s.%s", arch_gguf_name(r->s->arch), name);
}

static void fail_missing(struct reader *r, const char *key, int min, int max)
{
    r->rc = err_set(r->e, ERR_FORMAT, "the key \"%s\" is missing", key);
    err_hint(r->e, "accepted: an integer %d..%d; convert the model again with a current converter", min, max);
}

/* The value, or for an array the one value of all entries that are not 0 (0: this layer has no such part). */
static int read_int(struct reader *r, const char *name, int min, int max, int fallback)
{
    char key[KEY_ROOM];
    full_key(r, name, key);
    if (r->rc)
        return 0;
    const struct gguf_value *v = gguf_find(r->meta, key);
    if (!v) {
        if (fallback == REQUIRED)
            fail_missing(r, key, min, max);
        return fallback;
    }
    int64_t found = 0;
    uint64_t n = v->type == GGUF_ARRAY ? v->count : 1;
    for (uint64_t i = 0; i < n; i++) {
        int64_t one;
        if (!gguf_array_int(v, i, &one) || (found && one && one != found)) {
            r->rc = err_set(r->e, ERR_FORMAT, "%s is not one integer for all layers", key);
            err_hint(r->e, "accepted: an integer %d..%d", min, max);
            return 0;
        }
        found = one ? one : found;
    }
    if (found < min || found > max) {
        r->rc = err_set(r->e, ERR_FORMAT, "%s is %lld, outside %d..%d", key, (long long)found, min, max);
        err_hint(r->e, "convert the model again, or download the file again");
        return 0;
    }
    return (int)found;
}

/* A real in (above, max]. */
static double read_real(struct reader *r, const char *name, double above, double max, double fallback)
{
    char key[KEY_ROOM];
    double value = fallback;
    full_key(r, name, key);
    if (r->rc)
        return fallback;
    r->rc = gguf_get_real(r->meta, key, fallback, &value, r->e);
    if (!r->rc && !(value > above && value <= max))
        r->rc = err_set(r->e, ERR_FORMAT, "%s is %g, not above %g and up to %g", key, value, above, max);
    return value;
}

static bool str_is(struct gguf_string s, const char *text)
{
    return s.data && s.len == strlen(text) && !memcmp(s.data, text, s.len);
}

static int read_arch(struct shape *s, const struct gguf_meta *meta, struct err *e)
{
    struct gguf_string name = gguf_get_str(meta, "general.architecture");
    for (int a = 0; a < ARCH_COUNT; a++) {
        if (str_is(name, arch_gguf_name((enum arch)a))) {
            s->arch = (enum arch)a;
            return 0;
        }
    }
    if (name.data)
        err_set(e, ERR_FORMAT, "the architecture \"%.*s\" is not supported",
                (int)(name.len < 64 ? name.len : 64), name.data);
    else
        err_set(e, ERR_FORMAT, "the key \"general.architecture\" is missing");
    err_hint(e, "supported: %s", SHAPE_SUPPORTED_GGUF);
    return ERR_FORMAT;
}

static void read_attention(struct reader *r)
{
    struct shape *s = r->s;
    bool qwen35 = s->arch == ARCH_QWEN35_MOE || s->arch == ARCH_QWEN35;
    s->n_head = read_int(r, "attention.head_count", 1, MAX_HEADS, REQUIRED);
    s->n_head_kv = read_int(r, "attention.head_count_kv", 1, MAX_HEADS, s->n_head);
    if (r->rc)
        return;
    s->d_head = read_int(r, "attention.key_length", 1, MAX_HEAD_WIDTH, s->d_model / s->n_head);
    int d_value = read_int(r, "attention.value_length", 1, MAX_HEAD_WIDTH, s->d_head);
    if (!r->rc && (d_value != s->d_head || s->d_head < 1 || s->d_head > MAX_HEAD_WIDTH)) {
        r->rc = err_set(r->e, ERR_FORMAT, "attention.key_length is %d and attention.value_length is %d",
                        s->d_head, d_value);
        err_hint(r->e, "accepted: the same integer 1..%d for both", MAX_HEAD_WIDTH);
    }
    s->attn_gate = qwen35;
    s->qk_norm = s->arch != ARCH_QWEN2;
    s->qkv_bias = s->arch == ARCH_QWEN2;
}

static void read_rope(struct reader *r)
{
    struct shape *s = r->s;
    char key[KEY_ROOM];
    s->rope_theta = read_real(r, "rope.freq_base", 1, 1e15, 10000);
    s->n_rot = read_int(r, "rope.dimension_count", 1, MAX_HEAD_WIDTH, s->d_head);
    s->yarn_factor = 1;
    full_key(r, "rope.scaling.type", key);
    struct gguf_string type = gguf_get_str(r->meta, key);
    if (r->rc || !type.data || str_is(type, "none"))
        return;
    if (!str_is(type, "yarn")) {
        r->rc = err_set(r->e, ERR_FORMAT, "the RoPE scaling \"%.*s\" is not supported",
                        (int)(type.len < 32 ? type.len : 32), type.data);
        err_hint(r->e, "supported: none, yarn");
        return;
    }
    s->yarn_ctx = read_int(r, "rope.scaling.original_context_length", 1, MAX_CONTEXT, s->n_ctx_train);
    if (r->rc)
        return;
    s->yarn_factor = read_real(r, "rope.scaling.factor", 0, 1e6, (double)s->n_ctx_train / s->yarn_ctx);
    s->yarn_beta_fast = read_real(r, "rope.scaling.yarn_beta_fast", 0, 1e6, 32);
    s->yarn_beta_slow = read_real(r, "rope.scaling.yarn_beta_slow", 0, 1e6, 1);
    s->yarn_truncate = true;
    double more = read_real(r, "rope.scaling.attn_factor", 0, 1e6, 1); /* on top of YaRN's own */
    if (!r->rc && s->yarn_factor < 1)
        r->rc = err_set(r->e, ERR_FORMAT, "rope.scaling.factor is %g; it must be at least 1", s->yarn_factor);
    s->yarn_scale = more * (0.1 * log(fmax(s->yarn_factor, 1)) + 1);
}

static void read_delta_net(struct reader *r)
{
    struct shape *s = r->s;
    s->conv_kernel = read_int(r, "ssm.conv_kernel", 2, MAX_CONV, REQUIRED);
    s->d_k = read_int(r, "ssm.state_size", 1, MAX_HEAD_WIDTH, REQUIRED);
    s->n_k_head = read_int(r, "ssm.group_count", 1, MAX_HEADS, REQUIRED);
    s->n_v_head = read_int(r, "ssm.time_step_rank", 1, MAX_HEADS, REQUIRED);
    int inner = read_int(r, "ssm.inner_size", 1, MAX_HEADS * MAX_HEAD_WIDTH, REQUIRED);
    if (r->rc)
        return;
    s->d_v = inner / s->n_v_head;
    if (inner % s->n_v_head || s->d_v < 1 || s->d_v > MAX_HEAD_WIDTH) {
        r->rc = err_set(r->e, ERR_FORMAT, "ssm.inner_size is %d and ssm.time_step_rank is %d", inner,
                        s->n_v_head);
        err_hint(r->e, "accepted: a multiple of it that gives a head width of 1..%d", MAX_HEAD_WIDTH);
    }
    s->v_head_tiled = true;
}

static void read_mixers(struct reader *r)
{
    struct shape *s = r->s;
    char key[KEY_ROOM];
    int interval = read_int(r, "full_attention_interval", 1, SHAPE_MAX_LAYERS, 4);
    if (r->rc)
        return;
    full_key(r, "attention.recurrent_layers", key);
    const struct gguf_value *list = gguf_find(r->meta, key);
    for (int i = 0; i < s->n_layer; i++) {
        int64_t recurrent = (i + 1) % interval != 0;
        if (list && !gguf_array_int(list, (uint64_t)i, &recurrent)) {
            r->rc = err_set(r->e, ERR_FORMAT, "%s does not list %d layers", key, s->n_layer);
            err_hint(r->e, "accepted: an array of %d booleans", s->n_layer);
            return;
        }
        s->mixer[i] = recurrent ? MIXER_DELTA_NET : MIXER_ATTENTION;
    }
}

/* block_count includes the MTP blocks, which come last. */
static void read_blocks(struct reader *r)
{
    struct shape *s = r->s;
    int blocks = read_int(r, "block_count", 1, SHAPE_MAX_LAYERS + 1, REQUIRED);
    s->n_mtp = read_int(r, "nextn_predict_layers", 0, 1, 0);
    if (r->rc)
        return;
    s->n_layer = blocks - s->n_mtp;
    if (s->n_layer < 1 || s->n_layer > SHAPE_MAX_LAYERS) {
        r->rc =
            err_set(r->e, ERR_FORMAT, "block_count is %d and nextn_predict_layers is %d", blocks, s->n_mtp);
        err_hint(r->e, "accepted: 1..%d blocks besides the MTP block", SHAPE_MAX_LAYERS);
    }
}

static void read_mlp(struct reader *r)
{
    struct shape *s = r->s;
    bool moe = s->arch == ARCH_QWEN35_MOE || s->arch == ARCH_QWEN3_MOE;
    s->d_ff = read_int(r, "feed_forward_length", moe ? 0 : 1, MAX_WIDTH, moe ? 0 : REQUIRED);
    if (!moe)
        return;
    s->n_expert = read_int(r, "expert_count", 1, MAX_EXPERTS, REQUIRED);
    s->top_k = read_int(r, "expert_used_count", 1, MAX_EXPERTS, REQUIRED);
    s->d_expert = read_int(r, "expert_feed_forward_length", 1, MAX_WIDTH, REQUIRED);
    if (s->arch == ARCH_QWEN35_MOE)
        s->d_shared = read_int(r, "expert_shared_feed_forward_length", 1, MAX_WIDTH, s->d_expert);
    char key[KEY_ROOM];
    full_key(r, "expert_weights_norm", key);
    if (!r->rc) /* llama.cpp normalises for both architectures, without a key */
        r->rc = gguf_get_bool(r->meta, key, true, &s->norm_topk, r->e);
    for (int i = 0; i < s->n_layer; i++)
        s->moe[i] = true;
}

static void add_eos(struct reader *r, const char *key)
{
    int64_t id;
    if (!r->rc)
        r->rc = gguf_get_int(r->meta, key, 0, UINT32_MAX, UINT32_MAX, &id, r->e);
    if (r->rc || id > INT32_MAX || (r->s->n_vocab && id >= r->s->n_vocab))
        return; /* absent, or never produced */
    for (int i = 0; i < r->s->n_eos; i++)
        if (r->s->eos[i] == id)
            return;
    r->s->eos[r->s->n_eos++] = (int32_t)id;
}

/* vocab_size is optional; the token list has one entry per embedding row. 0: neither, model_open asks the
 * tensor. */
static void read_vocab(struct reader *r)
{
    const struct gguf_value *tokens = gguf_find(r->meta, "tokenizer.ggml.tokens");
    int known = tokens && tokens->type == GGUF_ARRAY && tokens->count <= MAX_VOCAB ? (int)tokens->count : 0;
    r->s->n_vocab = read_int(r, "vocab_size", 1, MAX_VOCAB, known);
    add_eos(r, "tokenizer.ggml.eos_token_id");
    add_eos(r, "tokenizer.ggml.eot_token_id");
}

int shape_from_gguf(struct shape *s, const struct gguf_meta *meta, struct err *e)
{
    memset(s, 0, sizeof *s);
    struct reader r = { .s = s, .meta = meta, .e = e };
    r.rc = read_arch(s, meta, e);
    read_blocks(&r);
    s->d_model = read_int(&r, "embedding_length", 1, MAX_WIDTH, REQUIRED);
    s->n_ctx_train = read_int(&r, "context_length", 1, MAX_CONTEXT, 32768);
    s->rms_eps = (float)read_real(&r, "attention.layer_norm_rms_epsilon", 1e-20, 0.1, 1e-6);
    read_attention(&r);
    read_rope(&r);
    if (s->arch == ARCH_QWEN35_MOE || s->arch == ARCH_QWEN35) {
        read_delta_net(&r);
        read_mixers(&r);
    }
    read_mlp(&r);
    read_vocab(&r);
    return r.rc ? r.rc : shape_check(s, true, e);
}
