/*
 * err.h: the one way to fail. Functions return 0 or a negative ERR_ code and describe the failure in *e;
 * only cmd/main.c prints and exits. The reader is a user: say what, where, and what to type next.
 */
#ifndef TONNE_BASE_ERR_H
#define TONNE_BASE_ERR_H

enum {
    ERR_USAGE = -1,   /* the command line or an argument is wrong                 exit 2 */
    ERR_FILE = -2,    /* a file is missing, unreadable or not what it should be   exit 4 */
    ERR_FORMAT = -3,  /* a file's content is invalid or unsupported               exit 4 */
    ERR_IO = -4,      /* writing failed (no space, permission)                    exit 1 */
    ERR_MEMORY = -5,  /* the system refused memory                                exit 1 */
    ERR_NO_ROOM = -6, /* the plan does not fit this machine                       exit 3 */
    ERR_DEVICE = -7,  /* a device operation failed                                exit 5 */
    ERR_CANCELED = -8 /* the caller asked to stop                                 exit 1 */
};

struct err {
    int code;
    char what[320];
    char where[320];
    char hint[320];
};

/* Every function tolerates e == NULL (the caller only wants the code). */

/* Starts a failure: sets code and what, clears where and hint. Returns code. */
int err_set(struct err *e, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Adds where it happened; callers add context on the way up, outermost first: "FILE, tensor X". */
void err_where(struct err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Says what the user can type or change. The innermost hint stays; later ones are ignored. */
void err_hint(struct err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* The program's exit code for e->code (0 for success). */
int err_exit_code(const struct err *e);

/* Writes the three lines (what, where, try) to stderr; control characters are shown as '?'. cmd/ only. */
void err_print(const struct err *e);

#endif
