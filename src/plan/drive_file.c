/*
 * drive_file.c: a file to measure a drive with. A model that lies there already is best: nothing is written,
 * and it is what will be read later. Otherwise random bytes (drives compress and merge what repeats) go into
 * a file that never has a name or loses it at once, so that nothing stays behind even when the process is
 * killed.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "plan/machine_private.h"

static const uint64_t LARGE = 256u << 20, WRITE_MOST = 1u << 30, WRITE_LEAST = 64u << 20;
static const double WRITE_SECONDS = 3;
enum { CHUNK = 16 << 20 };

/* ---- a file that is there ---- */

/* True for a regular file that really occupies its size (holes are not read from the drive). */
static bool is_large(const char *path, uint64_t *bytes)
{
    struct stat st;
    if (stat(path, &st) || !S_ISREG(st.st_mode) || (uint64_t)st.st_size < LARGE)
        return false;
    *bytes = (uint64_t)st.st_size;
    return (uint64_t)st.st_blocks * 512 >= *bytes / 10 * 9 && access(path, R_OK) == 0;
}

/* The largest such file of a folder. */
static bool find_large(const char *folder, char *path)
{
    DIR *d = opendir(folder);
    uint64_t best = 0, bytes;
    if (!d)
        return false;
    for (struct dirent *entry; (entry = readdir(d));) {
        char name[PATH_MAX];
        int n = snprintf(name, sizeof name, "%s/%s", folder, entry->d_name);
        if (n < (int)sizeof name && is_large(name, &bytes) && bytes > best) {
            best = bytes;
            memcpy(path, name, (size_t)n + 1);
        }
    }
    closedir(d);
    return best > 0;
}

/* Reading 4 KiB tells whether O_DIRECT is not only accepted but works. */
static bool direct_works(int fd)
{
    struct mem block;
    if (mem_ram(&block, 4096, "a test read", NULL))
        return false;
    bool works = pread(fd, block.ptr, 4096, 0) == 4096;
    mem_free(&block);
    return works;
}

static bool open_existing(struct drive_file *f, const char *path)
{
    if (!is_large(path, &f->bytes))
        return false;
    f->fd = open(path, O_RDONLY | O_CLOEXEC | O_DIRECT);
    f->direct = f->fd >= 0 && direct_works(f->fd);
    if (f->direct)
        return true;
    drive_file_close(f);
    f->fd = open(path, O_RDONLY | O_CLOEXEC);
    return f->fd >= 0;
}

/* ---- a file of our own ---- */

static int open_nameless(const char *folder)
{
    int fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd >= 0)
        return fd;
    char path[PATH_MAX]; /* a filesystem without O_TMPFILE */
    int n = snprintf(path, sizeof path, "%s/.tonne-doctor-XXXXXX", folder);
    fd = n < (int)sizeof path ? mkostemp(path, O_CLOEXEC) : -1;
    if (fd >= 0)
        unlink(path);
    return fd;
}

static void fill_random(uint64_t *x, size_t n, uint64_t *seed)
{
    uint64_t s = *seed;
    for (size_t i = 0; i < n; i++) {
        s ^= s << 13;
        s ^= s >> 7;
        s ^= s << 17;
        x[i] = s;
    }
    *seed = s;
}

static bool write_chunk(int fd, const char *data, uint64_t at)
{
    for (size_t done = 0; done < CHUNK;) {
        ssize_t put = pwrite(fd, data + done, CHUNK - done, (off_t)(at + done));
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return false;
        done += (size_t)put;
    }
    return fdatasync(fd) == 0;
}

/* Writes until `most` bytes, the time is over, or the drive refuses; returns what is there. */
static uint64_t write_random(int fd, uint64_t most)
{
    struct mem block;
    uint64_t at = 0, seed = 0x9e3779b97f4a7c15;
    if (mem_ram(&block, CHUNK, "the drive measurement", NULL))
        return 0;
    for (double begin = clock_seconds(); at < most && clock_seconds() - begin < WRITE_SECONDS; at += CHUNK) {
        fill_random(block.ptr, CHUNK / 8, &seed);
        if (!write_chunk(fd, block.ptr, at))
            break;
    }
    mem_free(&block);
    return at;
}

static void write_own(struct drive_file *f, const char *folder)
{
    struct machine drive = { 0 };
    machine_look_drive(&drive, folder);
    uint64_t most = drive.disk_free / 4 < WRITE_MOST ? drive.disk_free / 4 : WRITE_MOST;
    if (most < WRITE_LEAST || (f->fd = open_nameless(folder)) < 0)
        return;
    int flags = fcntl(f->fd, F_GETFL);
    f->direct = fcntl(f->fd, F_SETFL, flags | O_DIRECT) == 0;
    f->bytes = write_random(f->fd, most);
    if (f->direct && (f->bytes == 0 || !direct_works(f->fd))) {
        fcntl(f->fd, F_SETFL, flags);
        f->direct = false;
        f->bytes = write_random(f->fd, most);
    }
    if (f->bytes < WRITE_LEAST)
        drive_file_close(f);
}

int drive_path_check(const char *path, struct err *e)
{
    struct stat st;
    if (strlen(path) < PATH_MAX && stat(path, &st) == 0)
        return 0;
    err_set(e, ERR_FILE, "there is no such file or folder");
    err_where(e, "%s", path);
    err_hint(e, "name a model file, or a folder on the drive to measure");
    return ERR_FILE;
}

int drive_file_open(struct drive_file *f, const char *path, struct err *e)
{
    struct stat st = { 0 };
    char folder[PATH_MAX], found[PATH_MAX];
    *f = (struct drive_file){ .fd = -1 };
    int rc = drive_path_check(path, e);
    if (rc)
        return rc;
    strcpy(folder, path);
    stat(path, &st);
    if (open_existing(f, path))
        return 0;
    if (!S_ISDIR(st.st_mode)) {
        char *cut = strrchr(folder, '/');
        if (!cut)
            strcpy(folder, ".");
        else
            cut[cut == folder] = '\0'; /* its folder; "/" stays */
    }
    if (!find_large(folder, found) || !open_existing(f, found))
        write_own(f, folder);
    return 0;
}

void drive_file_close(struct drive_file *f)
{
    if (f->fd >= 0)
        close(f->fd);
    f->fd = -1;
}
