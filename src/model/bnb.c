/* bnb.c: see bnb.h. */
#include "model/bnb.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"

enum { BLOCK = 64, NESTED_BLOCK = 256, MAX_JSON = 1 << 16, NAME_ROOM = 320 };

static const char marker[] = ".quant_state.bitsandbytes__";

struct quant_states {
    struct quant_state *state;
    int n;
    int *of_tensor; /* [n_tensor] index of the tensor's state, or -1 */
};

/* One state being read. */
struct reading {
    const struct tensor_dir *dir;
    const struct tensor *json_tensor, *weight;
    char base[NAME_ROOM]; /* the weight's name */
    struct quant_state *out;
    struct err *e;
};

static int bad(const struct reading *r, const char *why)
{
    err_set(r->e, ERR_FORMAT, "the 4-bit tensor %.200s cannot be read: %s", r->base, why);
    err_where(r->e, "tensor %s", r->json_tensor->name);
    err_hint(r->e, "use a checkpoint that bitsandbytes saved with its defaults, or the original release");
    return ERR_FORMAT;
}

static const struct tensor *part(const struct reading *r, const char *suffix)
{
    char name[NAME_ROOM + 32];
    strcpy(name, r->base);
    strcat(name, suffix);
    return tensor_dir_find(r->dir, name);
}

static bool has(const struct tensor *t, enum qtype type, int64_t elements)
{
    return t && t->type == type && tensor_elements(t) == elements;
}

static int read_dims(const struct reading *r, const json_t *json)
{
    struct quant_state *s = r->out;
    const json_t *shape = json_object_get(json, "shape");
    size_t n = json_array_size(shape);
    if (n < 1 || n > 3)
        return bad(r, "its \"shape\" does not have one to three dimensions");
    s->n_dims = (int)n;
    for (size_t i = 0; i < n; i++) {
        const json_t *v = json_array_get(shape, i);
        s->dim[i] = json_is_integer(v) ? json_integer_value(v) : 0;
        if (s->dim[i] < 1 || s->dim[i] > 1 << 30)
            return bad(r, "its \"shape\" holds something other than sizes");
    }
    int64_t one;
    int rc = json_get_int(json, "matrices", 1, 1 << 30, 1, &one, r->e);
    s->n_matrices = one;
    return rc;
}

/* Sizes of codes and absmax against the shape. */
static int check_sizes(const struct reading *r)
{
    struct quant_state *s = r->out;
    int64_t elements = 1, cols = s->dim[s->n_dims - 1];
    for (int i = 0; i < s->n_dims; i++)
        if (__builtin_mul_overflow(elements, s->dim[i], &elements) || elements > INT64_MAX / 2)
            return bad(r, "its \"shape\" is too large");
    if (s->n_matrices > 1 && (elements / cols % s->n_matrices || cols % BLOCK))
        return bad(r, "its matrices do not divide the tensor into whole blocks");
    if (r->weight->bytes != (uint64_t)((elements + 1) / 2))
        return bad(r, "its codes do not have the size that \"shape\" asks for");
    s->blocks = (elements / s->n_matrices + BLOCK - 1) / BLOCK;
    s->absmax = part(r, ".absmax");
    s->quant_map = part(r, ".quant_map");
    bool nested = s->type == QTYPE_NF4_DQ || s->type == QTYPE_FP4_DQ;
    if (!has(s->absmax, nested ? QTYPE_U8 : QTYPE_F32, s->blocks * s->n_matrices))
        return bad(r, "\".absmax\" is missing or has another type or size");
    if (!has(s->quant_map, QTYPE_F32, 16))
        return bad(r, "\".quant_map\" is missing or is not 16 floats");
    return 0;
}

static int read_nested(const struct reading *r, const json_t *json)
{
    struct quant_state *s = r->out;
    int64_t groups = (s->blocks + NESTED_BLOCK - 1) / NESTED_BLOCK;
    s->nested_absmax = part(r, ".nested_absmax");
    s->nested_map = part(r, ".nested_quant_map");
    if (!has(s->nested_absmax, QTYPE_F32, groups * s->n_matrices))
        return bad(r, "\".nested_absmax\" is missing or has another type or size");
    if (!has(s->nested_map, QTYPE_F32, 256))
        return bad(r, "\".nested_quant_map\" is missing or is not 256 floats");
    int64_t block;
    double offset;
    int rc = json_get_int(json, "nested_blocksize", INT64_MIN, INT64_MAX, NESTED_BLOCK, &block, r->e);
    if (rc)
        return rc;
    if (block != NESTED_BLOCK || strcmp(json_get_str(json, "nested_dtype", "float32"), "float32"))
        return bad(r, "only nested blocks of 256 in float32 are known");
    s->nested_offset_tensor = part(r, ".nested_offset");
    if (s->nested_offset_tensor)
        return has(s->nested_offset_tensor, QTYPE_F32, s->n_matrices)
                   ? 0
                   : bad(r, "\".nested_offset\" has another size");
    rc = json_get_real(json, "nested_offset", NAN, &offset, r->e);
    s->nested_offset = (float)offset;
    return rc                                                 ? rc
           : isfinite(s->nested_offset) && s->n_matrices == 1 ? 0
                                                              : bad(r, "\"nested_offset\" is missing");
}

static int read_fields(const struct reading *r, const json_t *json)
{
    struct quant_state *s = r->out;
    const char *suffix = strstr(r->json_tensor->name, marker) + strlen(marker);
    bool nf4 = !strcmp(suffix, "nf4"), nested = part(r, ".nested_absmax") != NULL;
    if ((!nf4 && strcmp(suffix, "fp4")) || strcmp(json_get_str(json, "quant_type", suffix), suffix))
        return bad(r, "\"quant_type\" is neither nf4 nor fp4, or contradicts the name");
    int64_t block;
    int rc = json_get_int(json, "blocksize", INT64_MIN, INT64_MAX, 0, &block, r->e);
    if (rc)
        return rc;
    if (block != BLOCK)
        return bad(r, "only blocks of 64 weights are known (\"blocksize\")");
    s->type = nf4 ? (nested ? QTYPE_NF4_DQ : QTYPE_NF4) : (nested ? QTYPE_FP4_DQ : QTYPE_FP4);
    rc = read_dims(r, json);
    if (!rc)
        rc = check_sizes(r);
    return rc || !nested ? rc : read_nested(r, json);
}

static int read_state(const struct reading *r)
{
    const struct tensor *t = r->json_tensor;
    char text[1 << 12], *big = NULL;
    if (t->type != QTYPE_U8 || t->bytes > MAX_JSON)
        return bad(r, "its quant_state is not a short JSON text");
    char *at = t->bytes <= sizeof text ? text : (big = malloc(t->bytes));
    if (!at)
        return err_set(r->e, ERR_MEMORY, "no memory for a quant_state of %llu bytes",
                       (unsigned long long)t->bytes);
    json_t *json = NULL;
    int rc = tensor_read(r->dir, t, 0, at, t->bytes, r->e);
    if (!rc)
        rc = json_parse(at, t->bytes, &json, r->e);
    if (!rc)
        rc = read_fields(r, json);
    else if (rc == ERR_FORMAT)
        rc = bad(r, "its quant_state is not valid JSON");
    json_decref(json);
    free(big);
    return rc;
}

static int add_state(struct quant_states *q, const struct tensor_dir *d, const struct tensor *t,
                     struct err *e)
{
    struct quant_state *s = &q->state[q->n];
    struct reading r = { .dir = d, .json_tensor = t, .out = s, .e = e };
    size_t n = (size_t)(strstr(t->name, marker) - t->name);
    if (n >= NAME_ROOM)
        return err_set(e, ERR_FORMAT, "a tensor name is longer than %d bytes", NAME_ROOM - 1);
    memcpy(r.base, t->name, n);
    r.base[n] = '\0';
    r.weight = tensor_dir_find(d, r.base);
    if (!r.weight)
        return bad(&r, "its codes are missing");
    int *slot = &q->of_tensor[r.weight - d->tensor];
    if (*slot >= 0)
        return bad(&r, "it has two quant_states");
    *slot = q->n++;
    return read_state(&r);
}

int quant_states_open(struct quant_states **out, const struct tensor_dir *d, struct err *e)
{
    int n = 0;
    for (int i = 0; i < d->n_tensor; i++)
        n += strstr(d->tensor[i].name, marker) != NULL;
    *out = NULL;
    if (n == 0)
        return 0;
    struct quant_states *q = calloc(1, sizeof *q);
    if (!q)
        return err_set(e, ERR_MEMORY, "no memory for the 4-bit tensors' parameters");
    q->state = calloc((size_t)n, sizeof *q->state);
    q->of_tensor = malloc((size_t)d->n_tensor * sizeof *q->of_tensor);
    int rc = q->state && q->of_tensor ? 0 : err_set(e, ERR_MEMORY, "no memory for %d 4-bit tensors", n);
    for (int i = 0; i < d->n_tensor && !rc; i++)
        q->of_tensor[i] = -1;
    for (int i = 0; i < d->n_tensor && !rc; i++)
        if (strstr(d->tensor[i].name, marker))
            rc = add_state(q, d, &d->tensor[i], e);
    if (rc)
        quant_states_close(&q);
    *out = q;
    return rc;
}

void quant_states_close(struct quant_states **qp)
{
    struct quant_states *q = *qp;
    *qp = NULL;
    if (!q)
        return;
    free(q->state);
    free(q->of_tensor);
    free(q);
}

const struct quant_state *quant_state_of(const struct quant_states *q, const struct tensor_dir *d,
                                         const struct tensor *t)
{
    int i = q ? q->of_tensor[t - d->tensor] : -1;
    return i < 0 ? NULL : &q->state[i];
}
