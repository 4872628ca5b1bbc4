/*
 * convert.c: see convert.h. A source's scale plane is brought into f32 once (FP8: one scale per 128 x 128
 * weights; 4-bit: absmax per 64), after which every row decodes on its own through the format table.
 */
#include "load/convert.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/half.h"
#include "load/direct.h"
#include "load/finite.h"

enum { FP8_TILE = 128, BNB_BLOCK = 64, NESTED_BLOCK = 256 };

struct convert_source {
    const struct model *m;
    struct weight_source src;
    enum qtype row_type; /* what rows decode as: double-quantized sources have plain absmax by then */
    float *plane;        /* f32 scales of the whole matrix, or NULL */
    int64_t plane_per_row;
    uint8_t *dq_plane;              /* double-quantized: the plane in its stored form, for copying */
    float *whole;                   /* [rows][cols]: blocks that cross rows, decoded at once */
    const struct direct_file *file; /* NULL: rows are read through the page cache */
};

static bool is_4bit(enum qtype t)
{
    return t == QTYPE_NF4 || t == QTYPE_FP4 || t == QTYPE_NF4_DQ || t == QTYPE_FP4_DQ;
}

static bool is_double(enum qtype t)
{
    return t == QTYPE_NF4_DQ || t == QTYPE_FP4_DQ;
}

static bool is_fp8(enum qtype t)
{
    return t == QTYPE_FP8_E4M3 || t == QTYPE_FP8_E5M2;
}

static int bad_values(const struct convert_source *c, const char *what, struct err *e)
{
    err_set(e, ERR_FORMAT, "%s is not a finite number", what);
    err_where(e, "tensor %s", c->src.tensor->name);
    err_hint(e, "the file is damaged or was made by a faulty tool: download or convert it again");
    return ERR_FORMAT;
}

/* Fills out[n] with elements first.. of a plain tensor as f32. */
static int read_floats(const struct model *m, const struct tensor *t, int64_t first, int64_t n, float *out,
                       struct err *e)
{
    const struct qtype_info *info = qtype_info(t->type);
    if (info->block != 1 || !info->decode)
        return err_set(e, ERR_FORMAT, "tensor %s holds %s, not numbers", t->name, t->type_name);
    size_t item = (size_t)info->block_bytes;
    void *raw = malloc((size_t)n * item);
    if (!raw)
        return err_set(e, ERR_MEMORY, "no memory for %lld scales", (long long)n);
    int rc = tensor_read(m->dir, t, (uint64_t)first * item, raw, (uint64_t)n * item, e);
    if (!rc) {
        struct qmat row = { .type = t->type, .rows = 1, .cols = n, .data = raw };
        qmat_decode(&row, 0, 1, out);
    }
    free(raw);
    return rc;
}

static float *floats(int64_t n, struct err *e)
{
    float *p = malloc((size_t)n * sizeof *p);
    if (!p)
        err_set(e, ERR_MEMORY, "no memory for %lld scales", (long long)n);
    return p;
}

static int load_fp8_plane(struct convert_source *c, struct err *e)
{
    const struct weight_source *s = &c->src;
    c->plane_per_row = (s->cols + FP8_TILE - 1) / FP8_TILE;
    int64_t n = (s->rows + FP8_TILE - 1) / FP8_TILE * c->plane_per_row;
    if (!(c->plane = floats(n, e)))
        return ERR_MEMORY;
    if (s->scale && tensor_elements(s->scale) > 1)
        return read_floats(c->m, s->scale, s->scale_first * c->plane_per_row, n, c->plane, e);
    float one = 1.0f; /* a scale for the whole tensor, or none at all */
    int rc = s->scale ? read_floats(c->m, s->scale, 0, 1, &one, e) : 0;
    for (int64_t i = 0; i < n; i++)
        c->plane[i] = one;
    return rc;
}

/* Double quantization: dq_plane as quant/qtype.h lays it out, then absmax from it. */
static int load_nested_plane(struct convert_source *c, int64_t n, struct err *e)
{
    const struct weight_source *s = &c->src;
    int64_t groups = (n + NESTED_BLOCK - 1) / NESTED_BLOCK;
    c->dq_plane = malloc((size_t)(8 + 1024 + 4 * groups + n));
    if (!c->dq_plane)
        return err_set(e, ERR_MEMORY, "no memory for %lld scales", (long long)n);
    float *map = (float *)(c->dq_plane + 8), *nested = map + 256, offset = s->nested_offset;
    uint8_t *code = (uint8_t *)(nested + groups);
    /* Fused experts begin their groups anew in each matrix (doc/formats.md 2.2). */
    int64_t first_group = s->nested_offset_tensor ? s->nested_index * groups : 0;
    int rc = read_floats(c->m, s->nested_map, 0, 256, map, e);
    if (!rc)
        rc = read_floats(c->m, s->nested_absmax, first_group, groups, nested, e);
    if (!rc && s->nested_offset_tensor)
        rc = read_floats(c->m, s->nested_offset_tensor, s->nested_index, 1, &offset, e);
    if (!rc)
        rc = tensor_read(c->m->dir, s->scale, (uint64_t)s->scale_first, code, (uint64_t)n, e);
    if (rc)
        return rc;
    memcpy(c->dq_plane, &offset, sizeof offset);
    memcpy(c->dq_plane + 4, &(uint32_t){ (uint32_t)groups }, 4);
    for (int64_t b = 0; b < n; b++)
        c->plane[b] = map[code[b]] * nested[b / NESTED_BLOCK] + offset;
    return 0;
}

static int check_code_table(const struct convert_source *c, struct err *e)
{
    const struct weight_source *s = &c->src;
    float map[16], ours[16];
    if (!s->quant_map)
        return 0;
    int rc =
        tensor_elements(s->quant_map) == 16 ? read_floats(c->m, s->quant_map, 0, 16, map, e) : ERR_FORMAT;
    uint8_t codes[BNB_BLOCK / 2] = { 0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef };
    float one = 1.0f, block[BNB_BLOCK];
    struct qmat probe = { c->row_type, 1, BNB_BLOCK, 0, codes, &one };
    qmat_decode(&probe, 0, 1, block);
    memcpy(ours, block, sizeof ours);
    if (rc || memcmp(map, ours, sizeof map)) {
        err_set(e, ERR_FORMAT, "the 4-bit code table is not that of %s", qtype_info(c->row_type)->name);
        err_where(e, "tensor %s", s->quant_map->name);
        err_hint(e, "use a checkpoint that bitsandbytes saved with its standard nf4 or fp4 tables");
        return ERR_FORMAT;
    }
    return 0;
}

static int load_4bit_plane(struct convert_source *c, struct err *e)
{
    const struct weight_source *s = &c->src;
    int64_t n = (s->rows * s->cols + BNB_BLOCK - 1) / BNB_BLOCK;
    c->plane_per_row = s->cols / BNB_BLOCK;
    if (!(c->plane = floats(n, e)))
        return ERR_MEMORY;
    int rc = is_double(s->type) ? load_nested_plane(c, n, e)
                                : read_floats(c->m, s->scale, s->scale_first, n, c->plane, e);
    if (!rc && !floats_finite(c->plane, n))
        rc = bad_values(c, "a block scale", e);
    return rc ? rc : check_code_table(c, e);
}

/* cols % 64 != 0: blocks run across row ends, so rows cannot be decoded one by one. Small tensors only in
 * practice. */
static int decode_whole(struct convert_source *c, struct err *e)
{
    const struct weight_source *s = &c->src;
    int64_t n = s->rows * s->cols, blocks = (n + BNB_BLOCK - 1) / BNB_BLOCK;
    uint8_t *codes = calloc((size_t)blocks, BNB_BLOCK / 2);
    c->whole = floats(blocks * BNB_BLOCK, e);
    if (!codes || !c->whole) {
        free(codes);
        return err_set(e, ERR_MEMORY, "no memory for a tensor of %lld weights", (long long)n);
    }
    int rc = tensor_read(c->m->dir, s->tensor, s->offset, codes, (uint64_t)(n + 1) / 2, e);
    struct qmat flat = { c->row_type, 1, blocks * BNB_BLOCK, 0, codes, c->plane };
    if (!rc)
        qmat_decode(&flat, 0, 1, c->whole);
    free(codes);
    return rc;
}

int convert_open(struct convert_source **out, const struct model *m, const struct weight_source *src,
                 struct err *e)
{
    struct convert_source *c = calloc(1, sizeof *c);
    if (!c)
        return err_set(e, ERR_MEMORY, "no memory for a weight source");
    c->m = m;
    c->src = *src;
    c->row_type = src->type == QTYPE_NF4_DQ ? QTYPE_NF4 : src->type == QTYPE_FP4_DQ ? QTYPE_FP4 : src->type;
    int rc = 0;
    if (is_fp8(src->type)) {
        rc = load_fp8_plane(c, e);
        int64_t n = (src->rows + FP8_TILE - 1) / FP8_TILE * c->plane_per_row;
        if (!rc && !floats_finite(c->plane, n))
            rc = bad_values(c, "a block scale", e);
    } else if (is_4bit(src->type)) {
        rc = load_4bit_plane(c, e);
    }
    if (!rc && src->blocks_cross_rows)
        rc = decode_whole(c, e);
    if (rc) {
        convert_close(&c);
        return rc;
    }
    *out = c;
    return 0;
}

void convert_close(struct convert_source **cp)
{
    struct convert_source *c = *cp;
    *cp = NULL;
    if (!c)
        return;
    free(c->plane);
    free(c->dq_plane);
    free(c->whole);
    free(c);
}

size_t convert_scratch_bytes(const struct weight_source *src, int64_t n_rows)
{
    return src->blocks_cross_rows ? 0 : (size_t)n_rows * qtype_row_bytes(src->type, src->cols);
}

static void apply_transform(enum transform t, float *x, int64_t n)
{
    if (t == TRANSFORM_ADD_ONE)
        for (int64_t i = 0; i < n; i++)
            x[i] = 1.0f + x[i];
    else if (t == TRANSFORM_NEG_EXP)
        for (int64_t i = 0; i < n; i++)
            x[i] = -expf(x[i]);
}

static const float *row_scales(const struct convert_source *c, int64_t row)
{
    if (!c->plane)
        return NULL;
    return c->plane + (is_fp8(c->row_type) ? row / FP8_TILE : row) * c->plane_per_row;
}

int convert_stored_rows(const struct convert_source *c, int64_t row, int64_t n_rows, const void *stored,
                        float *out, struct err *e)
{
    const struct weight_source *s = &c->src;
    if (c->whole) {
        memcpy(out, c->whole + row * s->cols, (size_t)(n_rows * s->cols) * sizeof *out);
    } else {
        size_t row_bytes = qtype_row_bytes(s->type, s->cols);
        for (int64_t r = 0; r < n_rows; r++) {
            struct qmat one = {
                c->row_type,           1, s->cols, 0, (const char *)stored + (size_t)r * row_bytes,
                row_scales(c, row + r)
            };
            qmat_decode(&one, 0, 1, out + r * s->cols);
        }
    }
    /* A 16-bit float is finite as it is stored if it is so in f32: half as much to look at. */
    bool stored_tells = (s->type == QTYPE_BF16 || s->type == QTYPE_F16) && s->transform == TRANSFORM_NONE;
    apply_transform(s->transform, out, n_rows * s->cols);
    if (stored_tells ? !weights_finite(s->type, stored, n_rows * s->cols)
                     : !floats_finite(out, n_rows * s->cols))
        return bad_values(c, "a weight", e);
    return 0;
}

void convert_read_direct(struct convert_source *c, const struct direct_file *file)
{
    c->file = file;
}

/* Reads the stored codes of these rows; *stored is where they lie in scratch. */
static int read_stored(const struct convert_source *c, int64_t row, int64_t n_rows, void *scratch,
                       const char **stored, struct err *e)
{
    const struct weight_source *s = &c->src;
    size_t row_bytes = qtype_row_bytes(s->type, s->cols), n = (size_t)n_rows * row_bytes;
    uint64_t offset = s->offset + (uint64_t)row * row_bytes;
    *stored = scratch;
    if (!c->file)
        return tensor_read(c->m->dir, s->tensor, offset, scratch, n, e);
    const struct direct_file *f = &c->file[s->tensor->file];
    int rc = direct_read(f, s->tensor->offset + offset, n, scratch, stored, e);
    if (rc) {
        err_where(e, "%s, tensor \"%s\"", f->path, s->tensor->name);
        err_hint(e, "check the drive, then download the file again");
    }
    return rc;
}

int convert_rows(const struct convert_source *c, int64_t row, int64_t n_rows, float *out, void *scratch,
                 struct err *e)
{
    const char *stored = scratch;
    int rc = c->whole ? 0 : read_stored(c, row, n_rows, scratch, &stored, e);
    return rc ? rc : convert_stored_rows(c, row, n_rows, stored, out, e);
}

int convert_copy_stored(const struct convert_source *c, int64_t n_rows, const void *stored, void *dst,
                        struct err *e)
{
    const struct weight_source *s = &c->src;
    memcpy(dst, stored, (size_t)n_rows * qtype_row_bytes(s->type, s->cols));
    return weights_finite(s->type, dst, n_rows * s->cols) ? 0 : bad_values(c, "a weight or block scale", e);
}

int convert_copy_rows(const struct convert_source *c, int64_t row, int64_t n_rows, void *dst, void *scratch,
                      struct err *e)
{
    const char *stored;
    int rc = read_stored(c, row, n_rows, scratch, &stored, e);
    return rc ? rc : convert_copy_stored(c, n_rows, stored, dst, e);
}

void convert_copy_plane(const struct convert_source *c, void *plane)
{
    const struct weight_source *s = &c->src;
    size_t data_bytes, scale_bytes;
    if (!qtype_sizes(s->type, s->rows, s->cols, &data_bytes, &scale_bytes) || scale_bytes == 0)
        return;
    memcpy(plane, c->dq_plane ? (const void *)c->dq_plane : (const void *)c->plane, scale_bytes);
}
