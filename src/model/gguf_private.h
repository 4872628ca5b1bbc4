/* gguf_private.h: what the parts of the GGUF reader share: header walk (gguf.c), keys (gguf_keys.c), tensor
 * types (gguf_types.c), split files (gguf_split.c). */
#ifndef TONNE_MODEL_GGUF_PRIVATE_H
#define TONNE_MODEL_GGUF_PRIVATE_H

#include "model/gguf.h"
#include "model/tensor_build.h"

enum { GGUF_MAX_HEADER = 1 << 28 }; /* the largest vocabularies take some 16 MiB */

/* Bytes of one scalar of the type; 0 for strings and arrays. */
int gguf_type_bytes(enum gguf_type t);
/* Fills v's u, i or f from one packed little-endian scalar of the type; v's other fields stay. */
void gguf_decode_scalar(struct gguf_value *v, enum gguf_type type, const void *bytes);

/* Room for n pairs; NULL without memory. */
struct gguf_meta *gguf_meta_new(uint64_t n);
/* m takes the malloc'ed window that its values point into. */
void gguf_meta_own(struct gguf_meta *m, char *window);
/* Sorts the keys for lookup; a key in use twice is ERR_FORMAT. */
int gguf_index_keys(struct gguf_meta *m, struct err *e);
/* Turns packed string arrays into struct gguf_string[], owned by m. */
int gguf_unpack_strings(struct gguf_meta *m, struct err *e);

/* Sets type and bytes of *t (dims known) for a ggml type id; ERR_FORMAT when the row is no whole number of
 * blocks or the size overflows. Types without a known layout get QTYPE_NONE and gguf_size_unknown. */
int gguf_tensor_type(struct tensor *t, uint32_t ggml_id, struct err *e);
bool gguf_size_unknown(const struct tensor *t);
/* "Q4_K", "IQ4_KS of ik_llama.cpp", "ggml type 77"; number is used for the last. */
const char *gguf_ggml_name(uint32_t ggml_id, char *number, size_t room);

#endif
