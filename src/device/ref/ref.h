/*
 * ref.h: the definition of right. Scalar loops over the formulas, sums in double rounded once to f32, no
 * threads, no caches of anything: other devices are compared with this one, operation by operation.
 */
#ifndef TONNE_DEVICE_REF_REF_H
#define TONNE_DEVICE_REF_REF_H

#include "device/device.h"

struct ref_device {
    struct device base; /* first */
    enum act_mode act;
    struct device_limits limits;
    struct mem scratch;
    float *row;     /* [max_cols] one decoded weight row */
    float *acts;    /* [max_rows][max_cols] activations as products see them */
    char *q8;       /* one row of q8_row_bytes(max_cols rounded up to blocks) */
    float *hidden;  /* [widest MLP] silu(gate x) * up x */
    double *wide;   /* [2][widest MLP] gate x, up x */
    double *narrow; /* [d_model] one expert's output */
    double *sum;    /* [max_rows][d_model] the experts' sums */
    float *chosen;  /* [max_rows * top_k][d_expert] hidden values of the chosen experts */
    double *scores; /* [max_ctx] one query against all positions */
    double *heads;  /* [4][widest head] temporaries of one head */
};

/* linear.c: x[n] as a product with this format reads it, rounded to int8 blocks and back where the format
 * says so. */
void ref_activation(const struct ref_device *r, enum qtype type, const float *x, int64_t n, float *out);
double ref_dot(const float *a, const float *b, int64_t n);
/* y[w->rows] = W x in double; x[w->cols] is what ref_activation gave. */
void ref_matvec(const struct ref_device *r, const struct qmat *w, const float *x, double *y);
/* norm.c: y[d] = x / sqrt(mean(x^2) + eps) * w; y may be x. */
void ref_rms_norm(float *y, const float *x, const float *w, int d, float eps);
double ref_sigmoid(double x);
double ref_silu(double x);

size_t ref_kv_bytes(enum qtype type, int positions, int n_head_kv, int d_head);

int ref_embed(struct device *d, const struct embed_args *a, struct err *e);
int ref_norm(struct device *d, const struct norm_args *a, struct err *e);
int ref_project(struct device *d, const struct project_args *a, struct err *e);
int ref_attention(struct device *d, const struct attention_args *a, struct err *e);
int ref_delta_net(struct device *d, const struct delta_net_args *a, struct err *e);
int ref_route(struct device *d, const struct route_args *a, struct err *e);
int ref_moe(struct device *d, const struct moe_args *a, struct err *e);
int ref_mlp(struct device *d, const struct mlp_args *a, struct err *e);

#endif
