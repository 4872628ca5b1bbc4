/* fuzz_safetensors.c: the input is a whole file: length, header, data. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz/target.h"
#include "model/tensor_build.h"

/* Whatever was accepted must lie inside the file, in order. */
static void check(const struct tensor_dir *d, uint64_t file_bytes)
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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct tensor_build b;
    struct tensor_dir *d = NULL;
    struct err e = { 0 };
    uint64_t length = 0;
    if (n < 8)
        return 0;
    memcpy(&length, data, 8);
    if (length > n - 8)
        length = n - 8;              /* the reader refuses it before parsing; fuzz on */
    char *text = malloc(length + 1); /* a block of its own, so that reading beyond its end is seen */
    if (!text || tensor_build_open(&b, &e)) {
        free(text);
        return 0;
    }
    memcpy(text, data + 8, length);
    int rc = tensor_build_file(&b, "fuzz", -1, n, &e);
    if (!rc)
        rc = safetensors_parse(&b, text, length, n, &e);
    if (!rc && !tensor_build_finish(&b, &d, &e))
        check(d, n);
    else
        tensor_build_abort(&b);
    assert(d || e.code < 0);
    tensor_dir_close(&d);
    free(text);
    return 0;
}
