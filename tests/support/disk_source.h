/*
 * disk_source.h: experts of a checkpoint as they lie in its files, for tests of reading them from disk: only
 * where the stored bytes are what the weights in memory are.
 */
#ifndef TONNE_TESTS_DISK_SOURCE_H
#define TONNE_TESTS_DISK_SOURCE_H

#include "load/weights.h"
#include "model/model.h"

struct disk_weights {
    struct weights weights; /* as those it was made from, but moe.expert is NULL and disk set */
    struct expert_source source;
    uint64_t bytes; /* of all experts */
    /* private */
    struct expert_file *file;
    struct expert_layout *layout;
    struct expert_place *place;
};

/* in_memory and m are borrowed. Fails the program when a format cannot be used in place. */
void disk_weights_open(struct disk_weights *d, const struct weights *in_memory, const struct model *m);
void disk_weights_close(struct disk_weights *d);

#endif
