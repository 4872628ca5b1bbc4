/*
 * model.c: opens everything one MODEL argument names: headers of the weights, configuration, chat template.
 * What the files cannot be read as is refused here with the reason: foreign quantizations, MLX conversions,
 * ambiguous names.
 *
 * Lives elsewhere: which files (model_files.c), numbers (shape*.c), single weights (model_find.c).
 */
#include "model/model.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "model/bnb.h"
#include "model/model_files.h"
#include "model/names.h"
#include "model/shape_limits.h"

enum { MAX_CONFIG = 16 << 20, MAX_TOKENIZER_CONFIG = 64 << 20, MAX_TEMPLATE = 4 << 20 };

/* ---- quantization methods ---- */

static int refuse_method(const char *method, const char *why, struct err *e)
{
    err_set(e, ERR_FORMAT, "this checkpoint is quantized with %.40s, which cannot be read: %s", method, why);
    err_hint(e, "use the model's original release (tonne quantizes it: --type q4_k_m), or a GGUF");
    return ERR_FORMAT;
}

static int check_fp8(const json_t *q, struct err *e)
{
    const json_t *block = json_object_get(q, "weight_block_size");
    if (!json_is_array(block))
        return 0;
    for (size_t i = 0; i < 2; i++)
        if (json_integer_value(json_array_get(block, i)) != 128)
            return refuse_method("fp8", "\"weight_block_size\" is not [128, 128]", e);
    return 0;
}

/* Methods whose weights we read pass; every other one is named with the reason. */
static int check_method(const json_t *q, struct err *e)
{
    static const struct {
        const char *method, *why;
    } refused[] = {
        { "gptq", "its weights are packed integers in reordered groups" },
        { "awq", "its weights are packed integers, transposed" },
        { "compressed-tensors", "only its \"float-quantized\" form (FP8) is known" },
        { "modelopt", "only its \"FP8\" form is known" },
        { "mlx", "its tensors are packed and transposed in MLX's own way" },
    };
    const char *method = json_get_str(q, "quant_method", NULL);
    if (!method)
        method = json_object_get(q, "group_size") && json_object_get(q, "bits") ? "mlx" : "an unnamed method";
    if (!strcmp(method, "fp8"))
        return check_fp8(q, e);
    if (!strcmp(method, "bitsandbytes"))
        return json_is_true(json_object_get(q, "load_in_8bit"))
                   ? refuse_method("bitsandbytes 8-bit", "only its 4-bit form is known", e)
                   : 0;
    if (!strcmp(method, "compressed-tensors") && !strcmp(json_get_str(q, "format", ""), "float-quantized"))
        return 0;
    if (!strcmp(method, "modelopt") && !strcmp(json_get_str(q, "quant_algo", ""), "FP8"))
        return 0;
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        if (!strcmp(method, refused[i].method))
            return refuse_method(method, refused[i].why, e);
    return refuse_method(method, "its layout is not known here", e);
}

static int check_quantization(const json_t *config, struct err *e)
{
    if (json_is_object(json_object_get(config, "quantization")))
        return refuse_method("MLX", "its tensors are packed and transposed in MLX's own way", e);
    const json_t *q = json_object_get(config, "quantization_config");
    if (!q)
        q = json_object_get(json_object_get(config, "text_config"), "quantization_config");
    return json_is_object(q) ? check_method(q, e) : 0;
}

/* ---- names ---- */

/* The one prefix under which probe exists; fallback when there is none. Two are an error: the same weight
 * twice. */
static int find_prefix(const struct model *m, const char *const *prefixes, size_t n, const char *probe,
                       const char **out, struct err *e)
{
    char name[96], found[96] = "";
    for (size_t i = 0; i < n; i++) {
        stpcpy(stpcpy(name, prefixes[i]), probe);
        if (!tensor_dir_find(m->dir, name))
            continue;
        if (found[0]) {
            err_set(e, ERR_FORMAT, "the same weight is there twice: as %s and as %s", found, name);
            err_where(e, "%s", m->path);
            err_hint(e, "remove the files of one of the two forms, with its index");
            return ERR_FORMAT;
        }
        *out = prefixes[i];
        strcpy(found, name);
    }
    return 0;
}

/* Releases, text-only exports and repacks differ in where they put "language_model."; vision tensors
 * (model.visual., visual., vision_tower.) are never asked for. */
static int find_prefixes(struct model *m, struct err *e)
{
    static const char *const text[] = { "model.language_model.", "model.", "language_model.model.",
                                        "language_model.", "" };
    static const char *const head[] = { "", "model.", "language_model.", "model.language_model." };
    static const char *const mtp[] = { "mtp.", "model.mtp.", "language_model.mtp.",
                                       "model.language_model.mtp." };
    m->prefix = *hf_released_prefixes(&m->shape);
    int rc = find_prefix(m, text, sizeof text / sizeof *text, "embed_tokens.weight", &m->prefix.text, e);
    if (!rc)
        rc = find_prefix(m, head, sizeof head / sizeof *head, "lm_head.weight", &m->prefix.head, e);
    return rc ? rc : find_prefix(m, mtp, sizeof mtp / sizeof *mtp, "fc.weight", &m->prefix.mtp, e);
}

static bool has_tensor(const struct model *m, enum role role, int layer)
{
    char name[HF_NAME_ROOM];
    if (m->kind == MODEL_GGUF)
        role_gguf_name(&m->shape, role, layer, name);
    else
        hf_name(&m->shape, &m->prefix, role, layer, -1, name);
    return tensor_dir_find(m->dir, name) != NULL;
}

/* Many files leave the MTP layer out, whatever their configuration says. */
static void drop_absent_mtp(struct model *m)
{
    if (m->shape.n_mtp && !has_tensor(m, ROLE_MTP_FC, m->shape.n_layer))
        m->shape.n_mtp = 0;
}

/* ---- safetensors ---- */

/* An optional JSON file of the folder. */
static int load_side(const struct model *m, const char *name, size_t max, json_t **out, struct err *e)
{
    char *path = path_join(m->folder, name);
    if (!path)
        return err_set(e, ERR_MEMORY, "no memory for a path");
    int rc = access(path, F_OK) ? 0 : json_load_path(path, max, out, e);
    if (rc)
        err_hint(e, "download the file again");
    free(path);
    return rc;
}

static int load_config(struct model *m, struct err *e)
{
    char *path = path_join(m->folder, "config.json");
    int rc = path ? json_load_path(path, MAX_CONFIG, &m->config, e)
                  : err_set(e, ERR_MEMORY, "no memory for a path");
    if (!rc) {
        rc = check_quantization(m->config, e);
        if (!rc)
            rc = shape_from_config(&m->shape, m->config, e);
        if (rc)
            err_where(e, "%s", path);
    }
    if (rc)
        err_hint(e, "compare the file with the model's original config.json");
    free(path);
    return rc;
}

/* tie_word_embeddings may be missing at both levels, or said at the inner one only; then the file decides. */
static void settle_tied(struct model *m)
{
    const json_t *text = json_object_get(m->config, "text_config");
    const json_t *outer = json_object_get(m->config, "tie_word_embeddings");
    const json_t *inner = json_object_get(text, "tie_word_embeddings");
    bool denied =
        (json_is_false(outer) && !json_is_true(inner)) || (json_is_false(inner) && !json_is_true(outer));
    if (!m->shape.tied && !denied && !has_tensor(m, ROLE_HEAD, -1))
        m->shape.tied = true;
}

static int take_template(struct model *m, const char *text, size_t n, struct err *e)
{
    free(m->chat_template);
    m->chat_template = strndup(text, n);
    return m->chat_template ? 0 : err_set(e, ERR_MEMORY, "no memory for the chat template");
}

/* A string, or a list of {name, template} of which "default" is meant. */
static int template_from_json(struct model *m, const json_t *v, struct err *e)
{
    for (size_t i = 0; i < json_array_size(v); i++) {
        const json_t *one = json_array_get(v, i);
        const char *text = json_get_str(one, "template", NULL);
        if (text && !strcmp(json_get_str(one, "name", ""), "default"))
            return take_template(m, text, strlen(text), e);
    }
    return json_is_string(v) ? take_template(m, json_string_value(v), json_string_length(v), e) : 0;
}

/* chat_template.jinja is the newer place and wins. */
static int load_template(struct model *m, struct err *e)
{
    char *path = path_join(m->folder, "chat_template.jinja");
    size_t n;
    int rc = path ? 0 : err_set(e, ERR_MEMORY, "no memory for a path");
    bool is_file = path && access(path, F_OK) == 0;
    if (is_file)
        rc = file_slurp(path, MAX_TEMPLATE, &m->chat_template, &n, e);
    free(path);
    if (rc || is_file)
        return rc;
    json_t *json = NULL;
    rc = load_side(m, "chat_template.json", MAX_TEMPLATE, &json, e);
    if (!rc)
        rc = template_from_json(m, json_object_get(json, "chat_template"), e);
    json_decref(json);
    if (!rc && !m->chat_template)
        rc = template_from_json(m, json_object_get(m->tokenizer_config, "chat_template"), e);
    return rc;
}

static int open_safetensors(struct model *m, const struct model_files *f, struct err *e)
{
    int rc = load_config(m, e);
    if (!rc)
        rc = safetensors_open(&m->dir, (const char *const *)f->path, f->n_path, e);
    if (!rc)
        rc = find_prefixes(m, e);
    if (rc)
        return rc;
    settle_tied(m);
    rc = quant_states_open(&m->quant, m->dir, e);
    if (rc) {
        err_where(e, "%s", m->path);
        err_hint(e, "use the model's original release, or a GGUF");
    }
    if (!rc)
        rc = load_side(m, "generation_config.json", MAX_CONFIG, &m->generation_config, e);
    if (!rc)
        rc = load_side(m, "tokenizer_config.json", MAX_TOKENIZER_CONFIG, &m->tokenizer_config, e);
    return rc ? rc : load_template(m, e);
}

/* ---- GGUF ---- */

/* The number of embedding rows counts unless a key states it. */
static int settle_vocab(struct model *m, struct err *e)
{
    char key[64];
    const struct tensor *embed = tensor_dir_find(m->dir, "token_embd.weight");
    stpcpy(stpcpy(key, arch_gguf_name(m->shape.arch)), ".vocab_size");
    if (!embed || embed->n_dims != 2 || gguf_find(m->gguf, key))
        return 0; /* model_check says what is wrong, if anything */
    if (embed->dim[0] < 1 || embed->dim[0] > MAX_VOCAB) {
        err_set(e, ERR_FORMAT, "token_embd.weight has %lld rows", (long long)embed->dim[0]);
        err_hint(e, "accepted: 1..%d", MAX_VOCAB);
        return ERR_FORMAT;
    }
    m->shape.n_vocab = (int)embed->dim[0];
    return 0;
}

/* No key tells which layers of a mixture-of-experts model are dense; their tensors do. */
static int settle_dense_layers(struct model *m, struct err *e)
{
    struct shape *s = &m->shape;
    for (int i = 0; i < s->n_layer; i++)
        if (s->moe[i] && !has_tensor(m, ROLE_ROUTER, i) && has_tensor(m, ROLE_GATE, i))
            s->moe[i] = false;
    return shape_check(s, true, e);
}

static int refuse_rope_factors(const struct model *m, struct err *e)
{
    if (!tensor_dir_find(m->dir, "rope_freqs.weight"))
        return 0;
    err_set(e, ERR_FORMAT, "the file has its own RoPE factors (rope_freqs.weight), which are not supported");
    err_hint(e, "convert the original release again");
    return ERR_FORMAT;
}

static int open_gguf(struct model *m, const struct model_files *f, struct err *e)
{
    int rc = gguf_open(&m->gguf, &m->dir, f->path[0], e);
    if (rc)
        return rc;
    rc = shape_from_gguf(&m->shape, m->gguf, e);
    if (!rc)
        rc = settle_vocab(m, e);
    if (!rc)
        rc = settle_dense_layers(m, e);
    if (!rc)
        rc = refuse_rope_factors(m, e);
    if (rc) {
        err_where(e, "%s", m->path);
        err_hint(e, "convert the model again, or download the file again");
    }
    m->shape.tied = !has_tensor(m, ROLE_HEAD, -1);
    struct gguf_string text = gguf_get_str(m->gguf, "tokenizer.chat_template");
    return rc || !text.data ? rc : take_template(m, text.data, text.len, e);
}

/* ---- all together ---- */

int model_open(struct model **out, const char *path, struct err *e)
{
    struct model *m = calloc(1, sizeof *m);
    if (!m)
        return err_set(e, ERR_MEMORY, "no memory for a model");
    struct model_files files = { 0 };
    m->path = strdup(path);
    int rc = m->path ? model_files_find(&files, path, e) : err_set(e, ERR_MEMORY, "no memory for a path");
    if (!rc && !(m->folder = strdup(files.folder)))
        rc = err_set(e, ERR_MEMORY, "no memory for a path");
    m->kind = files.kind;
    if (!rc)
        rc = m->kind == MODEL_GGUF ? open_gguf(m, &files, e) : open_safetensors(m, &files, e);
    if (!rc) {
        drop_absent_mtp(m);
        rc = model_check(m, e);
    }
    model_files_close(&files);
    if (rc)
        model_close(&m);
    else
        *out = m;
    return rc;
}

void model_close(struct model **mp)
{
    struct model *m = *mp;
    *mp = NULL;
    if (!m)
        return;
    quant_states_close(&m->quant);
    tensor_dir_close(&m->dir);
    gguf_meta_close(&m->gguf);
    json_decref(m->config);
    json_decref(m->generation_config);
    json_decref(m->tokenizer_config);
    free(m->chat_template);
    free(m->folder);
    free(m->path);
    free(m);
}
