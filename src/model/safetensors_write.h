/*
 * safetensors_write.h: writes a checkpoint as safetensors shards with their index. Like the GGUF writer:
 * announce all tensors, begin, put their data in any order, commit.
 */
#ifndef TONNE_MODEL_SAFETENSORS_WRITE_H
#define TONNE_MODEL_SAFETENSORS_WRITE_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct safetensors_writer;

/* Files go to folder (which exists): model-0000x-of-0000n.safetensors with at most shard_bytes of data each
 * (a larger tensor gets a shard of its own), and model.safetensors.index.json. Gives *out. */
int safetensors_writer_open(struct safetensors_writer **out, const char *folder, uint64_t shard_bytes,
                            struct err *e);
/* Announces a tensor of a plain dtype ("U8", "F32", "BF16", ...) and gives its number for _put, from 0 on.
 * Names are unique. Failures are remembered and reported by _begin. */
int safetensors_write_tensor(struct safetensors_writer *w, const char *name, const char *dtype,
                             const int64_t *dim, int n_dims);
/* Bytes of a tensor announced. */
uint64_t safetensors_writer_bytes(const struct safetensors_writer *w, int tensor);
/* Distributes the tensors over shards and writes the headers. */
int safetensors_writer_begin(struct safetensors_writer *w, struct err *e);
/* Writes n bytes of a tensor from byte `offset` on; every byte exactly once, in any order, from any thread.
 */
int safetensors_writer_put(struct safetensors_writer *w, int tensor, uint64_t offset, const void *data,
                           size_t n, struct err *e);
/* Checks that every tensor is complete, gives the files their names, the index last. *w = NULL in any case.
 */
int safetensors_writer_commit(struct safetensors_writer **w, struct err *e);
void safetensors_writer_abort(struct safetensors_writer **w);

#endif
