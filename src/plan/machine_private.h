/* machine_private.h: what the machine_*.c files share. */
#ifndef TONNE_PLAN_MACHINE_PRIVATE_H
#define TONNE_PLAN_MACHINE_PRIVATE_H

#include "plan/machine.h"

struct topology {
    char model[64]; /* "" when the system does not tell */
    int cores, nodes;
    size_t l3_bytes; /* all last-level caches together; 0: unknown */
};
/* Asks hwloc; what it does not know stays 0. */
void machine_topology(struct topology *t);

/* The processor as machine.cpu names it. */
void machine_cpu_name(char *out, size_t n, const struct topology *t);

/* Fills ram_total, ram_available, cgroup_limit and cgroup_room from the files under root ("": this system;
 * tests give a folder with proc/meminfo, proc/self/cgroup, proc/self/mountinfo and what the latter names). */
void machine_look_memory(struct machine *m, const char *root);

/* Fills disk_free and disk_device of the drive of path or of its nearest existing parent. */
void machine_look_drive(struct machine *m, const char *path);

/* The steps of machine_measure; each adds its findings to *m. ERR_MEMORY, or ERR_IO for the drive. */
int machine_measure_ram(struct machine *m, struct threads *t, struct err *e);
int machine_measure_arithmetic(struct machine *m, struct threads *t, struct err *e);
int machine_measure_drive(struct machine *m, struct threads *t, const char *path, struct err *e);

#endif
