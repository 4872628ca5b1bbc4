/*
 * bnb.h: bitsandbytes 4-bit tensors in safetensors: the JSON beside each weight, parsed once at opening, and
 * our extension to fused experts (doc/formats.md 2.2). The arithmetic is in quant/.
 */
#ifndef TONNE_MODEL_BNB_H
#define TONNE_MODEL_BNB_H

#include "base/err.h"
#include "model/tensor_dir.h"

struct quant_states;

/* One 4-bit tensor: n_matrices matrices of [rows][cols], each quantized by itself. Everything is borrowed
 * from the directory, and sizes agree with each other. */
struct quant_state {
    enum qtype type; /* NF4, NF4_DQ, FP4 or FP4_DQ */
    int n_dims;      /* of the plain tensor */
    int64_t dim[3];
    int64_t n_matrices; /* 1 unless fused experts */
    int64_t blocks;     /* absmax values per matrix */
    const struct tensor *absmax, *quant_map, *nested_absmax, *nested_map;
    const struct tensor *nested_offset_tensor; /* fused: one offset per matrix */
    float nested_offset;                       /* else the only one */
};

/* Reads every "X.quant_state.bitsandbytes__nf4|fp4" of the directory; *out = NULL when there is none.
 * ERR_FORMAT for block sizes other than 64 and whatever else decoding does not know, naming the tensor. */
int quant_states_open(struct quant_states **out, const struct tensor_dir *d, struct err *e);
void quant_states_close(struct quant_states **q);

/* The state of weight t, or NULL when it is stored plainly. q may be NULL. */
const struct quant_state *quant_state_of(const struct quant_states *q, const struct tensor_dir *d,
                                         const struct tensor *t);

#endif
