/*
 * mtp.c: the multi-token prediction head: for row t of the last pass and the known next token x, it predicts
 * the token after x from fc(concat(norm(embed(x)), norm(final hidden of t))) through one full-attention layer
 * with a KV cache of its own. Formulas: doc/numerics.md.
 */
#include <string.h>

#include "engine/internal.h"

static int norm_rows(struct engine *en, float *y, size_t y_stride, const float *x, const float *w, int n,
                     struct err *e)
{
    const struct shape *s = &en->w->shape;
    struct norm_args a = { .y = y,
                           .x = x,
                           .w = w,
                           .y_stride = y_stride,
                           .x_stride = (size_t)s->d_model,
                           .n_rows = n,
                           .d = s->d_model,
                           .eps = s->rms_eps };
    return en->d->ops->norm(en->d, &a, e);
}

/* hidden = fc [norm(embed(next)) | norm(final)] */
static int mtp_input(struct engine *en, const int32_t *next, int n, struct err *e)
{
    const struct mtp_weights *w = &en->w->mtp;
    size_t D = (size_t)en->w->shape.d_model;
    struct work *k = &en->work;
    struct embed_args embed = { k->hidden, en->w->embed, next, n };
    int rc = en->d->ops->embed(en->d, &embed, e);
    if (!rc)
        rc = norm_rows(en, k->normed, 2 * D, k->hidden, w->norm_embed, n, e);
    if (!rc)
        rc = norm_rows(en, k->normed + D, 2 * D, k->final, w->norm_hidden, n, e);
    struct project_args fc = { .x = k->normed, .x_stride = 2 * D, .n_rows = n, .n_out = 1 };
    fc.out[0] = (struct linear){ w->fc, NULL, k->hidden, D };
    return rc ? rc : en->d->ops->project(en->d, &fc, e);
}

static int check(const struct session *s, const int32_t *next, int n, int n_logits, struct err *e)
{
    const struct engine *en = s->en;
    if (!en->w->has_mtp)
        return err_set(e, ERR_USAGE, "this model was loaded without a multi-token prediction head");
    if (en->last != s || n < 1 || n > en->last_rows || n_logits < 0 || n_logits > n ||
        n_logits > en->opt.max_logits)
        return err_set(e, ERR_USAGE, "the prediction head needs the rows of this session's last pass");
    if (n > s->ctx - s->mtp_position)
        return err_set(e, ERR_USAGE, "the prediction head's context of %d positions is full", s->ctx);
    for (int i = 0; i < n; i++)
        if (next[i] < 0 || next[i] >= en->w->shape.n_vocab)
            return err_set(e, ERR_USAGE, "token id %d is outside the vocabulary", next[i]);
    return 0;
}

int session_mtp(struct session *s, const int32_t *next, int n, int n_logits, struct err *e)
{
    struct engine *en = s->en;
    const struct shape *sh = &en->w->shape;
    size_t D = (size_t)sh->d_model;
    int rc = check(s, next, n, n_logits, e);
    if (rc)
        return rc;
    memcpy(en->tokens, next, (size_t)n * sizeof *next);
    struct pass_rows part = { s, 0, n, s->mtp_position };
    struct pass pass = { &part, 1, n };
    rc = mtp_input(en, en->tokens, n, e);
    if (!rc)
        rc = layer_forward(en, &en->w->mtp.layer, sh->n_layer, MIXER_ATTENTION, sh->n_expert > 0, &pass, e);
    if (!rc && n_logits)
        rc = norm_rows(en, en->work.normed, D, en->work.hidden + (size_t)(n - n_logits) * D,
                       en->w->mtp.out_norm, n_logits, e);
    if (!rc && n_logits)
        rc = head_forward(en, en->work.normed, n_logits, 0, e);
    if (!rc)
        rc = en->d->ops->sync(en->d, e);
    if (!rc)
        s->mtp_position += n;
    return rc;
}
