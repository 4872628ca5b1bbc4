/*
 * fill.h: carries out a plan: every weight that belongs into memory is brought to its place, from the model's
 * files (read, convert) or from a packed file (read, compare checksums).
 */
#ifndef TONNE_LOAD_FILL_H
#define TONNE_LOAD_FILL_H

#include "base/log.h"
#include "base/threads.h"
#include "load/packed.h"
#include "plan/plan.h"

struct fill_job {
    const struct plan *plan;
    char *base;              /* the weights' block of plan->weights_bytes */
    struct threads *threads; /* borrowed */
    progress_fn progress;    /* may be NULL */
    void *progress_user;
    struct packed_writer *writer; /* also gets every finished weight; NULL: none. Then plan->item[i] is its
                                   * item i, and experts on disk are made too */
    /* results */
    uint64_t read_bytes;
    struct err
        writer_failed; /* the first failure of the writer, when nothing but keeping the pack depended on it */
};

/* 0, or the first failure with nothing left running; base is then half filled. */
int fill_from_model(struct fill_job *job, struct err *e);
/* ERR_FORMAT when a checksum is wrong. Experts on disk stay where they are. */
int fill_from_pack(struct fill_job *job, const struct packed *pack, struct err *e);

#endif
