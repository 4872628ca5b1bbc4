/*
 * bench.h: what the files of `tonne bench` share. bench.c sets up and owns everything, bench_run.c measures,
 * bench_tokens.c gives the prompts, bench_routing.c watches which experts are chosen, bench_print.c and
 * bench_plot.c show the result.
 */
#ifndef TONNE_CMD_BENCH_H
#define TONNE_CMD_BENCH_H

#include "cmd/options.h"
#include "engine/engine.h"
#include "plan/plan.h"
#include "text/tokenizer.h"

enum { BENCH_MAX_LIST = 16, BENCH_MAX_RUNS = 100, BENCH_MAX_ROWS = 512 };

struct bench_list { /* ascending as given, each once */
    int n, v[BENCH_MAX_LIST];
};

/* ---- prompts ---- */

struct bench_tokens {
    int32_t *text; /* a text's tokens, taken from another place each time; NULL: synthetic */
    size_t n_text;
    int n_vocab;
    uint64_t taken; /* how many times */
};
/* The tokens of path, or of the text inside the program (NULL). */
int bench_tokens_text(struct bench_tokens *t, const struct tokenizer *k, const char *path, struct err *e);
/* Random walks over the vocabulary (load/synth.h). */
void bench_tokens_walk(struct bench_tokens *t, int n_vocab);
/* Fills out[n] with a sequence that begins where no other one began. */
void bench_tokens_take(struct bench_tokens *t, int32_t *out, int n);
void bench_tokens_free(struct bench_tokens *t);
extern const char *const bench_text[]; /* paragraphs; ended by NULL */

/* ---- routing ---- */

enum { BENCH_CACHES = 4 };
extern const double bench_cache_share[BENCH_CACHES]; /* of a layer's experts: 6, 12, 25, 50 % */

struct bench_routing {
    int n_layer, n_expert, top_k;
    int64_t *last; /* [n_layer][n_expert] token that chose it last; 0: none yet */
    int64_t *uses; /* [n_layer][n_expert] */
    int64_t *at;   /* [n_layer] tokens seen */
    int *best;     /* [top_k] of the token at hand */
    bool count;    /* off: only remember */
    int64_t choices, again, hits[BENCH_CACHES];
};
int bench_routing_open(struct bench_routing *r, const struct shape *s, struct err *e);
void bench_routing_see(void *routing, const char *what, int layer, const float *logits, int rows, int cols);
/* Share of the choices that the tenth of the experts chosen most often got; 0.1 when all are chosen alike. */
double bench_routing_busiest(const struct bench_routing *r);
void bench_routing_free(struct bench_routing *r);

/* ---- measuring ---- */

struct bench_row {
    bool prompt;  /* n tokens at once, else one after another */
    int n, depth; /* tokens; positions before them */
    int threads, batch;
    int n_run;
    double run[BENCH_MAX_RUNS];      /* tokens per second, in order */
    double median, least, most, mad; /* mad: median absolute deviation from the median */
};

struct bench {
    /* what to do */
    struct bench_list prompts, depths, threads, batches;
    int generate, runs;
    bool synthetic;
    const char *name; /* of the model */
    int whole_layers; /* of the model that --layers cuts; 0: not cut */
    /* what it runs on */
    enum cpu_isa isa;
    enum act_mode act;
    struct machine machine;
    bool ram_measured_now;
    struct model *model;
    struct plan *plan;
    struct threads *pool;  /* the most threads */
    struct device *device; /* with pool; the weights lie in its memory */
    struct weights *weights;
    struct bench_tokens tokens;
    const char *text;    /* what the prompts are, for people */
    double begin, ready; /* clock; seconds from begin until the first token could be evaluated */
    /* what came out */
    struct bench_row *row; /* [n_row] */
    int n_row;
    struct bench_routing routing;
    size_t peak_rss, snapshot_bytes; /* the latter: states kept for the depths, a part of the former */
};

/* Gives row[] what is to be measured; ERR_USAGE when that is nothing, or too much. */
int bench_list_rows(struct bench *b, struct err *e);
/* Fills row[] and the figures that belong to it. Stops on Ctrl-C: ERR_CANCELED. */
int bench_run(struct bench *b, struct err *e);

/* ---- figures that follow ---- */

/* Bytes of weights that a generated token reads, of one group in one tier. */
double bench_token_bytes(const struct plan *p, enum plan_group g, enum tier t);
/* ... in all. */
double bench_all_bytes(const struct plan *p);
/* Multiply-adds of a prompt's token with weights; the head is applied to the last one only and not counted.
 */
double bench_token_macs(const struct plan *p);
/* Share of the measured limit that the row's median reaches: RAM reads for generated tokens, int8 arithmetic
 * for prompts; 0: not measured. */
double bench_share(const struct bench *b, const struct bench_row *r);

/* ---- showing ---- */

int bench_print_text(const struct bench *b, struct err *e);
int bench_print_json(const struct bench *b, struct err *e);
int bench_print_csv(const struct bench *b, struct err *e);
/* ERR_USAGE when no setting of row[] varies. */
int bench_plot_check(const struct bench *b, struct err *e);
/* An SVG of tokens per second over threads, batch or depth, whichever of them varies first. ERR_USAGE when
 * none does. */
int bench_plot(const struct bench *b, const char *path, struct err *e);

#endif
