/* mem.c: large host allocations straight from the system. */
#include "base/mem.h"

#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "base/checked.h"

enum { HUGE_PAGE = 2 << 20, HUGE_FROM = 4 << 20 };

int mem_ram(struct mem *out, size_t bytes, const char *purpose, struct err *e)
{
    *out = (struct mem){ 0 };
    if (bytes == 0)
        return 0;
    if (bytes > (size_t)1 << 46)
        return err_set(e, ERR_MEMORY, "%s needs %zu bytes, more than any machine has", purpose, bytes);
    size_t align = bytes >= HUGE_FROM ? HUGE_PAGE : 4096;
    size_t span = align_up(bytes, 4096) + (align > 4096 ? align : 0);
    char *p = mmap(NULL, span, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) {
        err_set(e, ERR_MEMORY, "no memory for %s (%.1f MiB): %s", purpose, (double)bytes / 1048576,
                strerror(errno));
        err_hint(e, "close other programs, or use a smaller --ctx, --batch or --type");
        return ERR_MEMORY;
    }
    char *start = (char *)align_up((size_t)p, align), *end = start + align_up(bytes, 4096);
    if (start > p)
        munmap(p, (size_t)(start - p));
    if (p + span > end)
        munmap(end, (size_t)(p + span - end));
    if (align > 4096)
        madvise(start, (size_t)(end - start), MADV_HUGEPAGE);
    *out = (struct mem){ start, bytes, MEM_RAM };
    return 0;
}

void mem_free(struct mem *m)
{
    if (m->ptr && (m->home == MEM_RAM || m->home == MEM_FILE))
        munmap(m->ptr, align_up(m->bytes, 4096));
    *m = (struct mem){ 0 };
}

size_t mem_peak_rss(void)
{
    FILE *f = fopen("/proc/self/status", "r");
    if (!f)
        return 0;
    char line[256];
    size_t kib = 0;
    while (fgets(line, sizeof line, f))
        if (sscanf(line, "VmHWM: %zu kB", &kib) == 1)
            break;
    fclose(f);
    return kib * 1024;
}

#if defined(__GLIBC__)

void mem_trim(void)
{
    malloc_trim(0);
}

#else

void mem_trim(void)
{
}

#endif
