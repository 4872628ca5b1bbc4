/*
 * gguf_types.c: GGUF's tensor type numbers. Formats we decode are rows of quant/qtype.c; here are the names
 * of all others, so that a file which holds one opens, and only using that tensor is refused, by name.
 */
#include <stdint.h>
#include <stdio.h>

#include "base/checked.h"
#include "model/gguf_private.h"

static const struct {
    uint32_t id;
    const char *name;
    int block, bytes; /* 0: the layout is not ours to know */
} others[] = {
    { 9, "Q8_1", 32, 36 },
    { 15, "Q8_K", 256, 292 },
    { 41, "Q1_0", 128, 18 },
    { 42, "Q2_0", 64, 18 },
    { 133, "Q6_0 of ik_llama.cpp", 0, 0 },
    { 134, "IQ1_BN of ik_llama.cpp", 0, 0 },
    { 135, "IQ2_BN of ik_llama.cpp", 0, 0 },
    { 137, "IQ2_K of ik_llama.cpp", 0, 0 },
    { 138, "IQ3_K of ik_llama.cpp", 0, 0 },
    { 139, "IQ4_K of ik_llama.cpp", 0, 0 },
    { 140, "IQ5_K of ik_llama.cpp", 0, 0 },
    { 141, "IQ6_K of ik_llama.cpp", 0, 0 },
    { 144, "IQ4_KS of ik_llama.cpp", 0, 0 },
    { 145, "IQ2_KS of ik_llama.cpp", 0, 0 },
    { 146, "IQ4_KSS of ik_llama.cpp", 0, 0 },
    { 152, "IQ5_KS of ik_llama.cpp", 0, 0 },
    { 153, "IQ2_KT of ik_llama.cpp", 0, 0 },
    { 154, "IQ3_KT of ik_llama.cpp", 0, 0 },
    { 155, "IQ4_KT of ik_llama.cpp", 0, 0 },
    { 156, "IQ3_KS of ik_llama.cpp", 0, 0 },
    { 157, "IQ2_KL of ik_llama.cpp", 0, 0 },
    { 158, "IQ1_KT of ik_llama.cpp", 0, 0 },
};

enum { FIRST_IK_ID = 97 }; /* ggml's own numbers are far below */

/* The layout of one block; 0, 0 when unknown. */
static void block_of(uint32_t id, enum qtype type, int *block, int *bytes)
{
    *block = *bytes = 0;
    if (type != QTYPE_NONE) {
        *block = qtype_info(type)->block;
        *bytes = qtype_info(type)->block_bytes;
    }
    for (size_t i = 0; i < sizeof others / sizeof *others && !*block; i++)
        if (others[i].id == id) {
            *block = others[i].block;
            *bytes = others[i].bytes;
        }
}

int gguf_tensor_type(struct tensor *t, uint32_t id, struct err *e)
{
    int block, block_bytes;
    int64_t elements, row = t->n_dims ? t->dim[t->n_dims - 1] : 1;
    uint64_t bytes = UINT64_MAX;
    if (!tensor_count_elements(t->dim, t->n_dims, &elements))
        return tensor_file_broken(e, "its shape has more elements than any file");
    t->type = qtype_from_ggml(id);
    block_of(id, t->type, &block, &block_bytes);
    if (block && row % block) {
        char number[48];
        return tensor_file_broken(e, "its rows of %lld are no whole number of %s blocks of %d",
                                  (long long)row, gguf_ggml_name(id, number, sizeof number), block);
    }
    if (block && !checked_mul((uint64_t)(elements / block), (uint64_t)block_bytes, &bytes))
        return tensor_file_broken(e, "its shape needs more bytes than any file has");
    t->bytes = bytes;
    return 0;
}

bool gguf_size_unknown(const struct tensor *t)
{
    return t->bytes == UINT64_MAX;
}

const char *gguf_ggml_name(uint32_t id, char *number, size_t room)
{
    enum qtype type = qtype_from_ggml(id);
    if (type != QTYPE_NONE)
        return qtype_info(type)->name;
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (others[i].id == id)
            return others[i].name;
    snprintf(number, room, "%s %u", id >= FIRST_IK_ID ? "ik_llama.cpp type" : "ggml type", id);
    return number;
}
