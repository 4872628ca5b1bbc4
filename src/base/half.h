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

static inline float f16_to_f32(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exp = (h >> 10) & 31, man = h & 0x3ff;
    if (exp == 31)
        return f32_from_bits(sign | 0x7f800000 | man << 13);
    if (exp)
        return f32_from_bits(sign | (exp + 112) << 23 | man << 13);
    float tiny = (float)man * 0x1p-24f; /* zero and subnormals */
    return sign ? -tiny : tiny;
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
    uint32_t sign = (uint32_t)(b & 0x80) << 24, exp = (b >> 3) & 15, man = b & 7;
    if (exp == 15 && man == 7)
        return f32_from_bits(sign | 0x7fc00000);
    if (exp)
        return f32_from_bits(sign | (exp + 120) << 23 | man << 20);
    float tiny = (float)man * 0x1p-9f;
    return sign ? -tiny : tiny;
}

static inline float e5m2_to_f32(uint8_t b)
{
    return f16_to_f32((uint16_t)(b << 8));
}

#endif
