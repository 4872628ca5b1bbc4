/* load.c: see load.h. */
#include "support/load.h"

int test_load(struct weights **out, const struct model *m, struct device *d, enum mix mix, struct threads *t,
              struct err *e)
{
    struct plan *p;
    struct machine anything = { 0 }; /* its RAM is unknown, which limits nothing */
    struct plan_options opt = { .mix = mix, .threads = threads_count(t) };
    struct weights_options load = { .threads = t };
    int rc = plan_build(&p, m, &anything, &opt, e);
    if (!rc)
        rc = weights_load(out, p, d, &load, e);
    plan_close(&p);
    return rc;
}
