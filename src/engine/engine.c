/*
 * engine.c: binds weights to a device, owns the work buffers, and takes the tokens of one pass through the
 * layers.
 *
 * Lives here:      work buffers, the pass, logits.
 * Lives elsewhere: one layer (layer.c), timelines (session.c), the MTP head (mtp.c), arithmetic (device/).
 */
#include <stdlib.h>
#include <string.h>

#include "engine/internal.h"

enum { DEFAULT_BATCH = 512, DEFAULT_CTX = 32768 };

static size_t max_size(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* Walked twice: measures over an empty arena, places over a real one. */
static void carve(struct engine *en, struct arena *a)
{
    const struct shape *s = &en->w->shape;
    size_t B = (size_t)en->opt.max_batch, D = (size_t)s->d_model, f = sizeof(float);
    size_t kv = (size_t)s->n_head_kv * (size_t)s->d_head, heads = (size_t)s->n_head * (size_t)s->d_head;
    size_t conv = (size_t)shape_conv_dim(s), value = (size_t)shape_value_dim(s),
           v_heads = (size_t)s->n_v_head;
    struct work *k = &en->work;
    en->rope_freq = arena_take(a, (size_t)s->n_rot / 2 * f);
    k->hidden = arena_take(a, B * D * f);
    k->normed = arena_take(a, B * D * f * (en->w->has_mtp ? 2 : 1));
    k->final = arena_take(a, (en->w->has_mtp ? B : max_size(1, (size_t)en->opt.max_logits)) * D * f);
    k->q = arena_take(a, B * (size_t)shape_q_rows(s) * f);
    k->k = arena_take(a, B * kv * f);
    k->v = arena_take(a, B * kv * f);
    k->qkv = arena_take(a, B * conv * f);
    k->z = arena_take(a, B * value * f);
    k->b = arena_take(a, B * v_heads * f);
    k->a = arena_take(a, B * v_heads * f);
    k->mixed = arena_take(a, B * max_size(heads, value) * f);
    k->ids = arena_take(a, B * (size_t)s->top_k * sizeof *k->ids);
    k->weights = arena_take(a, B * (size_t)s->top_k * f);
    k->router = arena_take(a, B * (size_t)s->n_expert * f);
    k->logits = arena_take(a, (size_t)en->opt.max_logits * (size_t)s->n_vocab * f);
}

static struct device_limits limits(const struct engine *en)
{
    const struct shape *s = &en->w->shape;
    struct device_limits l = { .max_rows = en->opt.max_batch,
                               .max_ctx = en->opt.max_ctx,
                               .d_model = s->d_model,
                               .n_expert = s->n_expert,
                               .top_k = s->top_k,
                               .d_expert = s->d_expert,
                               .d_ff = s->d_ff,
                               .d_shared = s->d_shared,
                               .n_head = s->n_head,
                               .n_head_kv = s->n_head_kv,
                               .d_head = s->d_head,
                               .n_k_head = s->n_k_head,
                               .n_v_head = s->n_v_head,
                               .d_k = s->d_k,
                               .d_v = s->d_v,
                               .conv_kernel = s->conv_kernel,
                               .max_rows_out = s->n_vocab };
    const int cols[] = { s->d_model * (en->w->has_mtp ? 2 : 1),
                         s->n_head * s->d_head,
                         shape_value_dim(s),
                         s->d_ff,
                         s->d_expert,
                         s->d_shared };
    for (size_t i = 0; i < sizeof cols / sizeof *cols; i++)
        l.max_cols = cols[i] > l.max_cols ? cols[i] : l.max_cols;
    return l;
}

size_t engine_measure(const struct shape *s, bool has_mtp, const struct engine_options *opt,
                      struct device_limits *l)
{
    const struct weights w = { .shape = *s, .has_mtp = has_mtp };
    struct engine en = { .w = &w, .opt = *opt };
    struct arena a = { 0 };
    carve(&en, &a);
    *l = limits(&en);
    return a.used;
}

static int open_buffers(struct engine *en, struct err *e)
{
    const struct shape *s = &en->w->shape;
    struct device_limits l = limits(en);
    int rc = en->d->ops->reserve(en->d, &l, e);
    if (rc)
        return rc;
    struct arena measure = { 0 };
    carve(en, &measure);
    rc = en->d->ops->alloc(en->d, &en->block, measure.used, "the work buffers", e);
    if (rc)
        return rc;
    struct arena place = { en->block.ptr, 0, en->block.bytes };
    carve(en, &place);
    float *freq = malloc((size_t)(s->n_rot / 2 + 1) * sizeof *freq);
    size_t n_session = (size_t)en->opt.max_sessions;
    en->attention_span = calloc(n_session, sizeof *en->attention_span);
    en->delta_net_span = calloc(n_session, sizeof *en->delta_net_span);
    en->part = calloc(n_session, sizeof *en->part);
    en->tokens = calloc((size_t)en->opt.max_batch, sizeof *en->tokens);
    if (!freq || !en->attention_span || !en->delta_net_span || !en->part || !en->tokens) {
        free(freq);
        return err_set(e, ERR_MEMORY, "no memory for the engine's records");
    }
    en->rope_scale = shape_rope(s, freq);
    rc = en->d->ops->upload(en->d, en->rope_freq, freq, (size_t)(s->n_rot / 2) * sizeof *freq, e);
    free(freq);
    en->logits = en->work.logits;
    if (!rc && en->block.home == MEM_VRAM) {
        size_t bytes = (size_t)en->opt.max_logits * (size_t)s->n_vocab * sizeof(float);
        rc = mem_ram(&en->host_logits, bytes, "the logits", e);
        en->logits = en->host_logits.ptr;
    }
    return rc;
}

int engine_open(struct engine **out, const struct weights *w, struct device *d,
                const struct engine_options *opt, struct err *e)
{
    struct engine *en = calloc(1, sizeof *en);
    if (!en)
        return err_set(e, ERR_MEMORY, "no memory for the engine");
    en->w = w;
    en->d = d;
    en->opt = *opt;
    int train = w->shape.n_ctx_train < DEFAULT_CTX ? w->shape.n_ctx_train : DEFAULT_CTX;
    en->opt.max_batch = opt->max_batch ? opt->max_batch : DEFAULT_BATCH;
    en->opt.max_ctx = opt->max_ctx ? opt->max_ctx : train;
    en->opt.max_sessions = opt->max_sessions ? opt->max_sessions : 1;
    en->opt.max_logits = opt->max_logits ? opt->max_logits : 1;
    int rc = open_buffers(en, e);
    if (!rc)
        rc = moe_open(en, e);
    if (rc) {
        engine_close(&en);
        return rc;
    }
    *out = en;
    return 0;
}

void engine_close(struct engine **ep)
{
    struct engine *en = *ep;
    *ep = NULL;
    if (!en)
        return;
    moe_close(en);
    en->d->ops->free(en->d, &en->block);
    mem_free(&en->host_logits);
    free(en->attention_span);
    free(en->delta_net_span);
    free(en->part);
    free(en->tokens);
    free(en->observed);
    free(en);
}

const struct shape *engine_shape(const struct engine *en)
{
    return &en->w->shape;
}

int engine_max_batch(const struct engine *en)
{
    return en->opt.max_batch;
}

size_t engine_work_bytes(const struct engine *en)
{
    return en->block.bytes + en->host_logits.bytes;
}

float *engine_logits(struct engine *en, int row)
{
    return en->logits + (size_t)row * (size_t)en->w->shape.n_vocab;
}

void engine_observe(struct engine *en, observe_fn fn, void *user)
{
    const struct shape *s = &en->w->shape;
    size_t widest = max_size((size_t)s->d_model, (size_t)s->n_expert);
    free(en->observed);
    en->observed = fn ? malloc((size_t)en->opt.max_batch * widest * sizeof(float)) : NULL;
    en->observe = en->observed ? fn : NULL;
    en->observe_user = user;
}

void engine_show(struct engine *en, const char *what, int layer, const float *data, int rows, int cols)
{
    if (!en->observe)
        return;
    struct err e = { 0 };
    if (en->d->ops->download(en->d, en->observed, data, (size_t)rows * (size_t)cols * sizeof(float), &e) == 0)
        en->observe(en->observe_user, what, layer, en->observed, rows, cols);
}

int head_forward(struct engine *en, const float *normed, int n_rows, int to, struct err *e)
{
    const struct shape *s = &en->w->shape;
    struct project_args a = { .x = normed, .x_stride = (size_t)s->d_model, .n_rows = n_rows, .n_out = 1 };
    float *y = en->work.logits + (size_t)to * (size_t)s->n_vocab;
    a.out[0] = (struct linear){ en->w->head, NULL, y, (size_t)s->n_vocab };
    int rc = en->d->ops->project(en->d, &a, e);
    if (!rc && en->block.home == MEM_VRAM)
        rc = en->d->ops->download(en->d, engine_logits(en, to), y,
                                  (size_t)n_rows * (size_t)s->n_vocab * sizeof(float), e);
    return rc;
}

/* ---- one pass ---- */

static int check_steps(const struct engine *en, const struct step *step, int n_step, struct err *e)
{
    int64_t rows = 0, logits = 0;
    if (n_step < 1 || n_step > en->opt.max_sessions)
        return err_set(e, ERR_USAGE, "%d sessions in one pass; the engine was opened for %d", n_step,
                       en->opt.max_sessions);
    for (int i = 0; i < n_step; i++) {
        const struct step *st = &step[i];
        if (st->n_tokens < 1 || st->n_logits < 0 || st->n_logits > st->n_tokens)
            return err_set(e, ERR_USAGE, "a pass of %d tokens with %d rows of logits", st->n_tokens,
                           st->n_logits);
        if (st->n_tokens > st->session->ctx - st->session->position) {
            err_set(e, ERR_USAGE, "the context is full: %d of %d positions are used and %d more are needed",
                    st->session->position, st->session->ctx, st->n_tokens);
            err_hint(e, "allow a longer context: --ctx %d", st->session->position + st->n_tokens);
            return ERR_USAGE;
        }
        for (int t = 0; t < st->n_tokens; t++)
            if (st->tokens[t] < 0 || st->tokens[t] >= en->w->shape.n_vocab)
                return err_set(e, ERR_USAGE, "token id %d is outside the vocabulary of %d", st->tokens[t],
                               en->w->shape.n_vocab);
        rows += st->n_tokens;
        logits += st->n_logits;
    }
    if (rows > en->opt.max_batch || logits > en->opt.max_logits)
        return err_set(e, ERR_USAGE,
                       "a pass of %lld tokens and %lld rows of logits; at most %d and %d are possible",
                       (long long)rows, (long long)logits, en->opt.max_batch, en->opt.max_logits);
    return 0;
}

static int embed(struct engine *en, int n_rows, struct err *e)
{
    struct embed_args a = { en->work.hidden, en->w->embed, en->tokens, n_rows };
    return en->d->ops->embed(en->d, &a, e);
}

static int final_norm(struct engine *en, int row, int n_rows, float *to, struct err *e)
{
    const struct shape *s = &en->w->shape;
    size_t D = (size_t)s->d_model;
    struct norm_args a = { .y = to,
                           .x = en->work.hidden + (size_t)row * D,
                           .w = en->w->out_norm,
                           .y_stride = D,
                           .x_stride = D,
                           .n_rows = n_rows,
                           .d = s->d_model,
                           .eps = s->rms_eps };
    return en->d->ops->norm(en->d, &a, e);
}

/* The rows whose logits are wanted are normed and multiplied with the head; with an MTP head, or an observer,
 * all rows are normed. */
static int logits_of(struct engine *en, const struct step *step, const struct pass *pass, struct err *e)
{
    size_t D = (size_t)en->w->shape.d_model;
    int rc = 0, to = 0;
    if (en->w->has_mtp && (rc = final_norm(en, 0, pass->n_rows, en->work.final, e)))
        return rc;
    if (en->w->has_mtp)
        engine_show(en, "final", -1, en->work.final, pass->n_rows, (int)D);
    for (int i = 0; i < pass->n_part && !rc; i++) {
        int n = step[i].n_logits, row = pass->part[i].row + pass->part[i].n_rows - n;
        float *normed = en->work.final + (size_t)(en->w->has_mtp ? row : to) * D;
        if (n == 0)
            continue;
        if (!en->w->has_mtp)
            rc = final_norm(en, row, n, normed, e);
        if (!rc && !en->w->has_mtp)
            engine_show(en, "final", -1, normed, n, (int)D);
        if (!rc)
            rc = head_forward(en, normed, n, to, e);
        to += n;
    }
    return rc;
}

static int run_pass(struct engine *en, const struct step *step, const struct pass *pass, struct err *e)
{
    const struct shape *s = &en->w->shape;
    int rc = embed(en, pass->n_rows, e);
    for (int i = 0; i < s->n_layer && !rc; i++)
        rc = layer_forward(en, &en->w->layer[i], i, s->mixer[i], s->moe[i], pass, e);
    if (!rc)
        rc = logits_of(en, step, pass, e);
    return rc ? rc : en->d->ops->sync(en->d, e);
}

int engine_step(struct engine *en, const struct step *step, int n_step, struct err *e)
{
    int rc = check_steps(en, step, n_step, e);
    if (rc)
        return rc;
    struct pass pass = { .part = en->part, .n_part = n_step };
    for (int i = 0; i < n_step; i++) {
        const struct step *st = &step[i];
        en->part[i] = (struct pass_rows){ st->session, pass.n_rows, st->n_tokens, st->session->position };
        memcpy(en->tokens + pass.n_rows, st->tokens, (size_t)st->n_tokens * sizeof *en->tokens);
        pass.n_rows += st->n_tokens;
    }
    en->last = NULL;
    moe_step(en);
    rc = run_pass(en, step, &pass, e);
    for (int i = 0; i < n_step; i++) {
        if (rc)
            session_reset(step[i].session); /* its states are half way between two positions */
        else
            step[i].session->position += step[i].n_tokens;
    }
    if (!rc && n_step == 1) {
        en->last = step[0].session;
        en->last_rows = pass.n_rows;
    }
    return rc;
}
