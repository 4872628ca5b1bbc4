/*
 * test_model.c: finding every weight in every spelling that releases use, and what opening refuses:
 * checkpoints of a few kilobytes built here (tests/support/tiny_model.c), and the trained model in both of
 * its forms.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "support/tiny_model.h"

#define N(a) (sizeof(a) / sizeof *(a))

static struct model *open_ok(const char *folder, const char *name)
{
    struct model *m = NULL;
    struct err e = { 0 };
    char path[600];
    snprintf(path, sizeof path, "%s%s%s", folder, name ? "/" : "", name ? name : "");
    if (model_open(&m, path, &e))
        fail_msg("%s | %s | %s", e.what, e.where, e.hint);
    return m;
}

/* Opening must fail with a message that contains `what`. */
static void open_fails(const char *folder, const char *name, int code, const char *what)
{
    struct model *m = NULL;
    struct err e = { 0 };
    char path[600];
    snprintf(path, sizeof path, "%s%s%s", folder, name ? "/" : "", name ? name : "");
    int rc = model_open(&m, path, &e);
    if (rc == 0)
        fail_msg("opened, instead of: %s", what);
    if (!strstr(e.what, what))
        fail_msg("\"%s\" instead of \"%s\"", e.what, what);
    assert_int_equal(rc, code);
    assert_int_equal(e.code, code);
    assert_null(m);
    if (!e.where[0] || !e.hint[0])
        fail_msg("no %s: %s", e.where[0] ? "hint" : "place", e.what);
}

static struct weight_source find(const struct model *m, enum role role, int layer, int expert)
{
    struct weight_source w;
    struct err e = { 0 };
    if (model_find(m, role, layer, expert, &w, &e))
        fail_msg("role %d, layer %d, expert %d: %s", (int)role, layer, expert, e.what);
    return w;
}

/* Calls model_find for everything; gives the number of matrices. */
static int find_all(const struct model *m)
{
    int found = 0;
    for (int layer = -1; layer < m->shape.n_layer + m->shape.n_mtp; layer++) {
        for (int role = 0; role < ROLE_COUNT; role++) {
            int n;
            int64_t rows, cols;
            if (!model_has(&m->shape, (enum role)role, layer))
                continue;
            role_dims(&m->shape, (enum role)role, &n, &rows, &cols);
            for (int i = 0; i < n; i++, found++) {
                struct weight_source w = find(m, (enum role)role, layer, i);
                assert_true(w.rows == rows && w.cols == cols);
            }
        }
    }
    return found;
}

/* ---- spellings ---- */

enum { H = 192, I = 128, E = 3 }; /* of tiny_moe_config */

static void test_fused(void **state)
{
    (void)state;
    char *folder = tiny_checkpoint(tiny_moe_config, TINY_PLAIN);
    struct model *m = open_ok(folder, NULL);
    assert_int_equal(m->kind, MODEL_SAFETENSORS);
    assert_int_equal(m->shape.n_mtp, 1);
    /* embed, norm, head; layer 0: 2 + 9, layer 1 and MTP: 2 + 6 each, each of them router + 9 + 4; MTP's 4 */
    assert_int_equal(find_all(m), 3 + 11 + 8 + 8 + 3 * (1 + 9 + 4) + 4);
    struct weight_source gate = find(m, ROLE_EXPERT_GATE, 1, 2), up = find(m, ROLE_EXPERT_UP, 1, 2);
    struct weight_source down = find(m, ROLE_EXPERT_DOWN, 1, 2);
    assert_string_equal(gate.tensor->name, "model.language_model.layers.1.mlp.experts.gate_up_proj");
    assert_ptr_equal(gate.tensor, up.tensor);
    assert_true(gate.offset == 2 * 2 * I * H * 2 && up.offset == gate.offset + I * H * 2 &&
                down.offset == 2 * I * H * 2);
    assert_true(gate.type == QTYPE_BF16 && !gate.scale && gate.transform == TRANSFORM_NONE);
    assert_int_equal(find(m, ROLE_NORM_MLP, 0, -1).transform, TRANSFORM_ADD_ONE);
    assert_int_equal(find(m, ROLE_K_NORM, 1, -1).transform, TRANSFORM_ADD_ONE);
    assert_int_equal(find(m, ROLE_MTP_OUT_NORM, 2, -1).transform, TRANSFORM_ADD_ONE);
    assert_int_equal(find(m, ROLE_DN_NORM, 0, -1).transform, TRANSFORM_NONE);
    assert_int_equal(find(m, ROLE_DN_A_LOG, 0, -1).transform, TRANSFORM_NEG_EXP);
    assert_string_equal(find(m, ROLE_Q, 2, -1).tensor->name, "mtp.layers.0.self_attn.q_proj.weight");
    struct weight_source none;
    assert_int_equal(model_find(m, ROLE_Q, 0, -1, &none, NULL), ERR_USAGE);
    assert_int_equal(model_find(m, ROLE_EXPERT_UP, 0, E, &none, NULL), ERR_USAGE);
    assert_int_equal(model_find(m, ROLE_EXPERT_UP, 0, -1, &none, NULL), ERR_USAGE);
    model_close(&m);
    tiny_folder_end(&folder);
}

static void test_split(void **state)
{
    (void)state;
    char *folder = tiny_checkpoint(tiny_moe_config, TINY_SPLIT);
    struct model *m = open_ok(folder, "model.safetensors");
    struct weight_source up = find(m, ROLE_EXPERT_UP, 0, 1);
    assert_string_equal(up.tensor->name, "model.language_model.layers.0.mlp.experts.1.up_proj.weight");
    assert_true(up.offset == 0 && up.rows == I && up.cols == H);
    assert_int_equal(find_all(m), 3 + 11 + 8 + 8 + 3 * (1 + 9 + 4) + 4);
    model_close(&m);
    tiny_folder_end(&folder);

    static const char *const others[] = { tiny_qwen3_config, tiny_qwen2_config, tiny_qwen3_moe_config };
    for (size_t i = 0; i < N(others); i++) {
        for (unsigned style = TINY_PLAIN; style <= TINY_SPLIT; style++) {
            folder = tiny_checkpoint(others[i], style);
            m = open_ok(folder, NULL);
            assert_true(find_all(m) > 10);
            assert_int_equal(find(m, ROLE_OUT_NORM, -1, -1).transform, TRANSFORM_NONE);
            model_close(&m);
            tiny_folder_end(&folder);
        }
    }
}

/* Repacks: "language_model." elsewhere or gone, "model.mtp."; vision tensors beside. */
static void test_prefixes(void **state)
{
    (void)state;
    static const struct {
        const char *text, *head, *mtp;
    } cases[] = {
        { "model.", "", "mtp." },
        { "language_model.model.", "language_model.", "model.mtp." },
        { "", "", "mtp." },
        { "model.language_model.", "", "language_model.mtp." },
    };
    struct shape s;
    tiny_shape(&s, tiny_moe_config);
    for (size_t i = 0; i < N(cases); i++) {
        struct tiny *t = tiny_new();
        tiny_add_weights(t, &s, TINY_PLAIN);
        tiny_add2(t, "model.visual.patch_embed.proj.weight", QTYPE_BF16, 3, 5);
        char *plain = tiny_folder(), *folder = tiny_folder(), name[300];
        tiny_write_text(plain, "config.json", tiny_moe_config);
        tiny_write_safetensors(t, plain, "a.safetensors");
        struct model *m = open_ok(plain, NULL);
        for (int k = 0; k < m->dir->n_tensor; k++) {
            const char *old = m->dir->tensor[k].name;
            if (!strncmp(old, "model.language_model.", 21))
                snprintf(name, sizeof name, "%s%s", cases[i].text, old + 21);
            else if (!strncmp(old, "mtp.", 4))
                snprintf(name, sizeof name, "%s%s", cases[i].mtp, old + 4);
            else if (!strncmp(old, "lm_head", 7))
                snprintf(name, sizeof name, "%s%s", cases[i].head, old);
            else
                continue;
            tiny_rename(t, old, name);
        }
        int n = find_all(m);
        model_close(&m);
        tiny_write_text(folder, "config.json", tiny_moe_config);
        tiny_write_safetensors(t, folder, "model.safetensors");
        m = open_ok(folder, NULL);
        assert_int_equal(m->shape.n_mtp, 1);
        assert_int_equal(find_all(m), n);
        model_close(&m);
        tiny_free(&t);
        tiny_folder_end(&plain);
        tiny_folder_end(&folder);
    }
}

/* ---- FP8 ---- */

static void test_fp8(void **state)
{
    (void)state;
    char *folder = tiny_checkpoint(tiny_moe_config, TINY_FP8);
    struct model *m = open_ok(folder, NULL);
    struct weight_source up = find(m, ROLE_EXPERT_UP, 1, 2), down = find(m, ROLE_EXPERT_DOWN, 1, 2);
    assert_int_equal(up.type, QTYPE_FP8_E4M3);
    assert_string_equal(up.scale->name, "model.language_model.layers.1.mlp.experts.gate_up_proj_scale_inv");
    assert_true(up.offset == (2 * 2 + 1) * I * H &&
                up.scale_first == 2 * 2 + 1);                           /* rows of 128: two per expert */
    assert_true(down.offset == 2 * I * H && down.scale_first == 2 * 2); /* 192 rows: two, the second short */
    assert_string_equal(find(m, ROLE_Q, 1, -1).scale->name,
                        "model.language_model.layers.1.self_attn.q_proj.weight_scale_inv");
    assert_null(find(m, ROLE_ROUTER, 1, -1).scale);
    model_close(&m);
    tiny_folder_end(&folder);

    folder = tiny_checkpoint(tiny_moe_config, TINY_FP8 | TINY_SPLIT);
    m = open_ok(folder, NULL);
    assert_string_equal(find(m, ROLE_EXPERT_DOWN, 2, 1).scale->name,
                        "mtp.layers.0.mlp.experts.1.down_proj.weight_scale_inv");
    assert_true(find(m, ROLE_EXPERT_DOWN, 2, 1).scale_first == 0);
    model_close(&m);
    tiny_folder_end(&folder);
}

/* One change to an otherwise good checkpoint, and what opening says. */
struct change {
    const char *drop, *add;
    enum qtype type;
    int n_dims;
    int64_t dim[3];
    const char *what; /* NULL: accepted */
};

static void try_changes(const char *config, unsigned style, const struct change *c, size_t n)
{
    struct shape s;
    tiny_shape(&s, config);
    for (size_t i = 0; i < n; i++) {
        struct tiny *t = tiny_new();
        char *folder = tiny_folder();
        tiny_add_weights(t, &s, style);
        if (c[i].drop)
            tiny_drop(t, c[i].drop);
        if (c[i].add)
            tiny_add(t, c[i].add, c[i].type, c[i].n_dims, c[i].dim);
        tiny_write_text(folder, "config.json", config);
        tiny_write_safetensors(t, folder, "model.safetensors");
        if (c[i].what) {
            open_fails(folder, NULL, ERR_FORMAT, c[i].what);
        } else {
            struct model *m = open_ok(folder, NULL);
            find_all(m);
            model_close(&m);
        }
        tiny_free(&t);
        tiny_folder_end(&folder);
    }
}

#define L0 "model.layers.0."
#define M0 "model.language_model.layers.0."

static void test_fp8_scales(void **state)
{
    (void)state;
    static const char scale[] = L0 "self_attn.q_proj.weight_scale_inv";
    static const struct change cases[] = {
        { scale, NULL, 0, 0, { 0 }, "the tensor " L0 "self_attn.q_proj.weight_scale_inv is missing" },
        { scale, scale, QTYPE_F32, 2, { 1, 1 }, NULL },
        { scale, scale, QTYPE_F32, 0, { 0 }, NULL },
        { scale, L0 "self_attn.q_proj.weight_scale", QTYPE_F32, 1, { 1 }, NULL },
        { scale,
          L0 "self_attn.q_proj.weight_scale",
          QTYPE_F32,
          2,
          { 128, 1 },
          "the tensor " L0
          "self_attn.q_proj.weight_scale has the shape [128, 1]; the configuration asks for [1]" },
        { scale, scale, QTYPE_I32, 2, { 1, 1 }, "has the type I32, which is no weight format here" },
    };
    try_changes(tiny_qwen3_config, TINY_FP8, cases, N(cases));
}

/* ---- bitsandbytes ---- */

static void test_nf4(void **state)
{
    (void)state;
    for (unsigned nested = 0; nested <= TINY_NESTED; nested += TINY_NESTED) {
        char *folder = tiny_checkpoint(tiny_moe_config, TINY_NF4 | nested);
        struct model *m = open_ok(folder, NULL);
        struct weight_source up = find(m, ROLE_EXPERT_UP, 1, 2), q = find(m, ROLE_Q, 1, -1);
        assert_int_equal(up.type, nested ? QTYPE_NF4_DQ : QTYPE_NF4);
        assert_true(up.offset == 5 * I * H / 2 && up.scale_first == 5 * I * H / 64);
        assert_string_equal(up.scale->name, "model.language_model.layers.1.mlp.experts.gate_up_proj.absmax");
        assert_non_null(up.quant_map);
        assert_true(q.offset == 0 && q.scale_first == 0 && !q.blocks_cross_rows && q.rows == 256);
        assert_int_equal(find(m, ROLE_ROUTER, 1, -1).type, QTYPE_BF16);
        if (nested) {
            assert_true(up.nested_absmax && up.nested_map && up.nested_offset_tensor && up.nested_index == 5);
            assert_true(q.nested_offset == 0.25f && !q.nested_offset_tensor);
        }
        assert_int_equal(find_all(m), 3 + 11 + 8 + 8 + 3 * (1 + 9 + 4) + 4);
        model_close(&m);
        tiny_folder_end(&folder);
        folder =
            tiny_checkpoint(tiny_qwen2_config, TINY_NF4 | nested); /* 72 columns: blocks run across rows */
        m = open_ok(folder, NULL);
        assert_true(find(m, ROLE_Q, 0, -1).blocks_cross_rows);
        model_close(&m);
        tiny_folder_end(&folder);
    }
}

/* The JSON beside the weight, as found in the wild and as damaged. */
static void test_nf4_states(void **state)
{
    (void)state;
    static const struct {
        const char *json, *what;
    } cases[] = {
        { "{\"quant_type\": \"nf4\", \"blocksize\": 64, \"shape\": [128, 64]}", NULL },
        { "{\"quant_type\": \"nf4\", \"blocksize\": 128, \"shape\": [128, 64]}",
          "only blocks of 64 weights are known" },
        { "{\"quant_type\": \"fp4\", \"blocksize\": 64, \"shape\": [128, 64]}", "\"quant_type\" is neither" },
        { "{\"quant_type\": \"nf4\", \"blocksize\": 64, \"shape\": [128, 65]}",
          "its codes do not have the size" },
        { "{\"quant_type\": \"nf4\", \"blocksize\": 64, \"shape\": [64, 128]}",
          "has the shape [64, 128]; the configuration asks for [128, 64]" },
        { "{\"quant_type\": \"nf4\", \"blocksize\": 64, \"shape\": [128, -64]}",
          "something other than sizes" },
        { "{\"quant_type\": \"nf4\", \"blocksize\": 64, \"shape\": []}", "one to three dimensions" },
        { "{\"quant_type\": \"nf4\", \"blocksize\": 64, \"shape\": [1000000000, 1000000000, 1000000000]}",
          "too large" },
        { "{\"quant_type\": \"nf4\", \"blocksize\": 64, \"shape\": [128, 64], \"matrices\": 2}",
          "as 2 matrices instead of 1" },
        { "{\"quant_type\": \"nf4\", \"blocksize\": 64, \"shape\": [128, 64], \"matrices\": 3}",
          "into whole blocks" },
        { "{\"quant_type\": \"nf4\", \"blocksize\": 64", "its quant_state is not valid JSON" },
    };
    struct shape s;
    tiny_shape(&s, tiny_qwen3_config);
    for (size_t i = 0; i < N(cases); i++) {
        struct tiny *t = tiny_new();
        char *folder = tiny_folder();
        tiny_add_weights(t, &s, TINY_NF4);
        tiny_drop(t, L0 "self_attn.q_proj.weight.quant_state.bitsandbytes__nf4");
        tiny_add_text(t, L0 "self_attn.q_proj.weight.quant_state.bitsandbytes__nf4", cases[i].json);
        tiny_drop(t, L0 "self_attn.q_proj.weight"); /* the codes as bfloat16: the same bytes */
        tiny_add2(t, L0 "self_attn.q_proj.weight", QTYPE_BF16, 128 * 64 / 4, 1);
        tiny_write_text(folder, "config.json", tiny_qwen3_config);
        tiny_write_safetensors(t, folder, "model.safetensors");
        if (cases[i].what) {
            open_fails(folder, NULL, ERR_FORMAT, cases[i].what);
        } else {
            struct model *m = open_ok(folder, NULL);
            assert_int_equal(find(m, ROLE_Q, 0, -1).type, QTYPE_NF4);
            model_close(&m);
        }
        tiny_free(&t);
        tiny_folder_end(&folder);
    }
    static const struct change parts[] = {
        { L0 "self_attn.q_proj.weight.absmax", NULL, 0, 0, { 0 }, "\".absmax\" is missing" },
        { L0 "self_attn.q_proj.weight.quant_map", NULL, 0, 0, { 0 }, "\".quant_map\" is missing" },
        { L0 "self_attn.q_proj.weight.nested_absmax",
          L0 "self_attn.q_proj.weight.nested_absmax",
          QTYPE_F32,
          1,
          { 2 },
          "\".nested_absmax\" is missing or has another type or size" },
        { L0 "self_attn.q_proj.weight.nested_quant_map",
          NULL,
          0,
          0,
          { 0 },
          "\".nested_quant_map\" is missing" },
        { L0 "self_attn.q_proj.weight", NULL, 0, 0, { 0 }, "its codes are missing" },
        { L0 "self_attn.q_proj.weight.quant_state.bitsandbytes__nf4",
          NULL,
          0,
          0,
          { 0 },
          "has the type U8, which is no weight format here" },
    };
    try_changes(tiny_qwen3_config, TINY_NF4 | TINY_NESTED, parts, N(parts));
}

/* ---- wrong checkpoints ---- */

static void test_wrong_tensors(void **state)
{
    (void)state;
    static const struct change dense[] = {
        { L0 "mlp.up_proj.weight", NULL, 0, 0, { 0 }, "the tensor " L0 "mlp.up_proj.weight is missing" },
        { L0 "mlp.up_proj.weight",
          L0 "mlp.up_proj.weight",
          QTYPE_BF16,
          2,
          { 96, 65 },
          "the tensor " L0 "mlp.up_proj.weight has the shape [96, 65]; the configuration asks for [96, 64]" },
        { L0 "mlp.up_proj.weight",
          L0 "mlp.up_proj.weight",
          QTYPE_BF16,
          2,
          { 64, 96 },
          "has the shape [64, 96]" },
        { L0 "mlp.up_proj.weight",
          L0 "mlp.up_proj.weight",
          QTYPE_I32,
          2,
          { 96, 64 },
          "has the type I32, which is no weight format here" },
        { L0 "mlp.up_proj.weight", L0 "mlp.up_proj.weight", QTYPE_F16, 2, { 96, 64 }, NULL },
        { NULL, "lm_head.weight", QTYPE_BF16, 2, { 20, 64 }, NULL }, /* a duplicate of the tied embedding */
        { NULL,
          "model.language_model.embed_tokens.weight",
          QTYPE_BF16,
          2,
          { 20, 64 },
          "the same weight is there twice: as model.language_model.embed_tokens.weight and as "
          "model.embed_tokens.weight" },
        { "model.norm.weight", "model.norm.weight", QTYPE_F32, 2, { 1, 64 }, NULL },
        { "model.embed_tokens.weight", NULL, 0, 0, { 0 }, "the tensor model.embed_tokens.weight is missing" },
    };
    try_changes(tiny_qwen3_config, TINY_PLAIN, dense, N(dense));
    static const struct change moe[] = {
        { "mtp.fc.weight", NULL, 0, 0, { 0 }, NULL }, /* then there is no MTP layer */
        { "mtp.norm.weight", NULL, 0, 0, { 0 }, "the tensor mtp.norm.weight is missing" },
        { M0 "linear_attn.conv1d.weight",
          M0 "linear_attn.conv1d.weight",
          QTYPE_BF16,
          3,
          { 128, 4, 1 },
          "this is an MLX conversion" },
        { NULL,
          M0 "mlp.experts.0.down_proj.weight",
          QTYPE_BF16,
          2,
          { H, I },
          "the same weight is there twice" },
        { M0 "mlp.experts.down_proj",
          M0 "mlp.experts.down_proj",
          QTYPE_BF16,
          3,
          { E, I, H },
          "has the shape [3, 128, 192]; the configuration asks for [3, 192, 128]" },
        { M0 "mlp.experts.down_proj",
          NULL,
          0,
          0,
          { 0 },
          "the tensor model.language_model.layers.0.mlp.experts.down_proj is missing" },
    };
    try_changes(tiny_moe_config, TINY_PLAIN, moe, N(moe));
    static const struct change split[] = {
        { M0 "mlp.experts.1.up_proj.weight", NULL, 0, 0, { 0 }, "is missing" },
        { M0 "mlp.experts.1.up_proj.weight",
          M0 "mlp.experts.1.up_proj.weight",
          QTYPE_BF16,
          2,
          { I, 1 },
          "has the shape [128, 1]; the configuration asks for [128, 192]" },
    };
    try_changes(tiny_moe_config, TINY_SPLIT, split, N(split));
}

/* Whether the head is the embedding: both levels of the configuration, then the file. */
static void test_tied(void **state)
{
    (void)state;
    static const struct {
        const char *outer, *inner;
        bool head, tied, fails;
    } cases[] = {
        { "", "", false, true, false },
        { "", "", true, false, false },
        { ", \"tie_word_embeddings\": false", "", false, false, true },
        { ", \"tie_word_embeddings\": false", ", \"tie_word_embeddings\": true", true, false, false },
        { ", \"tie_word_embeddings\": false", ", \"tie_word_embeddings\": true", false, true, false },
        { ", \"tie_word_embeddings\": true", ", \"tie_word_embeddings\": false", true, true, false },
        { "", ", \"tie_word_embeddings\": true", true, true, false },
    };
    size_t n = strlen(tiny_moe_config);
    for (size_t i = 0; i < N(cases); i++) {
        char config[2000];
        struct shape s;
        tiny_shape(&s, tiny_moe_config);
        snprintf(config, sizeof config, "%.*s%s}%s}", (int)n - 2, tiny_moe_config, cases[i].inner,
                 cases[i].outer);
        struct tiny *t = tiny_new();
        tiny_add_weights(t, &s, TINY_PLAIN);
        if (!cases[i].head)
            tiny_drop(t, "lm_head.weight");
        char *folder = tiny_folder();
        tiny_write_text(folder, "config.json", config);
        tiny_write_safetensors(t, folder, "model.safetensors");
        if (cases[i].fails) {
            open_fails(folder, NULL, ERR_FORMAT, "the tensor lm_head.weight is missing");
        } else {
            struct model *m = open_ok(folder, NULL);
            assert_int_equal(m->shape.tied, cases[i].tied);
            assert_int_equal(model_has(&m->shape, ROLE_HEAD, -1), !cases[i].tied);
            assert_string_equal(find(m, ROLE_HEAD, -1, -1).tensor->name,
                                cases[i].tied ? "model.language_model.embed_tokens.weight"
                                              : "lm_head.weight");
            model_close(&m);
        }
        tiny_free(&t);
        tiny_folder_end(&folder);
    }
}

static void test_quantization_methods(void **state)
{
    (void)state;
    static const struct {
        const char *extra, *what;
    } cases[] = {
        { "\"quantization_config\": {\"quant_method\": \"gptq\", \"bits\": 4}",
          "this checkpoint is quantized with gptq, which cannot be read: its weights are packed integers in "
          "reordered groups" },
        { "\"quantization_config\": {\"quant_method\": \"awq\"}", "quantized with awq" },
        { "\"quantization_config\": {\"quant_method\": \"exl3\"}",
          "quantized with exl3, which cannot be read: its layout" },
        { "\"quantization_config\": {\"quant_method\": \"bitsandbytes\", \"load_in_8bit\": true}",
          "bitsandbytes 8-bit" },
        { "\"quantization_config\": {\"quant_method\": \"compressed-tensors\", \"format\": "
          "\"pack-quantized\"}",
          "compressed-tensors" },
        { "\"quantization_config\": {\"quant_method\": \"fp8\", \"weight_block_size\": [64, 128]}",
          "is not [128, 128]" },
        { "\"quantization_config\": {\"group_size\": 64, \"bits\": 4}", "quantized with mlx" },
        { "\"quantization\": {\"group_size\": 64, \"bits\": 4}", "quantized with MLX" },
        { "\"quantization_config\": {\"quant_method\": \"fp8\", \"weight_block_size\": [128, 128]}", NULL },
        { "\"quantization_config\": {\"quant_method\": \"bitsandbytes\", \"load_in_4bit\": true}", NULL },
    };
    for (size_t i = 0; i < N(cases); i++) {
        char *folder = tiny_checkpoint(tiny_qwen3_config, TINY_PLAIN), config[1000];
        snprintf(config, sizeof config, "%.*s, %s}", (int)strlen(tiny_qwen3_config) - 1, tiny_qwen3_config,
                 cases[i].extra);
        tiny_write_text(folder, "config.json", config);
        if (cases[i].what) {
            open_fails(folder, NULL, ERR_FORMAT, cases[i].what);
        } else {
            struct model *m = open_ok(folder, NULL);
            model_close(&m);
        }
        tiny_folder_end(&folder);
    }
}

/* ---- folders ---- */

static void test_folders(void **state)
{
    (void)state;
    char *folder = tiny_folder();
    open_fails("/nowhere/at/all", NULL, ERR_FILE, "there is no such file or directory");
    open_fails(folder, NULL, ERR_FILE, "the directory has no model: neither .safetensors nor .gguf files");
    tiny_write_text(folder, "mmproj-f16.gguf", "x");
    tiny_write_text(folder, "mtp-model.gguf", "x");
    open_fails(folder, NULL, ERR_FILE, "the directory has only side files of a GGUF model");
    tiny_write_text(folder, "pytorch_model.bin", "x");
    open_fails(folder, NULL, ERR_FILE, "only pickled weights");
    open_fails(folder, "pytorch_model.bin", ERR_FORMAT, "this file is neither GGUF nor safetensors");

    struct shape s;
    tiny_shape(&s, tiny_qwen3_config);
    struct tiny *t = tiny_new(), *g = tiny_new();
    tiny_add_weights(t, &s, TINY_PLAIN);
    tiny_add_gguf(g, &s, QTYPE_Q8_0, false);
    tiny_write_gguf(g, folder, "model-q8_0.gguf");
    struct model *m = open_ok(folder, NULL); /* the side files do not count */
    assert_int_equal(m->kind, MODEL_GGUF);
    model_close(&m);
    tiny_write_gguf(g, folder, "other.gguf");
    open_fails(folder, NULL, ERR_FILE, "the directory has 2 GGUF models: model-q8_0.gguf, other.gguf");
    m = open_ok(folder, "other.gguf");
    model_close(&m);

    tiny_write_safetensors(t, folder, "model.safetensors");
    open_fails(folder, "model.safetensors", ERR_FILE, "no config.json");
    tiny_write_text(folder, "config.json", tiny_qwen3_config);
    m = open_ok(folder, NULL); /* complete safetensors come before GGUF */
    assert_int_equal(m->kind, MODEL_SAFETENSORS);
    model_close(&m);
    tiny_unlink(folder, "model.safetensors");
    tiny_write_safetensors(t, folder, "a.safetensors");
    tiny_write_safetensors(t, folder, "b.safetensors");
    open_fails(folder, NULL, ERR_FILE, "the directory has 2 .safetensors files and no index");
    m = open_ok(folder, "b.safetensors");
    model_close(&m);
    tiny_free(&t);
    tiny_free(&g);
    tiny_folder_end(&folder);
}

/* Shards named by content, as the index says; and what an index may not say. */
static void test_shards(void **state)
{
    (void)state;
    static const char index[] =
        "{\"metadata\": {}, \"weight_map\": {\"model.embed_tokens.weight\": \"outside.safetensors\","
        "\"model.layers.0.mlp.up_proj.weight\": \"layers.safetensors\"}}";
    struct shape s;
    tiny_shape(&s, tiny_qwen3_config);
    struct tiny *layers = tiny_new(), *outside = tiny_new();
    tiny_add_weights(layers, &s, TINY_PLAIN);
    tiny_drop(layers, "model.embed_tokens.weight");
    tiny_add2(outside, "model.embed_tokens.weight", QTYPE_BF16, 20, 64);
    char *folder = tiny_folder();
    tiny_write_text(folder, "config.json", tiny_qwen3_config);
    tiny_write_safetensors(layers, folder, "layers.safetensors");
    tiny_write_safetensors(layers, folder, "unrelated.safetensors");
    tiny_write_text(folder, "model.safetensors.index.json", index);
    open_fails(folder, NULL, ERR_FILE,
               "the shard outside.safetensors is missing; model.safetensors.index.json lists 2 files");
    tiny_write_safetensors(outside, folder, "outside.safetensors");
    struct model *m = open_ok(folder, NULL);
    assert_int_equal(m->dir->n_file, 2);
    model_close(&m);
    m = open_ok(folder, "model.safetensors.index.json");
    model_close(&m);
    tiny_write_text(folder, "model.safetensors.index.json",
                    "{\"weight_map\": {\"x\": \"../../etc/x.safetensors\"}}");
    open_fails(folder, NULL, ERR_FORMAT,
               "the index names something that is no .safetensors file beside it, for x");
    tiny_write_text(folder, "model.safetensors.index.json", "{\"weight_map\": {\"x\": 5}}");
    open_fails(folder, NULL, ERR_FORMAT, "the index names something");
    tiny_write_text(folder, "model.safetensors.index.json", "{}");
    open_fails(folder, NULL, ERR_FORMAT, "the index has no \"weight_map\"");
    tiny_write_text(folder, "model.safetensors.index.json", "{");
    open_fails(folder, NULL, ERR_FORMAT, "the JSON text is invalid");
    /* no index at all, but numbered parts */
    tiny_unlink(folder, "model.safetensors.index.json");
    tiny_unlink(folder, "unrelated.safetensors");
    tiny_unlink(folder, "layers.safetensors");
    tiny_unlink(folder, "outside.safetensors");
    tiny_write_safetensors(layers, folder, "m-00002-of-00002.safetensors");
    open_fails(folder, NULL, ERR_FILE, "no index");
    tiny_write_safetensors(outside, folder, "m-00001-of-00002.safetensors");
    m = open_ok(folder, NULL);
    assert_int_equal(m->dir->n_file, 2);
    model_close(&m);
    tiny_free(&layers);
    tiny_free(&outside);
    tiny_folder_end(&folder);
}

static void test_side_files(void **state)
{
    (void)state;
    char *folder = tiny_checkpoint(tiny_qwen3_config, TINY_PLAIN);
    struct model *m = open_ok(folder, NULL);
    assert_null(m->chat_template);
    assert_null(m->generation_config);
    model_close(&m);
    tiny_write_text(folder, "generation_config.json", "{\"eos_token_id\": [1, 2]}");
    tiny_write_text(folder, "tokenizer_config.json",
                    "{\"chat_template\": [{\"name\": \"rag\", \"template\": \"r\"}, {\"name\": \"default\", "
                    "\"template\": \"d\"}]}");
    m = open_ok(folder, NULL);
    assert_string_equal(m->chat_template, "d");
    assert_int_equal(json_array_size(json_object_get(m->generation_config, "eos_token_id")), 2);
    model_close(&m);
    tiny_write_text(folder, "tokenizer_config.json", "{\"chat_template\": \"one\"}");
    m = open_ok(folder, NULL);
    assert_string_equal(m->chat_template, "one");
    model_close(&m);
    tiny_write_text(folder, "chat_template.jinja", "file");
    m = open_ok(folder, NULL);
    assert_string_equal(m->chat_template, "file");
    model_close(&m);
    struct model *none = NULL;
    struct err e = { 0 };
    tiny_write_text(folder, "generation_config.json", "[]");
    assert_int_equal(model_open(&none, folder, &e), ERR_FORMAT);
    assert_non_null(strstr(e.where, "generation_config.json"));
    tiny_folder_end(&folder);
}

/* ---- GGUF ---- */

static struct model *open_gguf(const struct tiny *t, char **folder)
{
    *folder = tiny_folder();
    tiny_write_gguf(t, *folder, "x.gguf");
    return open_ok(*folder, "x.gguf");
}

static void test_gguf(void **state)
{
    (void)state;
    static const char *const configs[] = { tiny_moe_config, tiny_qwen3_config, tiny_qwen2_config,
                                           tiny_qwen3_moe_config };
    for (size_t i = 0; i < N(configs); i++) {
        struct shape s;
        char *folder;
        tiny_shape(&s, configs[i]);
        struct tiny *t = tiny_new();
        tiny_add_gguf(t, &s, QTYPE_F16, false);
        struct model *m = open_gguf(t, &folder);
        s.v_head_tiled = s.n_k_head > 0;
        s.n_eos = 0;
        memset(s.eos, 0, sizeof s.eos);
        s.norm_topk = s.n_expert > 0;
        assert_memory_equal(&m->shape, &s, sizeof s);
        assert_true(find_all(m) > 10);
        model_close(&m);
        tiny_free(&t);
        tiny_folder_end(&folder);
    }
}

static void test_gguf_variants(void **state)
{
    (void)state;
    struct shape s;
    char *folder;
    tiny_shape(&s, tiny_moe_config);
    struct tiny *t = tiny_new();
    tiny_add_gguf(t, &s, QTYPE_Q8_0, true);
    tiny_key_u32(t, "tokenizer.ggml.eos_token_id", 7);
    tiny_key_u32(t, "tokenizer.ggml.eot_token_id", 9);
    tiny_key_str(t, "tokenizer.chat_template", "tpl");
    struct model *m = open_gguf(t, &folder);
    assert_int_equal(m->shape.n_eos, 2);
    assert_string_equal(m->chat_template, "tpl");
    struct weight_source up = find(m, ROLE_EXPERT_UP, 1, 2), down = find(m, ROLE_EXPERT_DOWN, 1, 2);
    assert_string_equal(up.tensor->name, "blk.1.ffn_gate_up_exps.weight");
    assert_true(up.offset == 5 * I * H / 32 * 34 && down.offset == 2 * I * H / 32 * 34 &&
                up.type == QTYPE_Q8_0);
    assert_int_equal(find(m, ROLE_DN_A_LOG, 0, -1).transform, TRANSFORM_NONE);
    assert_int_equal(find(m, ROLE_OUT_NORM, -1, -1).transform, TRANSFORM_NONE);
    model_close(&m);
    tiny_folder_end(&folder);

    tiny_drop(t, "output.weight"); /* then the embedding is the head */
    tiny_drop(t, "blk.2.nextn.eh_proj.weight");
    m = open_gguf(t, &folder);
    assert_true(m->shape.tied && m->shape.n_mtp == 0);
    assert_string_equal(find(m, ROLE_HEAD, -1, -1).tensor->name, "token_embd.weight");
    model_close(&m);
    tiny_folder_end(&folder);

    static const uint32_t kv[3] = { 0, 1, 1 };
    static const uint8_t recurrent[2] = { 1, 0 };
    tiny_key_u32s(t, "qwen35moe.attention.head_count_kv", kv, 3);
    tiny_key_drop(t, "qwen35moe.full_attention_interval");
    tiny_key_bools(t, "qwen35moe.attention.recurrent_layers", recurrent, 2);
    tiny_key_str(t, "qwen35moe.rope.scaling.type", "yarn");
    tiny_key_f32(t, "qwen35moe.rope.scaling.factor", 4);
    tiny_key_u32(t, "qwen35moe.rope.scaling.original_context_length", 1000);
    m = open_gguf(t, &folder);
    assert_true(m->shape.n_head_kv == 1 && m->shape.mixer[0] == MIXER_DELTA_NET &&
                m->shape.mixer[1] == MIXER_ATTENTION);
    assert_true(m->shape.yarn_factor == 4 && m->shape.yarn_ctx == 1000);
    model_close(&m);
    tiny_free(&t);
    tiny_folder_end(&folder);
}

static void test_gguf_refusals(void **state)
{
    (void)state;
    static const struct {
        const char *key;
        int value;        /* as u32; -1: the key is dropped */
        const char *text; /* as a string instead */
        const char *what;
    } cases[] = {
        { "general.architecture", 0, "llama", "the architecture \"llama\" is not supported" },
        { "general.architecture", -1, NULL, "the key \"general.architecture\" is missing" },
        { "qwen35moe.block_count", -1, NULL, "the key \"qwen35moe.block_count\" is missing" },
        { "qwen35moe.block_count", 1, NULL, "block_count is 1 and nextn_predict_layers is 1" },
        { "qwen35moe.block_count", 100000, NULL, "qwen35moe.block_count is 100000, outside 1..513" },
        { "qwen35moe.embedding_length", 0, NULL, "qwen35moe.embedding_length is 0, outside 1..524288" },
        { "qwen35moe.embedding_length", 0, "x",
          "qwen35moe.embedding_length is not one integer for all layers" },
        { "qwen35moe.attention.head_count_kv", 4, NULL,
          "attention.head_count is 2, not a multiple of attention.head_count_kv" },
        { "qwen35moe.attention.value_length", 32, NULL,
          "attention.key_length is 64 and attention.value_length is 32" },
        { "qwen35moe.rope.dimension_count", 128, NULL, "rope.dimension_count is 128, not an even number" },
        { "qwen35moe.rope.scaling.type", 0, "linear", "the RoPE scaling \"linear\" is not supported" },
        { "qwen35moe.expert_used_count", 4, NULL, "expert_used_count is 4, outside 1..3 (expert_count)" },
        { "qwen35moe.expert_count", 4, NULL,
          "blk.0.ffn_gate_inp.weight has the shape [3, 192]; the configuration asks for [4, 192]" },
        { "qwen35moe.ssm.inner_size", 63, NULL, "ssm.inner_size is 63 and ssm.time_step_rank is 2" },
        { "qwen35moe.vocab_size", 21, NULL, "the tensor token_embd.weight has the shape [20, 192]" },
    };
    for (size_t i = 0; i < N(cases); i++) {
        struct shape s;
        tiny_shape(&s, tiny_moe_config);
        struct tiny *t = tiny_new();
        char *folder = tiny_folder();
        tiny_add_gguf(t, &s, QTYPE_F16, false);
        if (cases[i].text)
            tiny_key_str(t, cases[i].key, cases[i].text);
        else if (cases[i].value < 0)
            tiny_key_drop(t, cases[i].key);
        else
            tiny_key_u32(t, cases[i].key, (uint32_t)cases[i].value);
        tiny_write_gguf(t, folder, "x.gguf");
        open_fails(folder, NULL, ERR_FORMAT, cases[i].what);
        tiny_free(&t);
        tiny_folder_end(&folder);
    }
}

static void test_gguf_tensors(void **state)
{
    (void)state;
    static const struct {
        const char *add, *what;
        enum qtype type;
    } cases[] = {
        { "rope_freqs.weight", "the file has its own RoPE factors", QTYPE_F32 },
        { "blk.0.ffn_gate_up_exps.weight", "the same weight is there twice", QTYPE_F32 },
        { "blk.0.ffn_up_shexp.scale", "has a second scale (blk.0.ffn_up_shexp.scale)", QTYPE_F32 },
    };
    for (size_t i = 0; i < N(cases); i++) {
        struct shape s;
        tiny_shape(&s, tiny_moe_config);
        struct tiny *t = tiny_new();
        char *folder = tiny_folder();
        tiny_add_gguf(t, &s, QTYPE_NVFP4, false);
        tiny_add1(t, cases[i].add, cases[i].type, 1);
        tiny_write_gguf(t, folder, "x.gguf");
        open_fails(folder, NULL, ERR_FORMAT, cases[i].what);
        tiny_free(&t);
        tiny_folder_end(&folder);
    }
}

/* ---- the trained model ---- */

static struct model *open_shared(const char *name)
{
    const char *shared = getenv("TONNE_SHARED");
    char path[512];
    snprintf(path, sizeof path, "%s/models/%s", shared ? shared : "../shared", name);
    return access(path, R_OK) ? NULL : open_ok(path, NULL);
}

static void test_novelist(void **state)
{
    (void)state;
    struct model *st = open_shared("novelist"), *gguf = open_shared("novelist-q8_0.gguf");
    if (!st || !gguf)
        skip();
    assert_int_equal(st->shape.n_mtp, 1);
    assert_true(find_all(st) == find_all(gguf) && find_all(st) > 600);
    assert_string_equal(st->chat_template, gguf->chat_template);
    struct shape a = st->shape;
    assert_true(!a.v_head_tiled && gguf->shape.v_head_tiled);
    a.v_head_tiled = true;
    assert_memory_equal(&a, &gguf->shape, sizeof a);
    model_close(&st);
    model_close(&gguf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fused),         cmocka_unit_test(test_split),
        cmocka_unit_test(test_prefixes),      cmocka_unit_test(test_fp8),
        cmocka_unit_test(test_fp8_scales),    cmocka_unit_test(test_nf4),
        cmocka_unit_test(test_nf4_states),    cmocka_unit_test(test_wrong_tensors),
        cmocka_unit_test(test_tied),          cmocka_unit_test(test_quantization_methods),
        cmocka_unit_test(test_folders),       cmocka_unit_test(test_shards),
        cmocka_unit_test(test_side_files),    cmocka_unit_test(test_gguf),
        cmocka_unit_test(test_gguf_variants), cmocka_unit_test(test_gguf_refusals),
        cmocka_unit_test(test_gguf_tensors),  cmocka_unit_test(test_novelist),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
