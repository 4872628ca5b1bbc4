/*
 * bnb.c: the 4-bit formats of bitsandbytes, NF4 and FP4, and their double quantization.
 *
 * The bits are those of the library's CPU path (0.50): a block's values are multiplied by the rounded 1 /
 * absmax, and a code is the number of midpoints between neighbouring levels that lie strictly below the
 * product. For FP4 this counting makes tiny positive values code 8 (zero) and sends a negative value on a
 * midpoint away from zero; the library's CUDA kernels do neither. Values with NaN or infinity in their block
 * get some code.
 */
#include "quant/encode.h"

#include <math.h>
#include <string.h>

#include "base/half.h"
#include "quant/x86/encode_x86.h"

enum { BLOCK = 64, GROUP = 256 };

/* ---- levels ---- */

/* clang-format off */
static const float nf4_level[16] = {
    -1.0f,                 -0.6961928009986877f,  -0.5250730514526367f,  -0.39491748809814453f,
    -0.28444138169288635f, -0.18477343022823334f, -0.09105003625154495f, 0.0f,
    0.07958029955625534f,  0.16093020141124725f,  0.24611230194568634f,  0.33791524171829224f,
    0.44070982933044434f,  0.5626170039176941f,   0.7229568362236023f,   1.0f,
};

static const float fp4_level[16] = {
    0.0f, 1.0f / 192,  2.0f / 3,  1.0f,  1.0f / 3,  0.5f,  1.0f / 6,  0.25f,
    0.0f, -1.0f / 192, -2.0f / 3, -1.0f, -1.0f / 3, -0.5f, -1.0f / 6, -0.25f,
};
/* clang-format on */

/* Midpoints: neighbouring levels added and halved in f32. (Four of them are one unit in the last place away
 * from the constants in the CUDA kernels, which were rounded from decimals.) */
static const float nf4_midpoint[15] = {
    -0x1.b239b0p-1f, -0x1.38a4e0p-1f, -0x1.d70900p-2f, -0x1.5bd4ecp-2f, -0x1.e079d8p-3f,
    -0x1.1a7178p-3f, -0x1.74f0e2p-5f, 0x1.45f5fep-5f,  0x1.ec90c4p-4f,  0x1.a0cfc0p-3f,
    0x1.2b05a8p-2f,  0x1.8ea7f2p-2f,  0x1.00da08p-1f,  0x1.491b5ep-1f,  0x1.b913b4p-1f,
};

static inline int nf4_code(float x)
{
    int code = 0;
    for (int i = 0; i < 15; i++)
        code += x > nf4_midpoint[i];
    return code;
}

/* Magnitudes in ascending order have the codes 0 1 6 7 4 5 2 3: each step flips the bits named. Magnitudes
 * are compared as integers, a negative one counting as one more: it passes a midpoint that it equals. */
static inline int fp4_code(float x)
{
    uint32_t bits = f32_bits(x);
    int32_t negative = (int32_t)(bits >> 31), size = (int32_t)((bits & 0x7fffffff) + (bits >> 31));
    int32_t code = size > 0x3b2aaaab ? 1 : 0; /* 1/384 */
    code ^= size > 0x3db00000 ? 7 : 0;        /* 0.0859375 */
    code ^= size > 0x3e555556 ? 1 : 0;        /* 5/24 */
    code ^= size > 0x3e955556 ? 3 : 0;        /* 7/24 */
    code ^= size > 0x3ed55556 ? 1 : 0;        /* 5/12 */
    code ^= size > 0x3f155556 ? 7 : 0;        /* 7/12 */
    code ^= size > 0x3f555556 ? 1 : 0;        /* 5/6 */
    int32_t large = size > 0x3b2aaaab, positive = x > 0.0f;
    return code | (large & negative) << 3 | (~large & positive) << 3;
}

/* ---- codes ---- */

/* max |x|; compared as integers, where the order of magnitudes is the same and any order of comparing will
 * do. */
static float max_abs(const float *x, int n)
{
    int32_t m = 0;
    for (int i = 0; i < n; i++) {
        int32_t a = (int32_t)(f32_bits(x[i]) & 0x7fffffff);
        m = a > m ? a : m;
    }
    return f32_from_bits((uint32_t)m);
}

typedef int code_of(float x);

/* n_rows rows whose first block is number first of the matrix. */
static inline void encode_rows(code_of *code, uint8_t *data, float *absmax, int64_t first, int64_t n_blocks,
                               const float *src)
{
    for (int64_t b = 0; b < n_blocks; b++) {
        const float *x = src + b * BLOCK;
        uint8_t *out = data + (first + b) * (BLOCK / 2);
        int32_t codes[BLOCK]; /* as wide as the floats: narrower ones make compilers shuffle */
        float max = max_abs(x, BLOCK), inverse = 1.0f / (max > 1e-38f ? max : 1e-38f);
        for (int i = 0; i < BLOCK; i++)
            codes[i] = code(x[i] * inverse);
        for (int j = 0; j < BLOCK / 2; j++)
            out[j] = (uint8_t)(codes[2 * j] << 4 | codes[2 * j + 1]);
        absmax[first + b] = max;
    }
}

void nf4_blocks_plain(uint8_t *codes, float *absmax, int64_t n_blocks, const float *src)
{
    encode_rows(nf4_code, codes, absmax, 0, n_blocks, src);
}

void nf4_blocks_fast(uint8_t *codes, float *absmax, int64_t n_blocks, const float *src)
{
    if (encode_has_avx512())
        nf4_blocks_avx512(codes, absmax, n_blocks, src, nf4_midpoint);
    else
        nf4_blocks_plain(codes, absmax, n_blocks, src);
}

void encode_nf4(void *data, void *scale, float *absmax, int64_t row, int64_t n_rows, int64_t cols,
                const float *src)
{
    int64_t first = row * (cols / BLOCK);
    (void)absmax;
    nf4_blocks_fast((uint8_t *)data + first * (BLOCK / 2), (float *)scale + first, n_rows * (cols / BLOCK),
                    src);
}

void encode_nf4_dq(void *data, void *scale, float *absmax, int64_t row, int64_t n_rows, int64_t cols,
                   const float *src)
{
    int64_t first = row * (cols / BLOCK);
    (void)scale;
    nf4_blocks_fast((uint8_t *)data + first * (BLOCK / 2), absmax + first, n_rows * (cols / BLOCK), src);
}

void encode_fp4(void *data, void *scale, float *absmax, int64_t row, int64_t n_rows, int64_t cols,
                const float *src)
{
    (void)absmax;
    encode_rows(fp4_code, data, scale, row * (cols / BLOCK), n_rows * (cols / BLOCK), src);
}

void encode_fp4_dq(void *data, void *scale, float *absmax, int64_t row, int64_t n_rows, int64_t cols,
                   const float *src)
{
    (void)scale;
    encode_rows(fp4_code, data, absmax, row * (cols / BLOCK), n_rows * (cols / BLOCK), src);
}

/* ---- the plane of double quantization: offset, n_group, map[256], nested[n_group], code[n] ---- */

struct dq_plane {
    float offset;
    const float *map, *nested;
    const uint8_t *code;
};

static struct dq_plane dq_plane_at(const void *scale)
{
    const float *f = scale;
    uint32_t n_group;
    memcpy(&n_group, f + 1, sizeof n_group);
    const float *nested = f + 2 + 256;
    return (struct dq_plane){ f[0], f + 2, nested, (const uint8_t *)(nested + n_group) };
}

static float dq_absmax(const struct dq_plane *p, int64_t block)
{
    return p->map[p->code[block]] * p->nested[block / GROUP] + p->offset;
}

/* ---- decoding ---- */

static inline void decode_block(const float level[16], const uint8_t *codes, float absmax, float *out)
{
    for (int j = 0; j < BLOCK / 2; j++) {
        out[2 * j] = level[codes[j] >> 4] * absmax;
        out[2 * j + 1] = level[codes[j] & 15] * absmax;
    }
}

static void decode_plain(const float level[16], const struct qmat *w, int64_t row, float *out)
{
    int64_t per_row = w->cols / BLOCK, first = row * per_row;
    const uint8_t *codes = w->data;
    const float *absmax = w->scale;
    for (int64_t b = 0; b < per_row; b++)
        decode_block(level, codes + (first + b) * (BLOCK / 2), absmax[first + b], out + b * BLOCK);
}

static void decode_double(const float level[16], const struct qmat *w, int64_t row, float *out)
{
    int64_t per_row = w->cols / BLOCK, first = row * per_row;
    const uint8_t *codes = w->data;
    struct dq_plane plane = dq_plane_at(w->scale);
    for (int64_t b = 0; b < per_row; b++)
        decode_block(level, codes + (first + b) * (BLOCK / 2), dq_absmax(&plane, first + b), out + b * BLOCK);
}

void decode_nf4(const struct qmat *w, int64_t row, float *out)
{
    decode_plain(nf4_level, w, row, out);
}

void decode_nf4_dq(const struct qmat *w, int64_t row, float *out)
{
    decode_double(nf4_level, w, row, out);
}

void decode_fp4(const struct qmat *w, int64_t row, float *out)
{
    decode_plain(fp4_level, w, row, out);
}

void decode_fp4_dq(const struct qmat *w, int64_t row, float *out)
{
    decode_double(fp4_level, w, row, out);
}

/* ---- double quantization ---- */

/* clang-format off */
/* The signed dynamic map from 0 up: 0, 127 magnitudes, 1. Below 0 it has the same magnitudes, negative. */
static const float dynamic_map[129] = {
    0.0f, 5.50000038e-07f, 3.25000019e-06f, 7.7499999e-06f, 2.12499981e-05f, 4.37499984e-05f,
    6.62500024e-05f, 8.87499991e-05f, 0.000156250011f, 0.000268750038f, 0.000381250022f, 0.000493750034f,
    0.000606250076f, 0.00071875006f, 0.000831249985f, 0.000943750085f, 0.00128124992f, 0.00184375001f,
    0.00240624999f, 0.00296874996f, 0.00353124971f, 0.00409374991f, 0.00465624966f, 0.00521875033f,
    0.00578125007f, 0.00634374982f, 0.00690625003f, 0.00746874977f, 0.00803124998f, 0.00859375019f,
    0.00915624946f, 0.00971874967f, 0.0114062503f, 0.0142187504f, 0.0170312505f, 0.0198437516f,
    0.0226562507f, 0.0254687499f, 0.028281251f, 0.0310937501f, 0.0339062512f, 0.0367187522f,
    0.0395312496f, 0.0423437469f, 0.0451562516f, 0.047968749f, 0.05078125f, 0.053593751f,
    0.0564062484f, 0.0592187531f, 0.0620312504f, 0.0648437515f, 0.0676562563f, 0.0704687461f,
    0.0732812509f, 0.0760937482f, 0.078906253f, 0.0817187577f, 0.0845312476f, 0.0873437524f,
    0.0901562497f, 0.0929687545f, 0.0957812592f, 0.0985937491f, 0.107031256f, 0.12109375f,
    0.135156244f, 0.149218753f, 0.163281247f, 0.177343756f, 0.19140625f, 0.205468744f,
    0.219531253f, 0.233593747f, 0.247656241f, 0.26171875f, 0.275781274f, 0.289843738f,
    0.303906262f, 0.317968726f, 0.33203125f, 0.346093744f, 0.360156238f, 0.374218762f,
    0.388281226f, 0.40234375f, 0.416406244f, 0.430468738f, 0.444531262f, 0.458593726f,
    0.47265625f, 0.486718714f, 0.500781238f, 0.514843702f, 0.528906226f, 0.54296875f,
    0.557031274f, 0.571093798f, 0.585156262f, 0.599218726f, 0.61328125f, 0.627343774f,
    0.641406298f, 0.655468762f, 0.669531226f, 0.68359375f, 0.697656274f, 0.711718798f,
    0.725781262f, 0.739843726f, 0.75390625f, 0.767968774f, 0.782031238f, 0.796093762f,
    0.810156226f, 0.82421875f, 0.838281274f, 0.852343738f, 0.866406262f, 0.880468726f,
    0.89453125f, 0.908593774f, 0.922656238f, 0.936718762f, 0.950781226f, 0.96484375f,
    0.978906274f, 0.992968738f, 1.0f,
};
/* clang-format on */

static void fill_map(float map[256])
{
    for (int i = 0; i < 129; i++)
        map[127 + i] = dynamic_map[i];
    for (int i = 1; i < 128; i++)
        map[127 - i] = -dynamic_map[i];
}

/* The mean decides every code that follows, so it is added up in the order in which torch adds a contiguous
 * f32 vector on one thread (its thread pool splits vectors of 32768 and more, and then the last bits of the
 * mean depend on the number of threads): 4 x 8 running sums over 32 neighbours, flushed every `step` rounds
 * into a second level, that into a third and a fourth; then the four, then the eight, in order. */
enum { LANES = 32, LEVELS = 4 };

static int ceil_log2(int64_t n)
{
    int bits = 0;
    while ((int64_t)1 << bits < n)
        bits++;
    return bits;
}

static void add_to(float *sum, const float *x, int n)
{
    for (int i = 0; i < n; i++)
        sum[i] += x[i];
}

/* Sums of every LANES-th element over n rounds of LANES (or, for short vectors, width) elements. */
static void cascade_rounds(float out[LANES], const float *x, int64_t n, int width)
{
    float sum[LEVELS][LANES] = { { 0 } };
    int power = ceil_log2(n) / LEVELS > 4 ? ceil_log2(n) / LEVELS : 4;
    int64_t step = (int64_t)1 << power, i = 0;
    while (i + step <= n) {
        for (int64_t j = 0; j < step; j++, i++)
            add_to(sum[0], x + i * width, width);
        for (int k = 1; k < LEVELS; k++) {
            add_to(sum[k], sum[k - 1], width);
            memset(sum[k - 1], 0, sizeof sum[k - 1]);
            if (i & (step - 1) << k * power)
                break;
        }
    }
    for (; i < n; i++)
        add_to(sum[0], x + i * width, width);
    for (int k = 1; k < LEVELS; k++)
        add_to(sum[0], sum[k], width);
    memcpy(out, sum[0], sizeof sum[0]);
}

/* The sum of n vectors of width elements each, element by element: four cascades, then the rest, then
 * together. */
static void cascade_vectors(float *out, const float *x, int64_t n, int width)
{
    float sum[LANES];
    cascade_rounds(sum, x, n / 4, 4 * width);
    for (int64_t i = n / 4 * 4; i < n; i++)
        add_to(sum, x + i * width, width);
    for (int k = 1; k < 4; k++)
        add_to(sum, sum + k * width, width);
    memcpy(out, sum, (size_t)width * sizeof *sum);
}

static float mean(const float *x, int64_t n)
{
    enum { WIDTH = LANES / 4 };
    float total = 0.0f, part[WIDTH];
    if (n < WIDTH) {
        cascade_vectors(&total, x, n, 1);
        return total / (float)n;
    }
    cascade_vectors(part, x, n / WIDTH, WIDTH);
    for (int64_t i = n / WIDTH * WIDTH; i < n; i++)
        total += x[i];
    for (int k = 0; k < WIDTH; k++)
        total += part[k];
    return total / (float)n;
}

/* The library looks the code up in a table over 65536 steps of [-1, 1]; this is the step's code: the number
 * of midpoints below the step's value. The step is computed with one rounding, as its compiled code does
 * (fma). */
static uint8_t dynamic_code(const float midpoint[255], float x)
{
    x = x > -1.0f ? x : -1.0f; /* first: NaN becomes a number */
    x = x < 1.0f ? x : 1.0f;
    double exact = (double)((x + 1.0f) * 0.5f) * 65535.0 + 0.5;
    int step = (int)(float)exact;
    float value = -1.0f + 2.0f * (float)step / 65535.0f;
    int code = 0;
    for (int half = 128; half; half /= 2)
        code += midpoint[code + half - 1] < value ? half : 0;
    return (uint8_t)code;
}

void finish_double_quant(const struct qmat_encoder *m)
{
    int64_t n = m->rows * (m->cols / BLOCK), n_group = n / GROUP + (n % GROUP != 0);
    float *plane = m->scale, *map = plane + 2, *nested = map + 256, midpoint[255];
    uint8_t *code = (uint8_t *)(nested + n_group);
    float offset = n ? mean(m->absmax, n) : 0.0f;
    plane[0] = offset;
    memcpy(plane + 1, &(uint32_t){ (uint32_t)n_group }, sizeof(uint32_t));
    fill_map(map);
    for (int i = 0; i < 255; i++)
        midpoint[i] = 0.5f * (map[i] + map[i + 1]);
    for (int64_t g = 0; g < n_group; g++) {
        int64_t begin = g * GROUP;
        int count = n - begin < GROUP ? (int)(n - begin) : GROUP;
        float off[GROUP];
        for (int i = 0; i < count; i++)
            off[i] = m->absmax[begin + i] - offset;
        nested[g] = max_abs(off, count);
        float inverse = nested[g] > 0.0f ? 1.0f / nested[g] : 0.0f;
        for (int i = 0; i < count; i++) /* all equal: code 0 with factor 0 */
            code[begin + i] = nested[g] > 0.0f ? dynamic_code(midpoint, off[i] * inverse) : 0;
    }
}
