/*
 * geometry.c: see geometry.h. One row per release; what all models of a family have in common is filled in by
 * fill_family.
 */
#include "model/geometry.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "model/tensor_build.h"

struct geometry {
    const char *name;
    enum arch arch;
    int n_layer, d_model, n_head, n_head_kv;
    int n_expert, top_k, d_expert, d_shared, d_ff;
    int n_k_head, n_v_head; /* DeltaNet */
};

/* clang-format off: a table */
static const struct geometry rows[] = {
    /* name                architecture     layers width heads kv  experts k  width shared d_ff   DeltaNet k,
       v */
    { "qwen3.5-397b-a17b", ARCH_QWEN35_MOE, 60, 4096, 32, 2, 512, 10, 1024, 1024, 0, 16, 64 },
    { "qwen3.5-122b-a10b", ARCH_QWEN35_MOE, 48, 3072, 32, 2, 256, 8, 1024, 1024, 0, 16, 64 },
    { "qwen3.5-35b-a3b", ARCH_QWEN35_MOE, 40, 2048, 16, 2, 256, 8, 512, 512, 0, 16, 32 },
    { "qwen3-30b-a3b", ARCH_QWEN3_MOE, 48, 2048, 32, 4, 128, 8, 768, 0, 6144, 0, 0 },
    { "qwen2.5-7b", ARCH_QWEN2, 28, 3584, 28, 4, 0, 0, 0, 0, 18944, 0, 0 },
};
/* clang-format on */
enum { N_ROWS = sizeof rows / sizeof *rows, FULL_ATTENTION_INTERVAL = 4 };

const char *geometry_list(void)
{
    return "qwen3.5-397b-a17b qwen3.5-122b-a10b qwen3.5-35b-a3b qwen3-30b-a3b qwen2.5-7b";
}

const char *geometry_name(int i)
{
    return i >= 0 && i < N_ROWS ? rows[i].name : NULL;
}

static void fill_qwen35(struct shape *s)
{
    s->n_vocab = 248320;
    s->n_ctx_train = 262144;
    s->d_head = 256;
    s->n_rot = 64;
    s->rope_theta = 1e7;
    s->attn_gate = s->qk_norm = true;
    s->d_k = s->d_v = 128;
    s->conv_kernel = 4;
    s->v_head_tiled = true; /* as GGUF stores it */
    s->eos[s->n_eos++] = 248044;
}

static void fill_qwen2_and_3(struct shape *s)
{
    bool qwen3 = s->arch == ARCH_QWEN3_MOE;
    s->n_vocab = qwen3 ? 151936 : 152064;
    s->n_ctx_train = qwen3 ? 40960 : 32768;
    s->d_head = s->n_rot = 128;
    s->rope_theta = 1e6;
    s->qk_norm = qwen3;
    s->qkv_bias = !qwen3;
    s->eos[s->n_eos++] = 151645;
}

static void fill(struct shape *s, const struct geometry *g, int layers)
{
    *s = (struct shape){ .arch = g->arch,
                         .n_layer = layers ? layers : g->n_layer,
                         .d_model = g->d_model,
                         .rms_eps = 1e-6f,
                         .n_head = g->n_head,
                         .n_head_kv = g->n_head_kv,
                         .yarn_factor = 1,
                         .n_k_head = g->n_k_head,
                         .n_v_head = g->n_v_head,
                         .d_ff = g->d_ff,
                         .n_expert = g->n_expert,
                         .top_k = g->top_k,
                         .d_expert = g->d_expert,
                         .d_shared = g->d_shared,
                         .norm_topk = true };
    bool qwen35 = g->arch == ARCH_QWEN35_MOE;
    if (qwen35)
        fill_qwen35(s);
    else
        fill_qwen2_and_3(s);
    for (int i = 0; i < s->n_layer; i++) {
        s->mixer[i] = qwen35 && (i + 1) % FULL_ATTENTION_INTERVAL ? MIXER_DELTA_NET : MIXER_ATTENTION;
        s->moe[i] = g->n_expert > 0;
    }
}

int geometry_shape(struct shape *s, const char *name, int layers, struct err *e)
{
    for (int i = 0; i < N_ROWS; i++) {
        if (strcasecmp(rows[i].name, name))
            continue;
        if (layers < 0 || layers > rows[i].n_layer)
            return err_set(e, ERR_USAGE, "%s has %d layers, not %d", rows[i].name, rows[i].n_layer, layers);
        fill(s, &rows[i], layers);
        return shape_check(s, true, e);
    }
    err_set(e, ERR_USAGE, "the geometry of \"%.60s\" is not known", name);
    err_hint(e, "one of: %s", geometry_list());
    return ERR_USAGE;
}

/* ---- every weight of a shape ---- */

/* Calls fn for each tensor, in the order of layers; stops at the first error. */
static int each_tensor(const struct shape *s, int (*fn)(void *user, enum role role, int layer, struct err *e),
                       void *user, struct err *e)
{
    int rc = 0;
    for (int layer = -1; layer < s->n_layer + s->n_mtp; layer++)
        for (int role = 0; role < ROLE_COUNT && !rc; role++)
            if (model_has(s, (enum role)role, layer))
                rc = fn(user, (enum role)role, layer, e);
    return rc;
}

struct count {
    const struct shape *s;
    uint64_t n;
};

static int count_tensor(void *user, enum role role, int layer, struct err *e)
{
    struct count *c = user;
    int n;
    int64_t n_rows, cols;
    (void)layer;
    (void)e;
    role_dims(c->s, role, &n, &n_rows, &cols);
    c->n += (uint64_t)n * (uint64_t)n_rows * (uint64_t)cols;
    return 0;
}

uint64_t geometry_weights(const struct shape *s)
{
    struct count c = { s, 0 };
    each_tensor(s, count_tensor, &c, NULL); /* counting cannot fail */
    return c.n;
}

/* ---- a model without files ---- */

struct listing {
    const struct shape *s;
    struct tensor_build build;
    uint64_t at;
};

static int list_tensor(void *user, enum role role, int layer, struct err *e)
{
    struct listing *l = user;
    struct tensor t = { .type = QTYPE_BF16, .offset = l->at };
    char name[64];
    int n;
    int64_t n_rows, cols;
    role_gguf_name(l->s, role, layer, name);
    role_dims(l->s, role, &n, &n_rows, &cols);
    if (n > 1)
        t.dim[t.n_dims++] = n;
    if (n > 1 || n_rows > 1)
        t.dim[t.n_dims++] = n_rows;
    t.dim[t.n_dims++] = cols;
    t.bytes = (uint64_t)n * (uint64_t)n_rows * qtype_row_bytes(t.type, cols);
    l->at += t.bytes;
    return tensor_build_add(&l->build, &t, name, strlen(name), "BF16", e);
}

static int list_tensors(struct model *m, struct err *e)
{
    struct listing l = { .s = &m->shape };
    int rc = tensor_build_open(&l.build, e);
    if (!rc)
        rc = tensor_build_file(&l.build, m->path, -1, 0, e);
    if (!rc)
        rc = each_tensor(&m->shape, list_tensor, &l, e);
    if (!rc)
        return tensor_build_finish(&l.build, &m->dir, e);
    tensor_build_abort(&l.build);
    return rc;
}

/* The text's positions are the same in all sections, but other engines ask for them. */
static json_t *config_of(const struct shape *s)
{
    return s->arch == ARCH_QWEN35_MOE
               ? json_pack("{s:{s:[iii]}}", "rope_parameters", "mrope_section", 11, 11, 10)
               : json_object();
}

int geometry_model(struct model **out, const char *name, const struct shape *s, struct err *e)
{
    struct model *m = calloc(1, sizeof *m);
    if (!m)
        return err_set(e, ERR_MEMORY, "no memory for a model's records");
    m->kind = MODEL_GGUF;
    m->shape = *s;
    size_t room = strlen(name) + sizeof "synthetic-";
    m->path = strdup(name);
    m->folder = malloc(room);
    m->config = config_of(s);
    int rc =
        m->path && m->folder && m->config ? 0 : err_set(e, ERR_MEMORY, "no memory for a model's records");
    if (!rc)
        stpcpy(stpcpy(m->folder, "synthetic-"), name);
    if (!rc)
        rc = list_tensors(m, e);
    if (!rc)
        rc = model_check(m, e);
    if (rc)
        model_close(&m);
    *out = m;
    return rc;
}
