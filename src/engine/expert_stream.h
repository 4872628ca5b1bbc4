/*
 * expert_stream.h: reads experts from disk into slots of memory, many at once, while the caller computes.
 * Bypasses the page cache (O_DIRECT) where the filesystem can; else reads through it and drops the pages
 * again.
 *
 * Threads: one thread at a time may call.
 */
#ifndef TONNE_ENGINE_EXPERT_STREAM_H
#define TONNE_ENGINE_EXPERT_STREAM_H

#include "engine/read_queue.h"
#include "load/expert_source.h"

struct expert_stream;

struct expert_stream_options {
    const struct expert_source *source; /* borrowed */
    int max_experts;                    /* on their way at once; start beyond that is a mistake */
    const struct read_io *io;           /* borrowed; NULL: the system */
};

struct expert_stream_stats {
    bool direct;             /* every file is read past the page cache */
    bool ring;               /* io_uring; false: threads */
    uint64_t experts, bytes; /* that arrived, and their extents' bytes */
    uint64_t failures;
};

/* Opens the source's files. ERR_FILE when one is missing or has another size than it had, ERR_MEMORY. */
int expert_stream_open(struct expert_stream **out, const struct expert_stream_options *opt, struct err *e);
/* Waits for what is on its way. NULL is fine. */
void expert_stream_close(struct expert_stream **s);

/* Begins to read an expert into slot (slot_bytes, 4096-aligned), which is not to be touched until tag comes
 * back. */
void expert_stream_start(struct expert_stream *s, int layer, int expert, void *slot, int tag);
/* Hands what was started to the system, together. */
void expert_stream_submit(struct expert_stream *s);
/* The tag of an expert that has arrived, in any order, or -1: none yet (wait: none left). ERR_FILE when
 * reading that one failed: *tag is given as well, and its slot holds nothing of use. */
int expert_stream_next(struct expert_stream *s, bool wait, int *tag, struct err *e);

struct expert_stream_stats expert_stream_stats(const struct expert_stream *s);

#endif
