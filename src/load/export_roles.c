/* export_roles.c: see export_roles.h. */
#include "load/export_roles.h"

static const enum role outside[] = { ROLE_HEAD, ROLE_EMBED };

static const enum role inside[] = {
    ROLE_NORM_MIXER, ROLE_DN_A_LOG,    ROLE_DN_CONV,     ROLE_DN_DT_BIAS,
    ROLE_DN_A,       ROLE_DN_B,        ROLE_DN_QKV,      ROLE_DN_Z,
    ROLE_DN_NORM,    ROLE_DN_OUT,      ROLE_EXPERT_DOWN, ROLE_EXPERT_GATE,
    ROLE_EXPERT_UP,  ROLE_ROUTER,      ROLE_SHARED_DOWN, ROLE_SHARED_GATE_PROJ,
    ROLE_SHARED_UP,  ROLE_SHARED_GATE, ROLE_DOWN,        ROLE_GATE,
    ROLE_UP,         ROLE_NORM_MLP,    ROLE_K_NORM,      ROLE_K_BIAS,
    ROLE_K,          ROLE_O,           ROLE_Q_NORM,      ROLE_Q_BIAS,
    ROLE_Q,          ROLE_V_BIAS,      ROLE_V,
};

static const enum role after_layers[] = { ROLE_OUT_NORM };
static const enum role before_mtp[] = { ROLE_MTP_FC };
static const enum role after_mtp[] = { ROLE_MTP_OUT_NORM, ROLE_MTP_NORM_EMBED, ROLE_MTP_NORM_HIDDEN };

struct walk {
    const struct model *m;
    int (*fn)(void *user, enum role role, int layer, struct err *e);
    void *user;
};

static int each(const struct walk *w, const enum role *list, size_t n, int layer, struct err *e)
{
    int rc = 0;
    for (size_t i = 0; i < n && !rc; i++)
        if (model_has(&w->m->shape, list[i], layer))
            rc = w->fn(w->user, list[i], layer, e);
    return rc;
}

#define LIST(a) a, sizeof a / sizeof *a

int export_each_role(const struct model *m, int (*fn)(void *user, enum role role, int layer, struct err *e),
                     void *user, struct err *e)
{
    const struct walk w = { m, fn, user };
    int n = m->shape.n_layer;
    int rc = each(&w, LIST(outside), -1, e);
    for (int i = 0; i < n && !rc; i++)
        rc = each(&w, LIST(inside), i, e);
    if (!rc)
        rc = each(&w, LIST(after_layers), -1, e);
    if (rc || !m->shape.n_mtp)
        return rc;
    rc = each(&w, LIST(before_mtp), n, e);
    if (!rc)
        rc = each(&w, LIST(inside), n, e);
    return rc ? rc : each(&w, LIST(after_mtp), n, e);
}

int export_role_dims(const struct model *m, enum role role, bool hf, int64_t dim[4])
{
    int n, i = 0;
    int64_t rows, cols;
    role_dims(&m->shape, role, &n, &rows, &cols);
    bool experts = role == ROLE_EXPERT_GATE || role == ROLE_EXPERT_UP || role == ROLE_EXPERT_DOWN;
    if (experts)
        dim[i++] = n;
    if (rows > 1 || experts || role == ROLE_SHARED_GATE) /* both containers keep the gate's [1, H] */
        dim[i++] = rows;
    if (role == ROLE_DN_CONV && hf)
        dim[i++] = 1;
    dim[i++] = cols;
    return i;
}
