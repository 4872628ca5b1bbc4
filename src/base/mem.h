/*
 * mem.h: large memory with a known home. Small objects use calloc; weights, states and work buffers come
 * from here, so that one mem_free serves all and the plan can account for them.
 */
#ifndef TONNE_BASE_MEM_H
#define TONNE_BASE_MEM_H

#include <stddef.h>

#include "base/err.h"

enum mem_home {
    MEM_NONE,   /* nothing held */
    MEM_RAM,    /* anonymous host pages */
    MEM_FILE,   /* a read-only file mapping */
    MEM_PINNED, /* page-locked host memory, reachable by a GPU */
    MEM_VRAM    /* device memory: ptr is a device address */
};

struct mem {
    void *ptr;
    size_t bytes;
    enum mem_home home;
};

/* Gives zeroed host memory, 4 KiB aligned (2 MiB aligned and with huge pages advised from 4 MiB on). Pages
 * cost RAM only when first written. bytes 0 gives an empty block. ERR_MEMORY when the system refuses. */
int mem_ram(struct mem *out, size_t bytes, const char *purpose, struct err *e);

/* Ends a host block (MEM_RAM, MEM_FILE) and clears it; an empty one is fine. */
void mem_free(struct mem *m);

/* Peak resident memory of this process so far, in bytes (VmHWM); 0 where unknown. */
size_t mem_peak_rss(void);

/* Gives small freed blocks back to the system, where it can: after work that allocates much for a short time,
 * such as reading a large JSON text. */
void mem_trim(void);

#endif
