/*
 * export_keys.c: general.* and ARCH.* keys of a GGUF, in the order of llama.cpp's converter.
 *
 * Lives elsewhere: tokenizer.* (export_tokens.c); reading such keys (model/shape_gguf.c).
 */
#include "load/export_keys.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "load/export_roles.h"

enum { KEY_ROOM = 96, QUANTIZATION_VERSION = 2 };

struct keys {
    struct gguf_writer *w;
    const struct model *m;
    const struct shape *s;
    char key[KEY_ROOM];
};

static const char *full(struct keys *k, const char *name)
{
    snprintf(k->key, sizeof k->key, "%s.%s", arch_gguf_name(k->s->arch), name);
    return k->key;
}

static void put_int(struct keys *k, const char *name, int v)
{
    gguf_write_u32(k->w, full(k, name), (uint32_t)v);
}

static void put_positive(struct keys *k, const char *name, int v)
{
    if (v > 0)
        put_int(k, name, v);
}

static void put_real(struct keys *k, const char *name, double v)
{
    gguf_write_f32(k->w, full(k, name), (float)v);
}

/* ---- general.* ---- */

/* The folder's name: "/models/novelist/" -> "novelist". */
static void put_name(struct keys *k)
{
    char *real = realpath(k->m->folder, NULL);
    const char *path = real ? real : k->m->folder, *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;
    gguf_write_str(k->w, "general.name", name, strlen(name));
    free(real);
}

struct counts {
    double shared, expert; /* weights outside the experts; of one expert in all layers */
    const struct model *m;
};

static int count_role(void *user, enum role role, int layer, struct err *e)
{
    struct counts *c = user;
    int n;
    int64_t rows, cols;
    (void)layer;
    (void)e;
    role_dims(&c->m->shape, role, &n, &rows, &cols);
    if (role == ROLE_EXPERT_GATE || role == ROLE_EXPERT_UP || role == ROLE_EXPERT_DOWN)
        c->expert += (double)rows * (double)cols;
    else
        c->shared += (double)rows * (double)cols;
    return 0;
}

/* "24x14M": experts x weights that one expert comes to, or the weights of a dense model; two digits at least.
 */
static void put_size_label(struct keys *k)
{
    static const char units[] = "KMBT";
    struct counts c = { .m = k->m };
    export_each_role(k->m, count_role, &c, NULL); /* counting cannot fail */
    double v = (c.shared + c.expert) * 1e-3;
    int unit = 0;
    while (v > 1e3 && unit < 3) {
        v *= 1e-3;
        unit++;
    }
    double whole = nearbyint(v);
    int digits = whole >= 10 ? 0 : whole >= 1 ? 1 : 2;
    char text[48];
    if (c.expert > 0)
        snprintf(text, sizeof text, "%dx%.*f%c", k->s->n_expert, digits, v, units[unit]);
    else
        snprintf(text, sizeof text, "%.*f%c", digits, v, units[unit]);
    gguf_write_str(k->w, "general.size_label", text, strlen(text));
}

static void put_sampling(struct keys *k)
{
    static const struct {
        const char *ours, *gguf;
    } reals[] = { { "top_p", "general.sampling.top_p" },
                  { "min_p", "general.sampling.min_p" },
                  { "temperature", "general.sampling.temp" },
                  { "repetition_penalty", "general.sampling.penalty_repeat" } };
    const json_t *g = k->m->generation_config, *top_k = json_object_get(g, "top_k");
    if (json_is_integer(top_k))
        gguf_write_value(
            k->w, "general.sampling.top_k",
            &(struct gguf_value){ .type = GGUF_I32, .count = 1, .i = json_integer_value(top_k) });
    for (size_t i = 0; i < sizeof reals / sizeof *reals; i++)
        if (json_is_number(json_object_get(g, reals[i].ours)))
            gguf_write_f32(k->w, reals[i].gguf, (float)json_number_value(json_object_get(g, reals[i].ours)));
}

/* ---- the architecture ---- */

static bool is_qwen35(const struct shape *s)
{
    return s->arch == ARCH_QWEN35_MOE || s->arch == ARCH_QWEN35;
}

/* M-RoPE's sections as configured; they do not matter for text, but llama.cpp wants them. */
static void put_rope_sections(struct keys *k)
{
    const json_t *text = json_object_get(k->m->config, "text_config"), *cfg = text ? text : k->m->config;
    const json_t *rope = json_object_get(cfg, "rope_parameters");
    const json_t *list = json_object_get(rope ? rope : json_object_get(cfg, "rope_scaling"), "mrope_section");
    int32_t section[4] = { k->s->n_rot / 2, 0, 0, 0 };
    for (size_t i = 0; i < 4 && json_array_size(list) > 0; i++)
        section[i] = (int32_t)json_integer_value(json_array_get(list, i));
    gguf_write_array(k->w, full(k, "rope.dimension_sections"), GGUF_I32, section, 4);
}

static void put_yarn(struct keys *k)
{
    const struct shape *s = k->s;
    if (s->yarn_factor <= 1)
        return;
    gguf_write_str(k->w, full(k, "rope.scaling.type"), "yarn", 4);
    put_real(k, "rope.scaling.factor", s->yarn_factor);
    put_int(k, "rope.scaling.original_context_length", s->yarn_ctx);
    double own = 0.1 * log(s->yarn_factor) + 1; /* what readers multiply with by themselves */
    if (fabs(s->yarn_scale - own) > 1e-6 * own)
        put_real(k, "rope.scaling.attn_factor", s->yarn_scale / own);
    if (s->yarn_beta_fast != 32)
        put_real(k, "rope.scaling.yarn_beta_fast", s->yarn_beta_fast);
    if (s->yarn_beta_slow != 1)
        put_real(k, "rope.scaling.yarn_beta_slow", s->yarn_beta_slow);
}

static void put_attention(struct keys *k)
{
    const struct shape *s = k->s;
    put_int(k, "attention.head_count", s->n_head);
    put_int(k, "attention.head_count_kv", s->n_head_kv);
    if (is_qwen35(s))
        put_rope_sections(k);
    put_yarn(k);
    put_real(k, "rope.freq_base", s->rope_theta);
    put_real(k, "attention.layer_norm_rms_epsilon", (double)s->rms_eps);
    put_positive(k, "expert_count", s->n_expert);
    put_positive(k, "expert_used_count", s->n_expert ? s->top_k : 0);
    if (s->arch != ARCH_QWEN2 || s->d_head * s->n_head != s->d_model) {
        put_int(k, "attention.key_length", s->d_head);
        put_int(k, "attention.value_length", s->d_head);
    }
}

/* The interval that gives this list of mixers, or 0. */
static int interval_of(const struct shape *s)
{
    int first = 0;
    while (first < s->n_layer && s->mixer[first] != MIXER_ATTENTION)
        first++;
    for (int i = 0; i < s->n_layer; i++)
        if (((i + 1) % (first + 1) == 0) != (s->mixer[i] == MIXER_ATTENTION))
            return 0;
    return first + 1;
}

static void put_delta_net(struct keys *k)
{
    const struct shape *s = k->s;
    bool recurrent[SHAPE_MAX_LAYERS + 1] = { false };
    put_int(k, "ssm.conv_kernel", s->conv_kernel);
    put_int(k, "ssm.state_size", s->d_k);
    put_int(k, "ssm.group_count", s->n_k_head);
    put_int(k, "ssm.time_step_rank", s->n_v_head);
    put_int(k, "ssm.inner_size", shape_value_dim(s));
    if (interval_of(s)) {
        put_int(k, "full_attention_interval", interval_of(s));
    } else {
        for (int i = 0; i < s->n_layer; i++)
            recurrent[i] = s->mixer[i] == MIXER_DELTA_NET;
        gguf_write_array(k->w, full(k, "attention.recurrent_layers"), GGUF_BOOL, recurrent,
                         (uint64_t)(s->n_layer + s->n_mtp));
    }
    put_int(k, "rope.dimension_count", s->n_rot);
}

/* What GGUF's keys for this architecture cannot say. */
static int check_expressible(const struct model *m, struct err *e)
{
    const struct shape *s = &m->shape;
    const char *why = is_qwen35(s) && !s->attn_gate ? "its attention has no output gate" : NULL;
    if (!why)
        return 0;
    err_set(e, ERR_FORMAT, "this model cannot be written as GGUF: %s", why);
    err_where(e, "%s", m->path);
    err_hint(e, "write it as safetensors: --type nf4, nf4-dq or fp4");
    return ERR_FORMAT;
}

int export_model_keys(struct gguf_writer *w, const struct model *m, enum mix mix, struct err *e)
{
    const struct shape *s = &m->shape;
    struct keys k = { .w = w, .m = m, .s = s };
    int rc = check_expressible(m, e);
    if (rc)
        return rc;
    const char *arch = arch_gguf_name(s->arch);
    gguf_write_str(w, "general.architecture", arch, strlen(arch));
    gguf_write_str(w, "general.type", "model", 5);
    put_sampling(&k);
    put_name(&k);
    put_size_label(&k);
    put_int(&k, "block_count", s->n_layer + s->n_mtp);
    put_int(&k, "context_length", s->n_ctx_train);
    put_int(&k, "embedding_length", s->d_model);
    put_positive(&k, "feed_forward_length", s->d_ff);
    put_attention(&k);
    gguf_write_u32(w, "general.file_type", mix_file_type(mix));
    put_positive(&k, "expert_feed_forward_length", s->n_expert ? s->d_expert : 0);
    put_positive(&k, "expert_shared_feed_forward_length", s->n_expert ? s->d_shared : 0);
    put_positive(&k, "nextn_predict_layers", s->n_mtp);
    if (s->n_expert && !s->norm_topk)
        gguf_write_bool(w, full(&k, "expert_weights_norm"), false);
    if (is_qwen35(s))
        put_delta_net(&k);
    else if (s->n_rot != s->d_head)
        put_int(&k, "rope.dimension_count", s->n_rot);
    gguf_write_u32(w, "general.quantization_version", QUANTIZATION_VERSION);
    return 0;
}
