/*
 * decode.h: the decoders named by the table in qtype.c, one per format; private to quant/. Each fills
 * out[cols] with stored row `row`, in exactly the order of operations that the format's definition states.
 */
#ifndef TONNE_QUANT_DECODE_H
#define TONNE_QUANT_DECODE_H

#include "quant/blocks.h"
#include "quant/qtype.h"

/* decode_plain.c */
void decode_f32(const struct qmat *w, int64_t row, float *out);
void decode_f16(const struct qmat *w, int64_t row, float *out);
void decode_bf16(const struct qmat *w, int64_t row, float *out);
void decode_f64(const struct qmat *w, int64_t row, float *out); /* rounded to f32 */
void decode_fp8_e4m3(const struct qmat *w, int64_t row, float *out);
void decode_fp8_e5m2(const struct qmat *w, int64_t row, float *out);
void encode_f32(void *data, void *scale, float *absmax, int64_t row, int64_t n_rows, int64_t cols,
                const float *src);
void encode_f16(void *data, void *scale, float *absmax, int64_t row, int64_t n_rows, int64_t cols,
                const float *src);
void encode_bf16(void *data, void *scale, float *absmax, int64_t row, int64_t n_rows, int64_t cols,
                 const float *src);

/* decode_legacy.c */
void decode_q4_0(const struct qmat *w, int64_t row, float *out);
void decode_q4_1(const struct qmat *w, int64_t row, float *out);
void decode_q5_0(const struct qmat *w, int64_t row, float *out);
void decode_q5_1(const struct qmat *w, int64_t row, float *out);
void decode_q8_0(const struct qmat *w, int64_t row, float *out);

/* decode_k.c */
void decode_q2_k(const struct qmat *w, int64_t row, float *out);
void decode_q3_k(const struct qmat *w, int64_t row, float *out);
void decode_q4_k(const struct qmat *w, int64_t row, float *out);
void decode_q5_k(const struct qmat *w, int64_t row, float *out);
void decode_q6_k(const struct qmat *w, int64_t row, float *out);
void decode_q8_k(const struct qmat *w, int64_t row, float *out);

/* decode_iq.c */
void decode_iq1_s(const struct qmat *w, int64_t row, float *out);
void decode_iq1_m(const struct qmat *w, int64_t row, float *out);
void decode_iq2_xxs(const struct qmat *w, int64_t row, float *out);
void decode_iq2_xs(const struct qmat *w, int64_t row, float *out);
void decode_iq2_s(const struct qmat *w, int64_t row, float *out);
void decode_iq3_xxs(const struct qmat *w, int64_t row, float *out);
void decode_iq3_s(const struct qmat *w, int64_t row, float *out);

/* decode_fp4.c */
void decode_iq4_nl(const struct qmat *w, int64_t row, float *out);
void decode_iq4_xs(const struct qmat *w, int64_t row, float *out);
void decode_mxfp4(const struct qmat *w, int64_t row, float *out);
void decode_nvfp4(const struct qmat *w, int64_t row, float *out);
void decode_tq1_0(const struct qmat *w, int64_t row, float *out);
void decode_tq2_0(const struct qmat *w, int64_t row, float *out);

/* Decodes a row block by block: one(block, x) fills x[block]. Inlined with a constant `one`, so that every
 * decoder is a plain loop over its own block. */
__attribute__((always_inline)) static inline void decode_blocks(const struct qmat *w, int64_t row, float *out,
                                                                int block, size_t block_bytes,
                                                                void (*one)(const void *block, float *x))
{
    int64_t n = w->cols / block;
    const uint8_t *b = (const uint8_t *)w->data + (size_t)row * (size_t)n * block_bytes;
    for (int64_t i = 0; i < n; i++)
        one(b + (size_t)i * block_bytes, out + i * block);
}

#endif
