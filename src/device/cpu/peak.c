/* peak.c: which of the peak loops this machine can run. */
#include "device/peak.h"

#if defined(__x86_64__)
static const struct peak_loops *const tables[] = { &peak_plain, &peak_avx2, &peak_avx512 };
#else
static const struct peak_loops *const tables[] = { &peak_plain };
#endif

const struct peak_loops *peak_pick(enum cpu_isa isa)
{
    enum cpu_isa most = isa == CPU_ISA_BEST ? device_cpu_isa() : isa;
    const struct peak_loops *best = tables[0];
    for (size_t i = 1; i < sizeof tables / sizeof *tables; i++)
        if (tables[i]->needs <= most)
            best = tables[i];
    return best;
}
