/*
 * gguf.h: GGUF v2/v3 files, single or split (PREFIX-00001-of-000NN.gguf): metadata and tensor directory, and
 * the writer. Format: ggml docs/gguf.md.
 */
#ifndef TONNE_MODEL_GGUF_H
#define TONNE_MODEL_GGUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "model/tensor_dir.h"

enum gguf_type {
    GGUF_U8,
    GGUF_I8,
    GGUF_U16,
    GGUF_I16,
    GGUF_U32,
    GGUF_I32,
    GGUF_F32,
    GGUF_BOOL,
    GGUF_STRING,
    GGUF_ARRAY,
    GGUF_U64,
    GGUF_I64,
    GGUF_F64
};

struct gguf_string {
    const char *data; /* not terminated; may hold any byte */
    size_t len;
};

struct gguf_value {
    enum gguf_type type; /* GGUF_ARRAY: of elem_type, count elements */
    enum gguf_type elem_type;
    uint64_t count; /* 1 for scalars */
    union {
        uint64_t u; /* all unsigned integers and bool */
        int64_t i;  /* all signed integers */
        double f;   /* f32, f64 */
        struct gguf_string s;
    };
    const void *array; /* packed little-endian elements, possibly unaligned; strings: struct gguf_string[] */
};

struct gguf_pair {
    struct gguf_string key;
    struct gguf_value value;
};

struct gguf_meta { /* of the first part; owns everything its values point to */
    struct gguf_pair *pair;
    int n_pair;
    uint32_t version, alignment;
    int n_split; /* parts found; 1 for a single file */
    void *private_data;
};

/* Opens path and, when it is part of a split, all its parts (any part may be named). Gives both. */
int gguf_open(struct gguf_meta **meta, struct tensor_dir **dir, const char *path, struct err *e);
void gguf_meta_close(struct gguf_meta **m);

/* The value, or NULL. Keys are unique. */
const struct gguf_value *gguf_find(const struct gguf_meta *m, const char *key);

/* Reads by value whatever integer or float width the file used; a missing key gives the fallback; a wrong
 * kind or a value outside [min, max] is ERR_FORMAT. */
int gguf_get_int(const struct gguf_meta *m, const char *key, int64_t min, int64_t max, int64_t fallback,
                 int64_t *out, struct err *e);
int gguf_get_real(const struct gguf_meta *m, const char *key, double fallback, double *out, struct err *e);
int gguf_get_bool(const struct gguf_meta *m, const char *key, bool fallback, bool *out, struct err *e);
/* A string, borrowed; {NULL, 0} when missing or not a string. */
struct gguf_string gguf_get_str(const struct gguf_meta *m, const char *key);
/* Element i of an integer or bool array (or the scalar itself, for any i). false: missing, not integers,
 * short. */
bool gguf_array_int(const struct gguf_value *v, uint64_t i, int64_t *out);

/* ---- writing ---- */

struct gguf_writer; /* collects keys and tensor headers, then takes tensor data in any order */

int gguf_writer_open(struct gguf_writer **out, const char *path, struct err *e);
/* Keys, in the order they shall have. Values are copied. Memory failures are remembered and reported by
 * _begin. */
void gguf_write_u32(struct gguf_writer *w, const char *key, uint32_t v);
void gguf_write_f32(struct gguf_writer *w, const char *key, float v);
void gguf_write_bool(struct gguf_writer *w, const char *key, bool v);
void gguf_write_str(struct gguf_writer *w, const char *key, const char *s, size_t len);
void gguf_write_array(struct gguf_writer *w, const char *key, enum gguf_type elem, const void *elems,
                      uint64_t count);
void gguf_write_strings(struct gguf_writer *w, const char *key, const struct gguf_string *s, uint64_t count);
void gguf_write_value(struct gguf_writer *w, const char *key,
                      const struct gguf_value *v); /* copies another file's */
/* Announces a tensor; dim is row-major as in struct tensor. The first one is tensor 0. */
void gguf_write_tensor(struct gguf_writer *w, const char *name, enum qtype type, const int64_t *dim,
                       int n_dims);
/* Writes the header. */
int gguf_writer_begin(struct gguf_writer *w, struct err *e);
/* Writes n bytes of a tensor from byte `offset` on; every byte exactly once, in any order, from any thread.
 */
int gguf_writer_put(struct gguf_writer *w, int tensor, uint64_t offset, const void *data, size_t n,
                    struct err *e);
/* Checks that every tensor is complete, renames to the final name. *w = NULL also on failure (nothing left).
 */
int gguf_writer_commit(struct gguf_writer **w, struct err *e);
void gguf_writer_abort(struct gguf_writer **w);

#endif
