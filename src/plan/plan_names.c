/* plan_names.c: words and numbers that table, JSON and sentences share. */
#include <stdio.h>

#include "plan/plan_private.h"

const char *plan_group_name(enum plan_group g)
{
    static const char *const name[] = { "embeddings", "norms",         "attention", "DeltaNet", "dense MLP",
                                        "router",     "shared expert", "experts",   "head",     "MTP layer" };
    return name[g];
}

const char *tier_name(enum tier t)
{
    static const char *const name[] = { "RAM", "disk", "VRAM" };
    return name[t];
}

const char *plan_rate(char *out, double per_second)
{
    int decimals = per_second >= 100 ? 0 : per_second >= 10 ? 1 : 2;
    snprintf(out, PLAN_RATE, "%.*f", decimals, per_second < 1e15 ? per_second : 1e15);
    return out;
}
