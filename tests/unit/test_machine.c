/* test_machine.c: sizes, memory limits from made-up system files, described machines, the file of
 * measurements. */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/size.h"
#include "plan/machine_private.h"

static const size_t MIB = 1 << 20, GIB = 1 << 30;

/* ---- sizes ---- */

static void sizes_read_as_people_write_them(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t bytes;
    } good[] = {
        { "0", 0 },
        { "4096", 4096 },
        { "12b", 12 },
        { "24G", 24ull << 30 },
        { "24GiB", 24ull << 30 },
        { "24gib", 24ull << 30 },
        { "24GB", 24000000000 },
        { "1.5T", 3ull << 39 },
        { "0.5K", 512 },
        { ".5K", 512 },
        { "16 MiB", 16 << 20 },
        { "3P", 3ull << 50 },
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        uint64_t bytes = 1;
        assert_true(size_parse(good[i].text, strlen(good[i].text), &bytes));
        assert_int_equal(bytes, good[i].bytes);
    }
    static const char *const bad[] = { "",     "G",    ".",   "-1G",   "1X",  "1GX",   "1GiX",
                                       "1  G", "0x10", "1e9", "5000P", "inf", "1.2.3", "24Gi" };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        uint64_t bytes = 77;
        assert_false(size_parse(bad[i], strlen(bad[i]), &bytes));
        assert_int_equal(bytes, 77);
    }
    char out[SIZE_TEXT];
    assert_string_equal(size_text(out, 0), "0 bytes");
    assert_string_equal(size_text(out, 1536), "1.5 KiB");
    assert_string_equal(size_text(out, 24ull << 30), "24.0 GiB");
    assert_string_equal(size_text(out, UINT64_MAX), "16.0 EiB");
}

/* ---- memory limits ---- */

struct tree {
    char root[64];
};

static void tree_begin(struct tree *t)
{
    strcpy(t->root, "/tmp/tonne-test-machine-XXXXXX");
    assert_non_null(mkdtemp(t->root));
}

static void tree_end(struct tree *t)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", t->root);
    assert_int_equal(system(command), 0);
}

/* Writes root/path, making its folders. */
static void tree_file(const struct tree *t, const char *path, const char *text)
{
    char full[512];
    snprintf(full, sizeof full, "%s/%s", t->root, path);
    for (char *p = full + strlen(t->root) + 1; (p = strchr(p, '/')); p++) {
        *p = '\0';
        mkdir(full, 0777);
        *p = '/';
    }
    FILE *f = fopen(full, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static struct machine look(const struct tree *t)
{
    struct machine m = { 0 };
    machine_look_memory(&m, t->root);
    return m;
}

static const char meminfo[] = "MemTotal:       67108864 kB\n" /* 64 GiB, of which 48 are available */
                              "MemFree:         1000000 kB\n"
                              "MemAvailable:   50331648 kB\n";

static const char mount_v2[] =
    "22 1 254:0 / / rw - ext4 /dev/vda rw\n"
    "30 22 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";

static void memory_without_limits(void **state)
{
    (void)state;
    struct tree t;
    tree_begin(&t);
    struct machine m = look(&t); /* nothing is there at all */
    assert_int_equal(m.ram_total, 0);
    assert_int_equal(machine_ram(&m), 0);
    tree_file(&t, "proc/meminfo", meminfo);
    m = look(&t);
    assert_int_equal(m.ram_total, 64 * GIB);
    assert_int_equal(m.ram_available, 48 * GIB);
    assert_int_equal(m.cgroup_limit, 0);
    assert_int_equal(machine_ram(&m), 48 * GIB);
    tree_file(&t, "proc/self/mountinfo", mount_v2);
    tree_file(&t, "proc/self/cgroup", "0::/user.slice/run.scope\n");
    tree_file(&t, "sys/fs/cgroup/user.slice/run.scope/memory.max", "max\n");
    tree_file(&t, "sys/fs/cgroup/user.slice/run.scope/memory.high", "max\n");
    tree_file(&t, "sys/fs/cgroup/user.slice/memory.max", "99999999999999\n"); /* more than the machine has */
    m = look(&t);
    assert_int_equal(m.cgroup_limit, 0);
    assert_int_equal(machine_ram(&m), 48 * GIB);
    tree_end(&t);
}

/* The nearest group allows 16 GiB, its parent slows down from 8 GiB on, the grandparent allows 9 but others
 * use it. */
static void nested_limits_of_version_2(void **state)
{
    (void)state;
    struct tree t;
    tree_begin(&t);
    tree_file(&t, "proc/meminfo", meminfo);
    tree_file(&t, "proc/self/mountinfo", mount_v2);
    tree_file(&t, "proc/self/cgroup", "0::/a/b/c\n");
    tree_file(&t, "sys/fs/cgroup/a/b/c/memory.max", "17179869184\n");
    tree_file(&t, "sys/fs/cgroup/a/b/c/memory.current", "1073741824\n");
    struct machine m = look(&t);
    assert_int_equal(m.cgroup_limit, 16 * GIB);
    assert_int_equal(m.cgroup_room, 15 * GIB);

    tree_file(&t, "sys/fs/cgroup/a/b/memory.max", "max\n");
    tree_file(&t, "sys/fs/cgroup/a/b/memory.high", "8589934592\n");
    tree_file(&t, "sys/fs/cgroup/a/b/memory.current", "3221225472\n");
    tree_file(&t, "sys/fs/cgroup/a/b/memory.stat", /* 1.5 of the 3 GiB are page cache */
              "anon 1610612736\nfile 1610612736\ninactive_file 1073741824\nactive_file 536870912\n");
    m = look(&t);
    assert_int_equal(m.cgroup_limit, 8 * GIB);
    assert_int_equal(m.cgroup_room, 6 * GIB + 512 * MIB);

    tree_file(&t, "sys/fs/cgroup/a/memory.max", "9663676416\n");
    tree_file(&t, "sys/fs/cgroup/a/memory.current", "8589934592\n");
    m = look(&t);
    assert_int_equal(m.cgroup_limit, 8 * GIB); /* the smallest limit ... */
    assert_int_equal(m.cgroup_room, 1 * GIB);  /* ... is not where the least room is */
    assert_int_equal(machine_ram(&m), 1 * GIB);

    tree_file(&t, "sys/fs/cgroup/a/memory.current", "19663676416\n"); /* over its limit */
    m = look(&t);
    assert_int_equal(machine_ram(&m), 0);
    tree_end(&t);
}

/* Inside a container of version 1 the mount shows the container's own group, while the group has its full
 * path. */
static void limits_of_version_1(void **state)
{
    (void)state;
    struct tree t;
    tree_begin(&t);
    tree_file(&t, "proc/meminfo", meminfo);
    tree_file(&t, "proc/self/mountinfo",
              "31 22 0:27 /docker/ab /sys/fs/cgroup/cpu,cpuacct ro shared:9 - cgroup cgroup rw,cpu,cpuacct\n"
              "32 22 0:28 /docker/ab /sys/fs/cgroup/the\\040memory ro shared:10 - cgroup cgroup rw,memory\n");
    tree_file(&t, "proc/self/cgroup",
              "12:cpu,cpuacct:/docker/ab\n11:hugetlb,memory:/docker/ab/job\n0::/docker/ab\n");
    tree_file(&t, "sys/fs/cgroup/the memory/memory.limit_in_bytes", "4294967296\n");
    tree_file(&t, "sys/fs/cgroup/the memory/memory.usage_in_bytes", "2147483648\n");
    tree_file(&t, "sys/fs/cgroup/the memory/memory.stat",
              "cache 1\ninactive_file 5\ntotal_inactive_file 1073741824\ntotal_active_file 0\n");
    tree_file(&t, "sys/fs/cgroup/the memory/job/memory.limit_in_bytes", "9223372036854771712\n"); /* none */
    struct machine m = look(&t);
    assert_int_equal(m.cgroup_limit, 4 * GIB);
    assert_int_equal(m.cgroup_room, 3 * GIB);
    assert_int_equal(machine_ram(&m), 3 * GIB);
    tree_file(&t, "sys/fs/cgroup/the memory/job/memory.limit_in_bytes", "1073741824\n");
    m = look(&t);
    assert_int_equal(m.cgroup_limit, 1 * GIB);
    tree_end(&t);
}

/* A group outside of what is mounted (a namespace entered later): the mount point's own limit still counts.
 */
static void group_outside_of_the_mount(void **state)
{
    (void)state;
    static const char *const groups[] = { "0::/../other\n", "0::/elsewhere/job\n", "0::/\n" };
    struct tree t;
    tree_begin(&t);
    tree_file(&t, "proc/meminfo", meminfo);
    tree_file(&t, "proc/self/mountinfo", "30 22 0:26 /box /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
    tree_file(&t, "sys/fs/cgroup/memory.max", "2147483648\n");
    for (int i = 0; i < 3; i++) {
        tree_file(&t, "proc/self/cgroup", groups[i]);
        struct machine m = look(&t);
        assert_int_equal(m.cgroup_limit, 2 * GIB);
    }
    tree_end(&t);
}

static void damaged_system_files_are_unknowns(void **state)
{
    (void)state;
    struct tree t;
    char line[9000];
    memset(line, 'x', sizeof line - 1);
    line[sizeof line - 1] = '\0';
    tree_begin(&t);
    tree_file(&t, "proc/meminfo", "MemTotal\nMemTotalX: 5\nMemAvailable: many kB\n");
    tree_file(&t, "proc/self/mountinfo", line);
    tree_file(&t, "proc/self/cgroup", line);
    struct machine m = look(&t);
    assert_int_equal(machine_ram(&m), 0);
    tree_file(&t, "proc/self/mountinfo", "1 2 3\n - \n - cgroup2\n - cgroup2 a b\n");
    tree_file(&t, "proc/self/cgroup", "::\n0\n:\n0::\n");
    m = look(&t);
    assert_int_equal(m.cgroup_limit, 0);
    tree_end(&t);
}

static void looks_at_this_machine(void **state)
{
    (void)state;
    struct machine m, missing;
    assert_int_equal(machine_look(&m, NULL, NULL), 0);
    assert_true(m.here && m.cores >= 1 && m.usable_cores >= 1);
    assert_true(m.ram_total > 0 && machine_ram(&m) > 0 && machine_ram(&m) <= m.ram_total);
    assert_true(m.disk_device != 0 && strlen(m.cpu) > 0);
    assert_int_equal(machine_look(&m, "/", NULL), 0);
    assert_int_equal(machine_look(&missing, "/no/such/folder/yet", NULL), 0);
    assert_true(m.disk_device == missing.disk_device && missing.disk_free > 0);
    assert_int_equal(machine_look(&missing, "no such file", NULL), 0);
    assert_true(missing.disk_free > 0);
}

/* ---- described machines ---- */

static void described_machine(void **state)
{
    (void)state;
    struct machine m;
    struct err e = { 0 };
    assert_int_equal(machine_parse(&m, "vram=32G,ram=256G,link=55,rambw=205,disk=7,cores=16,int8=3000", &e),
                     0);
    assert_false(m.here);
    assert_int_equal(m.n_gpu, 1);
    assert_int_equal(m.gpu[0].bytes, 32 * GIB);
    assert_true(m.gpu[0].link_gbs == 55);
    assert_int_equal(machine_ram(&m), 256 * GIB);
    assert_int_equal(m.usable_cores, 16);
    assert_true(m.int8_gmacs == 3000 && m.bf16_gmacs == 0 && m.disk_gbs == 7 && m.disk_small_gbs == 7);
    assert_true(m.disk_free > (size_t)1 << 60);
    int threads;
    assert_true(machine_best_ram_gbs(&m, &threads) == 205);
    assert_int_equal(threads, 16);
    assert_true(m.ram_gbs[7] == 102.5);

    assert_int_equal(machine_parse(&m, "ram=16GB,vram=24G+8.5G,vrambw=900,disk=off", &e), 0);
    assert_int_equal(m.ram_total, 16000000000);
    assert_int_equal(m.n_gpu, 2);
    assert_int_equal(m.gpu[1].bytes, 8 * GIB + 512 * MIB);
    assert_true(m.gpu[1].memory_gbs == 900 && m.gpu[1].link_gbs == 0);
    assert_true(m.disk_free == 0 && m.disk_gbs == 0 && machine_best_ram_gbs(&m, NULL) == 0);
    assert_int_equal(machine_parse(&m, "ram=1G,vram=0,diskfree=5G,disk=0.5,disklat=90", &e), 0);
    assert_true(m.n_gpu == 0 && m.disk_free == 5 * GIB && m.disk_gbs == 0.5 && m.disk_latency_us == 90);
}

static void refused_descriptions(void **state)
{
    (void)state;
    static const struct {
        const char *text, *named;
    } bad[] = {
        { "", "\"\"" },
        { "ram", "ram" },
        { "ram=", "ram" },
        { "ram=0", "ram" },
        { "ram=lots", "ram=lots" },
        { "ram=1G,", "\"\"" },
        { "ram=1G,ram=2G", "ram twice" },
        { "ram=1G,speed=3", "speed" },
        { "ram=1G,RAM=2G", "RAM" },
        { "ram=1G,cores=0", "cores" },
        { "ram=1G,cores=1.5", "cores" },
        { "ram=1G,rambw=-3", "rambw" },
        { "ram=1G,rambw=nan", "rambw" },
        { "ram=1G,rambw=inf", "rambw" },
        { "ram=1G,rambw=1e5", "rambw" },
        { "ram=1G,rambw=99999999999", "rambw" },
        { "ram=1G,link=0", "link" },
        { "ram=1G,disk=on", "disk" },
        { "ram=1G,vram=24G+", "vram" },
        { "ram=1G,vram=+24G", "vram" },
        { "ram=1G,vram=1G+1G+1G+1G+1G+1G+1G+1G+1G+1G+1G+1G+1G+1G+1G+1G+1G", "vram" },
        { "vram=32G", "RAM" },
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct machine m;
        struct err e = { 0 };
        assert_int_equal(machine_parse(&m, bad[i].text, &e), ERR_USAGE);
        assert_non_null(strstr(e.what, bad[i].named));
        assert_true(e.hint[0] != '\0');
    }
    struct machine m;
    struct err e = { 0 };
    machine_parse(&m, "cpus=4", &e);
    static const char *const all[] = { "ram",  "rambw",   "cores",    "vram", "vrambw", "link",
                                       "disk", "disklat", "diskfree", "int8", "bf16",   "f32" };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        assert_non_null(strstr(e.hint, all[i]));
}

/* ---- the file ---- */

static struct machine measured(uint64_t device)
{
    struct machine m = { .cpu = "AMD \"EPYC\"", .cores = 4, .usable_cores = 4, .n_ram_gbs = 4, .here = true };
    for (int i = 0; i < 4; i++)
        m.ram_gbs[i] = 30.5 * (i + 1);
    m.int8_gmacs = 800, m.bf16_gmacs = 400, m.f32_gmacs = 200;
    m.disk_gbs = 2.5 * (double)device, m.disk_small_gbs = 2, m.disk_latency_us = 700, m.disk_depth = 4;
    m.disk_direct = m.disk_uring = true;
    m.disk_device = device;
    return m;
}

static struct machine looked(uint64_t device, int usable)
{
    struct machine m = { .cpu = "AMD \"EPYC\"", .cores = 4, .usable_cores = usable, .here = true };
    m.disk_device = device;
    m.ram_available = 5 * GIB;
    return m;
}

static void file_keeps_what_was_measured(void **state)
{
    (void)state;
    struct tree t;
    struct err e = { 0 };
    tree_begin(&t);
    char path[128];
    snprintf(path, sizeof path, "%s/machine.json", t.root);
    struct machine a = measured(1), b = measured(2), m = looked(1, 4);
    assert_int_equal(machine_save(&a, path, &e), 0);
    assert_int_equal(machine_save(&b, path, &e), 0); /* another drive of the same machine */
    assert_int_equal(machine_save(&b, path, &e), 0);
    assert_int_equal(machine_load(&m, path, &e), 0);
    assert_int_equal(m.n_ram_gbs, 4);
    assert_memory_equal(m.ram_gbs, a.ram_gbs, 4 * sizeof *m.ram_gbs);
    assert_true(m.int8_gmacs == 800 && m.bf16_gmacs == 400 && m.f32_gmacs == 200);
    assert_true(m.disk_gbs == 2.5 && m.disk_latency_us == 700 && m.disk_depth == 4 && m.disk_direct &&
                m.disk_uring);
    assert_int_equal(m.ram_available, 5 * GIB); /* not from the file */
    m = looked(2, 4);
    assert_int_equal(machine_load(&m, path, &e), 0);
    assert_true(m.disk_gbs == 5);
    m = looked(3, 2); /* a drive never measured; half of the cores */
    assert_int_equal(machine_load(&m, path, &e), 0);
    assert_true(m.disk_gbs == 0 && m.n_ram_gbs == 2 && m.int8_gmacs == 400);
    tree_end(&t);
}

static void file_of_another_machine_is_refused(void **state)
{
    (void)state;
    struct tree t;
    struct err e = { 0 };
    tree_begin(&t);
    char path[128];
    snprintf(path, sizeof path, "%s/machine.json", t.root);
    struct machine a = measured(1), m = looked(1, 4);
    assert_int_equal(machine_load(&m, path, &e), ERR_FILE);
    assert_int_equal(machine_save(&a, path, &e), 0);
    m.cores = 8;
    struct machine before = m;
    assert_int_equal(machine_load(&m, path, &e), ERR_FORMAT);
    assert_non_null(strstr(e.hint, "tonne doctor"));
    assert_non_null(strstr(e.where, path));
    assert_memory_equal(&m, &before, sizeof m);
    m = looked(1, 4);
    strcpy(m.cpu, "other");
    assert_int_equal(machine_load(&m, path, &e), ERR_FORMAT);
    assert_int_equal(machine_save(&m, path, &e), 0); /* drives of the other machine are forgotten */
    m = looked(1, 4);
    assert_int_equal(machine_load(&m, path, &e), ERR_FORMAT);
    tree_end(&t);
}

static void damaged_files_are_refused(void **state)
{
    (void)state;
    static const char head[] = "{\"tonne_machine\": 1, \"cpu\": \"AMD \\\"EPYC\\\"\", \"cores\": 4";
    static const char *const rest[] = {
        "",
        ", \"ram\": {\"read_gbs\": [1, -2]}}",
        ", \"ram\": {\"read_gbs\": [1, \"2\"]}}",
        ", \"ram\": {\"read_gbs\": 5}}",
        ", \"arithmetic\": {\"int8_gmacs\": -1}}",
        ", \"arithmetic\": {\"f32_gmacs\": 1e300}}",
        ", \"drives\": [{\"device\": 1, \"gbs\": \"fast\"}]}",
        ", \"drives\": [{\"device\": 1, \"depth\": 99999}]}",
        ", \"drives\": [{\"device\": 1, \"direct\": 1}]}",
    };
    struct tree t;
    tree_begin(&t);
    char path[128], text[512];
    snprintf(path, sizeof path, "%s/machine.json", t.root);
    for (size_t i = 0; i <= sizeof rest / sizeof *rest; i++) {
        struct machine m = looked(1, 4), before = m;
        struct err e = { 0 };
        bool version = i == sizeof rest / sizeof *rest;
        snprintf(text, sizeof text, "%s%s", version ? "{\"tonne_machine\": 2}" : head,
                 version ? "" : rest[i]);
        tree_file(&t, "machine.json", text);
        assert_int_equal(machine_load(&m, path, &e), ERR_FORMAT);
        assert_non_null(strstr(e.hint, "tonne doctor"));
        assert_memory_equal(&m, &before, sizeof m);
    }
    struct machine m = looked(1, 4);
    tree_file(&t, "machine.json",
              "{\"tonne_machine\": 1, \"cpu\": \"AMD \\\"EPYC\\\"\", \"cores\": 4, \"drives\": [5]}");
    assert_int_equal(machine_load(&m, path, NULL), 0); /* nothing in it, nothing learnt */
    assert_true(m.n_ram_gbs == 0 && m.disk_gbs == 0);
    tree_end(&t);
}

/* ---- the drive ---- */

static int entries(const char *folder)
{
    DIR *d = opendir(folder);
    int n = 0;
    assert_non_null(d);
    for (struct dirent *entry; (entry = readdir(d));)
        n += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
    closedir(d);
    return n;
}

static bool has_room(const char *folder)
{
    struct statvfs fs;
    return statvfs(folder, &fs) == 0 && (uint64_t)fs.f_bavail * fs.f_frsize > (uint64_t)8 << 30;
}

/* With io_uring, and with threads where no descriptor is left for a ring. */
static void measures_a_drive(void **state)
{
    (void)state;
    struct tree t;
    struct threads *threads;
    struct rlimit limit, few;
    struct machine m = { 0 }, m2 = { 0 };
    struct err e = { 0 };
    if (!has_room("/tmp"))
        skip();
    tree_begin(&t);
    assert_int_equal(threads_open(&threads, 2, &e), 0);
    assert_int_equal(machine_measure_drive(&m, threads, t.root, &e), 0);
    assert_true(m.disk_gbs > 0 && m.disk_small_gbs > 0);
    assert_true(m.disk_latency_us > 0 && m.disk_small_latency_us > 0);
    assert_true(m.disk_depth >= 1 && m.disk_depth <= 16);
    assert_int_equal(entries(t.root), 0);

    int lowest = dup(0);
    close(lowest);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    few = limit;
    few.rlim_cur = (rlim_t)lowest + 1;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    int rc = machine_measure_drive(&m2, threads, t.root, &e);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    assert_int_equal(rc, 0);
    assert_true(m2.disk_gbs > 0 && m2.disk_latency_us > 0 && !m2.disk_uring && m2.disk_depth <= 2);
    assert_int_equal(entries(t.root), 0);
    threads_close(&threads);
    tree_end(&t);
}

/* Without O_DIRECT every extent is read once, so the file's size bounds what is read. A file that became
 * shorter is an error, not a wrong figure. */
static void measures_a_buffered_file(void **state)
{
    (void)state;
    struct tree t;
    struct threads *threads;
    struct machine m = { 0 };
    struct err e = { 0 };
    char path[128], *block = malloc(1 << 20);
    tree_begin(&t);
    snprintf(path, sizeof path, "%s/weights", t.root);
    FILE *f = fopen(path, "w+");
    assert_true(f && block);
    memset(block, 7, 1 << 20);
    for (int i = 0; i < 64; i++)
        assert_int_equal(fwrite(block, 1, 1 << 20, f), 1 << 20);
    fflush(f);
    struct drive_file file = { .fd = fileno(f), .bytes = 64 * MIB };
    assert_int_equal(threads_open(&threads, 2, &e), 0);
    assert_int_equal(machine_measure_file(&m, &file, threads, &e), 0);
    assert_true(m.disk_gbs > 0 && m.disk_small_gbs > 0 && !m.disk_direct);
    assert_true(m.disk_depth <= 8); /* 9 extents */
    double before = m.disk_gbs;
    file.bytes = 128 * MIB;
    assert_int_equal(machine_measure_file(&m, &file, threads, &e), ERR_FILE);
    assert_true(m.disk_gbs == before);
    threads_close(&threads);
    fclose(f);
    free(block);
    tree_end(&t);
}

static void drives_that_cannot_be_measured(void **state)
{
    (void)state;
    struct threads *threads;
    struct machine m = { .disk_gbs = 5 };
    struct err e = { 0 };
    assert_int_equal(threads_open(&threads, 1, &e), 0);
    assert_int_equal(machine_measure_drive(&m, threads, "/proc", &e), 0);
    assert_true(m.disk_gbs == 0 && m.disk_depth == 0);
    assert_int_equal(machine_measure_drive(&m, threads, "/no/such/place", &e), ERR_FILE);
    assert_non_null(strstr(e.where, "/no/such/place"));
    threads_close(&threads);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_read_as_people_write_them),
        cmocka_unit_test(memory_without_limits),
        cmocka_unit_test(nested_limits_of_version_2),
        cmocka_unit_test(limits_of_version_1),
        cmocka_unit_test(group_outside_of_the_mount),
        cmocka_unit_test(damaged_system_files_are_unknowns),
        cmocka_unit_test(looks_at_this_machine),
        cmocka_unit_test(described_machine),
        cmocka_unit_test(refused_descriptions),
        cmocka_unit_test(file_keeps_what_was_measured),
        cmocka_unit_test(file_of_another_machine_is_refused),
        cmocka_unit_test(damaged_files_are_refused),
        cmocka_unit_test(measures_a_drive),
        cmocka_unit_test(measures_a_buffered_file),
        cmocka_unit_test(drives_that_cannot_be_measured),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
