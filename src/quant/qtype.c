/* qtype.c: the table of weight formats, and what is the same for all of them: lookups, sizes, dispatch. */
#include "quant/qtype.h"

#include <string.h>

#include "base/checked.h"
#include "quant/blocks.h"
#include "quant/decode.h"
#include "quant/encode.h"
#include "quant/names.h"

enum { FP8_TILE = 128, BNB_BLOCK = 64, BNB_NESTED = 256 };

static int64_t ceil_div(int64_t a, int64_t b)
{
    return a / b + (a % b != 0);
}

/* Scale planes, laid out as qtype.h says. */
static size_t scale_fp8(int64_t rows, int64_t cols)
{
    return sizeof(float) * (size_t)ceil_div(rows, FP8_TILE) * (size_t)ceil_div(cols, FP8_TILE);
}

static size_t scale_bnb(int64_t rows, int64_t cols)
{
    return sizeof(float) * (size_t)(rows * (cols / BNB_BLOCK));
}

static size_t scale_bnb_dq(int64_t rows, int64_t cols)
{
    int64_t n = rows * (cols / BNB_BLOCK);
    return sizeof(float) * (size_t)(2 + 256 + ceil_div(n, BNB_NESTED)) + (size_t)n;
}

#define BLOCK(name) sizeof(struct block_##name)

/* clang-format off */
/* A new format is a row here. */
static const struct qtype_info table[QTYPE_COUNT] = {
    /* [type] = name, GGUF id, safetensors dtype, block, its bytes, act, scale plane, decode, encode */

    /* plain; the integers are in checkpoints but are no weights */
    [QTYPE_NONE] = { "none", -1, NULL,   1, 0, QACT_F32, NULL, NULL,        NULL },
    [QTYPE_F32]  = { "f32",   0, "F32",  1, 4, QACT_F32, NULL, decode_f32,  encode_f32 },
    [QTYPE_F16]  = { "f16",   1, "F16",  1, 2, QACT_F32, NULL, decode_f16,  encode_f16 },
    [QTYPE_BF16] = { "bf16", 30, "BF16", 1, 2, QACT_F32, NULL, decode_bf16, encode_bf16 },
    [QTYPE_F64]  = { "f64",  28, "F64",  1, 8, QACT_F32, NULL, decode_f64,  NULL },
    [QTYPE_I8]   = { "i8",   24, "I8",   1, 1, QACT_F32, NULL, NULL,        NULL },
    [QTYPE_I16]  = { "i16",  25, "I16",  1, 2, QACT_F32, NULL, NULL,        NULL },
    [QTYPE_I32]  = { "i32",  26, "I32",  1, 4, QACT_F32, NULL, NULL,        NULL },
    [QTYPE_I64]  = { "i64",  27, "I64",  1, 8, QACT_F32, NULL, NULL,        NULL },
    [QTYPE_U8]   = { "u8",   -1, "U8",   1, 1, QACT_F32, NULL, NULL,        NULL },
    [QTYPE_U16]  = { "u16",  -1, "U16",  1, 2, QACT_F32, NULL, NULL,        NULL },
    [QTYPE_U32]  = { "u32",  -1, "U32",  1, 4, QACT_F32, NULL, NULL,        NULL },
    [QTYPE_U64]  = { "u64",  -1, "U64",  1, 8, QACT_F32, NULL, NULL,        NULL },
    [QTYPE_BOOL] = { "bool", -1, "BOOL", 1, 1, QACT_F32, NULL, NULL,        NULL },

    /* FP8 */
    [QTYPE_FP8_E4M3] = { "fp8_e4m3", -1, "F8_E4M3", 1, 1, QACT_F32, scale_fp8, decode_fp8_e4m3, NULL },
    [QTYPE_FP8_E5M2] = { "fp8_e5m2", -1, "F8_E5M2", 1, 1, QACT_F32, scale_fp8, decode_fp8_e5m2, NULL },

    /* GGUF: one scale per 32 */
    [QTYPE_Q4_0] = { "q4_0", 2, NULL, 32, BLOCK(q4_0), QACT_Q8, NULL, decode_q4_0, encode_q4_0 },
    [QTYPE_Q4_1] = { "q4_1", 3, NULL, 32, BLOCK(q4_1), QACT_Q8, NULL, decode_q4_1, NULL },
    [QTYPE_Q5_0] = { "q5_0", 6, NULL, 32, BLOCK(q5_0), QACT_Q8, NULL, decode_q5_0, encode_q5_0 },
    [QTYPE_Q5_1] = { "q5_1", 7, NULL, 32, BLOCK(q5_1), QACT_Q8, NULL, decode_q5_1, encode_q5_1 },
    [QTYPE_Q8_0] = { "q8_0", 8, NULL, 32, BLOCK(q8_0), QACT_Q8, NULL, decode_q8_0, encode_q8_0 },

    /* GGUF: k-quants */
    [QTYPE_Q2_K] = { "q2_k", 10, NULL, 256, BLOCK(q2_k), QACT_Q8,  NULL, decode_q2_k, NULL },
    [QTYPE_Q3_K] = { "q3_k", 11, NULL, 256, BLOCK(q3_k), QACT_Q8,  NULL, decode_q3_k, NULL },
    [QTYPE_Q4_K] = { "q4_k", 12, NULL, 256, BLOCK(q4_k), QACT_Q8,  NULL, decode_q4_k, encode_q4_k },
    [QTYPE_Q5_K] = { "q5_k", 13, NULL, 256, BLOCK(q5_k), QACT_Q8,  NULL, decode_q5_k, encode_q5_k },
    [QTYPE_Q6_K] = { "q6_k", 14, NULL, 256, BLOCK(q6_k), QACT_Q8,  NULL, decode_q6_k, encode_q6_k },
    [QTYPE_Q8_K] = { "q8_k", 15, NULL, 256, BLOCK(q8_k), QACT_F32, NULL, decode_q8_k, NULL },

    /* GGUF: indexes into grids */
    [QTYPE_IQ1_S]   = { "iq1_s",   19, NULL, 256, BLOCK(iq1_s),   QACT_F32, NULL, decode_iq1_s,   NULL },
    [QTYPE_IQ1_M]   = { "iq1_m",   29, NULL, 256, BLOCK(iq1_m),   QACT_F32, NULL, decode_iq1_m,   NULL },
    [QTYPE_IQ2_XXS] = { "iq2_xxs", 16, NULL, 256, BLOCK(iq2_xxs), QACT_F32, NULL, decode_iq2_xxs, NULL },
    [QTYPE_IQ2_XS]  = { "iq2_xs",  17, NULL, 256, BLOCK(iq2_xs),  QACT_F32, NULL, decode_iq2_xs,  NULL },
    [QTYPE_IQ2_S]   = { "iq2_s",   22, NULL, 256, BLOCK(iq2_s),   QACT_F32, NULL, decode_iq2_s,   NULL },
    [QTYPE_IQ3_XXS] = { "iq3_xxs", 18, NULL, 256, BLOCK(iq3_xxs), QACT_F32, NULL, decode_iq3_xxs, NULL },
    [QTYPE_IQ3_S]   = { "iq3_s",   21, NULL, 256, BLOCK(iq3_s),   QACT_F32, NULL, decode_iq3_s,   NULL },

    /* GGUF: 4-bit and ternary codes for the values of a fixed table */
    [QTYPE_IQ4_NL] = { "iq4_nl", 20, NULL,  32, BLOCK(iq4_nl), QACT_Q8,  NULL, decode_iq4_nl, encode_iq4_nl },
    [QTYPE_IQ4_XS] = { "iq4_xs", 23, NULL, 256, BLOCK(iq4_xs), QACT_Q8,  NULL, decode_iq4_xs, NULL },
    [QTYPE_MXFP4]  = { "mxfp4",  39, NULL,  32, BLOCK(mxfp4),  QACT_Q8,  NULL, decode_mxfp4,  encode_mxfp4 },
    [QTYPE_NVFP4]  = { "nvfp4",  40, NULL,  64, BLOCK(nvfp4),  QACT_F32, NULL, decode_nvfp4,  NULL },
    [QTYPE_TQ1_0]  = { "tq1_0",  34, NULL, 256, BLOCK(tq1_0),  QACT_F32, NULL, decode_tq1_0,  NULL },
    [QTYPE_TQ2_0]  = { "tq2_0",  35, NULL, 256, BLOCK(tq2_0),  QACT_F32, NULL, decode_tq2_0,  NULL },

    /* bitsandbytes */
    [QTYPE_NF4]    = { "nf4",    -1, NULL, 64, 32, QACT_F32, scale_bnb,    decode_nf4,    encode_nf4 },
    [QTYPE_NF4_DQ] = { "nf4-dq", -1, NULL, 64, 32, QACT_F32, scale_bnb_dq, decode_nf4_dq, encode_nf4_dq },
    [QTYPE_FP4]    = { "fp4",    -1, NULL, 64, 32, QACT_F32, scale_bnb,    decode_fp4,    encode_fp4 },
    [QTYPE_FP4_DQ] = { "fp4-dq", -1, NULL, 64, 32, QACT_F32, scale_bnb_dq, decode_fp4_dq, encode_fp4_dq },
};
/* clang-format on */

const struct qtype_info *qtype_info(enum qtype t)
{
    return (unsigned)t < QTYPE_COUNT ? &table[t] : &table[QTYPE_NONE];
}

enum qtype qtype_from_name(const char *name)
{
    for (int t = QTYPE_NONE + 1; t < QTYPE_COUNT; t++)
        if (same_name(table[t].name, name))
            return (enum qtype)t;
    return QTYPE_NONE;
}

enum qtype qtype_from_ggml(uint32_t id)
{
    for (int t = QTYPE_NONE + 1; t < QTYPE_COUNT; t++)
        if (table[t].ggml_id >= 0 && (uint32_t)table[t].ggml_id == id)
            return (enum qtype)t;
    return QTYPE_NONE;
}

enum qtype qtype_from_st(const char *dtype)
{
    for (int t = QTYPE_NONE + 1; t < QTYPE_COUNT; t++)
        if (table[t].st_name && !strcmp(table[t].st_name, dtype))
            return (enum qtype)t;
    return QTYPE_NONE;
}

bool qtype_fits(enum qtype t, int64_t cols)
{
    const struct qtype_info *info = qtype_info(t);
    return info->block_bytes && cols >= 0 && cols % info->block == 0;
}

size_t qtype_row_bytes(enum qtype t, int64_t cols)
{
    const struct qtype_info *info = qtype_info(t);
    return (size_t)(cols / info->block) * (size_t)info->block_bytes;
}

bool qtype_sizes(enum qtype t, int64_t rows, int64_t cols, size_t *data_bytes, size_t *scale_bytes)
{
    const struct qtype_info *info = qtype_info(t);
    uint64_t n, bytes;
    /* Codes and scale plane together are below 16 bytes per weight (and 2 KiB), so the plane cannot overflow
     * where 16 times the weights fit. */
    if (rows < 0 || !qtype_fits(t, cols) || !checked_mul((uint64_t)rows, (uint64_t)cols, &n) ||
        !checked_mul(n, 16, &bytes) || bytes > INT64_MAX)
        return false;
    *data_bytes = (size_t)rows * qtype_row_bytes(t, cols);
    *scale_bytes = info->scale_bytes ? info->scale_bytes(rows, cols) : 0;
    return true;
}

double qtype_bits(enum qtype t)
{
    const struct qtype_info *info = qtype_info(t);
    const int64_t large = 16384; /* both sides of a matrix; the plane's fixed part counts for nothing */
    double plane = info->scale_bytes ? 8.0 * (double)info->scale_bytes(large, large) : 0;
    return 8.0 * info->block_bytes / info->block + plane / ((double)large * (double)large);
}

struct qmat qmat_rows(const struct qmat *w, int64_t begin, int64_t n)
{
    struct qmat part = *w;
    part.row0 += begin;
    part.rows = n;
    return part;
}

void qmat_decode(const struct qmat *w, int64_t row, int64_t n_rows, float *out)
{
    const struct qtype_info *info = qtype_info(w->type);
    for (int64_t r = 0; r < n_rows; r++)
        info->decode(w, w->row0 + row + r, out + r * w->cols);
}

bool qtype_needs_absmax(enum qtype t)
{
    return t == QTYPE_NF4_DQ || t == QTYPE_FP4_DQ;
}

void qmat_encode(const struct qmat_encoder *m, int64_t row, int64_t n_rows, const float *src)
{
    qtype_info(m->type)->encode(m->data, m->scale, m->absmax, row, n_rows, m->cols, src);
}

void qmat_encode_finish(const struct qmat_encoder *m)
{
    if (qtype_needs_absmax(m->type))
        finish_double_quant(m);
}
