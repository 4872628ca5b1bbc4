/* line_input.c: see line_input.h. */
#include "cmd/line_input.h"

#include <histedit.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { HISTORY_LINES = 1000 };

struct line_input {
    EditLine *el; /* NULL: plain */
    History *history;
    char path[4096]; /* of the history; "": none */
    char *line;
    size_t room;
};

static char *prompt(EditLine *el)
{
    static char text[] = "> ";
    (void)el;
    return text;
}

/* Ctrl-C while editing: an empty line instead of the one begun. */
static unsigned char drop_line(EditLine *el, int ch)
{
    const LineInfo *li = el_line(el);
    (void)ch;
    el_cursor(el, (int)(li->lastchar - li->cursor));
    li = el_line(el);
    el_deletestr(el, (int)(li->lastchar - li->buffer));
    fputs("^C\n", stdout);
    el_insertstr(el, "\n"); /* an empty text would read as the end of input */
    return CC_NEWLINE;
}

/* Makes the folders of path, down to its last slash. */
static void make_folders(char *path)
{
    for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        mkdir(path, 0700); /* one that exists already is fine, one that cannot be made means no history */
        *slash = '/';
    }
}

static void find_history(struct line_input *in)
{
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    int n = 0;
    if (state && state[0] == '/')
        n = snprintf(in->path, sizeof in->path, "%s/tonne/chat_history", state);
    else if (home && home[0] == '/')
        n = snprintf(in->path, sizeof in->path, "%s/.local/state/tonne/chat_history", home);
    if (n <= 0 || n >= (int)sizeof in->path)
        in->path[0] = '\0';
    else
        make_folders(in->path);
}

static void open_editor(struct line_input *in)
{
    HistEvent ev;
    in->history = history_init();
    in->el = in->history ? el_init("tonne", stdin, stdout, stderr) : NULL;
    if (!in->el)
        return; /* plain lines will do */
    find_history(in);
    history(in->history, &ev, H_SETSIZE, HISTORY_LINES);
    history(in->history, &ev, H_SETUNIQUE, 1);
    if (in->path[0])
        history(in->history, &ev, H_LOAD, in->path);
    el_set(in->el, EL_PROMPT, prompt);
    el_set(in->el, EL_EDITOR, "emacs");
    el_set(in->el, EL_HIST, history, in->history);
    el_set(in->el, EL_SETTY, "-d", "-isig", NULL); /* Ctrl-C is a key while a line is edited */
    el_set(in->el, EL_ADDFN, "tonne-drop-line", "Drop the line", drop_line);
    el_set(in->el, EL_BIND, "^C", "tonne-drop-line", NULL);
}

struct line_input *line_input_open(void)
{
    struct line_input *in = calloc(1, sizeof *in);
    if (in && isatty(STDIN_FILENO) && isatty(STDOUT_FILENO))
        open_editor(in);
    return in;
}

void line_input_close(struct line_input **inp)
{
    struct line_input *in = *inp;
    HistEvent ev;
    *inp = NULL;
    if (!in)
        return;
    if (in->history && in->path[0])
        history(in->history, &ev, H_SAVE, in->path);
    if (in->el)
        el_end(in->el);
    if (in->history)
        history_end(in->history);
    free(in->line);
    free(in);
}

/* libedit's line with its end cut off, in memory of our own. */
static const char *read_edited(struct line_input *in, size_t *n)
{
    int count = 0;
    HistEvent ev;
    const char *line = el_gets(in->el, &count);
    if (!line || count <= 0)
        return NULL;
    *n = strcspn(line, "\n");
    if (*n > 0)
        history(in->history, &ev, H_ENTER, line);
    free(in->line);
    in->line = strndup(line, *n);
    return in->line;
}

const char *line_input_read(struct line_input *in, size_t *n)
{
    if (in->el)
        return read_edited(in, n);
    ssize_t got = getline(&in->line, &in->room, stdin);
    if (got < 0)
        return NULL;
    *n = got > 0 && in->line[got - 1] == '\n' ? (size_t)got - 1 : (size_t)got;
    in->line[*n] = '\0';
    return in->line;
}
