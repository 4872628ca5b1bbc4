/*
 * packed_folder.c: the folder of packs: names, what is out of date, how much may be kept. A pack that
 * somebody reads may be removed at any time: the reader keeps its open file.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/checked.h"
#include "base/file.h"
#include "base/size.h"
#include "load/packed_private.h"

struct entry { /* a pack in the folder */
    char name[64];
    uint64_t bytes;
    struct timespec used;
    struct packed_key key; /* zeros where the head cannot be read */
};

struct listing {
    struct entry *entry;
    int n, room;
    uint64_t bytes; /* of all */
};

void packed_say(const struct packed_options *opt, const char *fmt, ...)
{
    char line[512];
    va_list args;
    if (!opt->say)
        return;
    va_start(args, fmt);
    vsnprintf(line, sizeof line, fmt, args);
    va_end(args);
    opt->say(opt->say_user, line);
}

char *packed_file_name(const struct packed_options *opt, const struct packed_key *key)
{
    size_t room = strlen(opt->folder) + 64;
    char *path = malloc(room);
    if (path)
        snprintf(path, room, "%s/%016llx%016llx.pack", opt->folder, (unsigned long long)key->high,
                 (unsigned long long)key->low);
    return path;
}

/* Makes every missing folder of path. */
static int make_folders(const char *path, struct err *e)
{
    char *part = strdup(path);
    int rc = part ? 0 : err_set(e, ERR_MEMORY, "no memory for a path");
    for (char *at = part ? part + 1 : NULL; at && !rc; at++) {
        char end = *at;
        if (end != '/' && end)
            continue;
        *at = '\0';
        if (mkdir(part, 0777) && errno != EEXIST) {
            rc = err_set(e, ERR_IO, "the folder for packed models cannot be made: %s", strerror(errno));
            err_where(e, "%s", path);
        }
        *at = end;
        if (!end)
            break;
    }
    free(part);
    return rc;
}

static int add(struct listing *l, int folder, const char *name, struct err *e)
{
    struct stat st;
    struct packed_head head = { 0 };
    if (strlen(name) >= sizeof l->entry->name || fstatat(folder, name, &st, AT_SYMLINK_NOFOLLOW) ||
        !S_ISREG(st.st_mode))
        return 0;
    if (l->n == l->room) {
        int more = l->room ? 2 * l->room : 16;
        struct entry *grown = realloc(l->entry, (size_t)more * sizeof *grown);
        if (!grown)
            return err_set(e, ERR_MEMORY, "no memory for a list of packed models");
        l->entry = grown;
        l->room = more;
    }
    int fd = openat(folder, name, O_RDONLY | O_CLOEXEC);
    if (fd >= 0 && (file_read(fd, &head, sizeof head, 0, NULL) || !packed_head_valid(&head)))
        head.key = (struct packed_key){ 0, 0, 0 };
    if (fd >= 0)
        close(fd);
    struct entry *to = &l->entry[l->n++];
    *to = (struct entry){ .bytes = (uint64_t)st.st_size, .used = st.st_mtim, .key = head.key };
    strcpy(to->name, name);
    l->bytes += to->bytes;
    return 0;
}

static int list_packs(struct listing *l, const char *folder, struct err *e)
{
    DIR *d = opendir(folder);
    if (!d) {
        err_set(e, ERR_IO, "the folder for packed models cannot be read: %s", strerror(errno));
        err_where(e, "%s", folder);
        return ERR_IO;
    }
    int rc = 0;
    for (struct dirent *entry; !rc && (entry = readdir(d));) {
        size_t n = strlen(entry->d_name);
        if (n > 5 && strcmp(entry->d_name + n - 5, ".pack") == 0)
            rc = add(l, dirfd(d), entry->d_name, e);
    }
    closedir(d);
    return rc;
}

static void drop(struct listing *l, int i, const struct packed_options *opt)
{
    char path[4096];
    if (snprintf(path, sizeof path, "%s/%s", opt->folder, l->entry[i].name) < (int)sizeof path)
        unlink(path);
    l->bytes -= l->entry[i].bytes;
    l->entry[i] = l->entry[--l->n];
}

/* The same model at the same place, read with the same result, had other files then. */
static void drop_out_of_date(struct listing *l, const struct packed_options *opt,
                             const struct packed_key *key)
{
    for (int i = l->n - 1; i >= 0; i--) {
        const struct packed_key *old = &l->entry[i].key;
        if (old->origin != key->origin || (old->low == key->low && old->high == key->high))
            continue;
        packed_say(opt, "packed model %s/%s: the model's files have changed since; making it anew",
                   opt->folder, l->entry[i].name);
        drop(l, i, opt);
    }
}

static int least_recent(const struct listing *l)
{
    int at = 0;
    for (int i = 1; i < l->n; i++) {
        const struct timespec *a = &l->entry[i].used, *b = &l->entry[at].used;
        if (a->tv_sec < b->tv_sec || (a->tv_sec == b->tv_sec && a->tv_nsec < b->tv_nsec))
            at = i;
    }
    return at;
}

static int check_drive(const struct packed_options *opt, uint64_t bytes, struct err *e)
{
    struct statvfs v;
    uint64_t spare = opt->spare_bytes ? opt->spare_bytes : (uint64_t)1 << 30, need;
    if (statvfs(opt->folder, &v)) {
        err_set(e, ERR_IO, "the drive of packed models cannot be examined: %s", strerror(errno));
        err_where(e, "%s", opt->folder);
        return ERR_IO;
    }
    uint64_t have = (uint64_t)v.f_bavail * v.f_frsize;
    if (checked_add(bytes, spare, &need) && need <= have)
        return 0;
    char want[SIZE_TEXT], left[SIZE_TEXT];
    err_set(e, ERR_NO_ROOM, "a packed model of %s does not fit the drive, which has %s free",
            size_text(want, bytes), size_text(left, have));
    err_where(e, "%s", opt->folder);
    err_hint(e, "free space there: the packed model, and %s more", size_text(want, spare));
    return ERR_NO_ROOM;
}

int packed_make_room(const struct packed_options *opt, const struct packed_key *key, uint64_t bytes,
                     struct err *e)
{
    uint64_t limit = opt->limit_bytes ? opt->limit_bytes : (uint64_t)200 << 30;
    struct listing l = { 0 };
    int rc = make_folders(opt->folder, e);
    if (!rc)
        file_sweep(opt->folder);
    if (!rc && bytes > limit) {
        char want[SIZE_TEXT], most[SIZE_TEXT];
        rc = err_set(e, ERR_NO_ROOM, "a packed model of %s is larger than all packed models may be: %s",
                     size_text(want, bytes), size_text(most, limit));
        err_where(e, "%s", opt->folder);
    }
    if (!rc)
        rc = list_packs(&l, opt->folder, e);
    if (!rc) {
        drop_out_of_date(&l, opt, key);
        while (l.n > 0 && l.bytes > limit - bytes)
            drop(&l, least_recent(&l), opt);
        rc = check_drive(opt, bytes, e);
    }
    free(l.entry);
    return rc;
}
