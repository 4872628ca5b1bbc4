/*
 * test_export.c: models written in other formats and read back. The tiny checkpoints of every architecture
 * exist in both containers, written by transformers and by an independent converter, so each direction has a
 * judge.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "load/convert.h"
#include "load/export.h"
#include "model/safetensors_write.h"
#include "plan/plan.h"
#include "support/tiny_files.h"
#include "support/tiny_model.h"

static struct threads *pool;
static char *folder;

static int begin_all(void **state)
{
    struct err e;
    (void)state;
    folder = tiny_folder();
    return threads_open(&pool, 2, &e);
}

static int end_all(void **state)
{
    (void)state;
    threads_close(&pool);
    tiny_folder_end(&folder);
    return 0;
}

static const char *path_of(const char *name)
{
    static char path[4][256];
    static int turn;
    char *p = path[turn++ % 4];
    snprintf(p, sizeof path[0], "%s/%s", folder, name);
    return p;
}

static void remove_folder(const char *path)
{
    DIR *d = opendir(path);
    assert_non_null(d);
    for (struct dirent *entry; (entry = readdir(d));)
        if (entry->d_name[0] != '.')
            tiny_unlink(path, entry->d_name);
    closedir(d);
    assert_int_equal(rmdir(path), 0);
}

static struct model *open_model(const char *path)
{
    struct model *m = NULL;
    struct err e = { 0 };
    if (model_open(&m, path, &e))
        fail_msg("%s: %s (%s)", path, e.what, e.where);
    return m;
}

static void write_as(const struct model *m, const char *out, enum mix mix)
{
    struct err e = { 0 };
    struct export_options opt = { .mix = mix, .threads = pool, .shard_bytes = 100000 };
    int rc = export_is_folder(mix) ? export_safetensors(m, out, &opt, &e) : export_gguf(m, out, &opt, &e);
    if (rc)
        fail_msg("%s as %s: %s (%s)", m->path, mix_name(mix), e.what, e.where);
}

/* ---- comparing weights as the engine sees them ---- */

/* The matrix as f32, malloc'ed. */
static float *values(const struct model *m, enum role role, int layer, int expert, struct weight_source *src)
{
    struct err e = { 0 };
    struct convert_source *c = NULL;
    if (model_find(m, role, layer, expert, src, &e) || convert_open(&c, m, src, &e))
        fail_msg("%s: %s (%s)", m->path, e.what, e.where);
    float *out = malloc((size_t)(src->rows * src->cols) * sizeof *out);
    void *scratch = malloc(convert_scratch_bytes(src, src->rows) + 1);
    assert_true(out && scratch);
    if (convert_rows(c, 0, src->rows, out, scratch, &e))
        fail_msg("%s: %s (%s)", m->path, e.what, e.where);
    convert_close(&c);
    free(scratch);
    return out;
}

/* What encoding x as t and decoding it again gives, in place. */
static void through_format(enum qtype t, int64_t rows, int64_t cols, float *x)
{
    size_t data_bytes, scale_bytes;
    assert_true(qtype_sizes(t, rows, cols, &data_bytes, &scale_bytes));
    struct qmat_encoder enc = { t, rows, cols, malloc(data_bytes + 1), malloc(scale_bytes + 1), NULL };
    enc.absmax = malloc((size_t)(rows * cols / 64 + 1) * sizeof(float));
    qmat_encode(&enc, 0, rows, x);
    qmat_encode_finish(&enc);
    struct qmat mat = { t, rows, cols, 0, enc.data, enc.scale };
    qmat_decode(&mat, 0, rows, x);
    free(enc.data);
    free(enc.scale);
    free(enc.absmax);
}

/* How a written model's values are judged. */
struct judge {
    const struct model *want, *got;
    const struct model *want_mtp_norms; /* the two norms before MTP's projection; NULL: as want */
    enum mix mix;                       /* what `got` was written as; MIX_NONE: equal */
    float tolerance;                    /* of vectors, which some transformations round */
};

static void compare_matrix(const struct judge *j, enum role role, int layer, int expert)
{
    struct weight_source a, b;
    bool mtp_norm = role == ROLE_MTP_NORM_EMBED || role == ROLE_MTP_NORM_HIDDEN;
    const struct model *from = mtp_norm && j->want_mtp_norms ? j->want_mtp_norms : j->want;
    float *want = values(from, role, layer, expert, &a), *got = values(j->got, role, layer, expert, &b);
    int64_t n = a.rows * a.cols;
    float tolerance = plan_is_vector(role) || a.rows == 1 ? j->tolerance : 0;
    if (j->mix != MIX_NONE && b.type != a.type)
        through_format(b.type, a.rows, a.cols, want);
    for (int64_t i = 0; i < n; i++)
        if (!(fabsf(want[i] - got[i]) <= tolerance * (1 + fabsf(want[i]))))
            fail_msg("role %d layer %d expert %d: value %lld is %.9g, want %.9g", (int)role, layer, expert,
                     (long long)i, (double)got[i], (double)want[i]);
    free(want);
    free(got);
}

static void compare_models(const struct judge *j)
{
    const struct shape *s = &j->want->shape;
    assert_int_equal(s->arch, j->got->shape.arch);
    assert_int_equal(s->n_layer, j->got->shape.n_layer);
    assert_int_equal(s->n_mtp, j->got->shape.n_mtp);
    assert_int_equal(s->n_vocab, j->got->shape.n_vocab);
    assert_int_equal(s->n_rot, j->got->shape.n_rot);
    assert_int_equal(s->n_ctx_train, j->got->shape.n_ctx_train);
    assert_int_equal(s->tied, j->got->shape.tied);
    assert_true(s->rope_theta == j->got->shape.rope_theta && s->rms_eps == j->got->shape.rms_eps);
    assert_memory_equal(s->mixer, j->got->shape.mixer, sizeof s->mixer);
    for (int layer = -1; layer < s->n_layer + s->n_mtp; layer++)
        for (int role = 0; role < ROLE_COUNT; role++) {
            int n;
            int64_t rows, cols;
            role_dims(s, (enum role)role, &n, &rows, &cols);
            bool expert = role == ROLE_EXPERT_GATE || role == ROLE_EXPERT_UP || role == ROLE_EXPERT_DOWN;
            for (int i = 0; i < n && model_has(s, (enum role)role, layer); i++)
                compare_matrix(j, (enum role)role, layer, expert ? i : -1);
        }
}

static const char *const architectures[] = { "qwen3_5_moe", "qwen3_5", "qwen3_moe", "qwen3", "qwen2" };
enum { N_ARCH = sizeof architectures / sizeof *architectures };

static struct model *open_tiny(const char *name, const char *suffix)
{
    char path[128];
    snprintf(path, sizeof path, "tests/data/tiny/%s%s", name, suffix);
    return open_model(path);
}

/* ---- tests ---- */

static void a_checkpoint_becomes_the_gguf_of_another_converter(void **state)
{
    (void)state;
    for (int i = 0; i < N_ARCH; i++) {
        struct model *source = open_tiny(architectures[i], ""),
                     *theirs = open_tiny(architectures[i], ".gguf");
        const char *out = path_of("out.gguf");
        write_as(source, out, MIX_BF16);
        struct model *ours = open_model(out);
        /* The fixture leaves MTP's input norms without the 1 that llama.cpp's converter adds. */
        compare_models(
            &(struct judge){ .want = theirs, .got = ours, .want_mtp_norms = source, .tolerance = 1e-6f });
        for (int k = 0; k < theirs->dir->n_tensor; k++) {
            const struct tensor *a = &theirs->dir->tensor[k], *b = tensor_dir_find(ours->dir, a->name);
            if (!b || a->type != b->type)
                fail_msg("%s: %s is %s, want %s", architectures[i], a->name, b ? b->type_name : "missing",
                         a->type_name);
        }
        for (int k = 0; k < theirs->gguf->n_pair;
             k++) { /* every key that their reader needs, with its type */
            const struct gguf_pair *p = &theirs->gguf->pair[k];
            char key[128];
            snprintf(key, sizeof key, "%.*s", (int)p->key.len, p->key.data);
            const struct gguf_value *v = gguf_find(ours->gguf, key);
            if (!v || v->type != p->value.type || v->count != p->value.count)
                fail_msg("%s: the key %s differs", architectures[i], key);
        }
        model_close(&source);
        model_close(&theirs);
        model_close(&ours);
        unlink(out);
    }
}

static void four_bit_folders_hold_the_encoded_weights(void **state)
{
    (void)state;
    static const enum mix mixes[] = { MIX_NF4, MIX_NF4_DQ, MIX_FP4 };
    for (int i = 0; i < N_ARCH; i++)
        for (int k = 0; k < 3; k++) {
            struct model *source = open_tiny(architectures[i], "");
            const char *out = path_of("four");
            write_as(source, out, mixes[k]);
            struct model *written = open_model(out);
            compare_models(&(struct judge){ .want = source, .got = written, .mix = mixes[k] });
            struct weight_source src;
            struct err e;
            enum role linear = written->shape.n_k_head ? ROLE_DN_QKV : ROLE_Q;
            assert_int_equal(model_find(written, linear, 0, -1, &src, &e), 0);
            assert_int_equal(src.type, mixes[k] == MIX_NF4 ? QTYPE_NF4 : k == 1 ? QTYPE_NF4_DQ : QTYPE_FP4);
            assert_true(written->dir->n_file > 1);
            model_close(&source);
            model_close(&written);
            remove_folder(out);
        }
}

static void a_gguf_becomes_the_checkpoint_again(void **state)
{
    (void)state;
    for (int i = 0; i < N_ARCH; i++) {
        struct model *source = open_tiny(architectures[i], "");
        const char *middle = path_of("middle.gguf"), *out = path_of("back");
        write_as(source, middle, MIX_F32);
        struct model *gguf = open_model(middle);
        write_as(gguf, out, MIX_NF4_DQ);
        struct model *written = open_model(out);
        compare_models(
            &(struct judge){ .want = source, .got = written, .mix = MIX_NF4_DQ, .tolerance = 1e-6f });
        assert_string_equal(written->chat_template, source->chat_template);
        model_close(&source);
        model_close(&gguf);
        model_close(&written);
        remove_folder(out);
        unlink(middle);
    }
}

/* The parts of tokenizer.json that decide ids. */
static void compare_tokenizers(const char *a, const char *b)
{
    static const char *const parts[] = { "vocab", "merges" };
    json_t *x = NULL, *y = NULL;
    struct err e;
    assert_int_equal(json_load_path(a, 1 << 20, &x, &e), 0);
    assert_int_equal(json_load_path(b, 1 << 20, &y, &e), 0);
    for (int i = 0; i < 2; i++)
        assert_true(json_equal(json_object_get(json_object_get(x, "model"), parts[i]),
                               json_object_get(json_object_get(y, "model"), parts[i])));
    const json_t *added = json_object_get(x, "added_tokens"), *other = json_object_get(y, "added_tokens");
    assert_int_equal(json_array_size(added), json_array_size(other));
    for (size_t i = 0; i < json_array_size(added); i++)
        assert_true(json_equal(json_object_get(json_array_get(added, i), "content"),
                               json_object_get(json_array_get(other, i), "content")));
    json_decref(x);
    json_decref(y);
}

static void a_tokenizer_survives_both_ways(void **state)
{
    (void)state;
    struct model *source = open_tiny("qwen3_5_moe", "");
    const char *middle = path_of("middle.gguf"), *out = path_of("end");
    write_as(source, middle, MIX_Q8_0);
    struct model *gguf = open_model(middle);
    write_as(gguf, out, MIX_NF4);
    char path[300];
    snprintf(path, sizeof path, "%s/tokenizer.json", out);
    compare_tokenizers("tests/data/tiny/qwen3_5_moe/tokenizer.json", path);
    model_close(&source);
    model_close(&gguf);
    unlink(middle);
    remove_folder(out);
}

static void gguf_to_gguf_changes_only_types(void **state)
{
    (void)state;
    struct model *source = open_tiny("qwen3_5_moe", ".gguf");
    const char *out = path_of("re.gguf"), *again = path_of("again.gguf");
    write_as(source, out, MIX_Q8_0);
    struct model *written = open_model(out);
    compare_models(&(struct judge){ .want = source, .got = written, .mix = MIX_Q8_0 });
    assert_int_equal(written->dir->n_tensor, source->dir->n_tensor);
    int64_t type;
    struct err e;
    assert_int_equal(gguf_get_int(written->gguf, "general.file_type", 0, 1000, -1, &type, &e), 0);
    assert_int_equal(type, mix_file_type(MIX_Q8_0));
    write_as(written, again, MIX_Q8_0); /* equal types: the bytes are copied */
    struct model *copy = open_model(again);
    for (int i = 0; i < copy->dir->n_tensor; i++) {
        const struct tensor *a = &written->dir->tensor[i], *b = &copy->dir->tensor[i];
        char *x = malloc(a->bytes), *y = malloc(a->bytes);
        assert_string_equal(a->name, b->name);
        assert_int_equal(a->bytes, b->bytes);
        assert_int_equal(tensor_read(written->dir, a, 0, x, a->bytes, &e), 0);
        assert_int_equal(tensor_read(copy->dir, b, 0, y, a->bytes, &e), 0);
        assert_memory_equal(x, y, a->bytes);
        free(x);
        free(y);
    }
    model_close(&source);
    model_close(&written);
    model_close(&copy);
    unlink(out);
    unlink(again);
}

/* FP8 with scales; 4-bit, also with blocks across row ends and fused experts whose blocks fill no group of
 * 256. */
static void quantized_sources_are_decoded(void **state)
{
    (void)state;
    static const char *const names[] = { "qwen3_moe_fp8", "qwen2_nf4_dq", "qwen3_fp4" };
    for (int i = 0; i < 3; i++) {
        struct model *source = open_tiny(names[i], "");
        const char *out = path_of("decoded.gguf");
        write_as(source, out, MIX_F32);
        struct model *written = open_model(out);
        compare_models(&(struct judge){ .want = source, .got = written });
        model_close(&source);
        model_close(&written);
        unlink(out);
    }
}

static void equal_types_are_copied(void **state)
{
    (void)state;
    static const enum mix mixes[] = { MIX_NF4, MIX_NF4_DQ, MIX_FP4 };
    for (int i = 0; i < 3; i++) {
        struct model *source = open_tiny("qwen3_5_moe", "");
        const char *once = path_of("once"), *twice = path_of("twice");
        write_as(source, once, mixes[i]);
        struct model *first = open_model(once);
        write_as(first, twice, mixes[i]);
        struct model *second = open_model(twice);
        compare_models(&(struct judge){ .want = first, .got = second });
        assert_int_equal(first->dir->n_tensor, second->dir->n_tensor);
        model_close(&source);
        model_close(&first);
        model_close(&second);
        remove_folder(once);
        remove_folder(twice);
    }
}

/* A dense layer among layers of experts, weights of experts as they are, and rows without a token. */
static void what_releases_do_not_have_survives_too(void **state)
{
    (void)state;
    static const char tokenizer[] =
        "{\"added_tokens\":[{\"id\":3,\"content\":\"<|end|>\",\"special\":false},"
        "{\"id\":2,\"content\":\"<x>\",\"special\":false}],\"pre_tokenizer\":{\"type\":\"Sequence\","
        "\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(?i:'s|'t|'re|'ve|'m|'ll|'d)|"
        "[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}| ?[^\\\\s\\\\p{L}\\\\p{N}]+"
        "[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+\"}}]},"
        "\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b b\":1},\"merges\":[[\"a\",\"b b\"]]}}";
    char *from = tiny_checkpoint(tiny_qwen3_moe_config, TINY_PLAIN);
    tiny_write_text(from, "tokenizer.json", tokenizer);
    struct model *source = open_model(from);
    const char *middle = path_of("odd.gguf"), *out = path_of("odd");
    write_as(source, middle, MIX_F32);
    struct model *gguf = open_model(middle);
    assert_false(gguf->shape.moe[0]);
    assert_false(gguf->shape.norm_topk);
    compare_models(&(struct judge){ .want = source, .got = gguf });
    static const char *const tokens[] = { "a", "b b", "<x>", "<|end|>", "[PAD4]" };
    static const int64_t types[] = { 1, 1, 4, 3, 5 };
    const struct gguf_value *texts = gguf_find(gguf->gguf, "tokenizer.ggml.tokens");
    for (uint64_t i = 0; i < 5; i++) {
        const struct gguf_string *s = (const struct gguf_string *)texts->array + i;
        int64_t type;
        assert_int_equal(s->len, strlen(tokens[i]));
        assert_memory_equal(s->data, tokens[i], s->len);
        assert_true(gguf_array_int(gguf_find(gguf->gguf, "tokenizer.ggml.token_type"), i, &type));
        assert_int_equal(type, types[i]);
    }
    const struct gguf_string *merge = gguf_find(gguf->gguf, "tokenizer.ggml.merges")->array;
    assert_int_equal(merge->len, 6);
    assert_memory_equal(merge->data,
                        "a b\xc4\xa0"
                        "b",
                        6);
    write_as(gguf, out, MIX_NF4);
    struct model *written = open_model(out);
    assert_false(written->shape.moe[0]);
    assert_false(written->shape.norm_topk);
    compare_models(&(struct judge){ .want = source, .got = written, .mix = MIX_NF4 });
    model_close(&source);
    model_close(&gguf);
    model_close(&written);
    unlink(middle);
    remove_folder(out);
    tiny_unlink(from, "tokenizer.json");
    tiny_folder_end(&from);
}

static int count_entries(const char *path)
{
    DIR *d = opendir(path);
    int n = 0;
    assert_non_null(d);
    while (readdir(d))
        n++;
    closedir(d);
    return n;
}

static int stop(void *user, const struct progress *p)
{
    (void)user;
    assert_true(p->done_bytes <= p->total_bytes);
    return 1;
}

static void stopped_work_leaves_nothing(void **state)
{
    (void)state;
    struct model *source = open_tiny("qwen3_5_moe", "");
    struct err e = { 0 };
    struct export_options opt = { .mix = MIX_NF4, .threads = pool, .progress = stop };
    int before = count_entries(folder);
    assert_int_equal(export_safetensors(source, path_of("stopped"), &opt, &e), ERR_CANCELED);
    opt.mix = MIX_Q8_0;
    assert_int_equal(export_gguf(source, path_of("stopped.gguf"), &opt, &e), ERR_CANCELED);
    assert_int_equal(count_entries(folder), before);
    model_close(&source);
}

static void an_existing_folder_is_kept(void **state)
{
    (void)state;
    struct model *source = open_tiny("qwen3", "");
    struct err e = { 0 };
    struct export_options opt = { .mix = MIX_NF4, .threads = pool };
    tiny_write_text(folder, "file", "content");
    assert_int_equal(export_safetensors(source, folder, &opt, &e), ERR_USAGE);
    assert_non_null(strstr(e.what, "exists already"));
    assert_int_equal(export_safetensors(source, path_of("file"), &opt, &e), ERR_USAGE);
    assert_int_equal(export_safetensors(source, "/nowhere/at/all", &opt, &e), ERR_IO);
    assert_int_equal(export_gguf(source, "/nowhere/at/all.gguf", &opt, &e), ERR_IO);
    tiny_unlink(folder, "file");
    model_close(&source);
}

static void a_safetensors_writer_wants_every_byte(void **state)
{
    (void)state;
    struct safetensors_writer *w;
    struct err e;
    static const int64_t dim[1] = { 4 };
    assert_int_equal(safetensors_writer_open(&w, folder, 100, &e), 0);
    assert_int_equal(safetensors_write_tensor(w, "bytes", "U8", dim, 1), 0);
    assert_int_equal(safetensors_write_tensor(w, "floats", "F32", dim, 1), 1);
    assert_int_equal(safetensors_writer_bytes(w, 1), 16);
    assert_int_equal(safetensors_writer_begin(w, &e), 0);
    assert_int_equal(safetensors_writer_put(w, 0, 0, "1234", 4, &e), 0);
    assert_int_equal(safetensors_writer_put(w, 0, 1, "1234", 4, &e), ERR_USAGE);
    assert_int_equal(safetensors_writer_put(w, 1, 0, "123456789012", 12, &e), 0);
    assert_int_equal(safetensors_writer_commit(&w, &e), ERR_USAGE);
    assert_null(w);
    assert_int_equal(safetensors_writer_open(&w, folder, 100, &e), 0);
    safetensors_write_tensor(w, "x", "F4", dim, 1);
    assert_int_equal(safetensors_writer_begin(w, &e), ERR_FORMAT);
    safetensors_writer_abort(&w);
}

/* Against llama.cpp's converter: tensors, types, order, shapes, bytes, keys. */
static void the_trained_model_equals_the_published_conversion(void **state)
{
    (void)state;
    const char *shared = getenv("TONNE_SHARED");
    char source_path[512], reference_path[540];
    snprintf(source_path, sizeof source_path, "%s/models/novelist", shared ? shared : "../shared");
    snprintf(reference_path, sizeof reference_path, "%s-q8_0.gguf", source_path);
    if (access(reference_path, R_OK))
        skip();
    struct model *source = open_model(source_path), *want = open_model(reference_path);
    const char *out = path_of("novelist.gguf");
    write_as(source, out, MIX_Q8_0);
    struct model *got = open_model(out);
    struct err e;
    assert_int_equal(got->dir->n_tensor, want->dir->n_tensor);
    for (int i = 0; i < want->dir->n_tensor; i++) {
        const struct tensor *a = &want->dir->tensor[i], *b = &got->dir->tensor[i];
        assert_string_equal(a->name, b->name);
        assert_int_equal(a->type, b->type);
        assert_int_equal(a->n_dims, b->n_dims);
        assert_memory_equal(a->dim, b->dim, sizeof a->dim);
        char *x = malloc(a->bytes), *y = malloc(a->bytes);
        assert_int_equal(tensor_read(want->dir, a, 0, x, a->bytes, &e), 0);
        assert_int_equal(tensor_read(got->dir, b, 0, y, a->bytes, &e), 0);
        assert_memory_equal(x, y, a->bytes);
        free(x);
        free(y);
    }
    assert_int_equal(got->gguf->n_pair, want->gguf->n_pair);
    for (int i = 0; i < want->gguf->n_pair; i++) {
        const struct gguf_pair *a = &want->gguf->pair[i], *b = &got->gguf->pair[i];
        assert_int_equal(a->key.len, b->key.len);
        assert_memory_equal(a->key.data, b->key.data, a->key.len);
        assert_int_equal(a->value.type, b->value.type);
        assert_int_equal(a->value.count, b->value.count);
        if (a->value.type == GGUF_STRING && strncmp(a->key.data, "general.name", a->key.len)) {
            assert_int_equal(a->value.s.len, b->value.s.len);
            assert_memory_equal(a->value.s.data, b->value.s.data, a->value.s.len);
        }
    }
    model_close(&source);
    model_close(&want);
    model_close(&got);
    unlink(out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_checkpoint_becomes_the_gguf_of_another_converter),
        cmocka_unit_test(four_bit_folders_hold_the_encoded_weights),
        cmocka_unit_test(a_gguf_becomes_the_checkpoint_again),
        cmocka_unit_test(a_tokenizer_survives_both_ways),
        cmocka_unit_test(gguf_to_gguf_changes_only_types),
        cmocka_unit_test(quantized_sources_are_decoded),
        cmocka_unit_test(equal_types_are_copied),
        cmocka_unit_test(what_releases_do_not_have_survives_too),
        cmocka_unit_test(stopped_work_leaves_nothing),
        cmocka_unit_test(an_existing_folder_is_kept),
        cmocka_unit_test(a_safetensors_writer_wants_every_byte),
        cmocka_unit_test(the_trained_model_equals_the_published_conversion),
    };
    return cmocka_run_group_tests(tests, begin_all, end_all);
}
