/*
 * encode.h: the encoders of quant/, private to this folder; everyone else goes through qtype.h.
 *
 * The GGUF formats give the bytes of the published reference encoders (without importance matrix), NF4 and
 * FP4 those of bitsandbytes on its CPU path. Each row is encoded by itself, so the order of calls and the
 * number of threads cannot change a byte. Products and sums round one by one (the build forbids contraction).
 *
 * Any f32 input is safe. A block with NaN or infinity in it, or whose largest magnitude is so small that the
 * reciprocal of its scale overflows, gets defined but meaningless codes; the loader refuses NaN and infinity
 * before. A scale beyond f16 is stored as f16 infinity, as the reference does.
 */
#ifndef TONNE_QUANT_ENCODE_H
#define TONNE_QUANT_ENCODE_H

#include <stddef.h>
#include <stdint.h>

#include "quant/qtype.h"

/* Signature and contract of qtype_info.encode: n_rows rows of codes from src [n_rows][cols] go to rows row..
 * of data. cols is a multiple of the format's block. GGUF formats ignore scale and absmax. */

/* encode_ggml.c: blocks of 32 */
void encode_q8_0(void *data, void *scale, float *absmax, int64_t row, int64_t n_rows, int64_t cols,
                 const float *src);
void encode_q4_0(void *data, void *scale, float *absmax, int64_t row, int64_t n_rows, int64_t cols,
                 const float *src);
void encode_q5_0(void *data, void *scale, float *absmax, int64_t row, int64_t n_rows, int64_t cols,
                 const float *src);
void encode_q5_1(void *data, void *scale, float *absmax, int64_t row, int64_t n_rows, int64_t cols,
                 const float *src);
void encode_iq4_nl(void *data, void *scale, float *absmax, int64_t row, int64_t n_rows, int64_t cols,
                   const float *src);
void encode_mxfp4(void *data, void *scale, float *absmax, int64_t row, int64_t n_rows, int64_t cols,
                  const float *src);

/* encode_k.c: super-blocks of 256 */
void encode_q4_k(void *data, void *scale, float *absmax, int64_t row, int64_t n_rows, int64_t cols,
                 const float *src);
void encode_q5_k(void *data, void *scale, float *absmax, int64_t row, int64_t n_rows, int64_t cols,
                 const float *src);
void encode_q6_k(void *data, void *scale, float *absmax, int64_t row, int64_t n_rows, int64_t cols,
                 const float *src);

/* bnb.c: blocks of 64. The plain formats write their blocks' absmax to the scale plane; the double-quantized
 * ones write it to absmax and leave the scale plane to finish_double_quant. */
void encode_nf4(void *data, void *scale, float *absmax, int64_t row, int64_t n_rows, int64_t cols,
                const float *src);
void encode_nf4_dq(void *data, void *scale, float *absmax, int64_t row, int64_t n_rows, int64_t cols,
                   const float *src);
void encode_fp4(void *data, void *scale, float *absmax, int64_t row, int64_t n_rows, int64_t cols,
                const float *src);
void encode_fp4_dq(void *data, void *scale, float *absmax, int64_t row, int64_t n_rows, int64_t cols,
                   const float *src);

/* The same by blocks: without wide vectors, and by the fastest way that this machine has. The bytes are the
 * same. */
void nf4_blocks_plain(uint8_t *codes, float *absmax, int64_t n_blocks, const float *src);
void nf4_blocks_fast(uint8_t *codes, float *absmax, int64_t n_blocks, const float *src);
void q8_0_blocks_plain(uint8_t *out, int64_t n_blocks, const float *src);
void q8_0_blocks_fast(uint8_t *out, int64_t n_blocks, const float *src);

/* Signature of qtype_info.decode: stored row `row` as f32. */
void decode_nf4(const struct qmat *w, int64_t row, float *out);
void decode_nf4_dq(const struct qmat *w, int64_t row, float *out);
void decode_fp4(const struct qmat *w, int64_t row, float *out);
void decode_fp4_dq(const struct qmat *w, int64_t row, float *out);

/* Fills the whole scale plane of a double-quantized matrix from m->absmax, whose entries must all be there.
 */
void finish_double_quant(const struct qmat_encoder *m);

#endif
