/* machine_parse.c: a machine that is described: "vram=32G,ram=256G,link=55,rambw=205,disk=7,cores=16". */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/size.h"
#include "plan/machine.h"

/* What the text said before it becomes a machine; NAN: not given. */
struct described {
    struct machine *m;
    double link, vram_gbs, ram_gbs, cores, disk, disk_latency;
    bool disk_off, ram_given;
};

struct text {
    const char *at;
    size_t n;
};

enum key_kind { KEY_RAM, KEY_VRAM, KEY_DISK_FREE, KEY_DISK, KEY_CORES, KEY_NUMBER };

struct key {
    const char *name;
    enum key_kind kind;
    int where; /* KEY_NUMBER: which of numbers() */
    const char *example;
};

enum { NUMBER_LINK, NUMBER_VRAM_GBS, NUMBER_RAM_GBS, NUMBER_LATENCY, NUMBER_INT8, NUMBER_BF16, NUMBER_F32 };

static const struct key keys[] = {
    { "ram", KEY_RAM, 0, "ram=256G" },
    { "rambw", KEY_NUMBER, NUMBER_RAM_GBS, "rambw=205 (GB/s)" },
    { "cores", KEY_CORES, 0, "cores=16" },
    { "vram", KEY_VRAM, 0, "vram=32G or vram=32G+24G" },
    { "vrambw", KEY_NUMBER, NUMBER_VRAM_GBS, "vrambw=1790 (GB/s)" },
    { "link", KEY_NUMBER, NUMBER_LINK, "link=55 (GB/s)" },
    { "disk", KEY_DISK, 0, "disk=7 (GB/s) or disk=off" },
    { "disklat", KEY_NUMBER, NUMBER_LATENCY, "disklat=90 (microseconds)" },
    { "diskfree", KEY_DISK_FREE, 0, "diskfree=800G" },
    { "int8", KEY_NUMBER, NUMBER_INT8, "int8=3000 (1e9 multiply-adds/s)" },
    { "bf16", KEY_NUMBER, NUMBER_BF16, "bf16=1500 (1e9 multiply-adds/s)" },
    { "f32", KEY_NUMBER, NUMBER_F32, "f32=700 (1e9 multiply-adds/s)" },
};
enum { N_KEYS = sizeof keys / sizeof *keys };

static double *number(struct described *d, int which)
{
    switch (which) {
    case NUMBER_LINK:
        return &d->link;
    case NUMBER_VRAM_GBS:
        return &d->vram_gbs;
    case NUMBER_RAM_GBS:
        return &d->ram_gbs;
    case NUMBER_LATENCY:
        return &d->disk_latency;
    case NUMBER_INT8:
        return &d->m->int8_gmacs;
    case NUMBER_BF16:
        return &d->m->bf16_gmacs;
    default:
        return &d->m->f32_gmacs;
    }
}

static int bad_value(const struct key *k, struct text value, struct err *e)
{
    int n = value.n < 40 ? (int)value.n : 40;
    err_set(e, ERR_USAGE, "--machine %s=%.*s is not understood", k->name, n, value.at);
    err_hint(e, "write it like %s", k->example);
    return ERR_USAGE;
}

static int unknown_key(struct text name, struct err *e)
{
    char list[160] = "";
    for (int i = 0; i < N_KEYS; i++) {
        size_t n = strlen(list);
        snprintf(list + n, sizeof list - n, "%s%s", i ? ", " : "", keys[i].name);
    }
    int n = name.n < 40 ? (int)name.n : 40;
    err_set(e, ERR_USAGE, "--machine has no key \"%.*s\"", n, name.at);
    err_hint(e, "its keys are %s: --machine vram=32G,ram=256G,rambw=205,cores=16,link=55,disk=7", list);
    return ERR_USAGE;
}

/* Plain decimals only: strtod alone would take "inf", "0x1p4" and leading blanks. */
static bool read_number(struct text t, double *out)
{
    char copy[32];
    if (t.n == 0 || t.n >= sizeof copy || strspn(t.at, "0123456789.") < t.n)
        return false;
    memcpy(copy, t.at, t.n);
    copy[t.n] = '\0';
    char *end;
    double v = strtod(copy, &end);
    if (*end || v > 1e9)
        return false;
    *out = v;
    return true;
}

static bool read_vram(struct machine *m, struct text t)
{
    m->n_gpu = 0;
    for (const char *p = t.at, *end = t.at + t.n; p < end;) {
        const char *plus = memchr(p, '+', (size_t)(end - p)), *stop = plus ? plus : end;
        uint64_t bytes;
        if (m->n_gpu == MACHINE_MAX_GPU || !size_parse(p, (size_t)(stop - p), &bytes) ||
            (plus && plus + 1 == end))
            return false;
        if (bytes) { /* vram=0: no GPU */
            struct machine_gpu *g = &m->gpu[m->n_gpu++];
            *g = (struct machine_gpu){ .bytes = (size_t)bytes, .free_bytes = (size_t)bytes };
            snprintf(g->name, sizeof g->name, "GPU %d", m->n_gpu);
        }
        p = stop + 1;
    }
    return t.n > 0;
}

static int set_key(struct described *d, const struct key *k, struct text value, struct err *e)
{
    uint64_t bytes = 0;
    bool size_ok = size_parse(value.at, value.n, &bytes), ok = false;
    switch (k->kind) {
    case KEY_RAM:
        ok = size_ok && bytes > 0;
        d->m->ram_total = d->m->ram_available = (size_t)bytes;
        d->ram_given = true;
        break;
    case KEY_DISK_FREE:
        ok = size_ok;
        d->m->disk_free = (size_t)bytes;
        break;
    case KEY_VRAM:
        ok = read_vram(d->m, value);
        break;
    case KEY_DISK:
        d->disk_off = value.n == 3 && memcmp(value.at, "off", 3) == 0;
        ok = d->disk_off || (read_number(value, &d->disk) && d->disk > 0);
        break;
    case KEY_CORES:
        ok =
            read_number(value, &d->cores) && d->cores >= 1 && d->cores <= 4096 && d->cores == floor(d->cores);
        break;
    case KEY_NUMBER:
        ok = read_number(value, number(d, k->where)) && *number(d, k->where) > 0;
        break;
    }
    return ok ? 0 : bad_value(k, value, e);
}

static int read_pair(struct described *d, unsigned *given, struct text pair, struct err *e)
{
    const char *equals = memchr(pair.at, '=', pair.n);
    struct text name = { pair.at, equals ? (size_t)(equals - pair.at) : pair.n };
    for (int i = 0; i < N_KEYS; i++) {
        if (strlen(keys[i].name) != name.n || memcmp(keys[i].name, name.at, name.n) != 0)
            continue;
        if (*given & 1u << i) {
            err_set(e, ERR_USAGE, "--machine gives %s twice", keys[i].name);
            err_hint(e, "give it once: %s", keys[i].example);
            return ERR_USAGE;
        }
        *given |= 1u << i;
        struct text value = { name.at + name.n + 1, equals ? pair.n - name.n - 1 : 0 };
        return set_key(d, &keys[i], equals ? value : (struct text){ "", 0 }, e);
    }
    return unknown_key(name, e);
}

static void finish(struct described *d)
{
    struct machine *m = d->m;
    m->cores = m->usable_cores = (int)d->cores;
    m->n_ram_gbs = d->ram_gbs > 0 ? (m->cores < 1 ? 1 : m->cores) : 0;
    if (m->n_ram_gbs > MACHINE_MAX_CURVE)
        m->n_ram_gbs = MACHINE_MAX_CURVE;
    for (int i = 0; i < m->n_ram_gbs; i++)
        m->ram_gbs[i] = d->ram_gbs * (i + 1) / m->n_ram_gbs;
    for (int i = 0; i < m->n_gpu; i++) {
        m->gpu[i].link_gbs = d->link;
        m->gpu[i].memory_gbs = d->vram_gbs;
    }
    m->disk_gbs = m->disk_small_gbs = d->disk_off ? 0 : d->disk;
    m->disk_latency_us = m->disk_small_latency_us = d->disk_latency;
    m->disk_direct = m->disk_uring = !d->disk_off;
    m->disk_free = d->disk_off ? 0 : m->disk_free ? m->disk_free : (size_t)1 << 62;
}

int machine_parse(struct machine *m, const char *text, struct err *e)
{
    *m = (struct machine){ .numa_nodes = 1 };
    snprintf(m->cpu, sizeof m->cpu, "described");
    struct described d = { .m = m };
    unsigned given = 0;
    for (const char *p = text;;) {
        size_t n = strcspn(p, ",");
        int rc = read_pair(&d, &given, (struct text){ p, n }, e);
        if (rc)
            return rc;
        if (!p[n])
            break;
        p += n + 1;
    }
    if (!d.ram_given) {
        err_set(e, ERR_USAGE, "--machine does not say how much RAM there is");
        err_hint(e, "add it: --machine ram=256G,%s", text);
        return ERR_USAGE;
    }
    finish(&d);
    return 0;
}
