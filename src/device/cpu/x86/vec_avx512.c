/* vec_avx512.c: vec.h with 16 lanes and masked ends. */
#include <immintrin.h>
#include <math.h>

#include "device/cpu/vec.h"
#include "quant/act.h"

#define INLINE static inline __attribute__((always_inline))

enum { LANES = VEC_LANES };

/* The mask of the lanes that exist when n are left. */
INLINE __mmask16 lanes_left(int64_t n)
{
    return n >= LANES ? (__mmask16)0xffff : (__mmask16)((1u << n) - 1);
}

static float avx512_dot(const float *a, const float *b, int64_t n)
{
    __m512 s0 = _mm512_setzero_ps(), s1 = s0, s2 = s0, s3 = s0;
    int64_t i = 0;
    for (; i + 4 * LANES <= n; i += 4 * LANES) {
        s0 = _mm512_fmadd_ps(_mm512_loadu_ps(a + i), _mm512_loadu_ps(b + i), s0);
        s1 = _mm512_fmadd_ps(_mm512_loadu_ps(a + i + 16), _mm512_loadu_ps(b + i + 16), s1);
        s2 = _mm512_fmadd_ps(_mm512_loadu_ps(a + i + 32), _mm512_loadu_ps(b + i + 32), s2);
        s3 = _mm512_fmadd_ps(_mm512_loadu_ps(a + i + 48), _mm512_loadu_ps(b + i + 48), s3);
    }
    for (; i < n; i += LANES) {
        __mmask16 m = lanes_left(n - i);
        s0 = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(m, a + i), _mm512_maskz_loadu_ps(m, b + i), s0);
    }
    return _mm512_reduce_add_ps(_mm512_add_ps(_mm512_add_ps(s0, s1), _mm512_add_ps(s2, s3)));
}

static float avx512_max(const float *x, int64_t n)
{
    __m512 none = _mm512_set1_ps(-INFINITY), max = none;
    for (int64_t i = 0; i < n; i += LANES)
        max = _mm512_max_ps(_mm512_mask_loadu_ps(none, lanes_left(n - i), x + i), max);
    return _mm512_reduce_max_ps(max);
}

static void avx512_scale(float *x, float s, int64_t n)
{
    __m512 factor = _mm512_set1_ps(s);
    for (int64_t i = 0; i < n; i += LANES) {
        __mmask16 m = lanes_left(n - i);
        _mm512_mask_storeu_ps(x + i, m, _mm512_mul_ps(_mm512_maskz_loadu_ps(m, x + i), factor));
    }
}

static void avx512_axpy(float *y, float s, const float *x, int64_t n)
{
    __m512 factor = _mm512_set1_ps(s);
    for (int64_t i = 0; i < n; i += LANES) {
        __mmask16 m = lanes_left(n - i);
        __m512 v = _mm512_fmadd_ps(factor, _mm512_maskz_loadu_ps(m, x + i), _mm512_maskz_loadu_ps(m, y + i));
        _mm512_mask_storeu_ps(y + i, m, v);
    }
}

static void avx512_rms_norm(float *y, const float *x, const float *w, int64_t n, float eps)
{
    __m512 scale = _mm512_set1_ps(1.0f / sqrtf(avx512_dot(x, x, n) / (float)n + eps));
    for (int64_t i = 0; i < n; i += LANES) {
        __mmask16 m = lanes_left(n - i);
        __m512 v = _mm512_mul_ps(_mm512_maskz_loadu_ps(m, x + i), scale);
        _mm512_mask_storeu_ps(y + i, m, _mm512_mul_ps(v, _mm512_maskz_loadu_ps(m, w + i)));
    }
}

/* vec_plain.c explains the numbers. The constants come first in min and max so that NaN stays NaN. */
INLINE __m512 exp_ps(__m512 x)
{
    __m512 t = _mm512_min_ps(_mm512_set1_ps(88.37f), x);
    t = _mm512_max_ps(_mm512_set1_ps(-87.33f), t);
    __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(t, _mm512_set1_ps(1.44269504f)),
                                    _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0x1.62ep-1f), t);
    r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0x1.0bfbe8p-15f), r);
    __m512 p = _mm512_set1_ps(0.00138145988f);
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.00836871658f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.0416683890f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.166665211f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.499999940f));
    __m512 one = _mm512_set1_ps(1.0f);
    __m512 e = _mm512_add_ps(_mm512_fmadd_ps(_mm512_mul_ps(r, r), p, r), one);
    __mmask16 tiny = _mm512_cmp_ps_mask(x, _mm512_set1_ps(-87.33f), _CMP_LT_OQ);
    return _mm512_mask_mov_ps(_mm512_scalef_ps(e, n), tiny, _mm512_setzero_ps());
}

/* 1 / sigmoid(x) = 1 + e^-x */
INLINE __m512 sigmoid_inverse(__m512 x)
{
    return _mm512_add_ps(_mm512_set1_ps(1.0f), exp_ps(_mm512_sub_ps(_mm512_setzero_ps(), x)));
}

static float avx512_exp_sum(float *x, float max, int64_t n)
{
    __m512 sum = _mm512_setzero_ps(), high = _mm512_set1_ps(max);
    for (int64_t i = 0; i < n; i += LANES) {
        __mmask16 m = lanes_left(n - i);
        __m512 v = exp_ps(_mm512_sub_ps(_mm512_maskz_loadu_ps(m, x + i), high));
        _mm512_mask_storeu_ps(x + i, m, v);
        sum = _mm512_mask_add_ps(sum, m, sum, v);
    }
    return _mm512_reduce_add_ps(sum);
}

static void avx512_silu_mul(float *y, const float *g, const float *u, int64_t n)
{
    for (int64_t i = 0; i < n; i += LANES) {
        __mmask16 m = lanes_left(n - i);
        __m512 v = _mm512_maskz_loadu_ps(m, g + i);
        v = _mm512_div_ps(v, sigmoid_inverse(v));
        _mm512_mask_storeu_ps(y + i, m, _mm512_mul_ps(v, _mm512_maskz_loadu_ps(m, u + i)));
    }
}

static void avx512_sigmoid_mul(float *y, const float *g, int64_t n)
{
    for (int64_t i = 0; i < n; i += LANES) {
        __mmask16 m = lanes_left(n - i);
        __m512 v = _mm512_maskz_loadu_ps(m, y + i);
        v = _mm512_div_ps(v, sigmoid_inverse(_mm512_maskz_loadu_ps(m, g + i)));
        _mm512_mask_storeu_ps(y + i, m, v);
    }
}

/* Four lanes hold one channel's four taps: lanes l of four vectors are turned into tap j of 16 channels. */
INLINE __m512 conv4_tap(const __m512 w[4], int tap)
{
    __m512i pick = _mm512_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28, 0, 4, 8, 12, 16, 20, 24, 28);
    pick = _mm512_add_epi32(pick, _mm512_set1_epi32(tap));
    __m512 low = _mm512_permutex2var_ps(w[0], pick, w[1]), high = _mm512_permutex2var_ps(w[2], pick, w[3]);
    return _mm512_mask_mov_ps(low, 0xff00, high);
}

static void avx512_conv4_silu(float *y, const float *x0, const float *x1, const float *x2, const float *x3,
                              const float *w, int64_t n)
{
    for (int64_t i = 0; i < n; i += LANES) {
        __mmask16 m = lanes_left(n - i);
        __m512 taps[4];
        for (int q = 0; q < 4; q++) {
            int64_t left = 4 * (n - i) - LANES * q;
            taps[q] = _mm512_maskz_loadu_ps(left > 0 ? lanes_left(left) : 0, w + 4 * i + LANES * q);
        }
        __m512 v = _mm512_mul_ps(conv4_tap(taps, 0), _mm512_maskz_loadu_ps(m, x0 + i));
        v = _mm512_fmadd_ps(conv4_tap(taps, 1), _mm512_maskz_loadu_ps(m, x1 + i), v);
        v = _mm512_fmadd_ps(conv4_tap(taps, 2), _mm512_maskz_loadu_ps(m, x2 + i), v);
        v = _mm512_fmadd_ps(conv4_tap(taps, 3), _mm512_maskz_loadu_ps(m, x3 + i), v);
        _mm512_mask_storeu_ps(y + i, m, _mm512_div_ps(v, sigmoid_inverse(v)));
    }
}

/* ---- tiles: R rows by P panels of accumulators; every element is one chain of fused additions over depth
 * ---- */

typedef __m512 (*load_fn)(const void *b, size_t at);

INLINE __m512 load_f32(const void *b, size_t at)
{
    return _mm512_loadu_ps((const float *)b + at);
}

INLINE __m512 load_f16(const void *b, size_t at)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const void *)((const uint16_t *)b + at)));
}

INLINE __m512 load_bf16(const void *b, size_t at)
{
    __m256i h = _mm256_loadu_si256((const void *)((const uint16_t *)b + at));
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
}

/* n_rows <= 8 and n_panels <= 4 are constants where this is inlined. */
INLINE void tile_block(const struct vec_tile *t, int row, int panel, int n_rows, int n_panels, load_fn load)
{
    __m512 sum[8][4];
    const float *a = t->a + (size_t)row * t->a_row;
    float *c = t->c + (size_t)row * t->c_row + (size_t)panel * LANES;
    for (int i = 0; i < n_rows; i++)
        for (int p = 0; p < n_panels; p++)
            sum[i][p] = _mm512_setzero_ps();
    if (t->scale != 0.0f)
        for (int i = 0; i < n_rows; i++)
            for (int p = 0; p < n_panels; p++)
                sum[i][p] = _mm512_mul_ps(_mm512_set1_ps(t->scale),
                                          _mm512_loadu_ps(c + (size_t)i * t->c_row + (size_t)p * LANES));
    for (size_t k = 0; k < (size_t)t->depth; k++) {
        __m512 v[4];
        for (int p = 0; p < n_panels; p++)
            v[p] = load(t->b, (size_t)(panel + p) * t->b_panel + k * t->b_row);
        for (int i = 0; i < n_rows; i++) {
            __m512 x = _mm512_set1_ps(a[(size_t)i * t->a_row + k]);
            for (int p = 0; p < n_panels; p++)
                sum[i][p] = _mm512_fmadd_ps(x, v[p], sum[i][p]);
        }
    }
    for (int i = 0; i < n_rows; i++)
        for (int p = 0; p < n_panels; p++)
            _mm512_storeu_ps(c + (size_t)i * t->c_row + (size_t)p * LANES, sum[i][p]);
}

/* n_rows rows of all full panels. */
INLINE void tile_rows(const struct vec_tile *t, int row, int n_rows, int n_panels, load_fn load)
{
    int n = t->cols / LANES, p = 0;
    for (; p + n_panels <= n; p += n_panels)
        tile_block(t, row, p, n_rows, n_panels, load);
    for (; p < n; p++)
        tile_block(t, row, p, n_rows, 1, load);
}

/* Fewer rows take more panels at once, so that enough chains run side by side. */
INLINE void tile_all(const struct vec_tile *t, load_fn load)
{
    int row = 0;
    for (; row + 8 <= t->rows; row += 8)
        tile_rows(t, row, 8, 2, load);
    for (; row + 4 <= t->rows; row += 4)
        tile_rows(t, row, 4, 4, load);
    for (; row + 2 <= t->rows; row += 2)
        tile_rows(t, row, 2, 4, load);
    for (; row < t->rows; row++)
        tile_rows(t, row, 1, 4, load);
}

static void avx512_tile_f32(const struct vec_tile *t)
{
    tile_all(t, load_f32);
    vec_tile_tail(t);
}

static void avx512_tile_f16(const struct vec_tile *t)
{
    tile_all(t, load_f16);
}

static void avx512_tile_bf16(const struct vec_tile *t)
{
    tile_all(t, load_bf16);
}

/* P vectors of columns from column j on; even and odd rows of the state are summed apart (vec_plain.c
 * explains). */
INLINE void delta_columns(const struct vec_delta_step *s, int j, int n_vec)
{
    __m512 m[2][2], o[2][2], d[2];
    float *state = s->state + j;
    for (int h = 0; h < 2; h++)
        for (int p = 0; p < n_vec; p++)
            m[h][p] = o[h][p] = _mm512_setzero_ps();
    for (int i = 0; i < s->d_k; i += 2)
        for (int h = 0; h < 2 && i + h < s->d_k; h++) {
            __m512 k = _mm512_set1_ps(s->k[i + h]), q = _mm512_set1_ps(s->q[i + h]);
            for (int p = 0; p < n_vec; p++) {
                __m512 x = _mm512_loadu_ps(state + (size_t)(i + h) * s->row + (size_t)p * LANES);
                m[h][p] = _mm512_fmadd_ps(x, k, m[h][p]);
                o[h][p] = _mm512_fmadd_ps(x, q, o[h][p]);
            }
        }
    __m512 decay = _mm512_set1_ps(s->decay), beta = _mm512_set1_ps(s->beta), qk = _mm512_set1_ps(s->qk);
    for (int p = 0; p < n_vec; p++) {
        __m512 memory = _mm512_add_ps(m[0][p], m[1][p]), out = _mm512_add_ps(o[0][p], o[1][p]);
        __m512 v = _mm512_loadu_ps(s->v + j + p * LANES);
        d[p] = _mm512_mul_ps(beta, _mm512_fnmadd_ps(decay, memory, v));
        _mm512_storeu_ps(s->out + j + p * LANES, _mm512_fmadd_ps(qk, d[p], _mm512_mul_ps(decay, out)));
    }
    for (int i = 0; i < s->d_k; i++) {
        __m512 k = _mm512_set1_ps(s->k[i]);
        for (int p = 0; p < n_vec; p++) {
            float *x = state + (size_t)i * s->row + (size_t)p * LANES;
            _mm512_storeu_ps(x, _mm512_fmadd_ps(k, d[p], _mm512_mul_ps(decay, _mm512_loadu_ps(x))));
        }
    }
}

static void avx512_delta_step(const struct vec_delta_step *s)
{
    int j = 0;
    for (; j + 2 * LANES <= s->cols; j += 2 * LANES)
        delta_columns(s, j, 2);
    for (; j + LANES <= s->cols; j += LANES)
        delta_columns(s, j, 1);
    vec_delta_step_tail(s);
}

/* ---- quantizing activations; act.h says what, bit by bit ---- */

/* x as a code: clamped first, the bound where x is NaN, then the nearest whole number, halves to even. */
INLINE __m512i q8_code(__m512 x)
{
    x = _mm512_min_ps(x, _mm512_set1_ps(127.0f));
    x = _mm512_max_ps(x, _mm512_set1_ps(-127.0f));
    return _mm512_cvtps_epi32(x);
}

static void avx512_q8_quantize(void *row, const float *x, int64_t n)
{
    struct q8_row r = q8_row_at(row, n);
    char *base = row;
    int8_t *q = row;
    float *d = (float *)(base + ((const char *)r.d - base));
    int32_t *sum = (int32_t *)(base + ((const char *)r.sum - base));
    for (int64_t b = 0; b < n / Q8_BLOCK; b++, x += Q8_BLOCK, q += Q8_BLOCK) {
        __m512 v0 = _mm512_loadu_ps(x), v1 = _mm512_loadu_ps(x + LANES), zero = _mm512_setzero_ps();
        float max =
            _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(v1), _mm512_max_ps(_mm512_abs_ps(v0), zero)));
        d[b] = max < Q8_ZERO ? 0.0f : max / 127.0f;
        __m512 inverse = _mm512_set1_ps(d[b] > 0.0f ? 1.0f / d[b] : 0.0f);
        __m512i c0 = q8_code(_mm512_mul_ps(v0, inverse)), c1 = q8_code(_mm512_mul_ps(v1, inverse));
        _mm_storeu_si128((void *)q, _mm512_cvtepi32_epi8(c0));
        _mm_storeu_si128((void *)(q + LANES), _mm512_cvtepi32_epi8(c1));
        sum[b] = _mm512_reduce_add_epi32(_mm512_add_epi32(c0, c1));
    }
}

const struct vec_kernels vec_avx512 = {
    .name = "avx512",
    .needs = CPU_ISA_AVX512,
    .q8_quantize = avx512_q8_quantize,
    .dot = avx512_dot,
    .max = avx512_max,
    .scale = avx512_scale,
    .axpy = avx512_axpy,
    .rms_norm = avx512_rms_norm,
    .exp_sum = avx512_exp_sum,
    .silu_mul = avx512_silu_mul,
    .sigmoid_mul = avx512_sigmoid_mul,
    .conv4_silu = avx512_conv4_silu,
    .tile_f32 = avx512_tile_f32,
    .tile_f16 = avx512_tile_f16,
    .tile_bf16 = avx512_tile_bf16,
    .delta_step = avx512_delta_step,
};
