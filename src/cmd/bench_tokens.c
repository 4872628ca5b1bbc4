/* bench_tokens.c: what is evaluated: a text, or for synthetic weights a random walk; never the same sequence
 * twice. */
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "cmd/bench.h"
#include "load/synth.h"

enum { MAX_TEXT_BYTES = 64 << 20 };

/* The paragraphs with empty lines between; malloc'ed, *n bytes. NULL: no memory. */
static char *built_in(size_t *n)
{
    size_t room = 1;
    for (int i = 0; bench_text[i]; i++)
        room += strlen(bench_text[i]) + 2;
    char *text = malloc(room), *end = text;
    for (int i = 0; text && bench_text[i]; i++)
        end = stpcpy(stpcpy(end, bench_text[i]), "\n\n");
    *n = (size_t)(end - text);
    return text;
}

int bench_tokens_text(struct bench_tokens *t, const struct tokenizer *k, const char *path, struct err *e)
{
    struct tokens all = { 0 };
    char *text;
    size_t n;
    int rc = 0;
    if (path)
        rc = file_slurp(path, MAX_TEXT_BYTES, &text, &n, e);
    else if (!(text = built_in(&n)))
        rc = err_set(e, ERR_MEMORY, "no memory for the prompts' text");
    if (rc)
        return rc;
    rc = tokenizer_encode(k, text, n, NULL, 0, &all, e);
    free(text);
    if (!rc && all.n < 2) {
        rc = err_set(e, ERR_USAGE, "the text is too short to take prompts from");
        err_hint(e, "name a longer one: --file TEXT");
    }
    if (!rc && !(t->text = malloc(all.n * sizeof *t->text)))
        rc = err_set(e, ERR_MEMORY, "no memory for the prompts' %zu tokens", all.n);
    if (!rc) {
        memcpy(t->text, all.id, all.n * sizeof *t->text);
        t->n_text = all.n;
    } else if (path) {
        err_where(e, "%s", path);
    }
    tokens_free(&all);
    return rc;
}

void bench_tokens_walk(struct bench_tokens *t, int n_vocab)
{
    t->n_vocab = n_vocab;
}

/* Multiples of the golden ratio, modulo 1, are far from all their predecessors. */
static size_t place(uint64_t i, size_t n)
{
    double turns = (double)i * 0.6180339887498949;
    size_t at = (size_t)((turns - (double)(uint64_t)turns) * (double)n);
    return at < n ? at : n - 1;
}

void bench_tokens_take(struct bench_tokens *t, int32_t *out, int n)
{
    uint64_t i = t->taken++;
    if (!t->text) {
        synth_walk(out, n, t->n_vocab, i + 1);
        return;
    }
    size_t at = place(i, t->n_text);
    for (int k = 0; k < n; k++)
        out[k] = t->text[(at + (size_t)k) % t->n_text];
}

void bench_tokens_free(struct bench_tokens *t)
{
    free(t->text);
    *t = (struct bench_tokens){ 0 };
}
