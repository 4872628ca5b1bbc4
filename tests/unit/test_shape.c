/* test_shape.c: config.json -> struct shape for every architecture, what is refused and how it is said, RoPE.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "model/model.h"

#define N(a) (sizeof(a) / sizeof *(a))

static int read_text(struct shape *s, const char *text, struct err *e)
{
    json_t *root = NULL;
    assert_int_equal(json_parse(text, strlen(text), &root, e), 0);
    int rc = shape_from_config(s, root, e);
    json_decref(root);
    return rc;
}

static struct shape *accept(const char *text)
{
    struct shape *s = malloc(sizeof *s);
    struct err e = { 0 };
    assert_non_null(s);
    if (read_text(s, text, &e))
        fail_msg("refused: %s | %s", e.what, e.hint);
    return s;
}

/* The configuration of the 35B release, nested as released. */
#define QWEN35_TEXT                                                                                          \
    "\"model_type\": \"qwen3_5_moe_text\", \"vocab_size\": 248320, \"hidden_size\": 2048, "                  \
    "\"num_hidden_layers\": 40,"                                                                             \
    "\"num_attention_heads\": 16, \"num_key_value_heads\": 2, \"head_dim\": 256, \"hidden_act\": \"silu\","  \
    "\"max_position_embeddings\": 262144, \"rms_norm_eps\": 1e-06, \"attention_bias\": false,"               \
    "\"moe_intermediate_size\": 512, \"shared_expert_intermediate_size\": 512, \"num_experts\": 256,"        \
    "\"num_experts_per_tok\": 8, \"mtp_num_hidden_layers\": 1, \"eos_token_id\": 248044, "                   \
    "\"mlp_only_layers\": [],"                                                                               \
    "\"rope_parameters\": {\"rope_type\": \"default\", \"rope_theta\": 10000000, "                           \
    "\"partial_rotary_factor\": 0.25,"                                                                       \
    "\"mrope_section\": [11, 11, 10], \"mrope_interleaved\": true}"

static void test_qwen35_moe(void **state)
{
    (void)state;
    struct shape *s = accept("{\"model_type\": \"qwen3_5_moe\", \"tie_word_embeddings\": false,"
                             "\"text_config\": {" QWEN35_TEXT "}}");
    assert_int_equal(s->arch, ARCH_QWEN35_MOE);
    assert_int_equal(s->n_layer, 40);
    assert_int_equal(s->n_mtp, 1);
    assert_int_equal(s->d_model, 2048);
    assert_int_equal(s->n_vocab, 248320);
    assert_int_equal(s->n_ctx_train, 262144);
    assert_int_equal(s->n_rot, 64);
    assert_true(s->attn_gate && s->qk_norm && !s->qkv_bias && !s->tied && s->norm_topk && !s->v_head_tiled);
    assert_int_equal(shape_q_rows(s), 8192);
    assert_int_equal(shape_conv_dim(s), 8192);
    assert_int_equal(s->conv_kernel, 4);
    assert_int_equal(s->n_expert, 256);
    assert_int_equal(s->top_k, 8);
    assert_int_equal(s->d_shared, 512);
    for (int i = 0; i < 40; i++) {
        assert_int_equal(s->mixer[i], i % 4 == 3 ? MIXER_ATTENTION : MIXER_DELTA_NET);
        assert_true(s->moe[i]);
    }
    assert_int_equal(s->n_eos, 1);
    assert_int_equal(s->eos[0], 248044);
    /* the same keys at the top level give the same shape */
    struct shape *flat = accept("{" QWEN35_TEXT "}");
    assert_memory_equal(s, flat, sizeof *s);
    free(flat);
    free(s);
}

static void test_qwen35_dense(void **state)
{
    (void)state;
    /* older spelling of RoPE, layer_types given, tied at the outer level only */
    struct shape *s = accept(
        "{\"model_type\": \"qwen3_5\", \"tie_word_embeddings\": true, \"text_config\": {\"vocab_size\": 1000,"
        "\"hidden_size\": 96, \"intermediate_size\": 128, \"num_hidden_layers\": 3, \"num_attention_heads\": "
        "4,"
        "\"num_key_value_heads\": 2, \"head_dim\": 32, \"linear_num_key_heads\": 2, "
        "\"linear_num_value_heads\": 6,"
        "\"linear_key_head_dim\": 16, \"linear_value_head_dim\": 24, \"rope_theta\": 5000000.0,"
        "\"rope_scaling\": {\"type\": \"mrope\", \"mrope_section\": [1, 1, 2]}, \"partial_rotary_factor\": "
        "0.5,"
        "\"layer_types\": [\"full_attention\", \"linear_attention\", \"full_attention\"],"
        "\"mtp_num_hidden_layers\": 0, \"eos_token_id\": [7, 9, 5000]}}");
    assert_int_equal(s->arch, ARCH_QWEN35);
    assert_true(s->tied);
    assert_int_equal(s->n_mtp, 0);
    assert_int_equal(s->n_rot, 16);
    assert_true(s->rope_theta == 5e6 && s->yarn_factor == 1);
    assert_int_equal(s->mixer[0], MIXER_ATTENTION);
    assert_int_equal(s->mixer[1], MIXER_DELTA_NET);
    assert_int_equal(shape_conv_dim(s), 2 * 32 + 144);
    assert_int_equal(s->d_ff, 128);
    assert_int_equal(s->n_eos, 2); /* 5000 is beyond the vocabulary */
    assert_int_equal(s->eos[1], 9);
    free(s);
}

static void test_qwen3_moe(void **state)
{
    (void)state;
    struct shape *s =
        accept("{\"model_type\": \"qwen3_moe\", \"vocab_size\": 151936, \"hidden_size\": 2048, "
               "\"intermediate_size\": 6144,"
               "\"num_hidden_layers\": 6, \"num_attention_heads\": 32, \"num_key_value_heads\": 4, "
               "\"head_dim\": 128,"
               "\"num_experts\": 128, \"num_experts_per_tok\": 8, \"moe_intermediate_size\": 768, "
               "\"norm_topk_prob\": true,"
               "\"decoder_sparse_step\": 2, \"mlp_only_layers\": [3], \"rope_theta\": 1000000.0, "
               "\"rope_scaling\": null,"
               "\"use_sliding_window\": false, \"sliding_window\": null, \"eos_token_id\": 151645}");
    assert_int_equal(s->arch, ARCH_QWEN3_MOE);
    assert_true(s->norm_topk && s->qk_norm && !s->attn_gate);
    assert_int_equal(s->n_rot, 128);
    assert_int_equal(s->d_shared, 0);
    static const bool moe[6] = { false, true, false, false, false, true };
    for (int i = 0; i < 6; i++) {
        assert_int_equal(s->moe[i], moe[i]);
        assert_int_equal(s->mixer[i], MIXER_ATTENTION);
    }
    assert_true(model_has(s, ROLE_GATE, 0) && !model_has(s, ROLE_ROUTER, 0));
    assert_true(!model_has(s, ROLE_GATE, 1) && model_has(s, ROLE_EXPERT_UP, 1));
    assert_false(model_has(s, ROLE_SHARED_UP, 1) || model_has(s, ROLE_MTP_FC, 6) ||
                 model_has(s, ROLE_Q_BIAS, 1));
    free(s);
}

static void test_qwen3_and_qwen2(void **state)
{
    (void)state;
    struct shape *s =
        accept("{\"model_type\": \"qwen3\", \"vocab_size\": 151936, \"hidden_size\": 1024, "
               "\"intermediate_size\": 3072,"
               "\"num_hidden_layers\": 28, \"num_attention_heads\": 16, \"num_key_value_heads\": 8,"
               "\"tie_word_embeddings\": true}");
    assert_int_equal(s->d_head, 128); /* the class default, not hidden / heads */
    assert_true(s->rope_theta == 10000);
    assert_true(s->tied);
    free(s);
    s = accept("{\"model_type\": \"qwen2\", \"vocab_size\": 152064, \"hidden_size\": 3584, "
               "\"intermediate_size\": 18944,"
               "\"num_hidden_layers\": 28, \"num_attention_heads\": 28, \"num_key_value_heads\": 4,"
               "\"rope_theta\": 1000000.0, \"attention_bias\": true}");
    assert_int_equal(s->d_head, 128);
    assert_true(s->qkv_bias && !s->qk_norm);
    assert_true(model_has(s, ROLE_V_BIAS, 27) && !model_has(s, ROLE_K_NORM, 27));
    free(s);
}

/* ---- refusals ---- */

#define DENSE(more)                                                                                          \
    "{\"model_type\": \"qwen3\", \"vocab_size\": 100, \"hidden_size\": 64, \"intermediate_size\": 96,"       \
    "\"num_hidden_layers\": 2, \"num_attention_heads\": 4, \"head_dim\": 16" more "}"
#define MOE(more)                                                                                            \
    "{\"model_type\": \"qwen3_moe\", \"vocab_size\": 100, \"hidden_size\": 64, \"num_hidden_layers\": 2,"    \
    "\"num_attention_heads\": 4, \"moe_intermediate_size\": 32" more "}"

static void test_refusals(void **state)
{
    (void)state;
    static const struct {
        const char *config, *what, *hint;
    } cases[] = {
        { "{\"model_type\": \"mixtral\"}", "the architecture \"mixtral\" is not supported",
          "supported: qwen3_5_moe, qwen3_5, qwen3_moe, qwen3, qwen2" },
        { "{}", "the configuration does not say which architecture this is (\"model_type\")",
          "supported: qwen3_5_moe, qwen3_5, qwen3_moe, qwen3, qwen2" },
        { "{\"model_type\": \"qwen3\", \"num_hidden_layers\": 2, \"vocab_size\": 10, "
          "\"num_attention_heads\": 1}",
          "the key \"hidden_size\" is missing",
          "accepted: \"hidden_size\" as an integer 1..524288; compare config.json with the model's "
          "original" },
        { DENSE(", \"num_key_value_heads\": 3"),
          "num_attention_heads is 4, not a multiple of num_key_value_heads, which is 3",
          "compare config.json with the model's original" },
        { DENSE(", \"num_key_value_heads\": 0"), "num_key_value_heads is 0, outside 1..1024", NULL },
        { DENSE(", \"num_key_value_heads\": \"2\""), "num_key_value_heads is not an integer", NULL },
        { DENSE(", \"use_sliding_window\": true"),
          "this model is not supported: \"use_sliding_window\" is true, and only full attention is "
          "implemented",
          NULL },
        { DENSE(", \"attention_bias\": true"), NULL, NULL },
        { DENSE(", \"hidden_act\": \"gelu\""), "this model is not supported: \"hidden_act\" is not \"silu\"",
          NULL },
        { DENSE(", \"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8}"),
          "the RoPE type \"llama3\" is not supported", "supported: default, yarn" },
        { DENSE(", \"rope_scaling\": {\"type\": \"mrope\"}"), "the RoPE type \"mrope\" is not supported",
          NULL },
        { DENSE(", \"rope_scaling\": {\"type\": \"yarn\", \"factor\": 0.5}"),
          "the YaRN \"factor\" is 0.5; it must be at least 1", NULL },
        { DENSE(", \"rope_scaling\": 3"), "rope_scaling is not an object", NULL },
        { DENSE(", \"rope_theta\": 1"), "rope_theta is 1, not above 1 and up to 1e+15", NULL },
        { DENSE(", \"partial_rotary_factor\": 0.2"), NULL, NULL },
        { DENSE(", \"rms_norm_eps\": 0"), NULL, NULL },
        { DENSE(", \"layer_types\": [\"full_attention\"]"),
          "layer_types does not list 2 layers (num_hidden_layers)", NULL },
        { DENSE(", \"layer_types\": [\"full_attention\", \"sliding_attention\"]"),
          "layer_types[1] is \"sliding_attention\", which qwen3 does not have", "accepted: full_attention" },
        { DENSE(", \"layer_types\": [\"full_attention\", \"linear_attention\"]"), NULL, NULL },
        { DENSE(", \"layer_types\": [\"full_attention\", 3]"), NULL, NULL },
        { DENSE(", \"eos_token_id\": \"x\""), NULL, NULL },
        { DENSE(", \"eos_token_id\": [1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17]"), NULL, NULL },
        { DENSE(", \"tie_word_embeddings\": 1"), "tie_word_embeddings is not true or false", NULL },
        { DENSE(", \"text_config\": 1"), "text_config is not an object", NULL },
        { MOE(", \"num_experts\": 4, \"num_experts_per_tok\": 5"),
          "num_experts_per_tok is 5, outside 1..4 (num_experts)", NULL },
        { MOE(", \"num_experts\": 4, \"num_experts_per_tok\": 2, \"mlp_only_layers\": [0]"),
          "intermediate_size is missing, and some layers have a dense MLP", NULL },
        { MOE(", \"num_experts\": 4, \"num_experts_per_tok\": 2, \"mlp_only_layers\": [2]"),
          "mlp_only_layers[0] is not a layer", "accepted: integers 0..1" },
        { MOE(", \"num_experts_per_tok\": 2"), "the key \"num_local_experts\" is missing", NULL },
        { MOE(", \"num_experts\": 99999999999, \"num_experts_per_tok\": 2"), NULL, NULL },
    };
    for (size_t i = 0; i < N(cases); i++) {
        struct shape s;
        struct err e = { 0 };
        if (read_text(&s, cases[i].config, &e) != ERR_FORMAT)
            fail_msg("accepted: %s", cases[i].config);
        if (cases[i].what)
            assert_string_equal(e.what, cases[i].what);
        if (cases[i].hint)
            assert_string_equal(e.hint, cases[i].hint);
        assert_int_equal(shape_from_config(&s, NULL, NULL), ERR_FORMAT);
    }
}

/* ---- RoPE ---- */

/* Values of transformers' _compute_yarn_parameters for Qwen2.5 with factor 4 over 32768, theta 1e6, 128 wide.
 */
#define YARN_SCALE 0x1.237d380000000p+0f
static const struct {
    int pair;
    float freq;
} yarn_want[] = {
    { 0, 0x1.0000000000000p+0f },   { 1, 0x1.9c975a0000000p-1f },   { 10, 0x1.d8ffac0000000p-4f },
    { 22, 0x1.1bc25a0000000p-7f },  { 23, 0x1.c9548c0000000p-8f },  { 24, 0x1.6046ee0000000p-8f },
    { 28, 0x1.e483be0000000p-10f }, { 30, 0x1.17040e0000000p-10f }, { 35, 0x1.02387c0000000p-12f },
    { 40, 0x1.74eea60000000p-15f }, { 50, 0x1.58863a0000000p-18f }, { 63, 0x1.4d1c980000000p-22f },
};

static void test_rope(void **state)
{
    (void)state;
    float freq[64];
    struct shape *s = accept(DENSE(", \"rope_theta\": 10000"));
    assert_true(shape_rope(s, freq) == 1.0f);
    for (int i = 0; i < 8; i++)
        assert_true(fabs(freq[i] - pow(10000, -i / 8.0)) <= 1e-7 * freq[i]);
    free(s);
    s = accept("{\"model_type\": \"qwen2\", \"vocab_size\": 152064, \"hidden_size\": 3584, "
               "\"intermediate_size\": 18944,"
               "\"num_hidden_layers\": 28, \"num_attention_heads\": 28, \"num_key_value_heads\": 4,"
               "\"rope_theta\": 1000000.0, \"rope_scaling\": {\"type\": \"yarn\", \"factor\": 4.0,"
               "\"original_max_position_embeddings\": 32768}}");
    assert_true(shape_rope(s, freq) == YARN_SCALE);
    for (size_t i = 0; i < N(yarn_want); i++)
        assert_true(fabsf(freq[yarn_want[i].pair] - yarn_want[i].freq) <= 1.2e-7f * yarn_want[i].freq);
    free(s);
}

static void test_names(void **state)
{
    (void)state;
    struct shape *s = accept("{" QWEN35_TEXT "}");
    char gguf[64], hf[192];
    static const struct {
        enum role role;
        int layer;
        const char *gguf, *hf;
    } cases[] = {
        { ROLE_EMBED, -1, "token_embd.weight", "model.language_model.embed_tokens.weight" },
        { ROLE_HEAD, -1, "output.weight", "lm_head.weight" },
        { ROLE_NORM_MLP, 7, "blk.7.post_attention_norm.weight",
          "model.language_model.layers.7.post_attention_layernorm.weight" },
        { ROLE_DN_A_LOG, 0, "blk.0.ssm_a", "model.language_model.layers.0.linear_attn.A_log" },
        { ROLE_EXPERT_UP, 39, "blk.39.ffn_up_exps.weight",
          "model.language_model.layers.39.mlp.experts.gate_up_proj" },
        { ROLE_EXPERT_DOWN, 40, "blk.40.ffn_down_exps.weight", "mtp.layers.0.mlp.experts.down_proj" },
        { ROLE_MTP_FC, 40, "blk.40.nextn.eh_proj.weight", "mtp.fc.weight" },
        { ROLE_MTP_OUT_NORM, 40, "blk.40.nextn.shared_head_norm.weight", "mtp.norm.weight" },
    };
    for (size_t i = 0; i < N(cases); i++) {
        role_gguf_name(s, cases[i].role, cases[i].layer, gguf);
        role_hf_name(s, cases[i].role, cases[i].layer, 3, hf);
        assert_string_equal(gguf, cases[i].gguf);
        assert_string_equal(hf, cases[i].hf);
    }
    s->arch = ARCH_QWEN3_MOE;
    role_gguf_name(s, ROLE_NORM_MLP, 2, gguf);
    role_hf_name(s, ROLE_EXPERT_GATE, 2, 17, hf);
    assert_string_equal(gguf, "blk.2.ffn_norm.weight");
    assert_string_equal(hf, "model.layers.2.mlp.experts.17.gate_proj.weight");
    free(s);
}

/* Every role has a name of both kinds and, where present, dimensions that multiply without overflow. */
static void test_every_role(void **state)
{
    (void)state;
    struct shape *s = accept("{" QWEN35_TEXT "}");
    int present = 0;
    for (int layer = -1; layer <= s->n_layer; layer++) {
        for (int role = 0; role < ROLE_COUNT; role++) {
            if (!model_has(s, (enum role)role, layer))
                continue;
            int n;
            int64_t rows, cols;
            role_dims(s, (enum role)role, &n, &rows, &cols);
            assert_true(n > 0 && rows > 0 && cols > 0);
            present++;
        }
    }
    /* 3 outside; 30 linear layers of 2 + 9 + 8; 10 full ones and the MTP layer of 2 + 6 + 8; 4 of MTP's own
     */
    assert_int_equal(present, 3 + 30 * 19 + 11 * 16 + 4);
    free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_qwen35_moe), cmocka_unit_test(test_qwen35_dense),
        cmocka_unit_test(test_qwen3_moe),  cmocka_unit_test(test_qwen3_and_qwen2),
        cmocka_unit_test(test_refusals),   cmocka_unit_test(test_rope),
        cmocka_unit_test(test_names),      cmocka_unit_test(test_every_role),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
