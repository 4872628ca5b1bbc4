/* finite.c: see finite.h. A float is NaN or infinite exactly when all its exponent bits are set. */
#include "load/finite.h"

#include <string.h>

/* Where the f16 scales lie inside a block; -1: none. */
struct scale_offsets {
    enum qtype type;
    int first, second;
};

static const struct scale_offsets offsets[] = {
    { QTYPE_Q4_0, 0, -1 },   { QTYPE_Q4_1, 0, 2 },    { QTYPE_Q5_0, 0, -1 },    { QTYPE_Q5_1, 0, 2 },
    { QTYPE_Q8_0, 0, -1 },   { QTYPE_Q2_K, 80, 82 },  { QTYPE_Q3_K, 108, -1 },  { QTYPE_Q4_K, 0, 2 },
    { QTYPE_Q5_K, 0, 2 },    { QTYPE_Q6_K, 208, -1 }, { QTYPE_IQ1_S, 0, -1 },   { QTYPE_IQ2_XXS, 0, -1 },
    { QTYPE_IQ2_XS, 0, -1 }, { QTYPE_IQ2_S, 0, -1 },  { QTYPE_IQ3_XXS, 0, -1 }, { QTYPE_IQ3_S, 0, -1 },
    { QTYPE_IQ4_NL, 0, -1 }, { QTYPE_IQ4_XS, 0, -1 }, { QTYPE_TQ1_0, 52, -1 },  { QTYPE_TQ2_0, 64, -1 },
};

/* data: 16-bit floats, wherever they lie. */
static bool all_below(const uint8_t *data, int64_t n, uint16_t exponent)
{
    uint16_t bad = 0, x;
    for (int64_t i = 0; i < n; i++) {
        memcpy(&x, data + 2 * i, sizeof x);
        bad |= (x & exponent) == exponent;
    }
    return !bad;
}

bool floats_finite(const float *x, int64_t n)
{
    unsigned bad = 0;
    for (int64_t i = 0; i < n; i++) {
        uint32_t u;
        memcpy(&u, &x[i], sizeof u);
        bad |= (u & 0x7f800000) == 0x7f800000;
    }
    return !bad;
}

static bool half_finite(const uint8_t *p)
{
    return (p[1] & 0x7c) != 0x7c;
}

static bool block_scales_finite(const struct scale_offsets *o, const uint8_t *data, int64_t n)
{
    const struct qtype_info *info = qtype_info(o->type);
    for (int64_t b = 0; b < n / info->block; b++, data += info->block_bytes)
        if (!half_finite(data + o->first) || (o->second >= 0 && !half_finite(data + o->second)))
            return false;
    return true;
}

static bool bytes_avoid(const uint8_t *data, int64_t n, uint8_t mask, uint8_t bad_value)
{
    unsigned bad = 0;
    for (int64_t i = 0; i < n; i++)
        bad |= (data[i] & mask) == bad_value;
    return !bad;
}

static bool mxfp4_finite(const uint8_t *data, int64_t n)
{
    for (int64_t b = 0; b < n / 32; b++)
        if (data[b * 17] == 255)
            return false;
    return true;
}

/* IQ1_M spreads its f16 scale over the top nibbles of four scale words; the exponent's upper bits are in sc3.
 */
static bool iq1_m_finite(const uint8_t *data, int64_t n)
{
    for (int64_t b = 0; b < n / 256; b++) {
        const uint8_t *sc = data + b * 56 + 48;
        unsigned high = (sc[7] & 0xf0) | (sc[5] & 0xf0) >> 4;
        if ((high & 0x7c) == 0x7c)
            return false;
    }
    return true;
}

bool weights_finite(enum qtype type, const void *data, int64_t n)
{
    switch (type) {
    case QTYPE_F32:
        return floats_finite(data, n);
    case QTYPE_F16:
        return all_below(data, n, 0x7c00);
    case QTYPE_BF16:
        return all_below(data, n, 0x7f80);
    case QTYPE_FP8_E4M3:
        return bytes_avoid(data, n, 0x7f, 0x7f);
    case QTYPE_FP8_E5M2:
        return bytes_avoid(data, n, 0x7c, 0x7c);
    case QTYPE_MXFP4:
        return mxfp4_finite(data, n);
    case QTYPE_IQ1_M:
        return iq1_m_finite(data, n);
    default:
        for (size_t i = 0; i < sizeof offsets / sizeof *offsets; i++)
            if (offsets[i].type == type)
                return block_scales_finite(&offsets[i], data, n);
        return true;
    }
}
