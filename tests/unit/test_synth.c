/* test_synth.c: synthesized weights: finite and sane activations through all layers, the planned types,
 * values of the intended spread, the same bytes for any number of threads, and walks whose neighbours are
 * near. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/engine.h"
#include "load/synth.h"
#include "model/geometry.h"
#include "support/load.h"
#include "text/tokenizer.h"

struct rig {
    struct model *model;
    struct plan *plan;
    struct threads *threads;
    struct device *device;
    struct weights *weights;
};

/* A release's shape with fewer and narrower everything; widths that K-quants accept. */
static void tiny_shape(struct shape *s, const char *name, int layers, int n_vocab)
{
    struct err e = { 0 };
    assert_int_equal(geometry_shape(s, name, layers, &e), 0);
    s->d_model = 512;
    s->n_vocab = n_vocab;
    s->n_expert = s->n_expert ? 16 : 0;
    s->top_k = s->n_expert ? 4 : 0;
    s->d_expert = s->n_expert ? 256 : 0;
    s->d_shared = s->d_shared ? 256 : 0;
    s->d_ff = s->d_ff ? 768 : 0;
    assert_int_equal(shape_check(s, true, &e), 0);
}

static void open_rig_of(struct rig *r, const char *name, int layers, enum mix mix, int n_threads, int n_vocab)
{
    struct err e = { 0 };
    struct machine machine = { .usable_cores = n_threads };
    struct plan_options opt = { .mix = mix, .no_disk = true, .ctx = 64, .batch = 32, .threads = n_threads };
    struct shape s;
    tiny_shape(&s, name, layers, n_vocab);
    int rc = geometry_model(&r->model, name, &s, &e);
    rc = rc ? rc : plan_build(&r->plan, r->model, &machine, &opt, &e);
    rc = rc ? rc : threads_open(&r->threads, n_threads, &e);
    rc = rc ? rc
            : device_cpu_open(&r->device,
                              &(struct device_cpu_options){ .isa = CPU_ISA_BEST, .threads = r->threads }, &e);
    rc = rc ? rc
            : synth_weights(&r->weights, r->plan, r->device, &(struct synth_options){ r->threads, 7 }, &e);
    if (rc)
        fail_msg("%s: %s", name, e.what);
}

static void open_rig(struct rig *r, const char *name, int layers, enum mix mix, int n_threads)
{
    open_rig_of(r, name, layers, mix, n_threads, 1000);
}

static void close_rig(struct rig *r)
{
    weights_close(&r->weights);
    r->device->ops->close(r->device);
    threads_close(&r->threads);
    plan_close(&r->plan);
    model_close(&r->model);
}

/* ---- what flows through ---- */

struct seen {
    int hidden, rows;
    double least, most; /* root mean square of the residual stream */
};

static void see(void *user, const char *what, int layer, const float *data, int rows, int cols)
{
    struct seen *seen = user;
    (void)layer;
    if (strcmp(what, "hidden"))
        return;
    seen->hidden++;
    for (int r = 0; r < rows; r++) {
        double sum = 0;
        for (int c = 0; c < cols; c++)
            sum += (double)data[r * cols + c] * (double)data[r * cols + c];
        double rms = sqrt(sum / cols);
        assert_true(isfinite(rms));
        seen->least = seen->rows == 0 || rms < seen->least ? rms : seen->least;
        seen->most = rms > seen->most ? rms : seen->most;
        seen->rows++;
    }
}

static void check_forward(const char *name, int layers, enum mix mix)
{
    struct rig r = { 0 };
    struct engine *en;
    struct session *session;
    struct err e = { 0 };
    struct seen seen = { 0 };
    int32_t token[32];
    open_rig(&r, name, layers, mix, 2);
    synth_walk(token, 32, 1000, 3);
    assert_int_equal(
        engine_open(&en, r.weights, r.device, &(struct engine_options){ .max_batch = 32, .max_ctx = 64 }, &e),
        0);
    assert_int_equal(session_open(&session, en, &(struct session_options){ 0 }, &e), 0);
    engine_observe(en, see, &seen);
    assert_int_equal(session_append(session, token, 32, NULL, NULL, &e), 0);
    assert_int_equal(seen.hidden, layers);
    assert_true(seen.least > 0.5 && seen.most < 10);
    double sum = 0, sum2 = 0;
    for (int i = 0; i < 1000; i++) {
        float x = engine_logits(en, 0)[i];
        assert_true(isfinite(x));
        sum += (double)x;
        sum2 += (double)x * (double)x;
    }
    double spread = sqrt(sum2 / 1000 - sum / 1000 * (sum / 1000)); /* the head's gain is 3 */
    assert_true(spread > 2 && spread < 4);
    session_close(&session);
    engine_close(&en);
    close_rig(&r);
}

static void test_forward(void **state)
{
    (void)state;
    check_forward("qwen3.5-35b-a3b", 40, MIX_Q4_K_M); /* all layers */
    check_forward("qwen3-30b-a3b", 48, MIX_Q8_0);
    check_forward("qwen3.5-122b-a10b", 8, MIX_NF4_DQ);
    check_forward("qwen3.5-35b-a3b", 4, MIX_NF4);
    check_forward("qwen2.5-7b", 4, MIX_BF16);
    check_forward("qwen3-30b-a3b", 4, MIX_MXFP4);
}

/* ---- types ---- */

static void test_types(void **state)
{
    (void)state;
    struct rig r = { 0 };
    open_rig(&r, "qwen3.5-35b-a3b", 8, MIX_Q4_K_M, 1);
    for (int i = 0; i < 8; i++) {
        const struct layer_weights *l = &r.weights->layer[i];
        bool more =
            i < 1 || i >= 7 || (i - 1) % 3 == 2; /* the first and last eighth and every third between */
        enum qtype want = more ? QTYPE_Q6_K : QTYPE_Q4_K;
        assert_int_equal(l->moe.expert[3].down.type, want);
        assert_int_equal(l->moe.shared.down.type, want);
        assert_int_equal(l->moe.expert[3].gate.type, QTYPE_Q4_K);
        assert_int_equal(l->moe.router.type, QTYPE_F32);
        assert_int_equal(r.plan->model->shape.mixer[i] == MIXER_ATTENTION ? l->attention.v.type
                                                                          : l->delta_net.qkv.type,
                         want);
    }
    assert_int_equal(r.weights->head.type, QTYPE_Q6_K);
    assert_int_equal(r.weights->embed.type, QTYPE_Q4_K);
    close_rig(&r);
}

/* ---- values ---- */

/* values: how many of the matrix are independent of each other. */
static void check_spread(const struct qmat *m, double sigma, double values)
{
    float *row = malloc((size_t)m->cols * sizeof *row);
    double sum = 0, sum2 = 0, n = (double)(m->rows * m->cols);
    assert_non_null(row);
    for (int64_t i = 0; i < m->rows; i++) {
        qmat_decode(m, i, 1, row);
        for (int64_t c = 0; c < m->cols; c++) {
            sum += (double)row[c];
            sum2 += (double)row[c] * (double)row[c];
        }
    }
    free(row);
    /* 4 standard errors of so many values, and what quantization adds */
    assert_true(fabs(sqrt(sum2 / n) / sigma - 1) < 4 / sqrt(2 * values) + 0.005);
    assert_true(fabs(sum / n) < (4 / sqrt(values) + 0.005) * sigma);
}

static double correlation(const struct qmat *m, int64_t a, int64_t b)
{
    float *x = malloc((size_t)m->cols * sizeof *x), *y = malloc((size_t)m->cols * sizeof *y);
    double xy = 0, xx = 0, yy = 0;
    assert_non_null(x);
    assert_non_null(y);
    qmat_decode(m, a, 1, x);
    qmat_decode(m, b, 1, y);
    for (int64_t c = 0; c < m->cols; c++) {
        xy += (double)x[c] * (double)y[c];
        xx += (double)x[c] * (double)x[c];
        yy += (double)y[c] * (double)y[c];
    }
    free(x);
    free(y);
    return xy / sqrt(xx * yy);
}

static void test_values(void **state)
{
    (void)state;
    static const enum mix mixes[] = { MIX_Q4_K_M, MIX_NF4_DQ, MIX_Q8_0 };
    for (size_t i = 0; i < sizeof mixes / sizeof *mixes; i++) {
        struct rig r = { 0 };
        open_rig(&r, "qwen3.5-35b-a3b", 4, mixes[i], 2);
        const struct moe_weights *moe = &r.weights->layer[0].moe;
        check_spread(&moe->expert[0].gate, 1 / sqrt(512), 256 * 512);
        check_spread(&moe->expert[15].down, 4 / sqrt(8) / sqrt(256), 512 * 256);
        check_spread(&moe->router, 2 / sqrt(512), 16 * 512);
        check_spread(&r.weights->embed, 1, 1000.0 / SYNTH_WALK * 512);
        assert_true(correlation(&moe->router, 0, 1) < 0.3);
        assert_true(correlation(&r.weights->embed, 500, 500 + 4 * SYNTH_WALK) < 0.3);
        double near = 0;
        for (int k = 0; k < 200; k++)
            near += correlation(&r.weights->embed, k, k + SYNTH_WALK / 4) / 200;
        assert_true(near > 0.6 && near < 0.9); /* 3 of 4 share their values */
        close_rig(&r);
    }
}

static void test_threads_do_not_matter(void **state)
{
    (void)state;
    struct rig one = { 0 }, three = { 0 };
    open_rig(&one, "qwen3.5-35b-a3b", 4, MIX_NF4_DQ, 1);
    open_rig(&three, "qwen3.5-35b-a3b", 4, MIX_NF4_DQ, 3);
    assert_int_equal(one.weights->block.bytes, three.weights->block.bytes);
    assert_memory_equal(one.weights->block.ptr, three.weights->block.ptr, one.plan->weights_bytes);
    close_rig(&one);
    close_rig(&three);
}

static void test_walk(void **state)
{
    (void)state;
    int32_t a[1000], b[1000];
    int near = 0, same = 0;
    synth_walk(a, 1000, 5000, 1);
    synth_walk(b, 1000, 5000, 2);
    for (int i = 0; i < 1000; i++) {
        assert_in_range(a[i], 0, 4999);
        near += i > 0 && (a[i] - a[i - 1] + 5000 + SYNTH_WALK / 4) % 5000 <= SYNTH_WALK / 2;
        same += a[i] == b[i];
    }
    assert_in_range(near, 700, 900); /* the others begin elsewhere or return */
    assert_in_range(same, 0, 10);
}

/* ---- as a file ---- */

/* What was written loads as the same bytes, vocabulary included. */
static void check_written(const char *name, enum mix mix)
{
    struct rig r = { 0 };
    struct model *m;
    struct tokenizer *k;
    struct weights *back = NULL;
    struct err e = { 0 };
    struct tokens tokens = { 0 };
    char path[] = "/tmp/test_synth_XXXXXX.gguf";
    int fd = mkstemps(path, 5);
    assert_true(fd >= 0);
    close(fd);
    open_rig_of(&r, name, 4, mix, 2, 250000);
    if (synth_write_gguf(r.weights, r.plan, path, &e) || model_open(&m, path, &e) ||
        tokenizer_open(&k, m, &e) || tokenizer_encode(k, "the hat", 7, NULL, 0, &tokens, &e) ||
        test_load(&back, m, r.device, MIX_NONE, r.threads, &e))
        fail_msg("%s: %s", name, e.what);
    assert_int_equal(tokens.n, 6); /* th e, then the space h a t */
    assert_int_equal(back->n_weights, r.weights->n_weights);
    assert_int_equal(back->shape.top_k, 4);
    assert_int_equal(back->layer[1].moe.expert[7].down.type, r.weights->layer[1].moe.expert[7].down.type);
    size_t bytes = qtype_row_bytes(back->head.type, back->head.cols) * (size_t)back->head.rows;
    assert_memory_equal(back->head.data, r.weights->head.data, bytes);
    const struct qmat *a = &back->layer[1].moe.expert[7].down, *b = &r.weights->layer[1].moe.expert[7].down;
    assert_memory_equal(a->data, b->data, qtype_row_bytes(a->type, a->cols) * (size_t)a->rows);
    assert_memory_equal(back->out_norm, r.weights->out_norm, 512 * sizeof(float));
    weights_close(&back);
    tokens_free(&tokens);
    tokenizer_close(&k);
    model_close(&m);
    unlink(path);
    close_rig(&r);
}

static void test_file(void **state)
{
    (void)state;
    check_written("qwen3.5-35b-a3b", MIX_Q4_K_M);
    check_written("qwen3-30b-a3b", MIX_Q8_0);
}

static void test_no_file_of_nf4(void **state)
{
    (void)state;
    struct rig r = { 0 };
    struct err e = { 0 };
    open_rig(&r, "qwen3-30b-a3b", 1, MIX_NF4, 1);
    assert_int_equal(synth_write_gguf(r.weights, r.plan, "/tmp/never", &e), ERR_FORMAT);
    assert_non_null(strstr(e.hint, "q4_k_m"));
    close_rig(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forward),        cmocka_unit_test(test_types),
        cmocka_unit_test(test_values),         cmocka_unit_test(test_threads_do_not_matter),
        cmocka_unit_test(test_walk),           cmocka_unit_test(test_file),
        cmocka_unit_test(test_no_file_of_nf4),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
