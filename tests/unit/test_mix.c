/* test_mix.c: which type each tensor gets; expectations are written by hand from the published presets. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "quant/qtype.h"

/* A tensor of a hybrid MoE with `n_layer` layers, each of which has one attn_v or attn_qkv. */
static struct mix_tensor tensor(const char *name, int64_t cols, int n_dims, int layer, int n_layer)
{
    struct mix_tensor t = { .gguf_name = name,
                            .rows = n_dims > 1 ? 512 : 1,
                            .cols = cols,
                            .n_dims = n_dims,
                            .layer = layer,
                            .n_layer = n_layer,
                            .i_attn_v = layer,
                            .n_attn_v = n_layer,
                            .n_expert = 24,
                            .n_head = 4,
                            .n_head_kv = 2 };
    return t;
}

static void expect(enum mix m, struct mix_tensor t, enum qtype want)
{
    enum qtype got = mix_pick(m, &t);
    if (got != want)
        fail_msg("%s, %s: %s instead of %s", mix_name(m), t.gguf_name, qtype_info(got)->name,
                 qtype_info(want)->name);
}

static void names_list_and_file_types_agree(void **state)
{
    (void)state;
    char list[256] = "";
    for (int m = MIX_NONE + 1; m < MIX_COUNT; m++) {
        assert_int_equal(mix_from_name(mix_name((enum mix)m)), m);
        size_t n = strlen(list);
        snprintf(list + n, sizeof list - n, "%s%s", n ? " " : "", mix_name((enum mix)m));
    }
    assert_string_equal(mix_list(), list);
    assert_int_equal(mix_from_name("Q4_K_M"), MIX_Q4_K_M);
    assert_int_equal(mix_from_name("nf4_dq"), MIX_NF4_DQ);
    assert_int_equal(mix_from_name("q4_k_x"), MIX_NONE);
    assert_int_equal(mix_from_name("none"), MIX_NONE);
    assert_int_equal(mix_from_name(""), MIX_NONE);
    const struct {
        enum mix mix;
        uint32_t id;
    } ids[] = { { MIX_F32, 0 },         { MIX_F16, 1 },     { MIX_Q4_0, 2 },    { MIX_Q8_0, 7 },
                { MIX_Q4_K_S, 14 },     { MIX_Q4_K_M, 15 }, { MIX_Q5_K_S, 16 }, { MIX_Q5_K_M, 17 },
                { MIX_Q6_K, 18 },       { MIX_IQ4_NL, 25 }, { MIX_BF16, 32 },   { MIX_MXFP4, 38 },
                { MIX_NF4, UINT32_MAX } };
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++)
        assert_int_equal(mix_file_type(ids[i].mix), ids[i].id);
}

/* The types in a Q8_0 file that llama.cpp's converter wrote from a Qwen3.5 MoE with 256 columns. */
static void q8_0_is_what_the_converter_writes(void **state)
{
    (void)state;
    const struct {
        const char *name;
        int64_t cols;
        int n_dims;
        enum qtype type;
    } file[] = {
        { "output.weight", 256, 2, QTYPE_Q8_0 },
        { "token_embd.weight", 256, 2, QTYPE_Q8_0 },
        { "output_norm.weight", 256, 1, QTYPE_F32 },
        { "blk.0.attn_norm.weight", 256, 1, QTYPE_F32 },
        { "blk.0.ssm_a", 4, 1, QTYPE_F32 },
        { "blk.0.ssm_conv1d.weight", 4, 2, QTYPE_F32 },
        { "blk.0.ssm_dt.bias", 4, 1, QTYPE_F32 },
        { "blk.0.ssm_alpha.weight", 256, 2, QTYPE_Q8_0 },
        { "blk.0.ssm_beta.weight", 256, 2, QTYPE_Q8_0 },
        { "blk.0.attn_qkv.weight", 256, 2, QTYPE_Q8_0 },
        { "blk.0.attn_gate.weight", 256, 2, QTYPE_Q8_0 },
        { "blk.0.ssm_norm.weight", 128, 1, QTYPE_F32 },
        { "blk.0.ssm_out.weight", 512, 2, QTYPE_Q8_0 },
        { "blk.0.ffn_down_exps.weight", 256, 3, QTYPE_Q8_0 },
        { "blk.0.ffn_gate_inp.weight", 256, 2, QTYPE_F32 },
        { "blk.0.ffn_gate_inp_shexp.weight", 256, 1, QTYPE_F32 },
        { "blk.0.ffn_gate_shexp.weight", 256, 2, QTYPE_Q8_0 },
        { "blk.3.attn_k_norm.weight", 256, 1, QTYPE_F32 },
        { "blk.3.attn_v.weight", 256, 2, QTYPE_Q8_0 },
        { "blk.8.nextn.eh_proj.weight", 512, 2, QTYPE_Q8_0 },
        { "blk.8.nextn.enorm.weight", 256, 1, QTYPE_F32 },
    };
    for (size_t i = 0; i < sizeof file / sizeof *file; i++)
        expect(MIX_Q8_0, tensor(file[i].name, file[i].cols, file[i].n_dims, 0, 9), file[i].type);
}

/* Which of 9 and of 48 layers get more bits in Q4_K_M: first and last eighth, every third between. */
static void q4_k_m_spreads_its_bits(void **state)
{
    (void)state;
    /* n = 9: n/8 = 1, 7n/8 = 7: layers 0; 3, 6 ((i - 1) % 3 == 2); 7, 8 */
    const char *want9 = "100100111";
    /* n = 48: layers 0-5; 8, 11, ... 41; 42-47 */
    const char *want48 = "111111001001001001001001001001001001001001111111";
    for (int i = 0; i < 9; i++) {
        enum qtype type = want9[i] == '1' ? QTYPE_Q6_K : QTYPE_Q4_K;
        expect(MIX_Q4_K_M, tensor("blk.3.attn_v.weight", 256, 2, i, 9), type);
        expect(MIX_Q4_K_M, tensor("blk.0.attn_qkv.weight", 256, 2, i, 9), type);
        expect(MIX_Q4_K_M, tensor("blk.0.ffn_down_exps.weight", 256, 3, i, 9), type);
        expect(MIX_Q4_K_M, tensor("blk.0.ffn_down_shexp.weight", 256, 2, i, 9), type);
    }
    for (int i = 0; i < 48; i++) {
        bool more = want48[i] == '1';
        expect(MIX_Q4_K_M, tensor("blk.0.ffn_down.weight", 512, 2, i, 48), more ? QTYPE_Q6_K : QTYPE_Q4_K);
        expect(MIX_Q5_K_M, tensor("blk.0.attn_v.weight", 512, 2, i, 48), more ? QTYPE_Q6_K : QTYPE_Q5_K);
    }
}

/* The value tensors' own index counts, not the layer. */
static void values_count_by_themselves(void **state)
{
    (void)state;
    struct mix_tensor t = tensor("blk.40.attn_v.weight", 256, 2, 40, 48);
    t.i_attn_v = 10, t.n_attn_v = 12; /* 12/8 = 1, 7*12/8 = 10: in the last eighth */
    expect(MIX_Q4_K_M, t, QTYPE_Q6_K);
    t.i_attn_v = 9; /* (9 - 1) % 3 == 2 */
    expect(MIX_Q4_K_M, t, QTYPE_Q6_K);
    t.i_attn_v = 8;
    expect(MIX_Q4_K_M, t, QTYPE_Q4_K);
}

static void q4_k_s_spends_on_the_first_layers(void **state)
{
    (void)state;
    for (int i = 0; i < 48; i++) {
        expect(MIX_Q4_K_S, tensor("blk.0.attn_v.weight", 256, 2, i, 48), i < 4 ? QTYPE_Q5_K : QTYPE_Q4_K);
        expect(MIX_Q4_K_S, tensor("blk.0.ffn_down_exps.weight", 256, 3, i, 48),
               i < 6 ? QTYPE_Q5_K : QTYPE_Q4_K);
        expect(MIX_Q5_K_S, tensor("blk.0.ffn_down_exps.weight", 256, 3, i, 48), QTYPE_Q5_K);
    }
}

static void iq4_nl_spends_on_shared_values(void **state)
{
    (void)state;
    struct mix_tensor t = tensor("blk.20.attn_v.weight", 256, 2, 20, 48);
    expect(MIX_IQ4_NL, t, QTYPE_IQ4_NL); /* 2 heads share a value head */
    t.n_head = 8;
    expect(MIX_IQ4_NL, t, QTYPE_Q5_K);
    t.n_head_kv = 0;
    expect(MIX_IQ4_NL, t, QTYPE_IQ4_NL);
    expect(MIX_IQ4_NL, tensor("blk.5.ffn_down_exps.weight", 256, 3, 5, 48), QTYPE_Q5_K);
    expect(MIX_IQ4_NL, tensor("blk.6.ffn_down_exps.weight", 256, 3, 6, 48), QTYPE_IQ4_NL);
}

static void head_and_embedding(void **state)
{
    (void)state;
    const struct {
        enum mix mix;
        enum qtype head, embed;
    } want[] = {
        { MIX_F32, QTYPE_F32, QTYPE_F32 },        { MIX_F16, QTYPE_F16, QTYPE_F16 },
        { MIX_BF16, QTYPE_BF16, QTYPE_BF16 },     { MIX_Q8_0, QTYPE_Q8_0, QTYPE_Q8_0 },
        { MIX_Q4_0, QTYPE_Q6_K, QTYPE_Q4_0 },     { MIX_Q4_K_S, QTYPE_Q6_K, QTYPE_Q4_K },
        { MIX_Q4_K_M, QTYPE_Q6_K, QTYPE_Q4_K },   { MIX_Q5_K_S, QTYPE_Q6_K, QTYPE_Q5_K },
        { MIX_Q5_K_M, QTYPE_Q6_K, QTYPE_Q5_K },   { MIX_Q6_K, QTYPE_Q6_K, QTYPE_Q6_K },
        { MIX_IQ4_NL, QTYPE_Q6_K, QTYPE_IQ4_NL }, { MIX_MXFP4, QTYPE_Q8_0, QTYPE_Q8_0 },
        { MIX_NF4, QTYPE_BF16, QTYPE_BF16 },      { MIX_NF4_DQ, QTYPE_BF16, QTYPE_BF16 },
        { MIX_FP4, QTYPE_BF16, QTYPE_BF16 },
    };
    assert_int_equal(sizeof want / sizeof *want, MIX_COUNT - 1);
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        struct mix_tensor head = tensor("output.weight", 256, 2, -1, 9);
        struct mix_tensor embed = tensor("token_embd.weight", 256, 2, -1, 9);
        expect(want[i].mix, head, want[i].head);
        expect(want[i].mix, embed, want[i].embed);
        embed.tied = true;
        expect(want[i].mix, embed, want[i].head);
    }
}

static void small_tensors_stay_f32_in_every_mix(void **state)
{
    (void)state;
    const char *names[] = { "blk.0.ffn_gate_inp.weight",
                            "blk.0.ffn_gate_inp_shexp.weight",
                            "blk.0.attn_norm.weight",
                            "blk.0.ssm_conv1d.weight",
                            "blk.0.ssm_a",
                            "blk.0.ssm_dt.bias",
                            "token_types.weight",
                            "position_embd.weight" };
    for (int m = MIX_NONE + 1; m < MIX_COUNT; m++) {
        for (size_t i = 0; i < sizeof names / sizeof *names; i++)
            expect((enum mix)m, tensor(names[i], 256, 2, 0, 9), QTYPE_F32);
        expect((enum mix)m, tensor("blk.0.attn_q.weight", 256, 1, 0, 9), QTYPE_F32); /* one row: a vector */
    }
}

static void rows_that_do_not_fit_fall_back(void **state)
{
    (void)state;
    const struct {
        enum mix mix;
        const char *name;
        int64_t cols;
        enum qtype type;
    } want[] = {
        { MIX_Q4_K_M, "blk.4.attn_q.weight", 96, QTYPE_Q5_0 },
        { MIX_Q5_K_M, "blk.4.attn_q.weight", 96, QTYPE_Q5_1 },
        { MIX_Q6_K, "blk.4.attn_q.weight", 96, QTYPE_Q8_0 },
        { MIX_Q4_K_M, "output.weight", 96, QTYPE_Q8_0 },
        { MIX_Q4_0, "output.weight", 96, QTYPE_Q8_0 },
        { MIX_Q4_0, "blk.4.attn_q.weight", 96, QTYPE_Q4_0 },
        { MIX_Q4_K_M, "blk.4.attn_q.weight", 100, QTYPE_F16 },
        { MIX_Q8_0, "blk.4.attn_q.weight", 100, QTYPE_F16 },
        { MIX_Q4_K_M, "output.weight", 100, QTYPE_F16 },
        { MIX_MXFP4, "blk.4.ffn_up.weight", 100, QTYPE_F16 },
        { MIX_NF4, "blk.4.attn_q.weight", 96, QTYPE_BF16 },
        { MIX_NF4_DQ, "blk.4.attn_q.weight", 96, QTYPE_BF16 },
        { MIX_F16, "blk.4.attn_q.weight", 7, QTYPE_F16 },
        { MIX_BF16, "blk.4.attn_q.weight", 7, QTYPE_BF16 },
    };
    for (size_t i = 0; i < sizeof want / sizeof *want; i++)
        expect(want[i].mix, tensor(want[i].name, want[i].cols, 2, 4, 32), want[i].type);
}

static void mxfp4_takes_the_experts_only(void **state)
{
    (void)state;
    expect(MIX_MXFP4, tensor("blk.4.ffn_gate_exps.weight", 256, 3, 4, 32), QTYPE_MXFP4);
    expect(MIX_MXFP4, tensor("blk.0.ffn_down_exps.weight", 256, 3, 0, 32), QTYPE_MXFP4);
    expect(MIX_MXFP4, tensor("blk.4.ffn_down_shexp.weight", 256, 2, 4, 32), QTYPE_Q8_0);
    expect(MIX_MXFP4, tensor("blk.4.attn_q.weight", 256, 2, 4, 32), QTYPE_Q8_0);
}

static void nf4_takes_every_linear_layer(void **state)
{
    (void)state;
    const char *names[] = { "blk.4.attn_q.weight",        "blk.0.attn_qkv.weight",
                            "blk.0.ssm_alpha.weight",     "blk.0.ssm_out.weight",
                            "blk.4.ffn_down_exps.weight", "blk.4.ffn_up_shexp.weight",
                            "blk.8.nextn.eh_proj.weight" };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        expect(MIX_NF4, tensor(names[i], 64, 2, 0, 9), QTYPE_NF4);
        expect(MIX_NF4_DQ, tensor(names[i], 64, 2, 0, 9), QTYPE_NF4_DQ);
        expect(MIX_FP4, tensor(names[i], 64, 2, 0, 9), QTYPE_FP4);
    }
}

static void eight_experts_keep_keys_and_values(void **state)
{
    (void)state;
    const char *values[] = { "blk.4.attn_v.weight", "blk.4.attn_k.weight", "blk.4.attn_qkv.weight" };
    for (int i = 0; i < 3; i++) {
        struct mix_tensor t = tensor(values[i], 256, 2, 4, 32);
        t.n_expert = 8;
        expect(MIX_Q4_K_M, t, QTYPE_Q8_0);
        expect(MIX_Q4_0, t, QTYPE_Q8_0);
        expect(MIX_NF4, t, QTYPE_NF4);
        expect(MIX_BF16, t, QTYPE_BF16);
    }
    struct mix_tensor out = tensor("blk.4.attn_output.weight", 256, 2, 4, 32);
    expect(MIX_Q4_K_M, out, QTYPE_Q4_K);
    out.n_expert = 8;
    expect(MIX_Q4_K_M, out, QTYPE_Q5_K);
    expect(MIX_IQ4_NL, out, QTYPE_Q5_K);
    expect(MIX_Q5_K_M, out, QTYPE_Q5_K);
    expect(MIX_Q6_K, out, QTYPE_Q6_K);
}

static void every_picked_type_can_be_encoded(void **state)
{
    (void)state;
    const char *names[] = { "output.weight",
                            "token_embd.weight",
                            "blk.0.attn_v.weight",
                            "blk.0.attn_output.weight",
                            "blk.0.ffn_down_exps.weight",
                            "blk.0.attn_norm.weight" };
    const int64_t cols[] = { 512, 192, 96, 17 };
    for (int m = MIX_NONE + 1; m < MIX_COUNT; m++)
        for (int i = 0; i < 6; i++)
            for (int c = 0; c < 4; c++) {
                struct mix_tensor t = tensor(names[i], cols[c], 3, 0, 9);
                enum qtype type = mix_pick((enum mix)m, &t);
                assert_true(qtype_fits(type, cols[c]));
                if (!qtype_info(type)->encode)
                    fail_msg("%s picks %s, which nothing encodes", mix_name((enum mix)m),
                             qtype_info(type)->name);
            }
    struct mix_tensor t = tensor("blk.0.attn_v.weight", 256, 2, 0, 9);
    assert_int_equal(mix_pick(MIX_NONE, &t), QTYPE_NONE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_list_and_file_types_agree),
        cmocka_unit_test(q8_0_is_what_the_converter_writes),
        cmocka_unit_test(q4_k_m_spreads_its_bits),
        cmocka_unit_test(values_count_by_themselves),
        cmocka_unit_test(q4_k_s_spends_on_the_first_layers),
        cmocka_unit_test(iq4_nl_spends_on_shared_values),
        cmocka_unit_test(head_and_embedding),
        cmocka_unit_test(small_tensors_stay_f32_in_every_mix),
        cmocka_unit_test(rows_that_do_not_fit_fall_back),
        cmocka_unit_test(mxfp4_takes_the_experts_only),
        cmocka_unit_test(nf4_takes_every_linear_layer),
        cmocka_unit_test(eight_experts_keep_keys_and_values),
        cmocka_unit_test(every_picked_type_can_be_encoded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
