/* cache_dir.c: see cache_dir.h. */
#include "cmd/cache_dir.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int cache_path(char *out, size_t n, const char *name, struct err *e)
{
    const char *base = getenv("XDG_CACHE_HOME"), *home = getenv("HOME"), *below = "";
    if (!base || base[0] != '/') { /* the standard says: relative ones are ignored */
        base = home && *home ? home : NULL;
        below = "/.cache";
    }
    int length = base ? snprintf(out, n, "%s%s/tonne%s%s", base, below, *name ? "/" : "", name) : -1;
    if (length >= 0 && (size_t)length < n)
        return 0;
    err_set(e, ERR_IO,
            base ? "the cache folder's path is too long" : "there is no cache folder: HOME is not set");
    err_hint(e, "name one: XDG_CACHE_HOME=/path tonne ...");
    return ERR_IO;
}

int cache_make_folders(const char *path, struct err *e)
{
    char folder[PATH_MAX];
    if (snprintf(folder, sizeof folder, "%s", path) >= (int)sizeof folder)
        return err_set(e, ERR_IO, "the cache folder's path is too long");
    for (char *p = folder + 1; (p = strchr(p, '/')); p++) {
        *p = '\0';
        if (mkdir(folder, 0777) && errno != EEXIST) {
            err_set(e, ERR_IO, "the folder cannot be created: %s", strerror(errno));
            err_where(e, "%s", folder);
            err_hint(e, "name another cache folder: XDG_CACHE_HOME=/path tonne ...");
            return ERR_IO;
        }
        *p = '/';
    }
    return 0;
}
