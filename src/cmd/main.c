/*
 * main.c: the table of commands. Parses the command line, runs the command, prints the error and turns it
 * into the exit code (base/err.h).
 */
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "cmd/options.h"
#include "cmd/terminal.h"

#define TONNE_VERSION "0.1.0"

static const struct command *const commands[] = {
    &command_run,        &command_chat,     &command_plan,   &command_inspect,
    &command_perplexity, &command_quantize, &command_doctor, &command_bench,
};
enum { N_COMMANDS = sizeof commands / sizeof *commands };

static void print_help(FILE *to)
{
    fputs("usage: tonne COMMAND ... [options]\n"
          "\n"
          "Runs large mixture-of-experts language models on one machine.\n"
          "\n"
          "Commands\n",
          to);
    for (int i = 0; i < N_COMMANDS; i++)
        fprintf(to, "  %-12s %s\n", commands[i]->name, commands[i]->summary);
    fputs("\n"
          "MODEL is a directory with config.json and safetensors, or a .gguf file.\n"
          "\n"
          "Examples\n"
          "  tonne run models/novelist.gguf \"The old house\"\n"
          "  tonne chat Qwen3-30B-A3B --type q4_k_m\n"
          "  tonne inspect models/novelist.gguf\n"
          "\n"
          "tonne COMMAND --help explains a command, tonne --version prints the version.\n",
          to);
}

static const struct command *find_command(const char *name)
{
    for (int i = 0; i < N_COMMANDS; i++)
        if (strcmp(commands[i]->name, name) == 0)
            return commands[i];
    return NULL;
}

static int unknown_command(const char *name, struct err *e)
{
    const char *names[N_COMMANDS];
    for (int i = 0; i < N_COMMANDS; i++)
        names[i] = commands[i]->name;
    const char *near = nearest_word(name, names, N_COMMANDS);
    err_set(e, ERR_USAGE, "there is no command \"%.60s\"", name);
    if (near)
        err_hint(e, "tonne %s, or see them all: tonne --help", near);
    else
        err_hint(e, "tonne --help");
    return ERR_USAGE;
}

static int asks_for_help(int argc, char **argv)
{
    for (int i = 0; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
            return 1;
    return 0;
}

static int run_command(int argc, char **argv, struct err *e)
{
    const struct command *c = find_command(argv[0]);
    struct args a;
    if (!c)
        return unknown_command(argv[0], e);
    if (asks_for_help(argc - 1, argv + 1)) {
        command_help(c);
        return terminal_flush(e);
    }
    int rc = args_parse(&a, c, argc - 1, argv + 1, e);
    return rc ? rc : c->run(&a, e);
}

int main(int argc, char **argv)
{
    struct err e = { 0 };
    setlocale(LC_CTYPE, "");  /* line editing needs to know the terminal's characters */
    signal(SIGPIPE, SIG_IGN); /* a closed pipe is a failed write, which ends the work in order */
    signal(SIGXFSZ, SIG_IGN); /* so is a file beyond the limit (ulimit -f) */
    const char *first = argc > 1 ? argv[1] : "";
    if (argc < 2) {
        print_help(stderr);
        return 2;
    }
    if (strcmp(first, "--version") == 0) {
        puts("tonne " TONNE_VERSION);
        terminal_flush(&e);
    } else if (strcmp(first, "--help") == 0 || strcmp(first, "-h") == 0 ||
               (strcmp(first, "help") == 0 && argc < 3)) {
        print_help(stdout);
        terminal_flush(&e);
    } else if (strcmp(first, "help") == 0) {
        const struct command *c = find_command(argv[2]);
        if (c)
            command_help(c);
        else
            unknown_command(argv[2], &e);
    } else {
        run_command(argc - 1, argv + 1, &e);
    }
    if (e.code && !terminal_pipe_closed())
        err_print(&e);
    return err_exit_code(&e);
}
