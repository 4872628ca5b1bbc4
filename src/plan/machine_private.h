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

/* The other steps of machine_measure; each adds its findings to *m. */
void machine_measure_arithmetic(struct machine *m, struct threads *t);
/* A drive that cannot be measured (no large file, no room, not writable) leaves disk_gbs 0; ERR_FILE when
 * path does not exist or reading failed. */
int machine_measure_drive(struct machine *m, struct threads *t, const char *path, struct err *e);

/* A file whose reads measure a drive. */
struct drive_file {
    int fd;
    uint64_t bytes;
    bool direct; /* opened with O_DIRECT */
};
/* ERR_FILE when path does not exist. */
int drive_path_check(const char *path, struct err *e);
/* Opens the largest model file at path (a file or folder), or else writes up to 1 GiB of random bytes beside
 * it into a file without a name, which ends with its descriptor. fd -1: neither was possible. */
int drive_file_open(struct drive_file *f, const char *path, struct err *e);
void drive_file_close(struct drive_file *f);

/* The part of machine_measure_drive that follows drive_file_open. */
int machine_measure_file(struct machine *m, const struct drive_file *f, struct threads *t, struct err *e);

#endif
