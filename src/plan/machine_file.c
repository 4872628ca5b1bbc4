/*
 * machine_file.c: what doctor measured, kept as JSON between runs. Only measurements are read back: memory
 * and free space change by the minute and are looked up every time. A drive's figures belong to that drive,
 * so the file keeps a list of them.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "plan/machine.h"

enum { VERSION = 1, MAX_FILE = 1 << 20, MAX_DRIVES = 32 };
static const double MAX_RATE = 1e9;

static json_t *drive_json(const struct machine *m)
{
    return json_pack("{s:I, s:I, s:f, s:f, s:f, s:f, s:i, s:b, s:b}", "device", (json_int_t)m->disk_device,
                     "free_bytes", (json_int_t)m->disk_free, "gbs", m->disk_gbs, "small_gbs",
                     m->disk_small_gbs, "latency_us", m->disk_latency_us, "small_latency_us",
                     m->disk_small_latency_us, "depth", m->disk_depth, "direct", m->disk_direct, "uring",
                     m->disk_uring);
}

static json_t *gpus_json(const struct machine *m)
{
    json_t *list = json_array();
    for (int i = 0; i < m->n_gpu; i++) {
        const struct machine_gpu *g = &m->gpu[i];
        json_array_append_new(list, json_pack("{s:s, s:I, s:I, s:f, s:f}", "name", g->name, "bytes",
                                              (json_int_t)g->bytes, "free_bytes", (json_int_t)g->free_bytes,
                                              "link_gbs", g->link_gbs, "memory_gbs", g->memory_gbs));
    }
    return list;
}

json_t *machine_json(const struct machine *m)
{
    json_t *curve = json_array(), *drives = json_array();
    for (int i = 0; i < m->n_ram_gbs; i++)
        json_array_append_new(curve, json_real(m->ram_gbs[i]));
    json_array_append_new(drives, drive_json(m));
    return json_pack(
        "{s:i, s:s, s:i, s:i, s:i, s:{s:I, s:I, s:I, s:I, s:o}, s:{s:f, s:f, s:f}, s:o, s:o}",
        "tonne_machine", VERSION, "cpu", m->cpu, "cores", m->cores, "usable_cores", m->usable_cores,
        "numa_nodes", m->numa_nodes, "ram", "total_bytes", (json_int_t)m->ram_total, "available_bytes",
        (json_int_t)m->ram_available, "cgroup_limit_bytes", (json_int_t)m->cgroup_limit, "usable_bytes",
        (json_int_t)machine_ram(m), "read_gbs", curve, "arithmetic", "int8_gmacs", m->int8_gmacs,
        "bf16_gmacs", m->bf16_gmacs, "f32_gmacs", m->f32_gmacs, "drives", drives, "gpus", gpus_json(m));
}

/* ---- reading ---- */

static int damaged(struct err *e)
{
    err_hint(e, "measure again: tonne doctor");
    return ERR_FORMAT;
}

/* A rate or time: 0 (not measured) or more. */
static int read_rate(const json_t *obj, const char *key, double *out, struct err *e)
{
    if (json_get_real(obj, key, 0, out, e))
        return ERR_FORMAT;
    if (*out < 0 || *out > MAX_RATE)
        return err_set(e, ERR_FORMAT, "%s is %g, which no machine reaches", key, *out);
    return 0;
}

/* Fills n_ram_gbs and ram_gbs. The list may be longer than the threads that this process may use now. */
static int read_curve(struct machine *m, const json_t *list, struct err *e)
{
    size_t n = json_array_size(list);
    if (n > MACHINE_MAX_CURVE || (list && !json_is_array(list)))
        return err_set(e, ERR_FORMAT, "read_gbs is not a list of at most %d numbers", MACHINE_MAX_CURVE);
    for (size_t i = 0; i < n; i++) {
        const json_t *v = json_array_get(list, i);
        m->ram_gbs[i] = json_number_value(v);
        if (!json_is_number(v) || !(m->ram_gbs[i] >= 0 && m->ram_gbs[i] <= MAX_RATE))
            return err_set(e, ERR_FORMAT, "read_gbs[%zu] is not a bandwidth", i);
    }
    m->n_ram_gbs = (int)n;
    return 0;
}

/* Rates of all threads then, of those that may be used now. */
static void keep_to_threads(struct machine *m)
{
    int then = m->n_ram_gbs, now = m->usable_cores;
    if (now < 1 || then <= now)
        return;
    m->n_ram_gbs = now;
    m->int8_gmacs *= (double)now / then;
    m->bf16_gmacs *= (double)now / then;
    m->f32_gmacs *= (double)now / then;
}

static int read_drive(struct machine *m, const json_t *drive, struct err *e)
{
    int64_t depth;
    if (read_rate(drive, "gbs", &m->disk_gbs, e) || read_rate(drive, "small_gbs", &m->disk_small_gbs, e) ||
        read_rate(drive, "latency_us", &m->disk_latency_us, e) ||
        read_rate(drive, "small_latency_us", &m->disk_small_latency_us, e) ||
        json_get_int(drive, "depth", 0, 4096, 0, &depth, e) ||
        json_get_bool(drive, "direct", false, &m->disk_direct, e) ||
        json_get_bool(drive, "uring", false, &m->disk_uring, e))
        return ERR_FORMAT;
    m->disk_depth = (int)depth;
    return 0;
}

static bool is_drive(const json_t *drive, uint64_t device)
{
    return (uint64_t)json_integer_value(json_object_get(drive, "device")) == device;
}

static int read_measured(struct machine *m, const json_t *root, struct err *e)
{
    const json_t *ram = json_object_get(root, "ram"), *math = json_object_get(root, "arithmetic");
    const json_t *drives = json_object_get(root, "drives");
    if (read_curve(m, json_object_get(ram, "read_gbs"), e) ||
        read_rate(math, "int8_gmacs", &m->int8_gmacs, e) ||
        read_rate(math, "bf16_gmacs", &m->bf16_gmacs, e) || read_rate(math, "f32_gmacs", &m->f32_gmacs, e))
        return ERR_FORMAT;
    keep_to_threads(m);
    for (size_t i = 0; m->disk_device && i < json_array_size(drives); i++)
        if (is_drive(json_array_get(drives, i), m->disk_device))
            return read_drive(m, json_array_get(drives, i), e);
    return 0;
}

static int check_same(const struct machine *m, const json_t *root, struct err *e)
{
    int64_t version, cores;
    if (json_get_int(root, "tonne_machine", 0, INT64_MAX, 0, &version, e) ||
        json_get_int(root, "cores", 0, INT64_MAX, 0, &cores, e))
        return ERR_FORMAT;
    if (version != VERSION)
        return err_set(e, ERR_FORMAT, "these measurements have version %lld; this program reads %d",
                       (long long)version, VERSION);
    const char *cpu = json_get_str(root, "cpu", "");
    if (strcmp(cpu, m->cpu) != 0 || cores != m->cores)
        return err_set(e, ERR_FORMAT, "these measurements are of another machine: %.80s, %lld cores", cpu,
                       (long long)cores);
    return 0;
}

int machine_load(struct machine *m, const char *path, struct err *e)
{
    json_t *root;
    int rc = json_load_path(path, MAX_FILE, &root, e);
    if (rc) {
        err_hint(e, "measure this machine: tonne doctor");
        return rc;
    }
    struct machine found = *m;
    if (check_same(m, root, e) || read_measured(&found, root, e)) {
        json_decref(root);
        err_where(e, "%s", path);
        return damaged(e);
    }
    json_decref(root);
    *m = found;
    return 0;
}

/* ---- writing ---- */

/* Adds the other drives of an earlier file; one that is missing, damaged or another machine's adds none. */
static void keep_drives(const struct machine *m, json_t *root, const char *path)
{
    json_t *old, *drives = json_object_get(root, "drives");
    if (json_load_path(path, MAX_FILE, &old, NULL))
        return;
    const json_t *list = check_same(m, old, NULL) ? NULL : json_object_get(old, "drives");
    for (size_t i = 0; i < json_array_size(list) && json_array_size(drives) < MAX_DRIVES; i++) {
        json_t *drive = json_array_get(list, i);
        if (json_is_object(drive) && !is_drive(drive, m->disk_device))
            json_array_append(drives, drive);
    }
    json_decref(old);
}

int machine_save(const struct machine *m, const char *path, struct err *e)
{
    json_t *root = machine_json(m);
    char *text = NULL;
    if (root) {
        keep_drives(m, root, path);
        text = json_dumps(root, JSON_INDENT(1) | JSON_REAL_PRECISION(6));
    }
    json_decref(root);
    if (!text)
        return err_set(e, ERR_MEMORY, "no memory for the JSON text");
    struct file_writer *w;
    int rc = file_writer_open(&w, path, e);
    if (!rc) {
        rc = file_writer_append(w, text, strlen(text), e);
        if (!rc)
            rc = file_writer_append(w, "\n", 1, e);
        if (!rc)
            rc = file_writer_commit(&w, e);
        file_writer_abort(&w);
    }
    free(text);
    return rc;
}
