/* delta_net.c: causal convolution, L2 norm, the gated delta rule one token at a time, gated RMS norm. */
#include "device/ref/ref.h"

#include <math.h>

static const double L2_EPS = 1e-6;

static int conv_dim(const struct delta_net_args *a)
{
    return 2 * a->n_k_head * a->d_k + a->n_v_head * a->d_v;
}

/* x[conv_dim] becomes silu(conv over history and x); history shifts by one row. */
static void convolve(const struct delta_net_args *a, float *history, float *x)
{
    int taps = a->conv_kernel, n = conv_dim(a);
    for (int ch = 0; ch < n; ch++) {
        const float *w = a->w->conv + (size_t)ch * (size_t)taps; /* [taps], the last is the current row's */
        double sum = (double)w[taps - 1] * x[ch];
        for (int j = 0; j < taps - 1; j++)
            sum += (double)w[j] * history[(size_t)j * (size_t)n + (size_t)ch];
        for (int j = 0; j + 1 < taps - 1; j++)
            history[(size_t)j * (size_t)n + (size_t)ch] = history[((size_t)j + 1) * (size_t)n + (size_t)ch];
        if (taps > 1)
            history[((size_t)taps - 2) * (size_t)n + (size_t)ch] = x[ch];
        x[ch] = (float)ref_silu(sum);
    }
}

static void l2_norm(double *y, const float *x, int n)
{
    double scale = 1 / sqrt(ref_dot(x, x, n) + L2_EPS);
    for (int i = 0; i < n; i++)
        y[i] = x[i] * scale;
}

static double softplus(double x)
{
    return x > 20 ? x : log1p(exp(x));
}

/* One token of one head: state [d_k][d_v]; q and k [d_k]; v and out [d_v]; out is not normalised. */
static void delta_step(const struct delta_net_args *a, float *state, const double *q, const double *k,
                       const float *v, double decay, double beta, double *out)
{
    for (int j = 0; j < a->d_v; j++) {
        float *s = state + j; /* column j: s[i * d_v] */
        double m = 0, o = 0;
        for (int i = 0; i < a->d_k; i++)
            m += decay * s[(size_t)i * (size_t)a->d_v] * k[i];
        double d = beta * (v[j] - m);
        for (int i = 0; i < a->d_k; i++) {
            double updated = decay * s[(size_t)i * (size_t)a->d_v] + k[i] * d;
            o += updated * q[i];
            s[(size_t)i * (size_t)a->d_v] = (float)updated;
        }
        out[j] = o;
    }
}

/* out[d_v] = rms_norm(o) * w * silu(z) */
static void gated_norm(const struct delta_net_args *a, const double *o, const float *z, float *out)
{
    double squares = 0;
    for (int j = 0; j < a->d_v; j++)
        squares += o[j] * o[j];
    double scale = 1 / sqrt(squares / a->d_v + (double)a->eps);
    for (int j = 0; j < a->d_v; j++)
        out[j] = (float)(o[j] * scale * a->w->norm[j] * ref_silu(z[j]));
}

static void delta_net_row(const struct ref_device *r, const struct delta_net_args *a,
                          const struct delta_net_span *s, int row)
{
    float *x = a->qkv + (size_t)row * (size_t)conv_dim(a); /* q heads | k heads | v heads */
    convolve(a, s->conv, x);
    int widest = a->d_k > a->d_v ? a->d_k : a->d_v;
    double *q = r->heads, *k = q + widest, *o = k + widest; /* [d_k], [d_k], [d_v] */
    for (int h = 0; h < a->n_v_head; h++) {
        int kh = a->v_head_tiled ? h % a->n_k_head : h / (a->n_v_head / a->n_k_head);
        size_t at = (size_t)row * (size_t)a->n_v_head + (size_t)h;
        l2_norm(q, x + kh * a->d_k, a->d_k);
        l2_norm(k, x + (a->n_k_head + kh) * a->d_k, a->d_k);
        for (int i = 0; i < a->d_k; i++)
            q[i] /= sqrt(a->d_k);
        const float *v = x + 2 * a->n_k_head * a->d_k + h * a->d_v; /* [d_v] */
        double decay = exp(a->w->a_neg[h] * softplus((double)a->a[at] + a->w->dt_bias[h]));
        double beta = ref_sigmoid(a->b[at]);
        delta_step(a, s->state + (size_t)h * (size_t)a->d_k * (size_t)a->d_v, q, k, v, decay, beta, o);
        gated_norm(a, o, a->z + at * (size_t)a->d_v, a->out + at * (size_t)a->d_v);
    }
}

int ref_delta_net(struct device *d, const struct delta_net_args *a, struct err *e)
{
    (void)e;
    for (int i = 0; i < a->n_span; i++)
        for (int t = 0; t < a->span[i].n_rows; t++)
            delta_net_row((const struct ref_device *)d, a, &a->span[i], a->span[i].row + t);
    return 0;
}
