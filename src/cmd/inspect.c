/*
 * inspect.c: `tonne inspect MODEL`: what a checkpoint is, from its headers: architecture, sizes, tensors by
 * type, what a session will need, metadata. Reads no weights.
 */
#include <stdlib.h>
#include <string.h>

#include "cmd/session_setup.h"
#include "cmd/terminal.h"

/* ---- facts ---- */

struct facts {
    int64_t n_weights,
        n_active; /* all, MTP included; multiplied for one token, embedding and MTP not counted */
    uint64_t tensor_bytes;
    int n_attention, n_delta_net;
    uint64_t kv_bytes;    /* per token, f16 */
    uint64_t state_bytes; /* per session: conv tails and recurrent states */
};

static void count_weights(struct facts *f, const struct shape *s)
{
    for (int layer = -1; layer < s->n_layer + s->n_mtp; layer++)
        for (int role = 0; role < ROLE_COUNT; role++) {
            int n;
            int64_t rows, cols;
            if (!model_has(s, (enum role)role, layer))
                continue;
            role_dims(s, (enum role)role, &n, &rows, &cols);
            bool experts = role == ROLE_EXPERT_GATE || role == ROLE_EXPERT_UP || role == ROLE_EXPERT_DOWN;
            f->n_weights += n * rows * cols;
            if (layer < s->n_layer && (role != ROLE_EMBED || s->tied))
                f->n_active += (experts ? s->top_k : n) * rows * cols;
        }
}

static struct facts gather(const struct model *m)
{
    const struct shape *s = &m->shape;
    struct facts f = { 0 };
    count_weights(&f, s);
    for (int i = 0; i < m->dir->n_tensor; i++)
        f.tensor_bytes += m->dir->tensor[i].bytes;
    for (int i = 0; i < s->n_layer; i++) {
        f.n_attention += s->mixer[i] == MIXER_ATTENTION;
        f.n_delta_net += s->mixer[i] == MIXER_DELTA_NET;
    }
    f.kv_bytes = (uint64_t)f.n_attention * 2 * (uint64_t)s->n_head_kv * (uint64_t)s->d_head * 2;
    uint64_t conv = (uint64_t)(s->conv_kernel > 0 ? s->conv_kernel - 1 : 0) * (uint64_t)shape_conv_dim(s);
    uint64_t state = (uint64_t)s->n_v_head * (uint64_t)s->d_k * (uint64_t)s->d_v;
    f.state_bytes = (uint64_t)f.n_delta_net * 4 * (conv + state);
    return f;
}

struct by_type { /* tensors of one storage type */
    const char *name;
    int n;
    uint64_t bytes;
};

static int larger_first(const void *a, const void *b)
{
    const struct by_type *x = a, *y = b;
    if (x->bytes != y->bytes)
        return x->bytes < y->bytes ? 1 : -1;
    return strcmp(x->name, y->name);
}

/* Fills types[QTYPE_COUNT], largest first; returns how many there are. */
static int group_types(struct by_type *types, const struct tensor_dir *dir)
{
    int n = 0;
    memset(types, 0, QTYPE_COUNT * sizeof *types);
    for (int i = 0; i < dir->n_tensor; i++) {
        const struct tensor *t = &dir->tensor[i];
        const char *name = t->type == QTYPE_NONE ? "unknown" : qtype_info(t->type)->name;
        int k = 0;
        while (k < n && strcmp(types[k].name, name) != 0)
            k++;
        if (k == n)
            types[n++].name = name;
        types[k].n++;
        types[k].bytes += t->bytes;
    }
    qsort(types, (size_t)n, sizeof *types, larger_first);
    return n;
}

/* ---- text ---- */

static void print_count(const char *label, int64_t v)
{
    const char *unit = v >= 1000000000 ? "B" : v >= 1000000 ? "M" : "K";
    double scaled = (double)v / (v >= 1000000000 ? 1e9 : v >= 1000000 ? 1e6 : 1e3);
    printf("%s%.4g %s", label, scaled, unit);
}

static void print_bytes(const char *label, uint64_t v)
{
    const char *unit = v >> 30 ? "GiB" : v >> 20 ? "MiB" : "KiB";
    double scaled = (double)v / (v >> 30 ? 1 << 30 : v >> 20 ? 1 << 20 : 1 << 10);
    printf("%s%.1f %s", label, scaled, unit);
}

static void print_shape(const struct shape *s, const struct facts *f)
{
    print_count("parameters    ", f->n_weights);
    print_count(", ", f->n_active);
    printf(" of them multiplied for a token\n");
    printf("layers        %d", s->n_layer);
    if (f->n_delta_net)
        printf(": %d Gated DeltaNet, %d attention", f->n_delta_net, f->n_attention);
    printf("%s\n", s->n_mtp ? "; and one for multi-token prediction" : "");
    printf("width         %d; vocabulary %d%s; trained context %d\n", s->d_model, s->n_vocab,
           s->tied ? ", embedding and head shared" : "", s->n_ctx_train);
    printf("attention     %d heads of %d, %d key/value heads, %d rotated%s%s%s\n", s->n_head, s->d_head,
           s->n_head_kv, s->n_rot, s->attn_gate ? ", gated" : "", s->qk_norm ? ", q/k norm" : "",
           s->qkv_bias ? ", biases" : "");
    if (f->n_delta_net)
        printf("DeltaNet      %d value heads of %d, %d key heads of %d, convolution over %d\n", s->n_v_head,
               s->d_v, s->n_k_head, s->d_k, s->conv_kernel);
    if (s->n_expert)
        printf("experts       %d, %d for a token, width %d", s->n_expert, s->top_k, s->d_expert);
    if (s->n_expert && s->d_shared)
        printf("; one shared of %d", s->d_shared);
    printf("%s", s->n_expert ? "\n" : "");
    if (s->d_ff)
        printf("MLP           width %d\n", s->d_ff);
}

static void print_memory(const struct model *m, const struct facts *f)
{
    struct by_type types[QTYPE_COUNT];
    int n = group_types(types, m->dir);
    printf("\ntensors\n");
    for (int i = 0; i < n; i++) {
        printf("  %-10s %6d", types[i].name, types[i].n);
        print_bytes("  ", types[i].bytes);
        printf("\n");
    }
    printf("  %-10s %6d", "all", m->dir->n_tensor);
    print_bytes("  ", f->tensor_bytes);
    printf(" in %d file%s, %.2f bits per parameter\n", m->dir->n_file, m->dir->n_file == 1 ? "" : "s",
           f->n_weights ? 8.0 * (double)f->tensor_bytes / (double)f->n_weights : 0);
    printf("\na session\n");
    print_bytes("  keys and values  ", f->kv_bytes);
    printf(" per token in f16\n");
    if (f->state_bytes) {
        print_bytes("  recurrent state  ", f->state_bytes);
        printf("\n");
    }
}

/* Text of a file, which may hold anything, for the terminal. */
static void print_clean(const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++)
        putchar((unsigned char)text[i] < 0x20 || text[i] == 0x7f ? '?' : text[i]);
}

/* One value of GGUF metadata in at most about 60 characters. */
static void print_value(const struct gguf_value *v)
{
    int64_t item;
    switch (v->type) {
    case GGUF_STRING:
        putchar('"');
        print_clean(v->s.data, v->s.len < 60 ? v->s.len : 60);
        printf("\"%s", v->s.len > 60 ? "..." : "");
        break;
    case GGUF_F32:
    case GGUF_F64:
        printf("%.9g", v->f);
        break;
    case GGUF_ARRAY:
        printf("%llu %s", (unsigned long long)v->count, v->elem_type == GGUF_STRING ? "texts" : "values");
        for (uint64_t i = 0; v->count <= 8 && i < v->count && gguf_array_int(v, i, &item); i++)
            printf("%s%lld", i ? ", " : ": ", (long long)item);
        break;
    case GGUF_I8:
    case GGUF_I16:
    case GGUF_I32:
    case GGUF_I64:
        printf("%lld", (long long)v->i);
        break;
    default:
        printf("%llu", (unsigned long long)v->u);
    }
}

static void print_metadata(const struct model *m, const struct setup *s)
{
    printf("\ntext\n");
    printf("  tokenizer        %d tokens, %s rule, ends at", tokenizer_size(s->tokenizer),
           tokenizer_pre(s->tokenizer));
    for (int i = 0; i < s->n_eos; i++)
        printf(" %d", (int)s->eos[i]);
    printf("\n  chat template    %s\n", m->chat_template ? chat_name(s->chat.family) : "none");
    printf("  sampling         temperature %g, top-k %d, top-p %g, min-p %g\n",
           (double)s->sampling.temperature, s->sampling.top_k, (double)s->sampling.top_p,
           (double)s->sampling.min_p);
    if (m->gguf)
        printf("\nmetadata (GGUF version %u)\n", m->gguf->version);
    for (int i = 0; m->gguf && i < m->gguf->n_pair; i++) {
        const struct gguf_pair *p = &m->gguf->pair[i];
        printf("  ");
        print_clean(p->key.data, p->key.len);
        printf(" = ");
        print_value(&p->value);
        printf("\n");
    }
}

static void print_tensors(const struct tensor_dir *dir)
{
    printf("\n");
    for (int i = 0; i < dir->n_tensor; i++) {
        const struct tensor *t = &dir->tensor[i];
        const char *type = t->type == QTYPE_NONE ? t->type_name : qtype_info(t->type)->name;
        print_clean(t->name, strlen(t->name));
        printf("%*s ", (int)(strlen(t->name) < 60 ? 60 - strlen(t->name) : 0), "");
        print_clean(type, strlen(type));
        printf("%*s [", (int)(strlen(type) < 6 ? 6 - strlen(type) : 0), "");
        for (int k = 0; k < t->n_dims; k++)
            printf("%s%lld", k ? ", " : "", (long long)t->dim[k]);
        printf("] %llu bytes\n", (unsigned long long)t->bytes);
    }
}

/* ---- JSON ---- */

static json_t *tensors_json(const struct tensor_dir *dir)
{
    json_t *list = json_array();
    for (int i = 0; i < dir->n_tensor; i++) {
        const struct tensor *t = &dir->tensor[i];
        json_t *dims = json_array();
        for (int k = 0; k < t->n_dims; k++)
            json_array_append_new(dims, json_integer(t->dim[k]));
        json_array_append_new(
            list, json_pack("{s:s, s:s, s:o, s:I, s:i, s:I}", "name", t->name, "type",
                            t->type == QTYPE_NONE ? t->type_name : qtype_info(t->type)->name, "shape", dims,
                            "bytes", (json_int_t)t->bytes, "file", t->file, "offset", (json_int_t)t->offset));
    }
    return list;
}

static json_t *types_json(const struct tensor_dir *dir)
{
    struct by_type types[QTYPE_COUNT];
    json_t *out = json_object();
    int n = group_types(types, dir);
    for (int i = 0; i < n; i++)
        json_object_set_new(
            out, types[i].name,
            json_pack("{s:i, s:I}", "tensors", types[i].n, "bytes", (json_int_t)types[i].bytes));
    return out;
}

static int print_json(const struct setup *s, const struct facts *f, const struct args *a, struct err *e)
{
    const struct model *m = s->model;
    const struct shape *p = &m->shape;
    json_t *j = json_pack(
        "{s:s, s:s, s:I, s:I, s:i, s:i, s:i, s:i, s:i, s:i}", "architecture", arch_hf_name(p->arch), "format",
        m->kind == MODEL_GGUF ? "gguf" : "safetensors", "parameters", (json_int_t)f->n_weights,
        "active_parameters", (json_int_t)f->n_active, "layers", p->n_layer, "mtp_layers", p->n_mtp, "width",
        p->d_model, "vocabulary", p->n_vocab, "experts", p->n_expert, "experts_per_token", p->top_k);
    json_t *rest = json_pack(
        "{s:I, s:i, s:I, s:I, s:i, s:s, s:s, s:i, s:o}", "tensor_bytes", (json_int_t)f->tensor_bytes, "files",
        m->dir->n_file, "kv_bytes_per_token", (json_int_t)f->kv_bytes, "state_bytes",
        (json_int_t)f->state_bytes, "trained_context", p->n_ctx_train, "chat_template",
        m->chat_template ? chat_name(s->chat.family) : "none", "tokenizer", tokenizer_pre(s->tokenizer),
        "tokens", tokenizer_size(s->tokenizer), "types", types_json(m->dir));
    char *text = NULL;
    if (j && rest && json_object_update(j, rest) == 0) {
        if (a->tensors)
            json_object_set_new(j, "tensors", tensors_json(m->dir));
        text = json_dumps(j, JSON_INDENT(1));
    }
    json_decref(j);
    json_decref(rest);
    if (!text)
        return err_set(e, ERR_MEMORY, "no memory for the JSON text");
    puts(text);
    free(text);
    return terminal_flush(e);
}

static int inspect(const struct args *a, struct err *e)
{
    struct setup s = { 0 };
    int rc = setup_open(&s, a->word[0], a, e);
    if (!rc) {
        struct facts f = gather(s.model);
        if (a->json) {
            rc = print_json(&s, &f, a, e);
        } else {
            printf("architecture  %s, from %s\n", arch_hf_name(s.model->shape.arch),
                   s.model->kind == MODEL_GGUF ? "GGUF" : "safetensors");
            print_shape(&s.model->shape, &f);
            print_memory(s.model, &f);
            print_metadata(s.model, &s);
            if (a->tensors)
                print_tensors(s.model->dir);
            rc = terminal_flush(e);
        }
    }
    setup_close(&s);
    return rc;
}

/* clang-format off: a table */
static const struct option own[] = { OPT_FLAG("tensors", tensors, 1, "list every tensor"),
                                     OPT_FLAG("json", json, 1, "print one JSON object"),
                                     { 0 } };
/* clang-format on */
static const struct option_group group = { "Output", own };

const struct command command_inspect = {
    .name = "inspect",
    .usage = "MODEL",
    .summary = "show what a model file holds",
    .help = "Shows architecture, sizes, tensors by type, what a session needs, and metadata. Reads\n"
            "headers only, so it takes no time on any size of model.\n"
            "\n"
            "Examples\n"
            "  tonne inspect models/novelist.gguf\n"
            "  tonne inspect Qwen3.5-397B-A17B --tensors | grep experts\n"
            "  tonne inspect models/novelist.gguf --json\n",
    .min_words = 1,
    .max_words = 1,
    .group = { &group },
    .run = inspect,
};
