/*
 * terminal.h: what the program shares with its terminal: Ctrl-C, a progress line, output that may fail. The
 * only mutable state of the process outside its commands is here, because signals have no other place to
 * report to.
 */
#ifndef TONNE_CMD_TERMINAL_H
#define TONNE_CMD_TERMINAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "base/err.h"
#include "base/log.h"

/* Ctrl-C from now on only raises a flag; a second one before the flag was taken down ends the program. */
void terminal_catch_interrupt(void);
bool terminal_interrupted(void);
void terminal_clear_interrupt(void);
/* The same as a poll for the engine (user is ignored). */
int terminal_poll(void *user);

bool terminal_is(FILE *stream);

/* Writes text to stdout at once. On a terminal control characters other than newline and tab become '?', so
 * that a model cannot send it commands. ERR_IO when stdout cannot be written; a closed pipe is ERR_IO, too,
 * but silent. */
int terminal_write(const char *text, size_t n, struct err *e);
/* Flushes stdout and reports what failed since the start. */
int terminal_flush(struct err *e);
bool terminal_pipe_closed(void);

/* Dimmed text on and off; nothing when stdout is no terminal. */
void terminal_dim(bool on);

/* progress_fn for loading: one line on stderr that rewrites itself; silent when stderr is no terminal. Stops
 * the work on Ctrl-C. user: struct progress_line, zero-initialised. */
struct progress_line {
    double begin; /* clock, when it started */
    bool shown;
};
int terminal_progress(void *user, const struct progress *p);
void terminal_progress_end(struct progress_line *line); /* clears the line */

#endif
