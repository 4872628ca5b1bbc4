/*
 * model.h: what one MODEL argument names: files, configuration, and for each weight the program needs, where
 * it lies and what must be done to it. Opening reads headers and small files only.
 */
#ifndef TONNE_MODEL_MODEL_H
#define TONNE_MODEL_MODEL_H

#include "base/err.h"
#include "base/json.h"
#include "model/gguf.h"
#include "model/shape.h"
#include "model/tensor_dir.h"

enum model_kind { MODEL_SAFETENSORS, MODEL_GGUF };

struct quant_states; /* bnb.h: what the 4-bit tensors' JSON says */

/* What stands before a safetensors name: "model.language_model.", "" and "mtp." as released. */
struct hf_prefixes {
    const char *text, *head, *mtp;
};

struct model {
    enum model_kind kind;
    char *path;   /* as given */
    char *folder; /* the directory that holds the files */
    struct tensor_dir *dir;
    struct gguf_meta *gguf;    /* MODEL_GGUF only */
    json_t *config;            /* MODEL_SAFETENSORS only: config.json */
    json_t *generation_config; /* may be NULL */
    json_t *tokenizer_config;  /* may be NULL */
    char *chat_template;       /* Jinja text: chat_template.jinja, tokenizer_config or GGUF key; or NULL */
    struct shape shape;
    /* private to src/model */
    struct hf_prefixes prefix;
    struct quant_states *quant; /* NULL: no 4-bit tensors */
};

/* path: a directory with config.json and safetensors, a directory with GGUF files, a .gguf (any part of a
 * split) or a .safetensors with config.json beside it. Refuses MLX conversions and quantization methods we
 * cannot read (gptq, awq, ...) with the reason. Also checks that every tensor the shape asks for exists with
 * the right shape (model_check). Gives *out. */
int model_open(struct model **out, const char *path, struct err *e);
void model_close(struct model **m);

/* ---- which weight lies where ---- */

/* Every weight of the architectures, named by what it does. */
enum role {
    ROLE_EMBED,
    ROLE_OUT_NORM,
    ROLE_HEAD,
    ROLE_NORM_MIXER,
    ROLE_NORM_MLP,
    ROLE_Q,
    ROLE_K,
    ROLE_V,
    ROLE_O,
    ROLE_Q_BIAS,
    ROLE_K_BIAS,
    ROLE_V_BIAS,
    ROLE_Q_NORM,
    ROLE_K_NORM,
    ROLE_DN_QKV,
    ROLE_DN_Z,
    ROLE_DN_B,
    ROLE_DN_A,
    ROLE_DN_CONV,
    ROLE_DN_DT_BIAS,
    ROLE_DN_A_LOG,
    ROLE_DN_NORM,
    ROLE_DN_OUT,
    ROLE_GATE,
    ROLE_UP,
    ROLE_DOWN, /* dense MLP */
    ROLE_ROUTER,
    ROLE_EXPERT_GATE,
    ROLE_EXPERT_UP,
    ROLE_EXPERT_DOWN,
    ROLE_SHARED_GATE_PROJ,
    ROLE_SHARED_UP,
    ROLE_SHARED_DOWN,
    ROLE_SHARED_GATE, /* SHARED_GATE: the scalar gate */
    ROLE_MTP_FC,
    ROLE_MTP_NORM_EMBED,
    ROLE_MTP_NORM_HIDDEN,
    ROLE_MTP_OUT_NORM,
    ROLE_COUNT
};

/* What turns stored values into the ones the engine multiplies with. */
enum transform {
    TRANSFORM_NONE,
    TRANSFORM_ADD_ONE, /* zero-centred norms of safetensors checkpoints */
    TRANSFORM_NEG_EXP  /* A_log -> -exp(A_log) */
};

/* One matrix [rows][cols] (vectors: rows 1) somewhere in the checkpoint. */
struct weight_source {
    const struct tensor *tensor; /* codes */
    uint64_t offset;             /* byte of the matrix' first row within the tensor */
    enum qtype type;             /* storage type; NF4... for bitsandbytes tensors, FP8 with its scales */
    int64_t rows, cols;
    enum transform transform;
    /* scale plane, as the checkpoint stores it; NULL where the format has none */
    const struct tensor *scale; /* FP8: weight_scale_inv, or one element for the tensor; 4-bit: absmax */
    int64_t scale_first;        /* 4-bit: index of the matrix' first block; FP8: first scale row (of 128) */
    const struct tensor *quant_map;                  /* 4-bit: the code table; must equal the type's own */
    const struct tensor *nested_absmax, *nested_map; /* double-quantized only */
    const struct tensor *nested_offset_tensor; /* our fused-expert files: one offset per matrix, else NULL */
    int64_t nested_index;                      /* which of them; nested groups begin anew in each */
    float nested_offset;
    bool blocks_cross_rows; /* 4-bit with cols % 64 != 0: decode the whole tensor, then requantize */
};

/* Finds a weight. layer: 0..n_layer-1, n_layer for the MTP layer, -1 outside the layers; expert: its id, or
 * -1. Returns 0; ERR_FORMAT when missing or of a wrong shape. Roles the shape does not have: ERR_USAGE (a
 * bug). */
int model_find(const struct model *m, enum role role, int layer, int expert, struct weight_source *out,
               struct err *e);

/* Finds every weight the shape asks for; the first that is missing, has another shape or a format we cannot
 * read is the error. model_open ends with it. */
int model_check(const struct model *m, struct err *e);

/* True when this architecture has the role at that layer (attention roles at attention layers, ...). A tied
 * model has no ROLE_HEAD of its own; model_find gives the embedding for it. */
bool model_has(const struct shape *s, enum role role, int layer);

/* The shape the weight must have: matrices per tensor (experts, else 1), rows, cols. */
void role_dims(const struct shape *s, enum role role, int *n, int64_t *rows, int64_t *cols);

/* GGUF's name into name[64]: "blk.3.ffn_gate_exps.weight". */
void role_gguf_name(const struct shape *s, enum role role, int layer, char *name);
/* Hugging Face's name as released (fused experts for qwen3_5_moe, per expert for qwen3_moe) into name[192].
 */
void role_hf_name(const struct shape *s, enum role role, int layer, int expert, char *name);

#endif
