/*
 * dump_weights.c: writes every tensor of a GGUF as f32 to stdout, for tools/gguf_parity.py to compare with
 * gguf-py: per tensor a line "NAME TYPE COUNT", then COUNT floats.   dump_weights FILE.gguf
 */
#include <stdio.h>
#include <stdlib.h>

#include "model/gguf.h"

static int dump(const struct tensor_dir *dir, const struct tensor *t, struct err *e)
{
    int64_t n = tensor_elements(t), cols = t->dim[t->n_dims - 1];
    void *stored = malloc(t->bytes);
    float *row = malloc((size_t)cols * sizeof *row);
    int rc = stored && row ? tensor_read(dir, t, 0, stored, t->bytes, e) : ERR_MEMORY;
    if (!rc) {
        struct qmat m = { .type = t->type, .rows = n / cols, .cols = cols, .data = stored };
        printf("%s %s %lld\n", t->name, qtype_info(t->type)->name, (long long)n);
        for (int64_t r = 0; r < m.rows; r++) {
            qmat_decode(&m, r, 1, row);
            fwrite(row, sizeof *row, (size_t)cols, stdout);
        }
    }
    free(stored);
    free(row);
    return rc;
}

int main(int argc, char **argv)
{
    struct gguf_meta *meta;
    struct tensor_dir *dir;
    struct err e = { 0 };
    if (argc != 2) {
        printf("run by tools/gguf_parity.py\n");
        return 77;
    }
    int rc = gguf_open(&meta, &dir, argv[1], &e);
    if (rc) {
        err_print(&e);
        return 1;
    }
    for (int i = 0; i < dir->n_tensor && !rc; i++)
        rc = dump(dir, &dir->tensor[i], &e);
    if (rc)
        err_print(&e);
    tensor_dir_close(&dir);
    gguf_meta_close(&meta);
    return rc != 0;
}
