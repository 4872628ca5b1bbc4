/*
 * tiny_files.h: writes small safetensors and GGUF files, byte by byte and without the library's own writer,
 * for tests of what reads them. Failures to write end the program: nothing could be tested.
 */
#ifndef TONNE_TESTS_TINY_FILES_H
#define TONNE_TESTS_TINY_FILES_H

#include <stddef.h>
#include <stdint.h>

#include "quant/qtype.h"

struct tiny; /* tensors and GGUF keys of a file to be written */

struct tiny *tiny_new(void);
void tiny_free(struct tiny **t);

/* Tensors added from now on have no data: in a safetensors file they are a hole, which reads as zeros and
 * takes no room on the disk, however large. */
void tiny_holes(struct tiny *t);

/* Adds a tensor; dim is row-major, n_dims 0 a scalar. Its data is random but small where the type has
 * numbers, the same for the same name. Takes block formats too (GGUF only). */
void tiny_add(struct tiny *t, const char *name, enum qtype type, int n_dims, const int64_t *dim);
void tiny_add1(struct tiny *t, const char *name, enum qtype type, int64_t a);
void tiny_add2(struct tiny *t, const char *name, enum qtype type, int64_t a, int64_t b);
void tiny_add3(struct tiny *t, const char *name, enum qtype type, int64_t a, int64_t b, int64_t c);
/* Adds a U8 vector with this content. */
void tiny_add_text(struct tiny *t, const char *name, const char *text);
/* Takes a tensor out again, or gives it another name. The name must exist. */
void tiny_drop(struct tiny *t, const char *name);
void tiny_rename(struct tiny *t, const char *name, const char *new_name);

/* Keys, for GGUF; a key that exists is replaced. */
void tiny_key_u32(struct tiny *t, const char *key, uint32_t v);
void tiny_key_f32(struct tiny *t, const char *key, float v);
void tiny_key_str(struct tiny *t, const char *key, const char *v);
void tiny_key_u32s(struct tiny *t, const char *key, const uint32_t *v, int n);
void tiny_key_bools(struct tiny *t, const char *key, const uint8_t *v, int n);
void tiny_key_drop(struct tiny *t, const char *key);

void tiny_write_safetensors(const struct tiny *t, const char *folder, const char *name);
void tiny_write_gguf(const struct tiny *t, const char *folder, const char *name);
void tiny_write_text(const char *folder, const char *name, const char *text);

/* A new directory under /tmp, malloc'ed; tiny_folder_end removes it with its files and frees the name. */
char *tiny_folder(void);
void tiny_unlink(const char *folder, const char *name);
void tiny_folder_end(char **folder);

#endif
