/*
 * corpus_main.c: main() of a fuzz target built without libFuzzer: runs it on every file of the folder named
 * as the only argument. That makes the corpus a plain test: a crash, a leak or a sanitizer's finding fails
 * it.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz/target.h"

static int run_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    if (!f)
        return -1;
    size_t n = 0, room = 1 << 16;
    uint8_t *data = malloc(room);
    while (data) {
        size_t got = fread(data + n, 1, room - n, f);
        n += got;
        if (n < room)
            break;
        uint8_t *more = realloc(data, room *= 2);
        if (!more)
            free(data);
        data = more;
    }
    fclose(f);
    if (!data)
        return -1;
    LLVMFuzzerTestOneInput(data, n);
    free(data);
    return 0;
}

int main(int argc, char **argv)
{
    DIR *d = argc == 2 ? opendir(argv[1]) : NULL;
    if (!d) {
        fprintf(stderr, "usage: %s FOLDER\n", argv[0]);
        return 2;
    }
    int n_run = 0, n_failed = 0;
    for (struct dirent *entry; (entry = readdir(d));) {
        char path[4096];
        if (entry->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "%s/%s", argv[1], entry->d_name);
        if (run_file(path)) {
            fprintf(stderr, "%s: cannot be read\n", path);
            n_failed++;
        }
        n_run++;
    }
    closedir(d);
    printf("%d inputs\n", n_run);
    return n_failed > 0 || n_run == 0;
}
