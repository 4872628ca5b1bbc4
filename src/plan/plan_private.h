/* plan_private.h: what the plan*.c files share. */
#ifndef TONNE_PLAN_PLAN_PRIVATE_H
#define TONNE_PLAN_PLAN_PRIVATE_H

#include "plan/plan.h"

/* ---- plan_items.c: the list of weights ---- */

/* What the decisions need to know about the items. */
struct plan_sums {
    size_t dense_bytes, expert_bytes; /* in the block in RAM */
    size_t slot_bytes;                /* the largest expert on disk */
    size_t extents_bytes;             /* all experts on disk, one after the other */
    bool pack;
};

/* Lists every weight with its source and group. */
int plan_list(struct plan *p, struct err *e);
/* Gives every item its target and sizes and fills p->staging, n_experts and *sums. */
int plan_size(struct plan *p, struct plan_sums *sums, struct err *e);
/* Gives every item its tier and offsets; fills weights_bytes and the parts. */
void plan_place(struct plan *p);

/* ---- plan_expect.c ---- */

/* Fills the expectation. */
void plan_expect(struct plan *p);

/* ---- names for tables ---- */

const char *tier_name(enum tier t);
/* A rate with three digits, "11.2", "0.53", "11700", into out[PLAN_RATE]; returns out. */
enum { PLAN_RATE = 24 };
const char *plan_rate(char *out, double per_second);

#endif
