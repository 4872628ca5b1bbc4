/* json.h: jansson with limits and our errors. */
#ifndef TONNE_BASE_JSON_H
#define TONNE_BASE_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* Parses text[0..n): one object, duplicate keys refused, at most 64 levels deep. Gives *out (json_decref).
 * ERR_FORMAT names line and column. */
int json_parse(const char *text, size_t n, json_t **out, struct err *e);

/* Reads a file of at most max_bytes and parses it; where = path. */
int json_load_path(const char *path, size_t max_bytes, json_t **out, struct err *e);

/* Typed reads of obj[key]; a missing or null key gives the fallback. ERR_FORMAT when the type is wrong or the
 * value lies outside [min, max]. obj may be NULL (everything missing). */
int json_get_int(const json_t *obj, const char *key, int64_t min, int64_t max, int64_t fallback, int64_t *out,
                 struct err *e);
int json_get_real(const json_t *obj, const char *key, double fallback, double *out, struct err *e);
int json_get_bool(const json_t *obj, const char *key, bool fallback, bool *out, struct err *e);
/* The string, borrowed from obj, or fallback when missing or not a string. */
const char *json_get_str(const json_t *obj, const char *key, const char *fallback);

#endif
