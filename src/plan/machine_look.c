/* machine_look.c: what is known of this machine at once: processor, topology, drive (memory:
 * machine_memory.c); and questions about any machine. */
#include <hwloc.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "device/device.h"
#include "plan/machine_private.h"

static void ask_topology(struct topology *t, hwloc_topology_t topo)
{
    int cores = hwloc_get_nbobjs_by_type(topo, HWLOC_OBJ_CORE), nodes;
    if (cores <= 0)
        cores = hwloc_get_nbobjs_by_type(topo, HWLOC_OBJ_PU);
    nodes = hwloc_get_nbobjs_by_type(topo, HWLOC_OBJ_NUMANODE);
    t->cores = cores > 0 ? cores : 0;
    t->nodes = nodes > 0 ? nodes : 0;
    hwloc_obj_t cache = NULL;
    while ((cache = hwloc_get_next_obj_by_type(topo, HWLOC_OBJ_L3CACHE, cache)))
        t->l3_bytes += (size_t)cache->attr->cache.size;
    hwloc_obj_t package = hwloc_get_obj_by_type(topo, HWLOC_OBJ_PACKAGE, 0);
    const char *model = package ? hwloc_obj_get_info_by_name(package, "CPUModel") : NULL;
    snprintf(t->model, sizeof t->model, "%s", model ? model : "");
}

void machine_topology(struct topology *t)
{
    hwloc_topology_t topo;
    *t = (struct topology){ 0 };
    if (hwloc_topology_init(&topo))
        return;
    hwloc_topology_set_flags(topo, HWLOC_TOPOLOGY_FLAG_INCLUDE_DISALLOWED);
    if (hwloc_topology_load(topo) == 0)
        ask_topology(t, topo);
    hwloc_topology_destroy(topo);
}

void machine_cpu_name(char *out, size_t n, const struct topology *t)
{
    snprintf(out, n, "%s, %s", t->model[0] ? t->model : "unknown processor",
             device_cpu_isa_name(device_cpu_isa()));
}

void machine_look_drive(struct machine *m, const char *path)
{
    char folder[4096];
    struct statvfs fs;
    struct stat st;
    int n = snprintf(folder, sizeof folder, "%s", path);
    if (n < 0 || n >= (int)sizeof folder)
        return;
    while (statvfs(folder, &fs) || stat(folder, &st)) {
        char *cut = strrchr(folder, '/');
        if (strcmp(folder, "/") == 0 || strcmp(folder, ".") == 0)
            return;
        if (!cut)
            strcpy(folder, ".");
        else
            cut[cut == folder] = '\0'; /* the parent; "/" stays */
    }
    m->disk_free = (size_t)fs.f_bavail * fs.f_frsize;
    m->disk_device = (uint64_t)st.st_dev;
}

int machine_look(struct machine *m, const char *path, struct err *e)
{
    (void)e;
    struct topology t;
    machine_topology(&t);
    *m = (struct machine){ .here = true, .cores = t.cores, .numa_nodes = t.nodes };
    machine_cpu_name(m->cpu, sizeof m->cpu, &t);
    m->usable_cores = threads_default();
    machine_look_memory(m, "");
    machine_look_drive(m, path ? path : ".");
    return 0;
}

double machine_best_ram_gbs(const struct machine *m, int *threads)
{
    int best = 0;
    for (int i = 1; i < m->n_ram_gbs; i++)
        if (m->ram_gbs[i] > m->ram_gbs[best])
            best = i;
    if (threads)
        *threads = m->n_ram_gbs ? best + 1 : 0;
    return m->n_ram_gbs ? m->ram_gbs[best] : 0;
}
