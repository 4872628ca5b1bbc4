/* cache_dir.h: where tonne keeps what it can compute again: $XDG_CACHE_HOME/tonne or ~/.cache/tonne. */
#ifndef TONNE_CMD_CACHE_DIR_H
#define TONNE_CMD_CACHE_DIR_H

#include <stddef.h>

#include "base/err.h"

/* Writes the path of `name` ("machine.json"; "": the folder itself) into out[0..n). Nothing is created.
 * ERR_IO when there is neither variable. */
int cache_path(char *out, size_t n, const char *name, struct err *e);
/* Creates the folders that path lies in. ERR_IO with the folder that could not be made. */
int cache_make_folders(const char *path, struct err *e);

#endif
