/*
 * blocks.h: GGUF's blocks as they lie in files. Every field is bytes, so a block has no alignment and no
 * padding and may start anywhere. Multi-byte fields are little-endian, as all hosts this builds for are.
 */
#ifndef TONNE_QUANT_BLOCKS_H
#define TONNE_QUANT_BLOCKS_H

#include <stdint.h>
#include <string.h>

#include "base/half.h"

enum { K_BLOCK = 256 }; /* weights per block of the k, iq and tq families */

/* clang-format off */
struct block_q4_0   { uint8_t d[2], qs[16]; };        /* value j: low nibble of qs[j], j + 16: high one */
struct block_q4_1   { uint8_t d[2], m[2], qs[16]; };
struct block_q5_0   { uint8_t d[2], qh[4], qs[16]; }; /* qh: bit j is the fifth bit of value j */
struct block_q5_1   { uint8_t d[2], m[2], qh[4], qs[16]; };
struct block_q8_0   { uint8_t d[2]; int8_t qs[32]; };
struct block_q2_k   { uint8_t scales[16], qs[64], d[2], dmin[2]; };
struct block_q3_k   { uint8_t hmask[32], qs[64], scales[12], d[2]; };
struct block_q4_k   { uint8_t d[2], dmin[2], scales[12], qs[128]; };
struct block_q5_k   { uint8_t d[2], dmin[2], scales[12], qh[32], qs[128]; };
struct block_q6_k   { uint8_t ql[128], qh[64]; int8_t scales[16]; uint8_t d[2]; };
struct block_q8_k   { uint8_t d[4]; int8_t qs[256]; uint8_t sums[32]; };
struct block_iq1_s  { uint8_t d[2], qs[32], qh[16]; };
struct block_iq1_m  { uint8_t qs[32], qh[16], scales[8]; }; /* d: the top nibbles of the four u16 scales */
struct block_iq2_xxs { uint8_t d[2], qs[64]; };
struct block_iq2_xs { uint8_t d[2], qs[64], scales[8]; };
struct block_iq2_s  { uint8_t d[2], qs[32], signs[32], qh[8], scales[8]; };
struct block_iq3_xxs { uint8_t d[2], qs[64], signs[32]; };
struct block_iq3_s  { uint8_t d[2], qs[64], qh[8], signs[32], scales[4]; };
struct block_iq4_nl { uint8_t d[2], qs[16]; };
struct block_iq4_xs { uint8_t d[2], scales_h[2], scales_l[4], qs[128]; };
struct block_mxfp4  { uint8_t e, qs[16]; };
struct block_nvfp4  { uint8_t d[4], qs[32]; };
struct block_tq1_0  { uint8_t qs[48], qh[4], d[2]; };
struct block_tq2_0  { uint8_t qs[64], d[2]; };
/* clang-format on */

static inline uint16_t u16_at(const uint8_t *p)
{
    uint16_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline uint32_t u32_at(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline float f16_at(const uint8_t *p)
{
    return f16_to_f32(u16_at(p));
}

static inline void f16_put(uint8_t *p, float f)
{
    uint16_t v = f32_to_f16(f);
    memcpy(p, &v, sizeof v);
}

/* Scale and minimum of sub-block s (0..7) of Q4_K and Q5_K, 6 bits each. */
static inline int k_scale(const uint8_t *scales, int s)
{
    return s < 4 ? scales[s] & 63 : (scales[s + 4] & 15) | scales[s - 4] >> 6 << 4;
}

static inline int k_min(const uint8_t *scales, int s)
{
    return s < 4 ? scales[s + 4] & 63 : scales[s + 4] >> 4 | scales[s] >> 6 << 4;
}

#endif
