/*
 * expert_files.h: files full of numbers that stand for experts: each has three matrices of random places and
 * lengths in two files, the last one up to a file's end.
 */
#ifndef TONNE_TESTS_EXPERT_FILES_H
#define TONNE_TESTS_EXPERT_FILES_H

#include "load/expert_source.h"

struct expert_files {
    char *folder;
    struct expert_source source;
    struct expert_file file[2];
    unsigned char *bytes[2]; /* what is in them */
    struct expert_layout *layout;
    struct expert_place *place;
    char path[2][128];
};

void expert_files_make(struct expert_files *f, int n_layer, int n_expert);
void expert_files_end(struct expert_files *f);
/* Whether a slot holds this expert. */
bool expert_files_match(const struct expert_files *f, int layer, int expert, const void *slot);

#endif
