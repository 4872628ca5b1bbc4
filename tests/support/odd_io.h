/*
 * odd_io.h: a system whose reads fail, come late, come short or in another order, for tests of reading
 * experts.
 */
#ifndef TONNE_TESTS_ODD_IO_H
#define TONNE_TESTS_ODD_IO_H

#include <pthread.h>

#include "engine/read_queue.h"

enum { ODD_EIO = -5 };

struct odd_io {
    struct read_io io;
    bool no_direct;      /* opening with O_DIRECT is refused */
    bool direct_refused; /* reading what was opened so is */
    bool no_ring;        /* threads */
    bool slow;           /* some reads of threads take a while */
    bool cut;            /* some reads give a part only */
    int fail_at;         /* this read fails with fail_with; 0: none */
    int fail_with;       /* -errno; 0: the file has ended */
    int submit_fails_at; /* this submission fails with submit_with */
    int submit_with, submit_times;
    /* counts */
    int reads, submits;
    /* private */
    pthread_mutex_t lock;
    unsigned seed;
};

struct odd_io *odd_io_new(void);
void odd_io_free(struct odd_io **o);

#endif
