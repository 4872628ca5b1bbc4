/*
 * model_files.h: which files a MODEL argument means. Looks at names, the index of shards and nothing else.
 */
#ifndef TONNE_MODEL_MODEL_FILES_H
#define TONNE_MODEL_MODEL_FILES_H

#include "model/model.h"

struct model_files {
    enum model_kind kind;
    char *folder;
    char **path; /* safetensors: every shard; GGUF: one, any part of a split */
    int n_path;
};

/* Fills *f; ended by model_files_close, also after failure. path as for model_open. */
int model_files_find(struct model_files *f, const char *path, struct err *e);
void model_files_close(struct model_files *f);

/* FOLDER/NAME, malloc'ed; NULL without memory. */
char *path_join(const char *folder, const char *name);

#endif
