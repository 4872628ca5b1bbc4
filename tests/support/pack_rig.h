/*
 * pack_rig.h: a model of a few kilobytes with a made-up list of finished weights, for tests of packed files.
 */
#ifndef TONNE_TESTS_PACK_RIG_H
#define TONNE_TESTS_PACK_RIG_H

#include "load/packed.h"

enum { PACK_ITEMS = 15, PACK_BIG = 1 }; /* item PACK_BIG has 36 pieces with its plane */

struct pack_rig {
    char *model_folder, *folder; /* folder: of the packs */
    struct model *m;
    struct packed_item item[PACK_ITEMS];
    uint64_t file_bytes;
    struct packed_key key;
    struct packed_options opt; /* say counts into n_lines and keeps the last line */
    int n_lines;
    char line[512];
};

/* Failures end the program. */
void pack_rig_begin(struct pack_rig *r);
void pack_rig_end(struct pack_rig *r);

/* The span of an item, the same every time; malloc'ed. */
char *pack_span(const struct pack_rig *r, int i);
/* begin, every put, commit; the first failure's code. */
int pack_write(const struct pack_rig *r, struct err *e);
/* Opens and compares every piece: 1 all right, 0 no pack, -1 something else. */
int pack_check(struct pack_rig *r);
/* Files in the folder of packs. */
int pack_entries(const struct pack_rig *r);

#endif
