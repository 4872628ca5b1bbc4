/*
 * gguf_keys.c: metadata of a GGUF file: storage, lookup, and reading by value. Files store the same key in
 * different widths, so callers ask for "an integer in this range", never for a u32.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "model/gguf_private.h"

struct storage {  /* gguf_meta.private_data */
    char *window; /* the header's bytes */
    int *by_key;  /* [n_pair] pairs in order of their keys */
    struct gguf_string **list;
    size_t n_list;
};

struct gguf_meta *gguf_meta_new(uint64_t n)
{
    struct gguf_meta *m = calloc(1, sizeof *m);
    struct storage *s = calloc(1, sizeof *s);
    if (m && s) {
        m->private_data = s;
        m->pair = calloc(n + 1, sizeof *m->pair);
        s->by_key = calloc(n + 1, sizeof *s->by_key);
        s->list = calloc(n + 1, sizeof *s->list);
        if (m->pair && s->by_key && s->list)
            return m;
        gguf_meta_close(&m);
        return NULL;
    }
    free(m);
    free(s);
    return NULL;
}

void gguf_meta_own(struct gguf_meta *m, char *window)
{
    struct storage *s = m->private_data;
    s->window = window;
}

void gguf_meta_close(struct gguf_meta **mp)
{
    struct gguf_meta *m = *mp;
    *mp = NULL;
    if (!m)
        return;
    struct storage *s = m->private_data;
    for (size_t i = 0; i < s->n_list; i++)
        free(s->list[i]);
    free(s->list);
    free(s->by_key);
    free(s->window);
    free(s);
    free(m->pair);
    free(m);
}

static int compare(const char *a, size_t a_len, const char *b, size_t b_len)
{
    int order = memcmp(a, b, a_len < b_len ? a_len : b_len);
    return order ? order : (a_len > b_len) - (a_len < b_len);
}

static int by_key(const void *pa, const void *pb, void *user)
{
    const struct gguf_pair *pair = user;
    const struct gguf_string *a = &pair[*(const int *)pa].key, *b = &pair[*(const int *)pb].key;
    return compare(a->data, a->len, b->data, b->len);
}

int gguf_index_keys(struct gguf_meta *m, struct err *e)
{
    struct storage *s = m->private_data;
    for (int i = 0; i < m->n_pair; i++)
        s->by_key[i] = i;
    qsort_r(s->by_key, (size_t)m->n_pair, sizeof *s->by_key, by_key, m->pair);
    for (int i = 1; i < m->n_pair; i++)
        if (!by_key(&s->by_key[i - 1], &s->by_key[i], m->pair)) {
            const struct gguf_string *key = &m->pair[s->by_key[i]].key;
            return tensor_file_broken(e, "the key \"%.*s\" is there twice",
                                      key->len < 80 ? (int)key->len : 80, key->data);
        }
    return 0;
}

int gguf_unpack_strings(struct gguf_meta *m, struct err *e)
{
    struct storage *s = m->private_data;
    for (int i = 0; i < m->n_pair; i++) {
        struct gguf_value *v = &m->pair[i].value;
        if (v->type != GGUF_ARRAY || v->elem_type != GGUF_STRING)
            continue;
        struct gguf_string *list = malloc((v->count + 1) * sizeof *list);
        if (!list)
            return err_set(e, ERR_MEMORY, "no memory for %llu strings", (unsigned long long)v->count);
        s->list[s->n_list++] = list;
        const char *at = v->array;
        for (uint64_t k = 0; k < v->count; k++) { /* lengths were checked when the header was walked */
            struct gguf_value len;
            gguf_decode_scalar(&len, GGUF_U64, at);
            list[k] = (struct gguf_string){ at + 8, (size_t)len.u };
            at += 8 + len.u;
        }
        v->array = list;
    }
    return 0;
}

/* ---- reading ---- */

const struct gguf_value *gguf_find(const struct gguf_meta *m, const char *key)
{
    const struct storage *s = m->private_data;
    size_t n = strlen(key);
    int low = 0, high = m->n_pair;
    while (low < high) {
        int mid = low + (high - low) / 2;
        const struct gguf_pair *p = &m->pair[s->by_key[mid]];
        int order = compare(key, n, p->key.data, p->key.len);
        if (order == 0)
            return &p->value;
        if (order < 0)
            high = mid;
        else
            low = mid + 1;
    }
    return NULL;
}

/* The integer of a scalar; false when it is no integer or does not fit int64_t. */
static bool scalar_int(enum gguf_type type, const struct gguf_value *v, int64_t *out)
{
    switch (type) {
    case GGUF_I8:
    case GGUF_I16:
    case GGUF_I32:
    case GGUF_I64:
        *out = v->i;
        return true;
    case GGUF_U8:
    case GGUF_U16:
    case GGUF_U32:
    case GGUF_U64:
        *out = (int64_t)v->u;
        return v->u <= INT64_MAX;
    default:
        return false;
    }
}

int gguf_get_int(const struct gguf_meta *m, const char *key, int64_t min, int64_t max, int64_t fallback,
                 int64_t *out, struct err *e)
{
    const struct gguf_value *v = gguf_find(m, key);
    int64_t i;
    *out = fallback;
    if (!v)
        return 0;
    if (!scalar_int(v->type, v, &i))
        return err_set(e, ERR_FORMAT, "%s is not an integer", key);
    if (i < min || i > max)
        return err_set(e, ERR_FORMAT, "%s is %lld, outside %lld..%lld", key, (long long)i, (long long)min,
                       (long long)max);
    *out = i;
    return 0;
}

int gguf_get_real(const struct gguf_meta *m, const char *key, double fallback, double *out, struct err *e)
{
    const struct gguf_value *v = gguf_find(m, key);
    int64_t i;
    *out = fallback;
    if (!v)
        return 0;
    if ((v->type == GGUF_F32 || v->type == GGUF_F64) && isfinite(v->f))
        *out = v->f;
    else if (scalar_int(v->type, v, &i))
        *out = (double)i;
    else
        return err_set(e, ERR_FORMAT, "%s is not a number", key);
    return 0;
}

int gguf_get_bool(const struct gguf_meta *m, const char *key, bool fallback, bool *out, struct err *e)
{
    const struct gguf_value *v = gguf_find(m, key);
    *out = fallback;
    if (!v)
        return 0;
    if (v->type != GGUF_BOOL)
        return err_set(e, ERR_FORMAT, "%s is not true or false", key);
    *out = v->u;
    return 0;
}

struct gguf_string gguf_get_str(const struct gguf_meta *m, const char *key)
{
    const struct gguf_value *v = gguf_find(m, key);
    return v && v->type == GGUF_STRING ? v->s : (struct gguf_string){ NULL, 0 };
}

bool gguf_array_int(const struct gguf_value *v, uint64_t i, int64_t *out)
{
    struct gguf_value one = { 0 };
    if (!v)
        return false;
    enum gguf_type type = v->type == GGUF_ARRAY ? v->elem_type : v->type;
    if (v->type != GGUF_ARRAY) {
        one = *v;
    } else {
        int bytes = gguf_type_bytes(type);
        if (i >= v->count || !bytes)
            return false;
        gguf_decode_scalar(&one, type, (const char *)v->array + i * (uint64_t)bytes);
    }
    if (type == GGUF_BOOL) {
        *out = (int64_t)one.u;
        return true;
    }
    return scalar_int(type, &one, out);
}
