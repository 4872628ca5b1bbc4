/*
 * session.c: one timeline: a KV cache for every attention layer, conv tail and recurrent state for every
 * DeltaNet layer, in one block of the device's memory that is sized at opening.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/internal.h"

static bool is_attention(const struct shape *s, int layer)
{
    return layer == s->n_layer || s->mixer[layer] == MIXER_ATTENTION;
}

static size_t conv_floats(const struct shape *s)
{
    return (size_t)(s->conv_kernel - 1) * (size_t)shape_conv_dim(s);
}

static size_t state_floats(const struct shape *s)
{
    return (size_t)s->n_v_head * (size_t)s->d_k * (size_t)s->d_v;
}

static int n_layers(const struct session *s)
{
    return s->en->w->shape.n_layer + (s->en->w->has_mtp ? 1 : 0);
}

/* States first, then the caches: a snapshot copies the states whole and of the caches only what is used. */
static void carve(struct session *s, struct arena *a)
{
    const struct shape *sh = &s->en->w->shape;
    for (int i = 0; i < n_layers(s); i++) {
        if (is_attention(sh, i))
            continue;
        s->layer[i].conv = arena_take(a, conv_floats(sh) * sizeof(float));
        s->layer[i].state = arena_take(a, state_floats(sh) * sizeof(float));
    }
    size_t kv = s->en->d->ops->kv_bytes(s->kv_type, s->ctx, sh->n_head_kv, sh->d_head);
    for (int i = 0; i < n_layers(s); i++)
        if (is_attention(sh, i))
            s->layer[i].kv = (struct kv_cache){ s->kv_type, arena_take(a, kv), s->ctx };
}

int session_open(struct session **out, struct engine *en, const struct session_options *opt, struct err *e)
{
    int ctx = opt->ctx ? opt->ctx : en->opt.max_ctx;
    if (ctx < 1 || ctx > en->opt.max_ctx)
        return err_set(e, ERR_USAGE, "a context of %d positions; the engine was opened for %d", ctx,
                       en->opt.max_ctx);
    struct session *s = calloc(1, sizeof *s);
    if (!s)
        return err_set(e, ERR_MEMORY, "no memory for a session");
    s->en = en;
    s->ctx = ctx;
    s->kv_type = opt->kv_type == QTYPE_NONE ? QTYPE_F16 : opt->kv_type;
    s->layer = calloc((size_t)en->w->shape.n_layer + 1, sizeof *s->layer);
    int rc = s->layer ? 0 : err_set(e, ERR_MEMORY, "no memory for a session");
    if (!rc) {
        struct arena measure = { 0 };
        carve(s, &measure);
        rc = en->d->ops->alloc(en->d, &s->block, measure.used, "the session's KV cache and states", e);
    }
    if (rc) {
        session_close(&s);
        return rc;
    }
    struct arena place = { s->block.ptr, 0, s->block.bytes };
    carve(s, &place);
    *out = s;
    return 0;
}

void session_close(struct session **sp)
{
    struct session *s = *sp;
    *sp = NULL;
    if (!s)
        return;
    if (s->en->last == s)
        s->en->last = NULL;
    s->en->d->ops->free(s->en->d, &s->block);
    free(s->layer);
    free(s);
}

int session_position(const struct session *s)
{
    return s->position;
}

int session_ctx(const struct session *s)
{
    return s->ctx;
}

size_t session_bytes(const struct session *s)
{
    return s->block.bytes;
}

static size_t states_bytes(const struct session *s)
{
    const struct shape *sh = &s->en->w->shape;
    struct arena a = { 0 };
    for (int i = 0; i < sh->n_layer; i++) {
        if (is_attention(sh, i))
            continue;
        arena_take(&a, conv_floats(sh) * sizeof(float));
        arena_take(&a, state_floats(sh) * sizeof(float));
    }
    return a.used;
}

size_t session_measure(const struct shape *sh, bool has_mtp, const struct session_options *opt,
                       size_t (*kv_bytes)(enum qtype type, int positions, int n_head_kv, int d_head),
                       size_t *state_bytes)
{
    const struct device_ops ops = { .kv_bytes = kv_bytes };
    struct device d = { .ops = &ops };
    const struct weights w = { .shape = *sh, .has_mtp = has_mtp };
    struct engine en = { .w = &w, .d = &d };
    struct layer_state layer[SHAPE_MAX_LAYERS + 1];
    struct session s = { .en = &en, .ctx = opt->ctx, .kv_type = opt->kv_type, .layer = layer };
    struct arena a = { 0 };
    carve(&s, &a);
    *state_bytes = states_bytes(&s);
    return a.used;
}

void session_reset(struct session *s)
{
    s->position = s->mtp_position = 0;
    s->en->d->ops->clear(s->en->d, s->block.ptr,
                         states_bytes(s)); /* caches are overwritten before they are read */
    if (s->en->last == s)
        s->en->last = NULL;
}

int session_append(struct session *s, const int32_t *tokens, int n, int (*stop)(void *), void *user,
                   struct err *e)
{
    if (n > s->ctx - s->position) {
        err_set(e, ERR_USAGE, "the text has %d tokens, but only %d of %d positions of the context are free",
                n, s->ctx - s->position, s->ctx);
        err_hint(e, "allow a longer context: --ctx %d", s->position + n);
        return ERR_USAGE;
    }
    for (int done = 0; done < n;) {
        int batch = n - done < s->en->opt.max_batch ? n - done : s->en->opt.max_batch;
        struct step step = { s, tokens + done, batch, done + batch == n };
        int rc = engine_step(s->en, &step, 1, e);
        if (rc)
            return rc;
        done += batch;
        if (done < n && stop && stop(user))
            return err_set(e, ERR_CANCELED, "reading the prompt was interrupted");
    }
    return 0;
}

/* ---- snapshots: a header, the states, and of each cache the positions in use ---- */

struct snapshot_header {
    uint32_t magic, kv_type;
    char device[8]; /* caches are laid out as the device likes */
    int32_t position, mtp_position, n_layer, n_head_kv, d_head, d_model;
    uint64_t states_bytes;
};
enum { SNAPSHOT_MAGIC = 0x31534e54 }; /* "TNS1" */

static struct snapshot_header header_of(const struct session *s)
{
    const struct shape *sh = &s->en->w->shape;
    struct snapshot_header h = { .magic = SNAPSHOT_MAGIC,
                                 .kv_type = (uint32_t)s->kv_type,
                                 .position = s->position,
                                 .mtp_position = s->mtp_position,
                                 .n_layer = n_layers(s),
                                 .n_head_kv = sh->n_head_kv,
                                 .d_head = sh->d_head,
                                 .d_model = sh->d_model,
                                 .states_bytes = states_bytes(s) };
    memcpy(h.device, s->en->d->ops->name, strnlen(s->en->d->ops->name, sizeof h.device));
    return h;
}

static int used_positions(const struct session *s, int layer, const struct snapshot_header *h)
{
    return layer == s->en->w->shape.n_layer ? h->mtp_position : h->position;
}

static size_t cache_bytes(const struct session *s, int layer, const struct snapshot_header *h)
{
    const struct shape *sh = &s->en->w->shape;
    return s->en->d->ops->kv_bytes(s->kv_type, used_positions(s, layer, h), sh->n_head_kv, sh->d_head);
}

static size_t snapshot_bytes(const struct session *s, const struct snapshot_header *h)
{
    size_t n = sizeof *h + (size_t)h->states_bytes;
    for (int i = 0; i < n_layers(s); i++)
        if (is_attention(&s->en->w->shape, i))
            n += cache_bytes(s, i, h);
    return n;
}

size_t session_snapshot_bytes(const struct session *s)
{
    struct snapshot_header h = header_of(s);
    return snapshot_bytes(s, &h);
}

static int copy(const struct session *s, char *host, void *dev, size_t n, bool save, struct err *e)
{
    const struct device_ops *ops = s->en->d->ops;
    return save ? ops->download(s->en->d, host, dev, n, e) : ops->upload(s->en->d, dev, host, n, e);
}

static int copy_all(const struct session *s, const struct snapshot_header *h, char *host, bool save,
                    struct err *e)
{
    int rc = copy(s, host, s->block.ptr, (size_t)h->states_bytes, save, e);
    host += h->states_bytes;
    for (int i = 0; i < n_layers(s) && !rc; i++) {
        if (!is_attention(&s->en->w->shape, i))
            continue;
        size_t n = cache_bytes(s, i, h);
        rc = copy(s, host, s->layer[i].kv.data, n, save, e);
        host += n;
    }
    return rc;
}

int session_snapshot(const struct session *s, void *out, size_t n, struct err *e)
{
    struct snapshot_header h = header_of(s);
    if (n < snapshot_bytes(s, &h))
        return err_set(e, ERR_USAGE, "a snapshot needs %zu bytes, not %zu", snapshot_bytes(s, &h), n);
    memcpy(out, &h, sizeof h);
    return copy_all(s, &h, (char *)out + sizeof h, true, e);
}

int session_restore(struct session *s, const void *data, size_t n, struct err *e)
{
    struct snapshot_header h, own = header_of(s);
    if (n < sizeof h)
        return err_set(e, ERR_FORMAT, "the saved session is cut off");
    memcpy(&h, data, sizeof h);
    own.position = h.position;
    own.mtp_position = h.mtp_position;
    if (memcmp(&h, &own, sizeof h) || h.position < 0 || h.mtp_position < 0)
        return err_set(e, ERR_FORMAT, "the saved session belongs to another model or cache type");
    if (h.position > s->ctx || h.mtp_position > s->ctx) {
        err_set(e, ERR_USAGE, "the saved session has %d positions; this context holds %d", h.position,
                s->ctx);
        err_hint(e, "allow a longer context: --ctx %d", h.position);
        return ERR_USAGE;
    }
    if (n < snapshot_bytes(s, &h))
        return err_set(e, ERR_FORMAT, "the saved session is cut off");
    int rc = copy_all(s, &h, (char *)data + sizeof h, false, e);
    if (rc) {
        session_reset(s);
        return rc;
    }
    s->position = h.position;
    s->mtp_position = h.mtp_position;
    return 0;
}
