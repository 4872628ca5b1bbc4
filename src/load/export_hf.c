/*
 * export_hf.c: config.json, tokenizer.json, tokenizer_config.json and generation_config.json from the keys of
 * a GGUF: what a converter put into them, put back.
 */
#include <stdlib.h>
#include <string.h>

#include "load/export_folder.h"
#include "load/export_keys.h"

enum { TYPE_CONTROL = 3, TYPE_USER_DEFINED = 4, TYPE_UNUSED = 5 };

/* ---- config.json ---- */

static bool is_qwen35(const struct shape *s)
{
    return s->arch == ARCH_QWEN35_MOE || s->arch == ARCH_QWEN35;
}

static const char *class_of(enum arch a)
{
    static const char *const names[ARCH_COUNT] = {
        [ARCH_QWEN35_MOE] = "Qwen3_5MoeForConditionalGeneration",
        [ARCH_QWEN35] = "Qwen3_5ForConditionalGeneration",
        [ARCH_QWEN3_MOE] = "Qwen3MoeForCausalLM",
        [ARCH_QWEN3] = "Qwen3ForCausalLM",
        [ARCH_QWEN2] = "Qwen2ForCausalLM",
    };
    return names[a];
}

static void set_int(json_t *o, const char *key, int64_t v)
{
    json_object_set_new(o, key, json_integer(v));
}

static void set_rope(json_t *text, const struct model *m)
{
    const struct shape *s = &m->shape;
    const struct gguf_value *sections =
        gguf_find(m->gguf, s->arch == ARCH_QWEN35 ? "qwen35.rope.dimension_sections"
                                                  : "qwen35moe.rope.dimension_sections");
    bool yarn = s->yarn_factor > 1;
    double part = (double)s->n_rot / s->d_head;
    json_t *rope =
        json_pack("{s:s, s:f}", "rope_type", yarn ? "yarn" : "default", "rope_theta", s->rope_theta);
    if (yarn) {
        json_object_set_new(rope, "factor", json_real(s->yarn_factor));
        set_int(rope, "original_max_position_embeddings", s->yarn_ctx);
        json_object_set_new(rope, "beta_fast", json_real(s->yarn_beta_fast));
        json_object_set_new(rope, "beta_slow", json_real(s->yarn_beta_slow));
        json_object_set_new(rope, "attention_factor", json_real(s->yarn_scale));
    }
    if (is_qwen35(s)) {
        json_t *list = json_array();
        int64_t v;
        for (uint64_t i = 0; i < 3 && gguf_array_int(sections, i, &v); i++)
            json_array_append_new(list, json_integer(v));
        json_object_set_new(rope, "mrope_section", list);
        json_object_set_new(rope, "mrope_interleaved", json_true());
    }
    if (part != 1)
        json_object_set_new(rope, "partial_rotary_factor", json_real(part));
    json_object_set_new(text, "rope_theta", json_real(s->rope_theta));
    json_object_set_new(text, "rope_parameters", rope);
}

static void set_delta_net(json_t *text, const struct shape *s)
{
    json_t *types = json_array();
    for (int i = 0; i < s->n_layer; i++)
        json_array_append_new(
            types, json_string(s->mixer[i] == MIXER_ATTENTION ? "full_attention" : "linear_attention"));
    json_object_set_new(text, "layer_types", types);
    set_int(text, "linear_conv_kernel_dim", s->conv_kernel);
    set_int(text, "linear_key_head_dim", s->d_k);
    set_int(text, "linear_value_head_dim", s->d_v);
    set_int(text, "linear_num_key_heads", s->n_k_head);
    set_int(text, "linear_num_value_heads", s->n_v_head);
    set_int(text, "mtp_num_hidden_layers", s->n_mtp);
    json_object_set_new(text, "attn_output_gate", json_true());
    json_object_set_new(text, "mamba_ssm_dtype", json_string("float32"));
}

static void set_mlp(json_t *text, const struct shape *s)
{
    if (s->d_ff)
        set_int(text, "intermediate_size", s->d_ff);
    if (!s->n_expert)
        return;
    set_int(text, "num_experts", s->n_expert);
    set_int(text, "num_experts_per_tok", s->top_k);
    set_int(text, "moe_intermediate_size", s->d_expert);
    if (s->d_shared)
        set_int(text, "shared_expert_intermediate_size", s->d_shared);
    json_object_set_new(text, "norm_topk_prob", json_boolean(s->norm_topk));
    set_int(text, "decoder_sparse_step", 1);
    json_t *dense = json_array();
    for (int i = 0; i < s->n_layer; i++)
        if (!s->moe[i])
            json_array_append_new(dense, json_integer(i));
    json_object_set_new(text, "mlp_only_layers", dense);
}

static void set_ids(json_t *o, const struct gguf_meta *g)
{
    static const struct {
        const char *gguf, *key;
    } ids[] = { { "tokenizer.ggml.eos_token_id", "eos_token_id" },
                { "tokenizer.ggml.bos_token_id", "bos_token_id" },
                { "tokenizer.ggml.padding_token_id", "pad_token_id" } };
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
        int64_t id;
        if (!gguf_get_int(g, ids[i].gguf, 0, INT32_MAX, -1, &id, NULL) && id >= 0)
            set_int(o, ids[i].key, id);
    }
}

int export_config_from_gguf(const struct model *m, json_t **config, struct err *e)
{
    const struct shape *s = &m->shape;
    json_t *text = json_object(), *root = text;
    if (is_qwen35(s)) {
        char inner[64];
        root = json_object();
        strcpy(stpcpy(inner, arch_hf_name(s->arch)), "_text");
        json_object_set_new(text, "model_type", json_string(inner));
    }
    json_object_set_new(root, "architectures", json_pack("[s]", class_of(s->arch)));
    json_object_set_new(root, "model_type", json_string(arch_hf_name(s->arch)));
    json_object_set_new(root, "tie_word_embeddings", json_boolean(s->tied));
    json_object_set_new(text, "dtype", json_string("bfloat16"));
    json_object_set_new(text, "hidden_act", json_string("silu"));
    set_int(text, "vocab_size", s->n_vocab);
    set_int(text, "hidden_size", s->d_model);
    set_int(text, "num_hidden_layers", s->n_layer);
    set_int(text, "num_attention_heads", s->n_head);
    set_int(text, "num_key_value_heads", s->n_head_kv);
    set_int(text, "head_dim", s->d_head);
    set_int(text, "max_position_embeddings", s->n_ctx_train);
    json_object_set_new(text, "rms_norm_eps", json_real((double)s->rms_eps));
    json_object_set_new(text, "attention_bias", json_boolean(s->qkv_bias));
    set_rope(text, m);
    set_mlp(text, s);
    if (is_qwen35(s))
        set_delta_net(text, s);
    set_ids(text, m->gguf);
    if (root != text)
        json_object_set_new(root, "text_config", text);
    *config = root;
    return root ? 0 : err_set(e, ERR_MEMORY, "no memory for config.json");
}

/* ---- tokenizer.json ---- */

static int refuse(const struct model *m, const char *what, struct err *e)
{
    err_set(e, ERR_FORMAT, "no tokenizer.json can be made from this GGUF: %s", what);
    err_where(e, "%s", m->path);
    err_hint(e, "quantize the original safetensors checkpoint instead");
    return ERR_FORMAT;
}

static json_t *pre_tokenizer(const char *regex)
{
    json_t *split = json_pack("{s:s, s:{s:s}, s:s, s:b}", "type", "Split", "pattern", "Regex", regex,
                              "behavior", "Isolated", "invert", 0);
    json_t *bytes = json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space", 0,
                              "trim_offsets", 0, "use_regex", 0);
    return json_pack("{s:s, s:[o, o]}", "type", "Sequence", "pretokenizers", split, bytes);
}

/* Words into vocab, control and user-defined tokens into added; padding rows are left out. */
static int sort_tokens(const struct model *m, json_t *vocab, json_t *added, struct err *e)
{
    const struct gguf_value *tokens = gguf_find(m->gguf, "tokenizer.ggml.tokens");
    const struct gguf_value *types = gguf_find(m->gguf, "tokenizer.ggml.token_type");
    if (!tokens || tokens->type != GGUF_ARRAY || tokens->elem_type != GGUF_STRING)
        return refuse(m, "it has no list of tokens", e);
    const struct gguf_string *text = tokens->array;
    for (uint64_t i = 0; i < tokens->count; i++) {
        int64_t type = 1;
        gguf_array_int(types, i, &type);
        json_t *word = json_stringn(text[i].data, text[i].len); /* NULL when it is not UTF-8 */
        if (!word)
            return refuse(m, "a token is not UTF-8", e);
        if (type == TYPE_CONTROL || type == TYPE_USER_DEFINED)
            json_array_append_new(added, json_pack("{s:I, s:O, s:b, s:b, s:b, s:b, s:b}", "id", (json_int_t)i,
                                                   "content", word, "single_word", 0, "lstrip", 0, "rstrip",
                                                   0, "normalized", 0, "special", type == TYPE_CONTROL));
        else if (type != TYPE_UNUSED)
            json_object_set_new(vocab, json_string_value(word), json_integer((json_int_t)i));
        json_decref(word);
    }
    return 0;
}

static int list_merges(const struct model *m, json_t *out, struct err *e)
{
    const struct gguf_value *merges = gguf_find(m->gguf, "tokenizer.ggml.merges");
    if (!merges || merges->type != GGUF_ARRAY || merges->elem_type != GGUF_STRING)
        return refuse(m, "it has no merges", e);
    const struct gguf_string *text = merges->array;
    for (uint64_t i = 0; i < merges->count; i++) {
        const char *space = text[i].len ? memchr(text[i].data, ' ', text[i].len) : NULL;
        if (!space)
            return refuse(m, "a merge is not a pair", e);
        size_t left = (size_t)(space - text[i].data);
        json_t *pair = json_pack("[o, o]", json_stringn(text[i].data, left),
                                 json_stringn(space + 1, text[i].len - left - 1));
        if (!pair)
            return refuse(m, "a merge is not UTF-8", e);
        json_array_append_new(out, pair);
    }
    return 0;
}

static int write_tokenizer(const struct model *m, const char *folder, struct err *e)
{
    struct gguf_string pre = gguf_get_str(m->gguf, "tokenizer.ggml.pre");
    char name[32] = "";
    if (pre.data && pre.len < sizeof name)
        memcpy(name, pre.data, pre.len);
    const char *regex = export_pre_regex(name);
    if (!regex)
        return refuse(m, "its pre-token rule is neither qwen2 nor qwen35", e);
    json_t *vocab = json_object(), *added = json_array(), *merges = json_array();
    int rc = sort_tokens(m, vocab, added, e);
    if (!rc)
        rc = list_merges(m, merges, e);
    json_t *bytes = json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space", 0,
                              "trim_offsets", 0, "use_regex", 0);
    json_t *root = json_pack(
        "{s:s, s:n, s:n, s:o, s:{s:s}, s:o, s:n, s:o, s:{s:s, s:n, s:n, s:s, s:s, s:b, s:b, s:o, s:o}}",
        "version", "1.0", "truncation", "padding", "added_tokens", added, "normalizer", "type", "NFC",
        "pre_tokenizer", pre_tokenizer(regex), "post_processor", "decoder", bytes, "model", "type", "BPE",
        "dropout", "unk_token", "continuing_subword_prefix", "", "end_of_word_suffix", "", "fuse_unk", 0,
        "byte_fallback", 0, "vocab", vocab, "merges", merges);
    if (rc) {
        json_decref(root);
        return rc;
    }
    return export_write_json(folder, "tokenizer.json", root, e);
}

/* ---- the other two ---- */

/* tokenizer_config.json names tokens by their texts. */
static void set_token(json_t *o, const char *key, const struct gguf_meta *g, const char *id_key)
{
    const struct gguf_value *tokens = gguf_find(g, "tokenizer.ggml.tokens");
    int64_t id;
    if (gguf_get_int(g, id_key, 0, INT32_MAX, -1, &id, NULL) || id < 0 || (uint64_t)id >= tokens->count)
        return;
    const struct gguf_string *text = (const struct gguf_string *)tokens->array + id;
    json_object_set_new(o, key, json_stringn(text->data, text->len));
}

static int write_tokenizer_config(const struct model *m, const char *folder, struct err *e)
{
    json_t *o = json_pack("{s:s, s:i}", "tokenizer_class", "Qwen2Tokenizer", "model_max_length",
                          m->shape.n_ctx_train);
    set_token(o, "eos_token", m->gguf, "tokenizer.ggml.eos_token_id");
    set_token(o, "bos_token", m->gguf, "tokenizer.ggml.bos_token_id");
    set_token(o, "pad_token", m->gguf, "tokenizer.ggml.padding_token_id");
    if (m->chat_template)
        json_object_set_new(o, "chat_template", json_string(m->chat_template));
    return export_write_json(folder, "tokenizer_config.json", o, e);
}

static int write_generation_config(const struct model *m, const char *folder, struct err *e)
{
    static const struct {
        const char *gguf, *key;
    } reals[] = { { "general.sampling.top_p", "top_p" },
                  { "general.sampling.min_p", "min_p" },
                  { "general.sampling.temp", "temperature" },
                  { "general.sampling.penalty_repeat", "repetition_penalty" } };
    json_t *o = json_object();
    int64_t top_k;
    set_ids(o, m->gguf);
    if (!gguf_get_int(m->gguf, "general.sampling.top_k", 0, INT32_MAX, -1, &top_k, NULL) && top_k >= 0)
        set_int(o, "top_k", top_k);
    for (size_t i = 0; i < sizeof reals / sizeof *reals; i++) {
        double v;
        if (!gguf_get_real(m->gguf, reals[i].gguf, -1, &v, NULL) && v >= 0)
            json_object_set_new(o, reals[i].key, json_real(v));
    }
    if (json_object_get(o, "top_k") || json_object_get(o, "temperature"))
        json_object_set_new(o, "do_sample", json_true());
    return export_write_json(folder, "generation_config.json", o, e);
}

int export_tokenizer_from_gguf(const struct model *m, const char *folder, struct err *e)
{
    int rc = write_tokenizer(m, folder, e);
    if (!rc)
        rc = write_tokenizer_config(m, folder, e);
    return rc ? rc : write_generation_config(m, folder, e);
}
