/*
 * half.h: 16- and 8-bit floats. Conversions to f32 are exact; to 16 bits they round to nearest even
 * (IEEE 754, OCP FP8), as specs of GGUF and safetensors expect. Scalar and portable; kernels have their own.
 */
#ifndef TONNE_BASE_HALF_H
#define TONNE_BASE_HALF_H

#include <stdint.h>
#include <string.h>

static inline float f32_from_bits(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

static inline uint32_t f32_bits(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

static inline float bf16_to_f32(uint16_t h)
{
    return f32_from_bits((uint32_t)h << 16);
}

static inline uint16_t f32_to_bf16(float f)
{
    uint32_t u = f32_bits(f);
    if ((u & 0x7fffffff) > 0x7f800000)
        return (uint16_t)((u >> 16) | 0x40); /* NaN stays NaN, made quiet */
    return (uint16_t)((u + 0x7fff + ((u >> 16) & 1)) >> 16);
}

/* a where condition holds, else b; without a branch, so that loops over arrays become SIMD. */
static inline uint32_t bits_select(int condition, uint32_t a, uint32_t b)
{
    uint32_t mask = -(uint32_t)condition;
    return (a & mask) | (b & ~mask);
}

static inline float f16_to_f32(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exp_man = h & 0x7fff;
    uint32_t rebias = bits_select(exp_man >= 0x7c00, 224u << 23, 112u << 23); /* infinity and NaN: to 255 */
    uint32_t tiny = f32_bits((float)(int32_t)exp_man * 0x1p-24f);             /* zero and subnormals */
    return f32_from_bits(sign | bits_select(exp_man < 0x400, tiny, (exp_man << 13) + rebias));
}

static inline uint16_t f32_to_f16(float f)
{
    uint32_t u = f32_bits(f), sign = (u >> 16) & 0x8000, a = u & 0x7fffffff;
    if (a >= 0x7f800000)
        return (uint16_t)(sign | 0x7c00 | (a > 0x7f800000 ? 0x200 | ((a >> 13) & 0x3ff) : 0));
    if (a >= 0x477ff000)
        return (uint16_t)(sign | 0x7c00); /* rounds beyond 65504 */
    if (a >= 0x38800000) {                /* normal: rebias, then round the 13 dropped bits */
        uint32_t r = a - 0x38000000;
        return (uint16_t)(sign | ((r + 0xfff + ((r >> 13) & 1)) >> 13));
    }
    float shifted = f32_from_bits(a) + 0.5f; /* subnormal: the adder rounds at 2^-24 */
    return (uint16_t)(sign | (f32_bits(shifted) - 0x3f000000));
}

static inline float e4m3_to_f32(uint8_t b)
{
    uint32_t sign = (uint32_t)(b & 0x80) << 24, exp_man = b & 0x7f;
    uint32_t normal = bits_select(exp_man == 0x7f, 0x7fc00000, (exp_man << 20) + (120u << 23));
    uint32_t tiny = f32_bits((float)(int32_t)exp_man * 0x1p-9f);
    return f32_from_bits(sign | bits_select(exp_man < 8, tiny, normal));
}

static inline float e5m2_to_f32(uint8_t b)
{
    return f16_to_f32((uint16_t)(b << 8));
}

#endif
