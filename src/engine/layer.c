/*
 * layer.c: one transformer layer over the rows of a pass: norm, mixer (full attention or Gated DeltaNet),
 * norm, MLP (dense or mixture of experts), each added to the residual stream. Formulas: doc/numerics.md.
 */
#include "engine/internal.h"

static int norm(struct engine *en, float *y, const float *w, int n_rows, struct err *e)
{
    const struct shape *s = &en->w->shape;
    struct norm_args a = { .y = y,
                           .x = en->work.hidden,
                           .w = w,
                           .y_stride = (size_t)s->d_model,
                           .x_stride = (size_t)s->d_model,
                           .n_rows = n_rows,
                           .d = s->d_model,
                           .eps = s->rms_eps };
    return en->d->ops->norm(en->d, &a, e);
}

static struct linear linear(struct qmat w, const float *bias, float *y)
{
    return (struct linear){ w, bias, y, (size_t)w.rows };
}

/* hidden += w mixed */
static int project_back(struct engine *en, struct qmat w, int n_rows, struct err *e)
{
    struct project_args a = {
        .x = en->work.mixed, .x_stride = (size_t)w.cols, .n_rows = n_rows, .n_out = 1, .add = true
    };
    a.out[0] = linear(w, NULL, en->work.hidden);
    return en->d->ops->project(en->d, &a, e);
}

static int attention(struct engine *en, const struct attention_weights *w, int layer, const struct pass *pass,
                     struct err *e)
{
    const struct shape *s = &en->w->shape;
    struct work *k = &en->work;
    struct project_args in = {
        .x = k->normed, .x_stride = (size_t)s->d_model, .n_rows = pass->n_rows, .n_out = 3
    };
    in.out[0] = linear(w->q, w->q_bias, k->q);
    in.out[1] = linear(w->k, w->k_bias, k->k);
    in.out[2] = linear(w->v, w->v_bias, k->v);
    int rc = en->d->ops->project(en->d, &in, e);
    if (rc)
        return rc;
    for (int i = 0; i < pass->n_part; i++) {
        const struct pass_rows *p = &pass->part[i];
        en->attention_span[i] =
            (struct attention_span){ p->row, p->n_rows, p->position, p->session->layer[layer].kv };
    }
    struct attention_args a = { .out = k->mixed,
                                .q = k->q,
                                .k = k->k,
                                .v = k->v,
                                .w = w,
                                .span = en->attention_span,
                                .n_span = pass->n_part,
                                .n_rows = pass->n_rows,
                                .rope_freq = en->rope_freq,
                                .rope_scale = en->rope_scale,
                                .eps = s->rms_eps,
                                .n_head = s->n_head,
                                .n_head_kv = s->n_head_kv,
                                .d_head = s->d_head,
                                .n_rot = s->n_rot,
                                .gated = s->attn_gate };
    rc = en->d->ops->attention(en->d, &a, e);
    return rc ? rc : project_back(en, w->o, pass->n_rows, e);
}

static int delta_net(struct engine *en, const struct delta_net_weights *w, int layer, const struct pass *pass,
                     struct err *e)
{
    const struct shape *s = &en->w->shape;
    struct work *k = &en->work;
    struct project_args in = {
        .x = k->normed, .x_stride = (size_t)s->d_model, .n_rows = pass->n_rows, .n_out = 4
    };
    in.out[0] = linear(w->qkv, NULL, k->qkv);
    in.out[1] = linear(w->z, NULL, k->z);
    in.out[2] = linear(w->b, NULL, k->b);
    in.out[3] = linear(w->a, NULL, k->a);
    int rc = en->d->ops->project(en->d, &in, e);
    if (rc)
        return rc;
    for (int i = 0; i < pass->n_part; i++) {
        const struct pass_rows *p = &pass->part[i];
        const struct layer_state *state = &p->session->layer[layer];
        en->delta_net_span[i] = (struct delta_net_span){ p->row, p->n_rows, state->conv, state->state };
    }
    struct delta_net_args a = { .out = k->mixed,
                                .qkv = k->qkv,
                                .z = k->z,
                                .b = k->b,
                                .a = k->a,
                                .w = w,
                                .span = en->delta_net_span,
                                .n_span = pass->n_part,
                                .n_rows = pass->n_rows,
                                .eps = s->rms_eps,
                                .n_k_head = s->n_k_head,
                                .n_v_head = s->n_v_head,
                                .d_k = s->d_k,
                                .d_v = s->d_v,
                                .conv_kernel = s->conv_kernel,
                                .v_head_tiled = s->v_head_tiled };
    rc = en->d->ops->delta_net(en->d, &a, e);
    return rc ? rc : project_back(en, w->out, pass->n_rows, e);
}

int layer_forward(struct engine *en, const struct layer_weights *w, int layer, enum mixer mixer, bool is_moe,
                  const struct pass *pass, struct err *e)
{
    struct work *k = &en->work;
    int rc = norm(en, k->normed, w->norm_mixer, pass->n_rows, e);
    if (!rc)
        rc = mixer == MIXER_ATTENTION ? attention(en, &w->attention, layer, pass, e)
                                      : delta_net(en, &w->delta_net, layer, pass, e);
    if (!rc)
        rc = norm(en, k->normed, w->norm_mlp, pass->n_rows, e);
    if (rc)
        return rc;
    if (is_moe) {
        rc = moe_forward(en, &w->moe, layer, pass->n_rows, e);
    } else {
        struct mlp_args a = { .h = k->hidden, .x = k->normed, .w = &w->mlp, .n_rows = pass->n_rows };
        rc = en->d->ops->mlp(en->d, &a, e);
    }
    engine_show(en, "hidden", layer, k->hidden, pass->n_rows, en->w->shape.d_model);
    return rc;
}
