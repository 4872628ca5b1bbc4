/* vec_avx2.c: vec.h with 8 lanes, two registers for the 16 that a panel has. */
#include <immintrin.h>
#include <math.h>

#include "device/cpu/vec.h"
#include "quant/act.h"

#define INLINE static inline __attribute__((always_inline))

enum { LANES = 8 };

/* The mask of the lanes that exist when n < 8 are left. */
INLINE __m256i lanes_left(int64_t n)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

/* min(n, 8) floats; the lanes beyond are 0, or stay as they are in memory. */
INLINE __m256 load_left(const float *x, int64_t n)
{
    return n >= LANES ? _mm256_loadu_ps(x) : _mm256_maskload_ps(x, lanes_left(n));
}

INLINE void store_left(float *x, __m256 v, int64_t n)
{
    if (n >= LANES)
        _mm256_storeu_ps(x, v);
    else
        _mm256_maskstore_ps(x, lanes_left(n), v);
}

INLINE float lane_sum(__m256 v)
{
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

INLINE float lane_max(__m256 v)
{
    __m128 s = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_max_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}

static float avx2_dot(const float *a, const float *b, int64_t n)
{
    __m256 s[4];
    for (int p = 0; p < 4; p++)
        s[p] = _mm256_setzero_ps();
    int64_t i = 0;
    for (; i + 4 * LANES <= n; i += 4 * LANES)
        for (int p = 0; p < 4; p++)
            s[p] =
                _mm256_fmadd_ps(_mm256_loadu_ps(a + i + p * LANES), _mm256_loadu_ps(b + i + p * LANES), s[p]);
    for (; i < n; i += LANES)
        s[0] = _mm256_fmadd_ps(load_left(a + i, n - i), load_left(b + i, n - i), s[0]);
    return lane_sum(_mm256_add_ps(_mm256_add_ps(s[0], s[1]), _mm256_add_ps(s[2], s[3])));
}

static float avx2_max(const float *x, int64_t n)
{
    __m256 max = _mm256_set1_ps(-INFINITY);
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        max = _mm256_max_ps(_mm256_loadu_ps(x + i), max);
    float best = lane_max(max);
    for (; i < n; i++)
        best = x[i] > best ? x[i] : best;
    return best;
}

static void avx2_scale(float *x, float s, int64_t n)
{
    __m256 factor = _mm256_set1_ps(s);
    for (int64_t i = 0; i < n; i += LANES)
        store_left(x + i, _mm256_mul_ps(load_left(x + i, n - i), factor), n - i);
}

static void avx2_axpy(float *y, float s, const float *x, int64_t n)
{
    __m256 factor = _mm256_set1_ps(s);
    for (int64_t i = 0; i < n; i += LANES)
        store_left(y + i, _mm256_fmadd_ps(factor, load_left(x + i, n - i), load_left(y + i, n - i)), n - i);
}

static void avx2_rms_norm(float *y, const float *x, const float *w, int64_t n, float eps)
{
    __m256 scale = _mm256_set1_ps(1.0f / sqrtf(avx2_dot(x, x, n) / (float)n + eps));
    for (int64_t i = 0; i < n; i += LANES) {
        __m256 v = _mm256_mul_ps(load_left(x + i, n - i), scale);
        store_left(y + i, _mm256_mul_ps(v, load_left(w + i, n - i)), n - i);
    }
}

/* vec_plain.c explains the numbers. The constants come first in min and max so that NaN stays NaN. */
INLINE __m256 exp_ps(__m256 x)
{
    __m256 t = _mm256_min_ps(_mm256_set1_ps(88.37f), x);
    t = _mm256_max_ps(_mm256_set1_ps(-87.33f), t);
    __m256 n = _mm256_round_ps(_mm256_mul_ps(t, _mm256_set1_ps(1.44269504f)),
                               _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0x1.62ep-1f), t);
    r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0x1.0bfbe8p-15f), r);
    __m256 p = _mm256_set1_ps(0.00138145988f);
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(0.00836871658f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(0.0416683890f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(0.166665211f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(0.499999940f));
    __m256 e = _mm256_add_ps(_mm256_fmadd_ps(_mm256_mul_ps(r, r), p, r), _mm256_set1_ps(1.0f));
    __m256i power = _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23);
    __m256 tiny = _mm256_cmp_ps(x, _mm256_set1_ps(-87.33f), _CMP_LT_OQ);
    return _mm256_andnot_ps(tiny, _mm256_mul_ps(e, _mm256_castsi256_ps(power)));
}

/* 1 / sigmoid(x) = 1 + e^-x */
INLINE __m256 sigmoid_inverse(__m256 x)
{
    return _mm256_add_ps(_mm256_set1_ps(1.0f), exp_ps(_mm256_sub_ps(_mm256_setzero_ps(), x)));
}

static float avx2_exp_sum(float *x, float max, int64_t n)
{
    __m256 sum = _mm256_setzero_ps(), high = _mm256_set1_ps(max);
    for (int64_t i = 0; i < n; i += LANES) {
        __m256 v = exp_ps(_mm256_sub_ps(load_left(x + i, n - i), high));
        if (n - i < LANES)
            v = _mm256_and_ps(v, _mm256_castsi256_ps(lanes_left(n - i)));
        store_left(x + i, v, n - i);
        sum = _mm256_add_ps(sum, v);
    }
    return lane_sum(sum);
}

static void avx2_silu_mul(float *y, const float *g, const float *u, int64_t n)
{
    for (int64_t i = 0; i < n; i += LANES) {
        __m256 v = load_left(g + i, n - i);
        v = _mm256_div_ps(v, sigmoid_inverse(v));
        store_left(y + i, _mm256_mul_ps(v, load_left(u + i, n - i)), n - i);
    }
}

static void avx2_sigmoid_mul(float *y, const float *g, int64_t n)
{
    for (int64_t i = 0; i < n; i += LANES) {
        __m256 v = _mm256_div_ps(load_left(y + i, n - i), sigmoid_inverse(load_left(g + i, n - i)));
        store_left(y + i, v, n - i);
    }
}

/* w holds 8 channels of 4 taps, two channels in each register; tap[j] gets tap j of all 8. */
INLINE void conv4_taps(const float *w, int64_t n, __m256 tap[4])
{
    __m256 c[4];
    for (int q = 0; q < 4; q++)
        c[q] = 4 * n > LANES * q ? load_left(w + LANES * q, 4 * n - LANES * q) : _mm256_setzero_ps();
    __m256 even[4]; /* channels 0 4, 1 5, 2 6, 3 7 */
    even[0] = _mm256_permute2f128_ps(c[0], c[2], 0x20);
    even[1] = _mm256_permute2f128_ps(c[0], c[2], 0x31);
    even[2] = _mm256_permute2f128_ps(c[1], c[3], 0x20);
    even[3] = _mm256_permute2f128_ps(c[1], c[3], 0x31);
    __m256 a = _mm256_unpacklo_ps(even[0], even[2]), b = _mm256_unpackhi_ps(even[0], even[2]);
    __m256 d = _mm256_unpacklo_ps(even[1], even[3]), e = _mm256_unpackhi_ps(even[1], even[3]);
    tap[0] = _mm256_unpacklo_ps(a, d);
    tap[1] = _mm256_unpackhi_ps(a, d);
    tap[2] = _mm256_unpacklo_ps(b, e);
    tap[3] = _mm256_unpackhi_ps(b, e);
}

static void avx2_conv4_silu(float *y, const float *x0, const float *x1, const float *x2, const float *x3,
                            const float *w, int64_t n)
{
    for (int64_t i = 0; i < n; i += LANES) {
        __m256 tap[4];
        conv4_taps(w + 4 * i, n - i, tap);
        __m256 v = _mm256_mul_ps(tap[0], load_left(x0 + i, n - i));
        v = _mm256_fmadd_ps(tap[1], load_left(x1 + i, n - i), v);
        v = _mm256_fmadd_ps(tap[2], load_left(x2 + i, n - i), v);
        v = _mm256_fmadd_ps(tap[3], load_left(x3 + i, n - i), v);
        store_left(y + i, _mm256_div_ps(v, sigmoid_inverse(v)), n - i);
    }
}

/* ---- tiles: R rows by H half panels of accumulators; every element is one chain of fused additions over
 * depth ---- */

typedef __m256 (*load_fn)(const void *b, size_t at);

INLINE __m256 load_f32(const void *b, size_t at)
{
    return _mm256_loadu_ps((const float *)b + at);
}

INLINE __m256 load_f16(const void *b, size_t at)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const void *)((const uint16_t *)b + at)));
}

INLINE __m256 load_bf16(const void *b, size_t at)
{
    __m128i h = _mm_loadu_si128((const void *)((const uint16_t *)b + at));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
}

/* n_rows <= 4 and n_panels <= 4 are constants where this is inlined. */
INLINE void tile_block(const struct vec_tile *t, int row, int panel, int n_rows, int n_panels, load_fn load)
{
    __m256 sum[4][8];
    const float *a = t->a + (size_t)row * t->a_row;
    float *c = t->c + (size_t)row * t->c_row + (size_t)panel * VEC_LANES;
    for (int i = 0; i < n_rows; i++)
        for (int h = 0; h < 2 * n_panels; h++)
            sum[i][h] = _mm256_setzero_ps();
    if (t->scale != 0.0f)
        for (int i = 0; i < n_rows; i++)
            for (int h = 0; h < 2 * n_panels; h++)
                sum[i][h] = _mm256_mul_ps(_mm256_set1_ps(t->scale),
                                          _mm256_loadu_ps(c + (size_t)i * t->c_row + (size_t)h * LANES));
    for (size_t k = 0; k < (size_t)t->depth; k++) {
        __m256 v[8];
        for (int h = 0; h < 2 * n_panels; h++)
            v[h] = load(t->b, (size_t)(panel + h / 2) * t->b_panel + k * t->b_row + (size_t)(h % 2) * LANES);
        for (int i = 0; i < n_rows; i++) {
            __m256 x = _mm256_broadcast_ss(&a[(size_t)i * t->a_row + k]);
            for (int h = 0; h < 2 * n_panels; h++)
                sum[i][h] = _mm256_fmadd_ps(x, v[h], sum[i][h]);
        }
    }
    for (int i = 0; i < n_rows; i++)
        for (int h = 0; h < 2 * n_panels; h++)
            _mm256_storeu_ps(c + (size_t)i * t->c_row + (size_t)h * LANES, sum[i][h]);
}

/* n_rows rows of all full panels. */
INLINE void tile_rows(const struct vec_tile *t, int row, int n_rows, int n_panels, load_fn load)
{
    int n = t->cols / VEC_LANES, p = 0;
    for (; p + n_panels <= n; p += n_panels)
        tile_block(t, row, p, n_rows, n_panels, load);
    for (; p < n; p++)
        tile_block(t, row, p, n_rows, 1, load);
}

/* Fewer rows take more panels at once, so that enough chains run side by side. */
INLINE void tile_all(const struct vec_tile *t, load_fn load)
{
    int row = 0;
    for (; row + 4 <= t->rows; row += 4)
        tile_rows(t, row, 4, 1, load);
    for (; row + 2 <= t->rows; row += 2)
        tile_rows(t, row, 2, 2, load);
    for (; row < t->rows; row++)
        tile_rows(t, row, 1, 4, load);
}

static void avx2_tile_f32(const struct vec_tile *t)
{
    tile_all(t, load_f32);
    vec_tile_tail(t);
}

static void avx2_tile_f16(const struct vec_tile *t)
{
    tile_all(t, load_f16);
}

static void avx2_tile_bf16(const struct vec_tile *t)
{
    tile_all(t, load_bf16);
}

/* 16 columns from column j on; even and odd rows of the state are summed apart (vec_plain.c explains). */
INLINE void delta_columns(const struct vec_delta_step *s, int j)
{
    __m256 m[2][2], o[2][2], d[2];
    float *state = s->state + j;
    for (int h = 0; h < 2; h++)
        for (int p = 0; p < 2; p++)
            m[h][p] = o[h][p] = _mm256_setzero_ps();
    for (int i = 0; i < s->d_k; i += 2)
        for (int h = 0; h < 2 && i + h < s->d_k; h++) {
            __m256 k = _mm256_broadcast_ss(&s->k[i + h]), q = _mm256_broadcast_ss(&s->q[i + h]);
            for (int p = 0; p < 2; p++) {
                __m256 x = _mm256_loadu_ps(state + (size_t)(i + h) * s->row + (size_t)p * LANES);
                m[h][p] = _mm256_fmadd_ps(x, k, m[h][p]);
                o[h][p] = _mm256_fmadd_ps(x, q, o[h][p]);
            }
        }
    __m256 decay = _mm256_set1_ps(s->decay), beta = _mm256_set1_ps(s->beta), qk = _mm256_set1_ps(s->qk);
    for (int p = 0; p < 2; p++) {
        __m256 memory = _mm256_add_ps(m[0][p], m[1][p]), out = _mm256_add_ps(o[0][p], o[1][p]);
        __m256 v = _mm256_loadu_ps(s->v + j + p * LANES);
        d[p] = _mm256_mul_ps(beta, _mm256_fnmadd_ps(decay, memory, v));
        _mm256_storeu_ps(s->out + j + p * LANES, _mm256_fmadd_ps(qk, d[p], _mm256_mul_ps(decay, out)));
    }
    for (int i = 0; i < s->d_k; i++) {
        __m256 k = _mm256_broadcast_ss(&s->k[i]);
        for (int p = 0; p < 2; p++) {
            float *x = state + (size_t)i * s->row + (size_t)p * LANES;
            _mm256_storeu_ps(x, _mm256_fmadd_ps(k, d[p], _mm256_mul_ps(decay, _mm256_loadu_ps(x))));
        }
    }
}

static void avx2_delta_step(const struct vec_delta_step *s)
{
    for (int j = 0; j + VEC_LANES <= s->cols; j += VEC_LANES)
        delta_columns(s, j);
    vec_delta_step_tail(s);
}

/* ---- quantizing activations; act.h says what, bit by bit ---- */

/* 8 codes: clamped first, the bound where x is NaN, then the nearest whole number, halves to even. */
INLINE __m256i q8_code(__m256 x)
{
    x = _mm256_min_ps(x, _mm256_set1_ps(127.0f));
    x = _mm256_max_ps(x, _mm256_set1_ps(-127.0f));
    return _mm256_cvtps_epi32(x);
}

INLINE void q8_block(int8_t *q, float *d, int32_t *sum, const float *x)
{
    __m256 sign = _mm256_set1_ps(-0.0f), max = _mm256_setzero_ps(), v[4];
    __m256i c[4];
    for (int p = 0; p < 4; p++) {
        v[p] = _mm256_loadu_ps(x + p * LANES);
        max = _mm256_max_ps(_mm256_andnot_ps(sign, v[p]), max); /* max where v is NaN */
    }
    float high = lane_max(max);
    *d = high < Q8_ZERO ? 0.0f : high / 127.0f;
    __m256 inverse = _mm256_set1_ps(*d > 0.0f ? 1.0f / *d : 0.0f);
    for (int p = 0; p < 4; p++)
        c[p] = q8_code(_mm256_mul_ps(v[p], inverse));
    __m256i low = _mm256_packs_epi32(c[0], c[1]), upper = _mm256_packs_epi32(c[2], c[3]);
    __m256i bytes = _mm256_packs_epi16(low, upper); /* groups of 4 codes: 0 2 4 6 1 3 5 7 */
    bytes = _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
    _mm256_storeu_si256((void *)q, bytes);
    __m256i total = _mm256_add_epi32(_mm256_add_epi32(c[0], c[1]), _mm256_add_epi32(c[2], c[3]));
    __m128i t = _mm_add_epi32(_mm256_castsi256_si128(total), _mm256_extracti128_si256(total, 1));
    t = _mm_add_epi32(t, _mm_shuffle_epi32(t, 0x4e));
    *sum = _mm_cvtsi128_si32(_mm_add_epi32(t, _mm_shuffle_epi32(t, 0xb1)));
}

static void avx2_q8_quantize(void *row, const float *x, int64_t n)
{
    struct q8_row r = q8_row_at(row, n);
    char *base = row;
    int8_t *q = row;
    float *d = (float *)(base + ((const char *)r.d - base));
    int32_t *sum = (int32_t *)(base + ((const char *)r.sum - base));
    for (int64_t b = 0; b < n / Q8_BLOCK; b++)
        q8_block(q + b * Q8_BLOCK, &d[b], &sum[b], x + b * Q8_BLOCK);
}

const struct vec_kernels vec_avx2 = {
    .name = "avx2",
    .needs = CPU_ISA_AVX2,
    .q8_quantize = avx2_q8_quantize,
    .dot = avx2_dot,
    .max = avx2_max,
    .scale = avx2_scale,
    .axpy = avx2_axpy,
    .rms_norm = avx2_rms_norm,
    .exp_sum = avx2_exp_sum,
    .silu_mul = avx2_silu_mul,
    .sigmoid_mul = avx2_sigmoid_mul,
    .conv4_silu = avx2_conv4_silu,
    .tile_f32 = avx2_tile_f32,
    .tile_f16 = avx2_tile_f16,
    .tile_bf16 = avx2_tile_bf16,
    .delta_step = avx2_delta_step,
};
