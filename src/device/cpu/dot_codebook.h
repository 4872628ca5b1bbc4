/* dot_codebook.h: the codebooks and scale planes of the bitsandbytes formats as the kernels read them
 * (layouts: quant/qtype.h). */
#ifndef TONNE_DEVICE_CPU_DOT_CODEBOOK_H
#define TONNE_DEVICE_CPU_DOT_CODEBOOK_H

#include "device/cpu/dot_tile.h"

enum { BNB_BLOCK = 64, BNB_GROUP = 256 };

static const float dot_nf4_values[16] = {
    -1.0f,
    -0.6961928009986877f,
    -0.5250730514526367f,
    -0.39491748809814453f,
    -0.28444138169288635f,
    -0.18477343022823334f,
    -0.09105003625154495f,
    0.0f,
    0.07958029955625534f,
    0.16093020141124725f,
    0.24611230194568634f,
    0.33791524171829224f,
    0.44070982933044434f,
    0.5626170039176941f,
    0.7229568362236023f,
    1.0f,
};

static const float dot_fp4_values[16] = {
    0.0f, 1.0f / 192,  2.0f / 3,  1.0f,  1.0f / 3,  0.5f,  1.0f / 6,  0.25f,
    0.0f, -1.0f / 192, -2.0f / 3, -1.0f, -1.0f / 3, -0.5f, -1.0f / 6, -0.25f,
};

/* The parts of a scale plane; plain ones have absmax only. */
struct dot_absmax {
    const float *absmax;
    float offset;
    const float *map, *nested;
    const uint8_t *code;
};

typedef float (*dot_absmax_fn)(const struct dot_absmax *p, int64_t block);

INLINED float dot_absmax_plain(const struct dot_absmax *p, int64_t block)
{
    return p->absmax[block];
}

INLINED float dot_absmax_nested(const struct dot_absmax *p, int64_t block)
{
    return p->map[p->code[block]] * p->nested[block / BNB_GROUP] + p->offset;
}

INLINED struct dot_absmax dot_absmax_at(const struct qmat *w)
{
    const float *f = w->scale;
    struct dot_absmax p = { .absmax = f };
    if (w->type != QTYPE_NF4_DQ && w->type != QTYPE_FP4_DQ)
        return p;
    p.offset = f[0];
    p.map = f + 2;
    p.nested = p.map + 256;
    p.code = (const uint8_t *)(p.nested + f32_bits(f[1])); /* f[1] holds the number of groups */
    return p;
}

#endif
