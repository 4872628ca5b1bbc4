/*
 * internal.h: what the files of the engine share. engine.c owns the work buffers and the pass over the
 * layers, layer.c one layer, moe.c its experts, session.c one timeline's memory, mtp.c the multi-token
 * prediction head.
 */
#ifndef TONNE_ENGINE_INTERNAL_H
#define TONNE_ENGINE_INTERNAL_H

#include "base/arena.h"
#include "engine/engine.h"

/* Activations of one pass, in the device's memory; B = max_batch rows each. */
struct work {
    float *hidden; /* [B][d_model] residual stream */
    float *normed; /* [B][d_model], the MTP head: [B][2 * d_model] */
    float *final;  /* [B][d_model] after the last norm; kept for the MTP head, else only the logits' rows */
    float *q, *k, *v;       /* attention projections */
    float *qkv, *z, *b, *a; /* DeltaNet projections */
    float
        *mixed; /* [B][max(n_head * d_head, n_v_head * d_v)] what the mixer gives to its output projection */
    int32_t *ids;   /* [B][top_k] */
    float *weights; /* [B][top_k] */
    float *router;  /* [B][n_expert] */
    float *logits;  /* [max_logits][n_vocab] */
};

/* Rows of one session within a pass. */
struct pass_rows {
    struct session *session;
    int row, n_rows, position;
};
struct pass {
    const struct pass_rows *part;
    int n_part, n_rows;
};

struct moe_disk; /* moe.c: what experts from disk need */

struct engine {
    const struct weights *w;
    struct device *d;
    struct engine_options opt; /* defaults filled in */
    struct mem block;
    struct work work;
    float *rope_freq; /* [n_rot / 2] device memory, in block */
    float rope_scale;
    struct mem host_logits;                /* only where the device's memory is not ours to read */
    float *logits;                         /* host view */
    struct attention_span *attention_span; /* [max_sessions] */
    struct delta_net_span *delta_net_span; /* [max_sessions] */
    struct pass_rows *part;                /* [max_sessions] */
    int32_t *tokens;                       /* [max_batch] of the pass */
    struct moe_disk *disk;                 /* NULL: all experts are in memory */
    const struct session *last; /* whose rows lie in work.final, for session_mtp; NULL: several or none */
    int last_rows;
    observe_fn observe;
    void *observe_user;
    float *observed; /* host copy for observers, sized while one is set */
};

/* One layer's share of a session. */
struct layer_state {
    struct kv_cache kv;  /* attention layers */
    float *conv, *state; /* DeltaNet layers */
};

struct session {
    struct engine *en;
    int ctx, position;
    int mtp_position; /* positions in the MTP layer's cache */
    enum qtype kv_type;
    struct mem block;
    struct layer_state *layer; /* [n_layer + 1]: the last is the MTP layer's */
};

/* hidden += mixer(norm(hidden)); hidden += mlp(norm(hidden)) for all rows. layer indexes the sessions' states
 * and names the layer to observers. */
int layer_forward(struct engine *en, const struct layer_weights *w, int layer, enum mixer mixer, bool moe,
                  const struct pass *pass, struct err *e);

/* Routes normed and adds the experts to hidden. On an error nothing is under way any more. */
int moe_forward(struct engine *en, const struct moe_weights *w, int layer, int n_rows, struct err *e);
/* Opens en->disk when the weights say that experts are there. */
int moe_open(struct engine *en, struct err *e);
void moe_close(struct engine *en);
void moe_step(struct engine *en); /* a new pass */

/* out[n][n_vocab] (work.logits from row `to` on) = head * norm(x rows), then visible in engine_logits after
 * sync. */
int head_forward(struct engine *en, const float *normed, int n_rows, int to, struct err *e);

void engine_show(struct engine *en, const char *what, int layer, const float *data, int rows, int cols);

#endif
