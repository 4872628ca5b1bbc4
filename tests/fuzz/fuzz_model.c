/*
 * fuzz_model.c: the input is a whole GGUF file, opened as a model, or a safetensors file whose bitsandbytes
 * parts are read. The file is one in memory, rewritten for each input.
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fuzz/target.h"
#include "model/bnb.h"
#include "model/model.h"
#include "model/tensor_build.h"

static bool inside(const struct tensor *t, uint64_t offset, uint64_t bytes)
{
    return offset <= t->bytes && bytes <= t->bytes - offset;
}

/* Every weight that is found must lie inside its tensor. */
static void check_model(const struct model *m)
{
    for (int layer = -1; layer < m->shape.n_layer + m->shape.n_mtp; layer++) {
        for (int role = 0; role < ROLE_COUNT; role++) {
            int n;
            int64_t rows, cols;
            if (!model_has(&m->shape, (enum role)role, layer))
                continue;
            role_dims(&m->shape, (enum role)role, &n, &rows, &cols);
            for (int i = 0; i < n; i++) {
                struct weight_source w;
                assert(model_find(m, (enum role)role, layer, i, &w, NULL) == 0);
                assert(inside(w.tensor, w.offset, (uint64_t)w.rows * qtype_row_bytes(w.type, w.cols)));
            }
        }
    }
}

static void open_model(int fd)
{
    char path[64];
    struct model *m = NULL;
    struct err e = { 0 };
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int rc = model_open(&m, path, &e);
    assert(rc == 0 ? m != NULL : m == NULL && e.code == rc && e.what[0]);
    if (rc == 0)
        check_model(m);
    model_close(&m);
}

static void check_states(const struct quant_states *q, const struct tensor_dir *d)
{
    for (int i = 0; i < d->n_tensor; i++) {
        const struct quant_state *s = quant_state_of(q, d, &d->tensor[i]);
        if (!s)
            continue;
        int64_t blocks = s->blocks * s->n_matrices;
        assert(s->n_matrices >= 1 && s->blocks >= 1 && tensor_elements(s->absmax) == blocks);
        assert(d->tensor[i].bytes * 2 <= (uint64_t)blocks * 64);
        assert(!s->nested_absmax || tensor_elements(s->nested_absmax) * 256 >= blocks);
    }
}

static void open_states(int fd, const uint8_t *data, size_t n)
{
    struct tensor_build b;
    struct tensor_dir *d = NULL;
    struct quant_states *q = NULL;
    struct err e = { 0 };
    uint64_t length;
    memcpy(&length, data, sizeof length);
    if (length > n - 8 || tensor_build_open(&b, &e))
        return;
    int rc = tensor_build_file(&b, "fuzz", dup(fd), n, &e);
    if (!rc)
        rc = safetensors_parse(&b, (const char *)data + 8, length, n, &e);
    if (!rc)
        rc = tensor_build_finish(&b, &d, &e);
    if (!rc && quant_states_open(&q, d, &e) == 0)
        check_states(q, d);
    quant_states_close(&q);
    tensor_build_abort(&b);
    tensor_dir_close(&d);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static int fd = -1;
    if (fd < 0)
        fd = memfd_create("fuzz", MFD_CLOEXEC);
    if (fd < 0 || n < 8 || ftruncate(fd, 0) || pwrite(fd, data, n, 0) != (ssize_t)n)
        return 0;
    if (memcmp(data, "GGUF", 4))
        open_states(fd, data, n);
    else
        open_model(fd);
    return 0;
}
