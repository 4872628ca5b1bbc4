/* json.c: see json.h. */
#include "base/json.h"

#include <math.h>
#include <stdlib.h>

#include "base/file.h"

enum { MAX_DEPTH = 64 };

/* jansson limits depth only at its own compile-time value (2048), which is deep for a parser's stack user
 * later on: check ours before parsing. Strings are skipped so that braces inside them do not count. */
static bool too_deep(const char *s, size_t n)
{
    int depth = 0;
    bool in_string = false;
    for (size_t i = 0; i < n; i++) {
        char c = s[i];
        if (in_string) {
            if (c == '\\')
                i++;
            else if (c == '"')
                in_string = false;
        } else if (c == '"') {
            in_string = true;
        } else if ((c == '{' || c == '[') && ++depth > MAX_DEPTH) {
            return true;
        } else if (c == '}' || c == ']') {
            depth--;
        }
    }
    return false;
}

int json_parse(const char *text, size_t n, json_t **out, struct err *e)
{
    if (too_deep(text, n))
        return err_set(e, ERR_FORMAT, "the JSON text is nested more than %d levels deep", MAX_DEPTH);
    json_error_t why;
    json_t *root = json_loadb(text, n, JSON_REJECT_DUPLICATES, &why);
    if (!root)
        return err_set(e, ERR_FORMAT, "the JSON text is invalid: %.120s (line %d, column %d)", why.text,
                       why.line, why.column);
    if (!json_is_object(root)) {
        json_decref(root);
        return err_set(e, ERR_FORMAT, "the JSON text is not an object");
    }
    *out = root;
    return 0;
}

int json_load_path(const char *path, size_t max_bytes, json_t **out, struct err *e)
{
    char *text;
    size_t n;
    int rc = file_slurp(path, max_bytes, &text, &n, e);
    if (rc)
        return rc;
    rc = json_parse(text, n, out, e);
    free(text);
    if (rc)
        err_where(e, "%s", path);
    return rc;
}

int json_get_int(const json_t *obj, const char *key, int64_t min, int64_t max, int64_t fallback, int64_t *out,
                 struct err *e)
{
    const json_t *v = json_object_get(obj, key);
    *out = fallback;
    if (!v || json_is_null(v))
        return 0;
    if (!json_is_integer(v))
        return err_set(e, ERR_FORMAT, "%s is not an integer", key);
    json_int_t i = json_integer_value(v);
    if (i < min || i > max)
        return err_set(e, ERR_FORMAT, "%s is %lld, outside %lld..%lld", key, (long long)i, (long long)min,
                       (long long)max);
    *out = i;
    return 0;
}

int json_get_real(const json_t *obj, const char *key, double fallback, double *out, struct err *e)
{
    const json_t *v = json_object_get(obj, key);
    *out = fallback;
    if (!v || json_is_null(v))
        return 0;
    if (!json_is_number(v) || !isfinite(json_number_value(v)))
        return err_set(e, ERR_FORMAT, "%s is not a number", key);
    *out = json_number_value(v);
    return 0;
}

int json_get_bool(const json_t *obj, const char *key, bool fallback, bool *out, struct err *e)
{
    const json_t *v = json_object_get(obj, key);
    *out = fallback;
    if (!v || json_is_null(v))
        return 0;
    if (!json_is_boolean(v))
        return err_set(e, ERR_FORMAT, "%s is not true or false", key);
    *out = json_is_true(v);
    return 0;
}

const char *json_get_str(const json_t *obj, const char *key, const char *fallback)
{
    const char *s = json_string_value(json_object_get(obj, key));
    return s ? s : fallback;
}
