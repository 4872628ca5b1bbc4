/* faults.c: see faults.h. */
#include "support/faults.h"

#include <dirent.h>
#include <stdatomic.h>

static atomic_int armed = -1; /* the kind */
static atomic_int left;       /* calls before the one that fails */

void faults_arm(enum fault_kind kind, int k)
{
    atomic_store(&left, k);
    atomic_store(&armed, (int)kind);
}

bool faults_disarm(void)
{
    atomic_store(&armed, -1);
    return atomic_load(&left) < 0;
}

bool faults_now(enum fault_kind kind)
{
    return atomic_load(&armed) == (int)kind && atomic_fetch_sub(&left, 1) == 0;
}

const char *fault_name(enum fault_kind kind)
{
    static const char *const name[FAULT_KINDS] = { "allocation", "open",   "read",  "short read",
                                                   "write",      "rename", "fsync", "mapping" };
    return name[kind];
}

int faults_entries(const char *folder)
{
    DIR *d = opendir(folder);
    int n = 0;
    while (d && readdir(d))
        n++;
    if (d)
        closedir(d);
    return n - 2;
}

int faults_descriptors(void)
{
    return faults_entries("/proc/self/fd");
}

int faults_threads(void)
{
    return faults_entries("/proc/self/task");
}
