/*
 * lanes.h: four floats side by side, private to the encoders. The compilers' vector types: SSE or NEON
 * without naming either. A comparison gives -1 or 0 per lane.
 */
#ifndef TONNE_QUANT_LANES_H
#define TONNE_QUANT_LANES_H

#include <stdint.h>

enum { LANE4 = 4 };

typedef float f32x4 __attribute__((vector_size(16)));
typedef int32_t i32x4 __attribute__((vector_size(16)));

static inline f32x4 lanes_all(float x)
{
    return (f32x4){ x, x, x, x };
}

static inline f32x4 lanes_pick(i32x4 where, f32x4 yes, f32x4 no)
{
    return (f32x4)((where & (i32x4)yes) | (~where & (i32x4)no));
}

static inline f32x4 lanes_abs(f32x4 x)
{
    return (f32x4)((i32x4)x & 0x7fffffff);
}

/* NaN becomes low. */
static inline f32x4 lanes_clamped(f32x4 x, float low, float high)
{
    x = lanes_pick(x > low, x, lanes_all(low));
    return lanes_pick(x < high, x, lanes_all(high));
}

/* Nearest integer, halves to even, of values within +-2^22: the adder rounds at 1. */
static inline f32x4 lanes_nearest(f32x4 x)
{
    const float bias = 0x1.8p23f;
    return (x + bias) - bias;
}

#endif
