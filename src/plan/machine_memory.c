/*
 * machine_memory.c: how much RAM there is for this process. Three limits count at once: what the machine has,
 * what is available of it now, and what the control groups above this process allow (containers, systemd,
 * batch systems).
 *
 * A group's limit binds all groups below it, so every level from the process' own group up to the mount point
 * is read. Version 2 has memory.max (killed beyond) and memory.high (slowed to a crawl beyond: no room
 * either); version 1 has memory.limit_in_bytes. What a group uses includes the page cache, which the kernel
 * gives back on demand.
 */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "plan/machine_private.h"

enum { LINE = 8192 };

struct hierarchy {                    /* one version's file names */
    const char *fs_type, *controller; /* controller: as it must be listed; "": version 2 */
    const char *limit[2], *used;
    const char *cache[2]; /* keys of memory.stat: page cache */
};

static const struct hierarchy versions[] = {
    { "cgroup2", "", { "memory.max", "memory.high" }, "memory.current", { "active_file", "inactive_file" } },
    { "cgroup",
      "memory",
      { "memory.limit_in_bytes", NULL },
      "memory.usage_in_bytes",
      { "total_active_file", "total_inactive_file" } },
};

static FILE *open_text(const char *root, const char *folder, const char *name)
{
    char path[PATH_MAX];
    int n = snprintf(path, sizeof path, "%s%s/%s", root, folder, name);
    return n < (int)sizeof path ? fopen(path, "re") : NULL;
}

/* The number after the line that begins with key and a space or colon; 0: not there. */
static size_t read_key(const char *root, const char *folder, const char *name, const char *key)
{
    FILE *f = open_text(root, folder, name);
    if (!f)
        return 0;
    char line[LINE];
    size_t n = strlen(key), value = 0;
    while (fgets(line, sizeof line, f))
        if (strncmp(line, key, n) == 0 && (line[n] == ' ' || line[n] == ':')) {
            value = strtoull(line + n + 1, NULL, 10);
            break;
        }
    fclose(f);
    return value;
}

/* A file that holds one number. False when it is missing or says "max". */
static bool read_number(const char *root, const char *folder, const char *name, size_t *value)
{
    FILE *f = open_text(root, folder, name);
    if (!f)
        return false;
    unsigned long long v;
    bool found = fscanf(f, "%llu", &v) == 1;
    fclose(f);
    if (found)
        *value = (size_t)v;
    return found;
}

/* True when list ("cpu,memory") names word. */
static bool lists(const char *list, const char *word)
{
    size_t n = strlen(word);
    for (const char *p = list; (p = strstr(p, word)); p += n)
        if ((p == list || p[-1] == ',') && (p[n] == '\0' || p[n] == ','))
            return true;
    return false;
}

/* mountinfo writes blanks in paths as \040. */
static void unescape(char *s)
{
    char *to = s;
    for (; *s; s++) {
        bool octal = s[0] == '\\' && s[1] >= '0' && s[1] <= '3' && s[2] >= '0' && s[2] <= '7' &&
                     s[3] >= '0' && s[3] <= '7';
        *to++ = octal ? (char)((s[1] - '0') * 64 + (s[2] - '0') * 8 + (s[3] - '0')) : *s;
        s += octal ? 3 : 0;
    }
    *to = '\0';
}

/* Where the hierarchy is mounted, and which of its groups the mount point shows ("/" unless inside a
 * container). Lines: id parent major:minor ROOT POINT options [tags] - TYPE source SUPER_OPTIONS. */
static bool find_mount(const char *root, const struct hierarchy *h, char *shown, char *point)
{
    FILE *f = open_text(root, "/proc/self", "mountinfo");
    if (!f)
        return false;
    char line[LINE], type[64], super[1024];
    bool found = false;
    while (!found && fgets(line, sizeof line, f)) {
        char *rest = strstr(line, " - ");
        if (!rest || sscanf(rest, " - %63s %*s %1023s", type, super) != 2 || strcmp(type, h->fs_type) != 0)
            continue;
        if (h->controller[0] && !lists(super, h->controller))
            continue;
        found = sscanf(line, "%*s %*s %*s %4095s %4095s", shown, point) == 2;
    }
    fclose(f);
    if (found)
        unescape(shown), unescape(point);
    return found;
}

/* This process' group in the hierarchy. Lines: ID:CONTROLLERS:PATH; version 2 has ID 0 and no controllers. */
static bool find_group(const char *root, const struct hierarchy *h, char *path)
{
    FILE *f = open_text(root, "/proc/self", "cgroup");
    if (!f)
        return false;
    char line[LINE];
    bool found = false;
    while (!found && fgets(line, sizeof line, f)) {
        char *controllers = strchr(line, ':'), *group = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!group || strlen(group) >= PATH_MAX)
            continue;
        *group++ = '\0';
        group[strcspn(group, "\n")] = '\0';
        controllers++;
        found = h->controller[0] ? lists(controllers, h->controller)
                                 : strncmp(line, "0:", 2) == 0 && *controllers == '\0';
        if (found)
            strcpy(path, group);
    }
    fclose(f);
    return found;
}

/* The part of the group's path below what the mount shows; "" when the group lies outside of it. */
static const char *below(const char *group, const char *shown)
{
    size_t n = strcmp(shown, "/") == 0 ? 0 : strlen(shown);
    bool outside = strncmp(group, shown, n) != 0 || (group[n] != '/' && group[n] != '\0');
    return outside || strncmp(group, "/..", 3) == 0 || strcmp(group + n, "/") == 0 ? "" : group + n;
}

static void read_level(struct machine *m, const char *root, const char *folder, const struct hierarchy *h)
{
    size_t used = 0, cache = 0;
    if (read_number(root, folder, h->used, &used))
        for (int i = 0; i < 2; i++)
            cache += read_key(root, folder, "memory.stat", h->cache[i]);
    used -= cache < used ? cache : used;
    for (int i = 0; i < 2 && h->limit[i]; i++) {
        size_t limit;
        if (!read_number(root, folder, h->limit[i], &limit) || (m->ram_total && limit >= m->ram_total) ||
            limit >= (size_t)1 << 60)
            continue; /* no limit, or one that the machine reaches first */
        size_t room = limit > used ? limit - used : 0;
        if (!m->cgroup_limit || room < m->cgroup_room)
            m->cgroup_room = room;
        if (!m->cgroup_limit || limit < m->cgroup_limit)
            m->cgroup_limit = limit ? limit : 1; /* 0 means none */
    }
}

static void read_hierarchy(struct machine *m, const char *root, const struct hierarchy *h)
{
    char shown[PATH_MAX], point[PATH_MAX], group[PATH_MAX], folder[2 * PATH_MAX];
    if (!find_mount(root, h, shown, point) || !find_group(root, h, group))
        return;
    size_t top = strlen(point);
    snprintf(folder, sizeof folder, "%s%s", point, below(group, shown));
    for (;;) {
        read_level(m, root, folder, h);
        char *cut = strrchr(folder, '/');
        if (!cut || (size_t)(cut - folder) < top)
            return;
        *cut = '\0';
    }
}

void machine_look_memory(struct machine *m, const char *root)
{
    m->ram_total = 1024 * read_key(root, "/proc", "meminfo", "MemTotal");
    m->ram_available = 1024 * read_key(root, "/proc", "meminfo", "MemAvailable");
    m->cgroup_limit = m->cgroup_room = 0;
    for (size_t i = 0; i < sizeof versions / sizeof *versions; i++)
        read_hierarchy(m, root, &versions[i]);
}

size_t machine_ram(const struct machine *m)
{
    size_t ram = m->ram_available ? m->ram_available : m->ram_total;
    return m->cgroup_limit && (m->cgroup_room < ram || !ram) ? m->cgroup_room : ram;
}
