/*
 * line_input.h: lines from a terminal with editing and history (libedit), or plain ones from a pipe.
 */
#ifndef TONNE_CMD_LINE_INPUT_H
#define TONNE_CMD_LINE_INPUT_H

#include <stddef.h>

struct line_input;

/* Opens standard input. History is kept in $XDG_STATE_HOME/tonne/chat_history (~/.local/state/...) when stdin
 * and stdout are a terminal. NULL when memory is missing. */
struct line_input *line_input_open(void);
void line_input_close(struct line_input **in);

/* The next line without its end, borrowed until the next call; NULL at the end of input. Ctrl-C gives "". */
const char *line_input_read(struct line_input *in, size_t *n);

#endif
