/*
 * attention.c: norm, rotate, append to the cache, attend causally, gate.
 * Cache of one layer: per position k [n_head_kv][d_head], then v the same, as kv.type.
 */
#include "device/ref/ref.h"

#include <math.h>

#include "base/half.h"

static size_t kv_element_bytes(enum qtype type)
{
    return type == QTYPE_F32 ? 4 : 2;
}

size_t ref_kv_bytes(enum qtype type, int positions, int n_head_kv, int d_head)
{
    return 2 * (size_t)positions * (size_t)n_head_kv * (size_t)d_head * kv_element_bytes(type);
}

static float kv_get(const struct kv_cache *kv, size_t i)
{
    if (kv->type == QTYPE_F32)
        return ((const float *)kv->data)[i];
    uint16_t bits = ((const uint16_t *)kv->data)[i];
    return kv->type == QTYPE_F16 ? f16_to_f32(bits) : bf16_to_f32(bits);
}

static void kv_put(const struct kv_cache *kv, size_t i, float value)
{
    if (kv->type == QTYPE_F32)
        ((float *)kv->data)[i] = value;
    else
        ((uint16_t *)kv->data)[i] = kv->type == QTYPE_F16 ? f32_to_f16(value) : f32_to_bf16(value);
}

/* Where (position, kv head)'s d_head values begin. */
static size_t k_at(const struct attention_args *a, int pos, int head)
{
    return (2 * (size_t)pos * (size_t)a->n_head_kv + (size_t)head) * (size_t)a->d_head;
}

static size_t v_at(const struct attention_args *a, int pos, int head)
{
    return k_at(a, pos, head + a->n_head_kv);
}

/* Component i turns with component i + n_rot/2; the angle is an f32 product as in every implementation of
 * RoPE. */
static void rotate(const struct attention_args *a, float *x, int pos)
{
    int half = a->n_rot / 2;
    for (int i = 0; i < half; i++) {
        float angle = (float)pos * a->rope_freq[i];
        double c = cos((double)angle) * a->rope_scale, s = sin((double)angle) * a->rope_scale;
        double u = x[i], v = x[i + half];
        x[i] = (float)(u * c - v * s);
        x[i + half] = (float)(v * c + u * s);
    }
}

static void attention_append(const struct attention_args *a, const struct attention_span *s, int row)
{
    int pos = s->pos + row - s->row, d = a->d_head;
    for (int h = 0; h < a->n_head_kv; h++) {
        size_t at = ((size_t)row * (size_t)a->n_head_kv + (size_t)h) * (size_t)d;
        float *k = a->k + at, *v = a->v + at; /* [d_head] */
        if (a->w->k_norm)
            ref_rms_norm(k, k, a->w->k_norm, d, a->eps);
        rotate(a, k, pos);
        for (int i = 0; i < d; i++) {
            kv_put(&s->kv, k_at(a, pos, h) + (size_t)i, k[i]);
            kv_put(&s->kv, v_at(a, pos, h) + (size_t)i, v[i]);
        }
    }
}

/* out[d_head] = softmax(q . k / sqrt(d_head)) v over positions 0..pos. */
static void attend(const struct ref_device *r, const struct attention_args *a, const struct kv_cache *kv,
                   const float *q, int kv_head, int pos, double *out)
{
    int d = a->d_head;
    double *score = r->scores; /* [pos + 1] */
    double max = -INFINITY, total = 0;
    for (int p = 0; p <= pos; p++) {
        size_t at = k_at(a, p, kv_head);
        double sum = 0;
        for (int i = 0; i < d; i++)
            sum += (double)q[i] * kv_get(kv, at + (size_t)i);
        score[p] = sum / sqrt(d);
        max = fmax(max, score[p]);
    }
    for (int i = 0; i < d; i++)
        out[i] = 0;
    for (int p = 0; p <= pos; p++) {
        size_t at = v_at(a, p, kv_head);
        double weight = exp(score[p] - max);
        total += weight;
        for (int i = 0; i < d; i++)
            out[i] += weight * kv_get(kv, at + (size_t)i);
    }
    for (int i = 0; i < d; i++)
        out[i] /= total;
}

static void attention_row(const struct ref_device *r, const struct attention_args *a,
                          const struct attention_span *s, int row)
{
    int pos = s->pos + row - s->row, d = a->d_head, group = a->n_head / a->n_head_kv;
    for (int h = 0; h < a->n_head; h++) {
        size_t head = (size_t)row * (size_t)a->n_head + (size_t)h;
        float *q = a->q + head * (size_t)d * (a->gated ? 2 : 1); /* [d_head], then gate [d_head] */
        float *out = a->out + head * (size_t)d;                  /* [d_head] */
        double *o = r->heads;                                    /* [d_head] */
        if (a->w->q_norm)
            ref_rms_norm(q, q, a->w->q_norm, d, a->eps);
        rotate(a, q, pos);
        attend(r, a, &s->kv, q, h / group, pos, o);
        for (int i = 0; i < d; i++)
            out[i] = (float)(a->gated ? o[i] * ref_sigmoid(q[d + i]) : o[i]);
    }
}

int ref_attention(struct device *d, const struct attention_args *a, struct err *e)
{
    (void)e;
    for (int i = 0; i < a->n_span; i++) {
        const struct attention_span *s = &a->span[i];
        for (int row = s->row; row < s->row + s->n_rows; row++) {
            attention_append(a, s, row);
            attention_row((const struct ref_device *)d, a, s, row);
        }
    }
    return 0;
}
