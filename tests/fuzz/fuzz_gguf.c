/* fuzz_gguf.c: the input is a whole file. It is parsed through a short window first, as the reader does. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz/target.h"
#include "model/tensor_build.h"

static void check_tensors(const struct tensor_dir *d, uint64_t file_bytes)
{
    uint64_t at = 0;
    for (int i = 0; i < d->n_tensor; i++) {
        const struct tensor *t = &d->tensor[i];
        assert(t->offset >= at &&
               (!t->bytes || (t->offset <= file_bytes && t->bytes <= file_bytes - t->offset)));
        assert(tensor_elements(t) >= 0 && tensor_dir_find(d, t->name) == t);
        at = t->offset + t->bytes;
    }
}

/* Touches every value, so that a length that lies is seen. */
static uint64_t read_values(const struct gguf_meta *m)
{
    uint64_t sum = 0;
    for (int i = 0; i < m->n_pair; i++) {
        const struct gguf_value *v = &m->pair[i].value;
        int64_t number;
        for (uint64_t k = 0; k < v->count; k++) {
            if (v->type == GGUF_ARRAY && v->elem_type == GGUF_STRING) {
                const struct gguf_string *s = (const struct gguf_string *)v->array + k;
                for (size_t c = 0; c < s->len; c++)
                    sum += (uint8_t)s->data[c];
            } else if (gguf_array_int(v, k, &number)) {
                sum += (uint64_t)number;
            }
        }
    }
    return sum;
}

static int parse(struct gguf_meta **m, struct tensor_build *b, const uint8_t *data, size_t window, size_t n,
                 size_t *need, struct err *e)
{
    char *copy = malloc(window + 1);
    if (!copy)
        return err_set(e, ERR_MEMORY, "no memory");
    memcpy(copy, data, window);
    int rc = gguf_parse(m, b, copy, window, n, need, e);
    if (rc)
        free(copy);
    return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct tensor_build b;
    struct tensor_dir *d = NULL;
    struct gguf_meta *m = NULL;
    struct err e = { 0 };
    if (tensor_build_open(&b, &e))
        return 0;
    size_t need = 0;
    int rc = tensor_build_file(&b, "fuzz", -1, n, &e);
    for (size_t window = n / 2; !rc; window = need) {
        rc = parse(&m, &b, data, window, n, &need, &e);
        if (rc <= 0)
            break;
        assert(need > window && need <= n);
        rc = 0;
    }
    if (!rc && !tensor_build_finish(&b, &d, &e)) {
        check_tensors(d, n);
        volatile uint64_t used = read_values(m);
        (void)used;
    }
    tensor_build_abort(&b);
    assert(d || e.code < 0);
    gguf_meta_close(&m);
    tensor_dir_close(&d);
    return 0;
}
