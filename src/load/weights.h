/*
 * weights.h: the read-only result of loading, by layer, where the device's operations want it. Several
 * engines and any number of sessions share one.
 */
#ifndef TONNE_LOAD_WEIGHTS_H
#define TONNE_LOAD_WEIGHTS_H

#include "base/log.h"
#include "base/threads.h"
#include "device/device.h"
#include "load/expert_source.h"
#include "load/packed.h"
#include "model/model.h"
#include "plan/plan.h"

struct layer_weights {
    const float *norm_mixer, *norm_mlp; /* [d_model] */
    struct attention_weights attention; /* where shape.mixer[layer] says so */
    struct delta_net_weights delta_net;
    struct mlp_weights mlp; /* where !shape.moe[layer] */
    struct moe_weights moe;
};

struct mtp_weights {
    struct qmat fc; /* [d_model][2 * d_model], embedding half first */
    const float *norm_embed, *norm_hidden, *out_norm;
    struct layer_weights layer; /* a full-attention layer */
};

struct load_facts {      /* for the line after loading */
    uint64_t read_bytes; /* of the model's files, or of the packed one */
    bool from_pack;
    double seconds;
    size_t peak_rss; /* of the process, afterwards */
};

struct weights {
    struct shape shape;
    struct qmat embed, head; /* [n_vocab][d_model]; the same matrix when tied */
    const float *out_norm;
    struct layer_weights *layer; /* [shape.n_layer] */
    bool has_mtp;
    struct mtp_weights mtp;
    uint64_t n_weights; /* parameters, MTP included */
    size_t bytes;       /* all of the above in the device's memory */
    struct expert_source
        *disk; /* routed experts lie there, and moe.expert is empty; NULL: they are in memory */
    struct load_facts loaded;
    /* private: what to free */
    struct device *device;
    struct mem block;
    struct mlp_weights *experts; /* [n_layer + 1][n_expert]; the last layer is the MTP layer's */
};

struct weights_options {
    struct threads
        *threads; /* borrowed; as many as the plan counts with, or the staging differs from the plan's */
    progress_fn progress; /* may be NULL */
    void *progress_user;
    const struct packed_options *pack; /* where packed models are kept; NULL: none is looked for or kept */
};

/* Carries out a plan: reads, converts and places every weight into d's memory; experts on disk stay there and
 * their mlp_weights empty. Panels of rows pass through buffers of the planned size. What was quantized is
 * kept as a packed file (load/packed.h) and taken from there the next time; when that fails, loading goes on
 * without and says so. Plan and model may be closed afterwards. A NaN or infinite scale or norm is
 * ERR_FORMAT. Gives *out; ended by weights_close before the device. */
int weights_load(struct weights **out, const struct plan *p, struct device *d,
                 const struct weights_options *opt, struct err *e);
/* The first half of weights_load: memory for everything that the plan puts into d's memory, zero, and every
 * record pointing at its place. For weights that come from elsewhere (load/synth.h). */
int weights_reserve(struct weights **out, const struct plan *p, struct device *d, struct err *e);
void weights_close(struct weights **w);

#endif
