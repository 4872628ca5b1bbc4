/*
 * qtype.h: every format in which a weight can be stored. One table row per format; adding one is a row in
 * qtype.c and a file (or a place in a family's file) with its decode and encode.
 *
 * A matrix is [rows][cols], row-major, y = W x. Its codes are rows of blocks along cols. Formats whose scales
 * do not lie inside the blocks have a scale plane beside the codes (struct qmat.scale); its layout is written
 * at each format below. Layouts: GGUF's blocks, bitsandbytes' NF4/FP4, DeepSeek-style FP8.
 */
#ifndef TONNE_QUANT_QTYPE_H
#define TONNE_QUANT_QTYPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum qtype {
    QTYPE_NONE = 0,
    /* plain */
    QTYPE_F32,
    QTYPE_F16,
    QTYPE_BF16,
    QTYPE_F64,
    QTYPE_I8,
    QTYPE_I16,
    QTYPE_I32,
    QTYPE_I64,
    QTYPE_U8,
    QTYPE_U16,
    QTYPE_U32,
    QTYPE_U64,
    QTYPE_BOOL,
    /* FP8; scale plane: f32 [ceil(rows/128)][ceil(cols/128)], multiplies the code's value */
    QTYPE_FP8_E4M3,
    QTYPE_FP8_E5M2,
    /* GGUF blocks, no scale plane */
    QTYPE_Q4_0,
    QTYPE_Q4_1,
    QTYPE_Q5_0,
    QTYPE_Q5_1,
    QTYPE_Q8_0,
    QTYPE_Q2_K,
    QTYPE_Q3_K,
    QTYPE_Q4_K,
    QTYPE_Q5_K,
    QTYPE_Q6_K,
    QTYPE_Q8_K,
    QTYPE_IQ1_S,
    QTYPE_IQ1_M,
    QTYPE_IQ2_XXS,
    QTYPE_IQ2_XS,
    QTYPE_IQ2_S,
    QTYPE_IQ3_XXS,
    QTYPE_IQ3_S,
    QTYPE_IQ4_NL,
    QTYPE_IQ4_XS,
    QTYPE_MXFP4,
    QTYPE_NVFP4,
    QTYPE_TQ1_0,
    QTYPE_TQ2_0,
    /* bitsandbytes, blocks of 64 along cols (cols % 64 == 0), codes two per byte, first one in the high
     * nibble. NF4, FP4: scale plane f32 absmax[rows * cols / 64]. NF4_DQ, FP4_DQ: scale plane, n = rows *
     * cols / 64: f32 offset; u32 n_group; f32 map[256]; f32 nested_absmax[n_group]; u8 code[n] absmax[b] =
     * map[code[b]] * nested_absmax[b / 256] + offset n_group = ceil(n / 256) lies in the plane because a
     * slice of the matrix does not know the whole one's rows. */
    QTYPE_NF4,
    QTYPE_NF4_DQ,
    QTYPE_FP4,
    QTYPE_FP4_DQ,
    QTYPE_COUNT
};

/* One weight matrix where it lies. Plain data, copied freely; owns nothing. data and scale always describe
 * the whole stored matrix; row0 says which of its rows is this matrix's row 0, so that a slice (the up half
 * of a fused gate_up) is the same matrix with another row0 and a smaller rows. */
struct qmat {
    enum qtype type;
    int64_t rows, cols;
    int64_t row0;
    const void *data;  /* borrowed; rows of qtype_row_bytes(type, cols) bytes */
    const void *scale; /* borrowed; the scale plane, NULL where the format has none */
};

/* What a matrix product multiplies this format's codes with; part of the definition of the result. */
enum qact {
    QACT_F32, /* the activations as they are */
    QACT_Q8 /* activations rounded to blocks of 32 int8 with one f32 scale (quant/act.h); integer products */
};

struct qtype_info {
    const char *name;    /* "q4_k": what users type and see */
    int ggml_id;         /* type id in GGUF; -1: not storable there */
    const char *st_name; /* safetensors dtype ("BF16"); NULL: none */
    int block;           /* weights per block */
    int block_bytes;     /* bytes of codes per block (for NF4: 32, its scale is in the plane) */
    enum qact act;
    /* Bytes of the scale plane for a [rows][cols] matrix; NULL: none. */
    size_t (*scale_bytes)(int64_t rows, int64_t cols);
    /* Fills out[cols] with stored row `row` (row0 already added). NULL: this format is not a weight. */
    void (*decode)(const struct qmat *w, int64_t row, float *out);
    /* Writes n_rows rows of codes from src [n_rows][cols] at rows row.. of data; fills the scale plane's
     * entries of these rows (double-quantized formats: leaves absmax in absmax, see qmat_encode). NULL:
     * decode only. */
    void (*encode)(void *data, void *scale, float *absmax, int64_t row, int64_t n_rows, int64_t cols,
                   const float *src);
};

/* The table's row; never NULL for a valid enum value. */
const struct qtype_info *qtype_info(enum qtype t);

/* Lookups; QTYPE_NONE when unknown. qtype_from_name takes "q4_k", "bf16", "nf4-dq" in any letter case. */
enum qtype qtype_from_name(const char *name);
enum qtype qtype_from_ggml(uint32_t id);
enum qtype qtype_from_st(const char *dtype);

/* Bytes of one row of codes. cols must be a multiple of the block (qtype_fits). */
size_t qtype_row_bytes(enum qtype t, int64_t cols);
bool qtype_fits(enum qtype t, int64_t cols);
/* Bytes of codes and of the scale plane for [rows][cols]; false on overflow or when cols does not fit. */
bool qtype_sizes(enum qtype t, int64_t rows, int64_t cols, size_t *data_bytes, size_t *scale_bytes);
/* Bits per weight of a large matrix, scale plane included. */
double qtype_bits(enum qtype t);

/* Rows [begin, begin + n) of w as a matrix of its own; borrows the same memory. */
struct qmat qmat_rows(const struct qmat *w, int64_t begin, int64_t n);

/* Fills out[n_rows][cols] with rows row.. of w as f32; exactly the format's definition. */
void qmat_decode(const struct qmat *w, int64_t row, int64_t n_rows, float *out);

/* A matrix being encoded. data and scale are the caller's, sized by qtype_sizes; absmax is f32[rows * cols /
 * 64] for double-quantized formats, else NULL. Rows may be encoded in any order and by several threads at
 * once; qmat_encode_finish completes the scale plane when all rows are there (nothing to do for most
 * formats). */
struct qmat_encoder {
    enum qtype type;
    int64_t rows, cols;
    void *data, *scale;
    float *absmax;
};
bool qtype_needs_absmax(enum qtype t);
void qmat_encode(const struct qmat_encoder *m, int64_t row, int64_t n_rows, const float *src);
void qmat_encode_finish(const struct qmat_encoder *m);

/* ---- which tensor gets which type: quant/mix.c ---- */

/* A target the user names with --type: a single format or a published mix. */
enum mix {
    MIX_NONE,
    MIX_F32,
    MIX_F16,
    MIX_BF16,
    MIX_Q8_0,
    MIX_Q4_0,
    MIX_Q4_K_S,
    MIX_Q4_K_M,
    MIX_Q5_K_S,
    MIX_Q5_K_M,
    MIX_Q6_K,
    MIX_IQ4_NL,
    MIX_MXFP4,
    MIX_NF4,
    MIX_NF4_DQ,
    MIX_FP4,
    MIX_COUNT
};
enum mix mix_from_name(const char *name); /* "q4_k_m", "nf4-dq"; MIX_NONE when unknown */
const char *mix_name(enum mix m);
const char *mix_list(void); /* "f32 f16 bf16 ...", for help and errors */

/* The facts a mix's rules look at. GGUF names are used for every source (model/names.h gives them). */
struct mix_tensor {
    const char *gguf_name;  /* "blk.3.attn_v.weight" */
    int64_t rows, cols;     /* of one matrix */
    int n_dims;             /* dimensions larger than 1 of the whole tensor: 1, 2 or 3 (experts) */
    int layer, n_layer;     /* n_layer includes MTP layers; layer -1 outside the layers */
    int i_attn_v, n_attn_v; /* running index and number of attn_v / attn_qkv tensors in file order */
    int n_expert, n_head, n_head_kv;
    bool tied; /* token_embd also serves as the head */
};
/* The storage type for this tensor; F32 where mixes never quantize; falls back when cols is no multiple.
 * NONE only for MIX_NONE. */
enum qtype mix_pick(enum mix m, const struct mix_tensor *t);
/* general.file_type for GGUF; UINT32_MAX for mixes that GGUF cannot store (NF4, FP4). */
uint32_t mix_file_type(enum mix m);

#endif
