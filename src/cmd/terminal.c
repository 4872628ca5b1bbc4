/* terminal.c: see terminal.h. */
#include "cmd/terminal.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"

static volatile sig_atomic_t interrupted;
static bool pipe_closed;

static void on_interrupt(int number)
{
    if (interrupted)
        _exit(128 + number);
    interrupted = 1;
}

void terminal_catch_interrupt(void)
{
    struct sigaction how = { .sa_handler = on_interrupt }; /* no SA_RESTART: reads return */
    sigaction(SIGINT, &how, NULL);
}

bool terminal_interrupted(void)
{
    return interrupted != 0;
}

void terminal_clear_interrupt(void)
{
    interrupted = 0;
}

int terminal_poll(void *user)
{
    (void)user;
    return interrupted;
}

bool terminal_is(FILE *stream)
{
    return isatty(fileno(stream));
}

bool terminal_pipe_closed(void)
{
    return pipe_closed;
}

static int output_failed(struct err *e)
{
    pipe_closed = errno == EPIPE;
    err_set(e, ERR_IO, "writing to standard output failed: %s", strerror(errno));
    return ERR_IO;
}

int terminal_write(const char *text, size_t n, struct err *e)
{
    bool clean = terminal_is(stdout);
    for (size_t begin = 0, i = 0; i <= n; i++) {
        unsigned char c = i < n ? (unsigned char)text[i] : 0;
        if (i < n && (!clean || (c >= 0x20 && c != 0x7f) || c == '\n' || c == '\t'))
            continue;
        if (fwrite(text + begin, 1, i - begin, stdout) != i - begin || (i < n && fputc('?', stdout) == EOF))
            return output_failed(e);
        begin = i + 1;
    }
    return fflush(stdout) ? output_failed(e) : 0;
}

int terminal_flush(struct err *e)
{
    return fflush(stdout) || ferror(stdout) ? output_failed(e) : 0;
}

void terminal_dim(bool on)
{
    if (terminal_is(stdout))
        fputs(on ? "\033[2m" : "\033[0m", stdout);
}

int terminal_progress(void *user, const struct progress *p)
{
    struct progress_line *line = user;
    if (interrupted)
        return 1;
    if (!terminal_is(stderr))
        return 0;
    double now = clock_seconds();
    if (line->begin == 0)
        line->begin = now;
    double gib = (double)p->done_bytes / (1 << 30), seconds = now - line->begin;
    int percent = p->total_bytes ? (int)(100.0 * (double)p->done_bytes / (double)p->total_bytes) : 0;
    fprintf(stderr, "\r%s %d %%  %.1f GiB  %.2f GiB/s  %.40s\033[K", p->doing, percent, gib,
            seconds > 0 ? gib / seconds : 0, p->item ? p->item : "");
    line->shown = true;
    return 0;
}

void terminal_progress_end(struct progress_line *line)
{
    if (line->shown)
        fputs("\r\033[K", stderr);
    line->shown = false;
}
