/*
 * bench_routing.c: which experts the tokens choose, seen through the engine's observer: how often the last
 * token's are chosen again, and how often caches of several sizes would hold them. Every layer has its own
 * recency cache here; sharing one among all layers, as the program does, is about the same.
 */
#include <stdlib.h>
#include <string.h>

#include "cmd/bench.h"

const double bench_cache_share[BENCH_CACHES] = { 0.06, 0.12, 0.25, 0.50 };

int bench_routing_open(struct bench_routing *r, const struct shape *s, struct err *e)
{
    size_t L = (size_t)s->n_layer, E = (size_t)s->n_expert;
    *r = (struct bench_routing){ .n_layer = s->n_layer, .n_expert = s->n_expert, .top_k = s->top_k };
    r->last = calloc(L * E + 1, sizeof *r->last);
    r->uses = calloc(L * E + 1, sizeof *r->uses);
    r->at = calloc(L, sizeof *r->at);
    r->best = calloc((size_t)s->top_k + 1, sizeof *r->best);
    return r->last && r->uses && r->at && r->best ? 0
                                                  : err_set(e, ERR_MEMORY, "no memory for counting experts");
}

void bench_routing_free(struct bench_routing *r)
{
    free(r->last);
    free(r->uses);
    free(r->at);
    free(r->best);
    *r = (struct bench_routing){ 0 };
}

/* Fills r->best with the experts of the largest logits; ties go to the lower id. */
static void choose(struct bench_routing *r, const float *logits)
{
    int n = 0;
    for (int i = 0; i < r->n_expert; i++) {
        if (n == r->top_k && logits[i] <= logits[r->best[n - 1]])
            continue;
        int k = n < r->top_k ? n++ : n - 1;
        for (; k > 0 && logits[i] > logits[r->best[k - 1]]; k--)
            r->best[k] = r->best[k - 1];
        r->best[k] = i;
    }
}

/* How many experts were used more recently than this one: it is in a cache with more places than that. */
static int recency(const struct bench_routing *r, const int64_t *last, int i)
{
    int n = 0;
    for (int k = 0; k < r->n_expert; k++)
        n += last[k] > last[i];
    return n;
}

static void count_choice(struct bench_routing *r, const int64_t *last, int64_t now, int i)
{
    int rank = recency(r, last, i);
    r->choices++;
    r->again += last[i] == now - 1;
    for (int c = 0; c < BENCH_CACHES; c++)
        r->hits[c] += last[i] > 0 && rank < bench_cache_share[c] * r->n_expert;
}

void bench_routing_see(void *routing, const char *what, int layer, const float *logits, int rows, int cols)
{
    struct bench_routing *r = routing;
    if (strcmp(what, "router") || layer < 0 || layer >= r->n_layer || cols != r->n_expert)
        return;
    int64_t *last = r->last + (size_t)layer * (size_t)cols, *uses = r->uses + (size_t)layer * (size_t)cols;
    for (int row = 0; row < rows; row++) {
        const float *x = logits + (size_t)row * (size_t)cols;
        int64_t now = ++r->at[layer];
        choose(r, x);
        for (int i = 0; i < r->top_k && r->count; i++) {
            count_choice(r, last, now, r->best[i]);
            uses[r->best[i]]++;
        }
        for (int i = 0; i < r->top_k; i++)
            last[r->best[i]] = now;
    }
}

static int more_first(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x < y) - (x > y);
}

double bench_routing_busiest(const struct bench_routing *r)
{
    int tenth = (r->n_expert + 9) / 10;
    int64_t busy = 0;
    for (int layer = 0; layer < r->n_layer; layer++) {
        int64_t *uses = r->uses + (size_t)layer * (size_t)r->n_expert;
        qsort(uses, (size_t)r->n_expert, sizeof *uses, more_first);
        for (int i = 0; i < tenth; i++)
            busy += uses[i];
    }
    return r->choices ? (double)busy / (double)r->choices : 0;
}
