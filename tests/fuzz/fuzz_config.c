/* fuzz_config.c: the input is config.json. Whatever is accepted must keep the promises of shape.h. */
#include <assert.h>
#include <math.h>
#include <string.h>

#include "fuzz/target.h"
#include "model/model.h"

static void check_numbers(const struct shape *s)
{
    assert(s->n_layer >= 1 && s->n_layer <= SHAPE_MAX_LAYERS && (s->n_mtp == 0 || s->n_mtp == 1));
    assert(s->d_model > 0 && s->n_vocab > 0 && s->n_ctx_train > 0 && s->rms_eps > 0);
    assert(s->n_head > 0 && s->n_head_kv > 0 && s->n_head % s->n_head_kv == 0);
    assert(s->d_head > 0 && s->n_rot >= 2 && s->n_rot % 2 == 0 && s->n_rot <= s->d_head);
    assert(s->n_k_head == 0 || (s->n_v_head % s->n_k_head == 0 && s->conv_kernel > 1));
    assert(s->n_eos >= 0 && s->n_eos <= SHAPE_MAX_EOS);
    for (int i = 0; i < s->n_eos; i++)
        assert(s->eos[i] >= 0 && s->eos[i] < s->n_vocab);
    for (int i = 0; i < s->n_layer; i++)
        assert(!s->moe[i] || (s->top_k >= 1 && s->top_k <= s->n_expert));
}

/* Bytes of every weight in f32 must be countable. */
static void check_sizes(const struct shape *s)
{
    for (int layer = -1; layer < s->n_layer + s->n_mtp; layer++) {
        for (int role = 0; role < ROLE_COUNT; role++) {
            int n;
            int64_t rows, cols, bytes;
            char gguf[64], hf[192];
            if (!model_has(s, (enum role)role, layer))
                continue;
            role_dims(s, (enum role)role, &n, &rows, &cols);
            assert(n > 0 && rows > 0 && cols > 0);
            assert(!__builtin_mul_overflow(rows * 4, cols, &bytes) &&
                   !__builtin_mul_overflow(bytes, n, &bytes));
            role_gguf_name(s, (enum role)role, layer, gguf);
            role_hf_name(s, (enum role)role, layer, n - 1, hf);
            assert(strlen(gguf) < sizeof gguf - 1 && strlen(hf) < sizeof hf - 1);
        }
    }
}

static void check_rope(const struct shape *s)
{
    static float freq[4096];
    assert(s->n_rot / 2 <= 4096);
    float scale = shape_rope(s, freq);
    assert(isfinite(scale) && scale > 0);
    for (int i = 0; i < s->n_rot / 2; i++)
        assert(isfinite(freq[i]) && freq[i] >= 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static struct shape s; /* large */
    json_t *config = NULL;
    struct err e = { 0 };
    if (json_parse((const char *)data, n, &config, &e))
        return 0;
    int rc = shape_from_config(&s, config, &e);
    if (rc == 0) {
        check_numbers(&s);
        check_sizes(&s);
        check_rope(&s);
    } else {
        assert(rc == ERR_FORMAT && e.code == rc && e.what[0]);
    }
    json_decref(config);
    return 0;
}
