/*
 * bpe.c: two ways to the same result. Short words, nearly all there are, scan a small array for the lowest
 * rank; long ones keep the candidates in a heap, so a megabyte without a space takes n log n steps.
 */
#include "text/bpe.h"

#include <stdlib.h>
#include <string.h>

enum {
    SHORT_WORD = 32,
    MAX_PROBES = 2048 /* at most half the slots are used: an honest file needs a few dozen */
};

int bpe_open(struct bpe *b, uint32_t n, struct err *e)
{
    uint32_t slots = 16;
    while (slots / 2 < n)
        slots *= 2;
    b->slot = malloc(slots * sizeof *b->slot);
    if (!b->slot)
        return err_set(e, ERR_MEMORY, "no memory for %u merges", n);
    for (uint32_t i = 0; i < slots; i++)
        b->slot[i].rank = BPE_NO_RANK;
    b->mask = slots - 1;
    return 0;
}

void bpe_close(struct bpe *b)
{
    free(b->slot);
    b->slot = NULL;
}

static inline uint32_t pair_hash(uint32_t left, uint32_t right)
{
    uint64_t x = ((uint64_t)left << 32 | right) * 0x9E3779B97F4A7C15u;
    x ^= x >> 32;
    return (uint32_t)((x * 0xD6E8FEB86659FD93u) >> 32);
}

/* The pair's slot, or the free one where it would be. */
static inline struct merge_slot *find(const struct bpe *b, uint32_t left, uint32_t right)
{
    uint32_t i = pair_hash(left, right) & b->mask;
    while (b->slot[i].rank != BPE_NO_RANK && (b->slot[i].left != left || b->slot[i].right != right))
        i = (i + 1) & b->mask;
    return &b->slot[i];
}

int bpe_add(struct bpe *b, uint32_t left, uint32_t right, uint32_t rank, uint32_t id, struct err *e)
{
    struct merge_slot *s = find(b, left, right);
    uint32_t probes = ((uint32_t)(s - b->slot) - pair_hash(left, right)) & b->mask;
    if (probes > MAX_PROBES)
        return err_set(e, ERR_FORMAT, "the merges are chosen to make their table slow");
    *s = (struct merge_slot){ left, right, rank, id };
    return 0;
}

/* ---- short words ---- */

struct part {
    uint32_t id;
    uint32_t rank;   /* of merging with the next part */
    uint32_t merged; /* into this */
};

static inline void look_up(const struct bpe *b, struct part *p, uint32_t right)
{
    const struct merge_slot *s = find(b, p->id, right);
    p->rank = s->rank;
    p->merged = s->id;
}

static size_t merge_short(const struct bpe *b, const char *word, size_t n, int32_t *out)
{
    struct part part[SHORT_WORD];
    for (size_t i = 0; i < n; i++)
        part[i].id = b->byte_id[(unsigned char)word[i]];
    for (size_t i = 0; i + 1 < n; i++)
        look_up(b, &part[i], part[i + 1].id);
    part[n - 1].rank = BPE_NO_RANK;
    for (;;) {
        size_t best = 0;
        for (size_t i = 1; i < n; i++)
            if (part[i].rank < part[best].rank)
                best = i;
        if (part[best].rank == BPE_NO_RANK)
            break;
        part[best].id = part[best].merged;
        n--;
        for (size_t i = best + 1; i < n; i++)
            part[i] = part[i + 1];
        part[best].rank = BPE_NO_RANK;
        if (best + 1 < n)
            look_up(b, &part[best], part[best + 1].id);
        if (best > 0)
            look_up(b, &part[best - 1], part[best].id);
    }
    for (size_t i = 0; i < n; i++)
        out[i] = (int32_t)part[i].id;
    return n;
}

/* ---- long words ---- */

struct bpe_node { /* symbols as a doubly linked list over their first byte's position */
    uint32_t id, rank, merged;
    uint32_t previous, next; /* NO_NODE at the ends */
};

enum { NO_NODE = UINT32_MAX >> 1 };

struct heap {
    uint64_t *key;
    size_t n;
};

static void sift_down(struct heap *h, size_t i)
{
    uint64_t x = h->key[i];
    for (size_t child; (child = 2 * i + 1) < h->n; i = child) {
        if (child + 1 < h->n && h->key[child + 1] < h->key[child])
            child++;
        if (h->key[child] >= x)
            break;
        h->key[i] = h->key[child];
    }
    h->key[i] = x;
}

static void heap_push(struct heap *h, uint64_t x)
{
    size_t i = h->n++;
    for (; i > 0 && h->key[(i - 1) / 2] > x; i = (i - 1) / 2)
        h->key[i] = h->key[(i - 1) / 2];
    h->key[i] = x;
}

static uint64_t heap_pop(struct heap *h)
{
    uint64_t top = h->key[0];
    h->key[0] = h->key[--h->n];
    if (h->n > 0)
        sift_down(h, 0);
    return top;
}

static int reserve(struct bpe_scratch *s, size_t n, struct err *e)
{
    if (n <= s->capacity)
        return 0;
    bpe_scratch_free(s);
    s->node = malloc(n * sizeof *s->node);
    s->heap = malloc(2 * n * sizeof *s->heap);
    if (!s->node || !s->heap) {
        bpe_scratch_free(s);
        return err_set(e, ERR_MEMORY, "no memory to merge a word of %zu bytes", n);
    }
    s->capacity = n;
    return 0;
}

void bpe_scratch_free(struct bpe_scratch *s)
{
    free(s->node);
    free(s->heap);
    *s = (struct bpe_scratch){ 0 };
}

/* Sets the merge of node at with its right neighbour. */
static void renew(const struct bpe *b, struct bpe_node *node, uint32_t at)
{
    node[at].rank = BPE_NO_RANK;
    if (node[at].next == NO_NODE)
        return;
    const struct merge_slot *s = find(b, node[at].id, node[node[at].next].id);
    node[at].rank = s->rank;
    node[at].merged = s->id;
}

static void push_candidate(struct heap *h, const struct bpe_node *node, uint32_t at)
{
    if (node[at].rank != BPE_NO_RANK)
        heap_push(h, (uint64_t)node[at].rank << 32 | at);
}

/* Each merge takes one candidate away and adds at most two: 2 n keys are enough. */
static void merge_all(const struct bpe *b, struct heap *h, struct bpe_node *node)
{
    while (h->n > 0) {
        uint64_t key = heap_pop(h);
        uint32_t at = (uint32_t)key;
        if (node[at].rank != key >> 32)
            continue; /* the pair is gone: one of its sides was merged meanwhile */
        uint32_t gone = node[at].next;
        node[at].id = node[at].merged;
        node[at].next = node[gone].next;
        node[gone].rank = BPE_NO_RANK;
        if (node[at].next != NO_NODE)
            node[node[at].next].previous = at;
        renew(b, node, at);
        push_candidate(h, node, at);
        if (node[at].previous != NO_NODE) {
            renew(b, node, node[at].previous);
            push_candidate(h, node, node[at].previous);
        }
    }
}

static size_t merge_long(const struct bpe *b, struct bpe_scratch *s, const char *word, size_t n, int32_t *out)
{
    struct bpe_node *node = s->node;
    struct heap h = { s->heap, 0 };
    for (size_t i = 0; i < n; i++) {
        node[i].id = b->byte_id[(unsigned char)word[i]];
        node[i].previous = i > 0 ? (uint32_t)i - 1 : NO_NODE;
        node[i].next = i + 1 < n ? (uint32_t)i + 1 : NO_NODE;
    }
    for (size_t i = 0; i < n; i++) {
        renew(b, node, (uint32_t)i);
        if (node[i].rank != BPE_NO_RANK)
            h.key[h.n++] = (uint64_t)node[i].rank << 32 | i;
    }
    for (size_t i = h.n / 2; i-- > 0;)
        sift_down(&h, i);
    merge_all(b, &h, node);
    size_t count = 0;
    for (uint32_t i = 0; i != NO_NODE; i = node[i].next)
        out[count++] = (int32_t)node[i].id;
    return count;
}

int bpe_merge(const struct bpe *b, struct bpe_scratch *s, const char *word, size_t n, int32_t *out,
              size_t *n_out, struct err *e)
{
    *n_out = 0;
    if (n == 0)
        return 0;
    if (n <= SHORT_WORD) {
        *n_out = merge_short(b, word, n, out);
        return 0;
    }
    int rc = reserve(s, n, e);
    if (rc == 0)
        *n_out = merge_long(b, s, word, n, out);
    return rc;
}
