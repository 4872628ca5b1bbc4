/* synth_gguf.c: synthesized weights as a GGUF, so that other engines can be measured with the same bytes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "load/export_keys.h"
#include "load/synth.h"

enum { N_BYTES = 256, TOKEN_ROOM = 24, TYPE_NORMAL = 1, TYPE_CONTROL = 3, TYPE_UNUSED = 5 };

/* ---- vocabulary ---- */

/* The letter of GPT-2's alphabet that stands for a byte: itself where it is visible, else from U+0100 on. */
static int letter_of(int byte)
{
    int hidden = 0;
    for (int b = 0; b <= byte; b++) {
        bool visible = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
        if (b == byte)
            return visible ? b : 256 + hidden;
        hidden += !visible;
    }
    return 0;
}

static char *put_letter(char *to, int byte)
{
    int c = letter_of(byte);
    if (c >= 0x80)
        *to++ = (char)(0xc0 | c >> 6);
    *to++ = (char)(c >= 0x80 ? 0x80 | (c & 0x3f) : c);
    *to = '\0';
    return to;
}

/* Pairs of letters that text is full of; a vocabulary without merges is not accepted everywhere. */
static const char *const pairs[] = { "th", "he", "in", "er", "an", " t", " a", "re" };
enum { N_PAIRS = sizeof pairs / sizeof *pairs };

struct vocabulary {
    int n;
    char *room;               /* [n + N_PAIRS][TOKEN_ROOM] */
    struct gguf_string *text; /* [n] */
    int32_t *type;            /* [n] */
    struct gguf_string merge[N_PAIRS];
};

static void fill_vocabulary(struct vocabulary *v, int32_t eos)
{
    for (int i = 0; i < v->n; i++) {
        char *to = v->room + (size_t)i * TOKEN_ROOM;
        v->type[i] = TYPE_NORMAL;
        if (i == eos) {
            strcpy(to, "<|endoftext|>");
            v->type[i] = TYPE_CONTROL;
        } else if (i < N_BYTES) {
            put_letter(to, i);
        } else if (i < N_BYTES + N_PAIRS) {
            put_letter(put_letter(to, pairs[i - N_BYTES][0]), pairs[i - N_BYTES][1]);
        } else {
            snprintf(to, TOKEN_ROOM, "[PAD%d]", i);
            v->type[i] = TYPE_UNUSED;
        }
        v->text[i] = (struct gguf_string){ to, strlen(to) };
    }
    for (int i = 0; i < N_PAIRS; i++) {
        char *to = v->room + (size_t)(v->n + i) * TOKEN_ROOM, *end = put_letter(to, pairs[i][0]);
        *end++ = ' ';
        end = put_letter(end, pairs[i][1]);
        v->merge[i] = (struct gguf_string){ to, (size_t)(end - to) };
    }
}

static int write_vocabulary(struct gguf_writer *w, const struct shape *s, struct err *e)
{
    struct vocabulary v = { .n = s->n_vocab };
    int32_t eos = s->n_eos && s->eos[0] < s->n_vocab ? s->eos[0] : s->n_vocab - 1;
    if (v.n < N_BYTES + N_PAIRS + 1 || eos < N_BYTES + N_PAIRS)
        return err_set(e, ERR_FORMAT, "a vocabulary of %d has no room for all bytes", v.n);
    v.room = malloc((size_t)(v.n + N_PAIRS) * TOKEN_ROOM);
    v.text = calloc((size_t)v.n, sizeof *v.text);
    v.type = calloc((size_t)v.n, sizeof *v.type);
    int rc = v.room && v.text && v.type ? 0 : err_set(e, ERR_MEMORY, "no memory for %d tokens", v.n);
    if (!rc) {
        const char *pre = s->arch == ARCH_QWEN35_MOE || s->arch == ARCH_QWEN35 ? "qwen35" : "qwen2";
        fill_vocabulary(&v, eos);
        gguf_write_str(w, "tokenizer.ggml.model", "gpt2", 4);
        gguf_write_str(w, "tokenizer.ggml.pre", pre, strlen(pre));
        gguf_write_strings(w, "tokenizer.ggml.tokens", v.text, (uint64_t)v.n);
        gguf_write_array(w, "tokenizer.ggml.token_type", GGUF_I32, v.type, (uint64_t)v.n);
        gguf_write_strings(w, "tokenizer.ggml.merges", v.merge, N_PAIRS);
        gguf_write_u32(w, "tokenizer.ggml.eos_token_id", (uint32_t)eos);
        gguf_write_u32(w, "tokenizer.ggml.padding_token_id", (uint32_t)eos);
        gguf_write_bool(w, "tokenizer.ggml.add_bos_token", false);
    }
    free(v.room);
    free(v.text);
    free(v.type);
    return rc;
}

/* ---- tensors ---- */

/* Announces every tensor of the model in its order, in the type that the plan gave its first matrix. */
static int announce(struct gguf_writer *w, const struct plan *p, struct err *e)
{
    const struct tensor_dir *dir = p->model->dir;
    enum qtype *type = calloc((size_t)dir->n_tensor + 1, sizeof *type);
    if (!type)
        return err_set(e, ERR_MEMORY, "no memory for %d tensors", dir->n_tensor);
    for (int i = 0; i < p->n_item; i++)
        type[p->item[i].src.tensor - dir->tensor] = p->item[i].target;
    for (int i = 0; i < dir->n_tensor; i++)
        gguf_write_tensor(w, dir->tensor[i].name, type[i], dir->tensor[i].dim, dir->tensor[i].n_dims);
    free(type);
    return 0;
}

static int put_items(struct gguf_writer *w, const struct weights *weights, const struct plan *p,
                     struct err *e)
{
    const char *base = weights->block.ptr;
    int rc = 0;
    for (int i = 0; i < p->n_item && !rc; i++) {
        const struct plan_item *it = &p->item[i];
        uint64_t at = it->expert > 0 ? (uint64_t)it->expert * it->data_bytes : 0;
        rc = gguf_writer_put(w, (int)(it->src.tensor - p->model->dir->tensor), at, base + it->data_at,
                             it->data_bytes, e);
    }
    return rc;
}

int synth_write_gguf(const struct weights *weights, const struct plan *p, const char *path, struct err *e)
{
    struct gguf_writer *w;
    if (mix_file_type(p->opt.mix) == UINT32_MAX) {
        err_set(e, ERR_FORMAT, "weights of type %s cannot be written as GGUF", mix_name(p->opt.mix));
        err_hint(e, "one of GGUF's: --type q4_k_m, q8_0, ...");
        return ERR_FORMAT;
    }
    int rc = gguf_writer_open(&w, path, e);
    if (rc)
        return rc;
    rc = export_model_keys(w, p->model, p->opt.mix, e);
    if (!rc)
        rc = write_vocabulary(w, &p->model->shape, e);
    if (!rc)
        rc = announce(w, p, e);
    if (!rc)
        rc = gguf_writer_begin(w, e);
    if (!rc)
        rc = put_items(w, weights, p, e);
    if (!rc)
        return gguf_writer_commit(&w, e);
    gguf_writer_abort(&w);
    return rc;
}
