/*
 * engine.h: tokens in, logits out. An engine binds weights to a device; a session is one timeline (KV cache,
 * recurrent state, position) and holds everything that changes. Nothing is allocated after session_open.
 *
 * Threads: one thread at a time may call into an engine and its sessions.
 */
#ifndef TONNE_ENGINE_ENGINE_H
#define TONNE_ENGINE_ENGINE_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "device/device.h"
#include "engine/expert_cache.h"
#include "load/weights.h"

struct engine;
struct session;

struct engine_options {
    int max_batch;    /* tokens evaluated in one pass; 0 = 512 */
    int max_sessions; /* sessions that may share a pass; 0 = 1 */
    int max_ctx;      /* the longest context of any session; 0 = the model's, at most 32768 */
    int max_logits;   /* rows of logits one pass may keep; 0 = 1 */
    int expert_slots; /* experts held in RAM when the weights leave them on disk; any number >= 1, 0 = top_k
                       */
    const struct read_io *read_io; /* borrowed: how they are read; NULL: the system */
};

/* Gives *out. weights and device are borrowed and must outlive it. */
int engine_open(struct engine **out, const struct weights *w, struct device *d,
                const struct engine_options *opt, struct err *e);
void engine_close(struct engine **e);
const struct shape *engine_shape(const struct engine *en);
int engine_max_batch(const struct engine *en);
size_t engine_work_bytes(const struct engine *en); /* activations and logits; device scratch not included */
/* The same before there is an engine, for plans, in memory that the host can read; every option is given.
 * Fills *limits with what the device will be asked to reserve. */
size_t engine_measure(const struct shape *s, bool has_mtp, const struct engine_options *opt,
                      struct device_limits *limits);

struct session_options {
    int ctx;            /* positions; 0 = the engine's max_ctx */
    enum qtype kv_type; /* QTYPE_NONE = f16 */
};
int session_open(struct session **out, struct engine *en, const struct session_options *opt, struct err *e);
void session_close(struct session **s);
int session_position(const struct session *s); /* tokens evaluated so far */
int session_ctx(const struct session *s);
size_t session_bytes(const struct session *s); /* KV and state */
/* The same before there is a session, for plans; every option is given, kv_bytes as in device_ops. Fills
 * *state_bytes with the share that does not grow with the context. */
size_t session_measure(const struct shape *s, bool has_mtp, const struct session_options *opt,
                       size_t (*kv_bytes)(enum qtype type, int positions, int n_head_kv, int d_head),
                       size_t *state_bytes);
void session_reset(struct session *s); /* position 0, states zero */

/* One session's part of a pass. */
struct step {
    struct session *session;
    const int32_t *tokens; /* host */
    int n_tokens;          /* >= 1 */
    int n_logits;          /* logits wanted for the last n_logits of them; 0..n_tokens */
};

/* Evaluates all steps in one pass (sum of n_tokens <= max_batch, of n_logits <= max_logits) and advances the
 * sessions. Tokens must be < n_vocab and fit the context: ERR_USAGE, sessions unchanged. On ERR_DEVICE the
 * sessions involved are reset. */
int engine_step(struct engine *en, const struct step *step, int n_step, struct err *e);

/* Logits of the last pass, row 0..: [n_vocab] f32 in host memory, valid until the next pass; rows follow the
 * order of the steps. May be written to (samplers do). */
float *engine_logits(struct engine *en, int row);

/* Evaluates any number of tokens of one session in passes of max_batch; afterwards engine_logits(en, 0) holds
 * the logits of the last token. stop, when given, is polled between passes: nonzero ends with ERR_CANCELED.
 */
int session_append(struct session *s, const int32_t *tokens, int n, int (*stop)(void *), void *user,
                   struct err *e);

/* The MTP head over the rows of the last pass, which must have been a single step: next[i] is the token that
 * follows row i. Keeps its own KV cache in the session; rows must be fed without gaps. Logits of the last
 * n_logits rows replace engine_logits. ERR_USAGE when the weights have no MTP head. */
int session_mtp(struct session *s, const int32_t *next, int n, int n_logits, struct err *e);

/* A copy of everything a session holds (positions 0..position-1), for saving and for going back. */
size_t session_snapshot_bytes(const struct session *s);
int session_snapshot(const struct session *s, void *out, size_t n, struct err *e);
int session_restore(struct session *s, const void *data, size_t n, struct err *e);

/* What reading experts from disk did so far; all 0 when they are in memory. */
struct expert_cache_stats engine_expert_stats(const struct engine *en);

/* For tests and tools: called with intermediate results in host memory, [rows][cols] f32. what: "hidden"
 * (residual stream after layer), "router" (logits of that layer), "final" (after the last norm, layer -1).
 * NULL: off. */
typedef void (*observe_fn)(void *user, const char *what, int layer, const float *data, int rows, int cols);
void engine_observe(struct engine *en, observe_fn fn, void *user);

#endif
