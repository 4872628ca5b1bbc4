/* threads.c: see threads.h. Two counters decide everything: generation (a job was published) and the
 * barrier's phase. Each lives in its own cache line; waiters spin on a line that is written once per event.
 */
#include "base/threads.h"

#include <hwloc.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdalign.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { MAX_THREADS = 1024, SPINS = 2000, YIELDS = 200 };

struct worker {
    struct threads *pool;
    pthread_t handle;
    int index; /* 1..count-1 */
    int cpu;   /* to pin to; -1: leave alone */
};

struct threads {
    alignas(64) _Atomic uint32_t generation; /* counts jobs; workers wait for it to change */
    alignas(64) _Atomic uint32_t phase;      /* counts barriers passed */
    alignas(64) _Atomic uint32_t arrived;    /* threads at the current barrier */
    alignas(64) _Atomic int64_t next;        /* threads_next */
    alignas(
        64) _Atomic uint32_t sleepers; /* threads inside futex_wait, so that wakes cost nothing otherwise */
    threads_fn fn;
    void *arg;
    int count;
    bool stopping;
    struct worker *worker;
};

#if defined(__x86_64__)
static void cpu_relax(void)
{
    __builtin_ia32_pause();
}
#elif defined(__aarch64__)
static void cpu_relax(void)
{
    __asm__ volatile("yield");
}
#else
static void cpu_relax(void)
{
}
#endif

static void futex_wait(struct threads *t, _Atomic uint32_t *word, uint32_t old)
{
    atomic_fetch_add(&t->sleepers, 1);
    if (atomic_load(word) == old)
        syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, old, NULL, NULL, 0);
    atomic_fetch_sub(&t->sleepers, 1);
}

static void futex_wake_all(struct threads *t, _Atomic uint32_t *word)
{
    if (atomic_load(&t->sleepers))
        syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

static void wait_change(struct threads *t, _Atomic uint32_t *word, uint32_t old)
{
    for (int i = 0; i < SPINS; i++) {
        if (atomic_load_explicit(word, memory_order_acquire) != old)
            return;
        cpu_relax();
    }
    for (int i = 0; i < YIELDS; i++) {
        if (atomic_load_explicit(word, memory_order_acquire) != old)
            return;
        sched_yield();
    }
    while (atomic_load_explicit(word, memory_order_acquire) == old)
        futex_wait(t, word, old);
}

void threads_barrier(struct threads *t)
{
    if (t->count == 1)
        return;
    uint32_t phase = atomic_load_explicit(&t->phase, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&t->arrived, 1, memory_order_acq_rel) == (uint32_t)t->count - 1) {
        atomic_store_explicit(&t->arrived, 0, memory_order_relaxed);
        atomic_store(&t->phase, phase + 1);
        futex_wake_all(t, &t->phase);
    } else {
        wait_change(t, &t->phase, phase);
    }
}

static void *worker_main(void *user)
{
    struct worker *w = user;
    struct threads *t = w->pool;
    if (w->cpu >= 0) {
        cpu_set_t set;
        CPU_ZERO(&set);
        CPU_SET((size_t)w->cpu, &set);
        pthread_setaffinity_np(pthread_self(), sizeof set, &set); /* failure costs speed only */
    }
    for (uint32_t seen = 0;;) {
        wait_change(t, &t->generation, seen);
        seen = atomic_load_explicit(&t->generation, memory_order_acquire);
        if (t->stopping)
            return NULL;
        t->fn(t->arg, t, w->index);
        threads_barrier(t);
    }
}

void threads_run(struct threads *t, threads_fn fn, void *arg)
{
    atomic_store_explicit(&t->next, 0, memory_order_relaxed);
    t->fn = fn;
    t->arg = arg;
    if (t->count > 1) {
        atomic_fetch_add(&t->generation, 1);
        futex_wake_all(t, &t->generation);
    }
    fn(arg, t, 0);
    threads_barrier(t);
}

int64_t threads_next(struct threads *t)
{
    return atomic_fetch_add_explicit(&t->next, 1, memory_order_relaxed);
}

void threads_rewind(struct threads *t)
{
    atomic_store_explicit(&t->next, 0, memory_order_relaxed);
}

struct range threads_share(const struct threads *t, int thread, int64_t n, int64_t step)
{
    int64_t pieces = (n + step - 1) / step, per = pieces / t->count, extra = pieces % t->count;
    int64_t first = thread * per + (thread < extra ? thread : extra);
    int64_t last = first + per + (thread < extra);
    struct range r = { first * step, last * step };
    if (r.begin > n)
        r.begin = n;
    if (r.end > n)
        r.end = n;
    return r;
}

int threads_count(const struct threads *t)
{
    return t->count;
}

/* quota / period of one cgroup file, at least 1 (more threads than whole CPUs would be stopped while they
 * wait for each other); INT_MAX when there is no limit ("max", -1 or no file). */
static int quota_cpus(const char *quota_path, const char *period_path)
{
    long long quota = -1, period = 0;
    FILE *f = fopen(quota_path, "r");
    if (!f)
        return INT_MAX;
    if (fscanf(f, "%lld %lld", &quota, &period) < 1)
        quota = -1;
    fclose(f);
    if (period_path && (f = fopen(period_path, "r"))) {
        if (fscanf(f, "%lld", &period) != 1)
            period = 0;
        fclose(f);
    }
    if (quota <= 0 || period <= 0)
        return INT_MAX;
    return quota < period ? 1 : (int)(quota / period);
}

/* CPUs that cgroups grant: v2's cpu.max of the process' own group and of every group above it, or v1's files.
 */
static int cgroup_cpus(void)
{
    char line[512], path[640], *group = NULL;
    int least = quota_cpus("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "/sys/fs/cgroup/cpu/cpu.cfs_period_us");
    FILE *f = fopen("/proc/self/cgroup", "r");
    while (f && !group && fgets(line, sizeof line, f))
        if (strncmp(line, "0::/", 4) == 0)
            group = line + 3;
    if (f)
        fclose(f);
    if (!group)
        group = strcpy(line, "/");
    group[strcspn(group, "\n")] = '\0';
    for (char *end = group + strlen(group);; end = strrchr(group, '/')) {
        *end = '\0';
        snprintf(path, sizeof path, "/sys/fs/cgroup%s/cpu.max", group);
        int cpus = quota_cpus(path, NULL);
        least = cpus < least ? cpus : least;
        if (!*group)
            return least;
    }
}

/* Fills cpu[0..n) with the first hardware thread of n allowed physical cores; returns how many there are. */
static int physical_cores(int *cpu, int n)
{
    hwloc_topology_t topo;
    if (hwloc_topology_init(&topo))
        return 0;
    int found = 0;
    if (hwloc_topology_load(topo) == 0) {
        hwloc_cpuset_t mine = hwloc_bitmap_alloc(), set = hwloc_bitmap_alloc();
        if (mine && set && hwloc_get_cpubind(topo, mine, HWLOC_CPUBIND_PROCESS) == 0) {
            hwloc_obj_t core = NULL;
            while (found < n && (core = hwloc_get_next_obj_by_type(topo, HWLOC_OBJ_CORE, core))) {
                hwloc_bitmap_and(set, core->cpuset, mine);
                int first = hwloc_bitmap_first(set);
                if (first >= 0)
                    cpu[found++] = first;
            }
        }
        hwloc_bitmap_free(mine);
        hwloc_bitmap_free(set);
    }
    hwloc_topology_destroy(topo);
    return found;
}

int threads_default(void)
{
    int cpu[MAX_THREADS], cores = physical_cores(cpu, MAX_THREADS), quota = cgroup_cpus();
    if (cores < 1) {
        long online = sysconf(_SC_NPROCESSORS_ONLN);
        cores = online > 0 ? (int)online : 1;
    }
    return cores < quota ? cores : quota;
}

int threads_open(struct threads **out, int n, struct err *e)
{
    if (n <= 0)
        n = threads_default();
    if (n > MAX_THREADS)
        n = MAX_THREADS;
    struct threads *t = aligned_alloc(alignof(struct threads), sizeof *t);
    if (!t)
        return err_set(e, ERR_MEMORY, "no memory for the thread pool");
    memset(t, 0, sizeof *t);
    t->count = 1; /* grows with every worker started, so a failure can be closed */
    t->worker = calloc((size_t)n, sizeof *t->worker);
    if (!t->worker) {
        threads_close(&t);
        return err_set(e, ERR_MEMORY, "no memory for %d thread records", n);
    }
    int cpu[MAX_THREADS], cores = physical_cores(cpu, MAX_THREADS);
    for (int i = 1; i < n; i++) {
        t->worker[i] = (struct worker){ .pool = t, .index = i, .cpu = n <= cores ? cpu[i] : -1 };
        if (pthread_create(&t->worker[i].handle, NULL, worker_main, &t->worker[i])) {
            threads_close(&t);
            err_set(e, ERR_MEMORY, "the system refused to start thread %d of %d", i + 1, n);
            err_hint(e, "ask for fewer: --threads %d", i);
            return ERR_MEMORY;
        }
        t->count = i + 1;
    }
    *out = t;
    return 0;
}

void threads_close(struct threads **tp)
{
    struct threads *t = *tp;
    *tp = NULL;
    if (!t)
        return;
    t->stopping = true;
    atomic_fetch_add(&t->generation, 1);
    futex_wake_all(t, &t->generation);
    for (int i = 1; i < t->count; i++)
        pthread_join(t->worker[i].handle, NULL);
    free(t->worker);
    free(t);
}
