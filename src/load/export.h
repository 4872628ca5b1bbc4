/*
 * export.h: writes a model in another format: `tonne quantize`. GGUF for llama.cpp's types, a directory of
 * safetensors in the bitsandbytes layout for NF4 and FP4 (doc/formats.md).
 */
#ifndef TONNE_LOAD_EXPORT_H
#define TONNE_LOAD_EXPORT_H

#include "base/log.h"
#include "base/threads.h"
#include "model/model.h"
#include "quant/qtype.h"

struct export_options {
    enum mix mix;            /* no default */
    struct threads *threads; /* borrowed; no default */
    uint64_t shard_bytes;    /* safetensors: most data per file; 0: 5 GB */
    progress_fn progress;    /* may be NULL */
    void *progress_user;
};

/* True when the mix is written as a folder of safetensors, false when as one GGUF file. */
bool export_is_folder(enum mix mix);

/* Writes m to `out`, which appears only when it is complete. Memory: some panels per thread and the scale
 * plane of one matrix each, whatever the model's size. */
int export_gguf(const struct model *m, const char *out, const struct export_options *opt, struct err *e);
int export_safetensors(const struct model *m, const char *out, const struct export_options *opt,
                       struct err *e);

#endif
