/* export_folder.h: the folder of a safetensors export: it appears when it is complete, with all small files.
 */
#ifndef TONNE_LOAD_EXPORT_FOLDER_H
#define TONNE_LOAD_EXPORT_FOLDER_H

#include "base/json.h"
#include "model/model.h"
#include "quant/qtype.h"

struct export_folder;

/* Makes "OUT.tmp-PID" beside out. ERR_USAGE when out exists and is anything but an empty folder. Gives *f. */
int export_folder_open(struct export_folder **f, const char *out, struct err *e);
const char *export_folder_path(const struct export_folder *f);
/* Renames to the final name. *f = NULL also on failure, when nothing is left behind. */
int export_folder_commit(struct export_folder **f, struct err *e);
void export_folder_abort(struct export_folder **f); /* NULL is fine */

/* Writes config.json (with quantization_config; skipped: array of module names that stay plain) and the
 * tokenizer's and generation's files: copies, or made from the keys of a GGUF. */
int export_side_files(const struct model *m, const char *folder, enum mix mix, const json_t *skipped,
                      struct err *e);

/* Writes text to folder/name. */
int export_write_text(const char *folder, const char *name, const char *text, size_t n, struct err *e);
/* ... a JSON value, whose reference it takes. */
int export_write_json(const char *folder, const char *name, json_t *value, struct err *e);

/* export_hf.c: config.json (gives *config), and the other files, from a GGUF's keys. */
int export_config_from_gguf(const struct model *m, json_t **config, struct err *e);
int export_tokenizer_from_gguf(const struct model *m, const char *folder, struct err *e);

#endif
