/*
 * chat.c: `tonne chat MODEL`: a conversation in the terminal. Lines are messages, lines that begin with / are
 * commands. Ctrl-C stops the answer, not the program.
 */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "cmd/conversation.h"
#include "cmd/line_input.h"
#include "cmd/terminal.h"

struct chat {
    const struct args *a;
    struct setup setup;
    struct conversation talk;
    struct sampler *sampler;
    bool dimmed, quit;
    int n_turns, n_prompt, n_reused, n_answer; /* tokens since the start */
    double prompt_seconds, answer_seconds;
};

/* ---- commands ---- */

struct word {
    const char *name, *argument, *help;
    int (*run)(struct chat *c, const char *argument, struct err *e);
};

static int help(struct chat *c, const char *argument, struct err *e);

static int new_talk(struct chat *c, const char *argument, struct err *e)
{
    (void)argument;
    return conversation_reset(&c->talk, e);
}

static int set_system(struct chat *c, const char *argument, struct err *e)
{
    if (*argument)
        return conversation_set_system(&c->talk, argument, e);
    const char *now = conversation_system(&c->talk);
    printf("%s\n", now ? now : "(there is no system message)");
    return 0;
}

static int need_file(const char *argument, const char *word, struct err *e)
{
    if (*argument)
        return 0;
    return err_set(e, ERR_USAGE, "%s needs a file name", word);
}

static int save(struct chat *c, const char *argument, struct err *e)
{
    int rc = need_file(argument, "/save", e);
    return rc ? rc : conversation_save(&c->talk, argument, e);
}

static int load(struct chat *c, const char *argument, struct err *e)
{
    int rc = need_file(argument, "/load", e);
    return rc ? rc : conversation_load(&c->talk, argument, e);
}

static double rate(int n, double seconds)
{
    return seconds > 0 ? n / seconds : 0;
}

static int stats(struct chat *c, const char *argument, struct err *e)
{
    (void)argument;
    (void)e;
    printf("turns     %d\n", c->n_turns);
    printf("prompt    %d tokens evaluated, %.1f tokens/s; %d more were still there\n", c->n_prompt,
           rate(c->n_prompt, c->prompt_seconds), c->n_reused);
    printf("answer    %d tokens, %.1f tokens/s\n", c->n_answer, rate(c->n_answer, c->answer_seconds));
    printf("context   %d of %d tokens\n", session_position(c->setup.session), session_ctx(c->setup.session));
    printf("memory    %.1f MiB at most; weights %.1f, reserved for the session %.1f\n",
           (double)mem_peak_rss() / (1 << 20), (double)c->setup.weights->bytes / (1 << 20),
           (double)session_bytes(c->setup.session) / (1 << 20));
    return 0;
}

static int quit(struct chat *c, const char *argument, struct err *e)
{
    (void)argument;
    (void)e;
    c->quit = true;
    return 0;
}

static const struct word words[] = {
    { "help", "", "show this list", help },
    { "new", "", "start again; the system message stays", new_talk },
    { "system", "TEXT", "set the system message, or show it", set_system },
    { "save", "FILE", "write the conversation to FILE", save },
    { "load", "FILE", "go on with a saved conversation", load },
    { "stats", "", "speeds and memory", stats },
    { "quit", "", "end (also Ctrl-D)", quit },
};
enum { N_WORDS = sizeof words / sizeof *words };

static int help(struct chat *c, const char *argument, struct err *e)
{
    (void)c;
    (void)argument;
    (void)e;
    for (int i = 0; i < N_WORDS; i++)
        printf("/%-7s %-5s %s\n", words[i].name, words[i].argument, words[i].help);
    printf("Ctrl-C stops an answer. A message that begins with / is written //...\n");
    return 0;
}

static int run_word(struct chat *c, const char *line, struct err *e)
{
    const char *names[N_WORDS];
    char name[32];
    size_t n = strcspn(line + 1, " ");
    for (int i = 0; i < N_WORDS; i++) {
        names[i] = words[i].name;
        if (strlen(names[i]) == n && memcmp(names[i], line + 1, n) == 0)
            return words[i].run(c, line + 1 + n + strspn(line + 1 + n, " "), e);
    }
    snprintf(name, sizeof name, "%.*s", (int)(n < 30 ? n : 30), line + 1);
    const char *near = nearest_word(name, names, N_WORDS);
    err_set(e, ERR_USAGE, "there is no command /%s", name);
    err_hint(e, "/%s", near ? near : "help");
    return ERR_USAGE;
}

/* ---- messages ---- */

static int show(void *user, const char *text, size_t n, bool reasoning, struct err *e)
{
    struct chat *c = user;
    if (reasoning && !terminal_is(stdout))
        return 0; /* a pipe gets the answers only */
    if (reasoning != c->dimmed) {
        terminal_dim(reasoning);
        if (!reasoning)
            fputs("\n\n", stdout);
        c->dimmed = reasoning;
    }
    return terminal_write(text, n, e);
}

static int turn(struct chat *c, const char *text, size_t n, struct err *e)
{
    struct answer x = { 0 };
    struct generate_options o = { .sampler = c->sampler,
                                  .stop = c->a->stop,
                                  .n_stop = c->a->n_stop,
                                  .max_tokens = c->a->max_tokens,
                                  .sink = show,
                                  .user = c };
    int rc = conversation_turn(&c->talk, &c->setup, &o, text, n, &x, e);
    if (c->dimmed)
        terminal_dim(false);
    c->dimmed = false;
    c->n_turns += rc == 0;
    c->n_prompt += x.n_prompt;
    c->n_reused += c->talk.n_reused;
    c->n_answer += x.n_answer;
    c->prompt_seconds += x.prompt_seconds;
    c->answer_seconds += x.answer_seconds;
    int end = rc && rc != ERR_CANCELED ? 0 : terminal_write("\n", 1, NULL);
    if (!rc && x.end == ANSWER_CONTEXT)
        fputs("tonne: the context is full; /new starts another conversation, --ctx N makes it larger\n",
              stderr);
    answer_free(&x);
    return rc ? rc : end;
}

/* An error of one line is shown and the chat goes on; only output that cannot be written ends it. */
static int run_line(struct chat *c, const char *line, size_t n, struct err *e)
{
    int rc = 0;
    terminal_clear_interrupt();
    if (n == 0)
        return 0;
    if (line[0] == '/' && line[1] != '/')
        rc = run_word(c, line, e);
    else if (line[0] == '/')
        rc = turn(c, line + 1, n - 1, e);
    else
        rc = turn(c, line, n, e);
    if (rc == ERR_IO && (terminal_pipe_closed() || ferror(stdout)))
        return rc;
    if (rc && rc != ERR_CANCELED) {
        fflush(stdout);
        err_print(e);
    }
    *e = (struct err){ 0 };
    return terminal_flush(e);
}

static int loop(struct chat *c, struct err *e)
{
    struct line_input *in = line_input_open();
    if (!in)
        return err_set(e, ERR_MEMORY, "no memory for the input line");
    int rc = 0;
    size_t n;
    for (const char *line; !rc && !c->quit && (line = line_input_read(in, &n)) != NULL;)
        rc = run_line(c, line, n, e);
    line_input_close(&in);
    return rc;
}

static int check_template(const struct setup *s, struct err *e)
{
    if (s->chat.family != CHAT_UNKNOWN)
        return 0;
    err_set(e, ERR_USAGE,
            s->model->chat_template ? "the model's chat template is of no known family"
                                    : "this model has no chat template");
    err_hint(e, "--template NAME with one of: %s", chat_list());
    return ERR_USAGE;
}

static int chat(const struct args *a, struct err *e)
{
    struct chat c = { .a = a };
    struct setup_limits limits = { 0 };
    terminal_catch_interrupt();
    int rc = setup_open(&c.setup, a->word[0], a, e);
    if (!rc)
        rc = check_template(&c.setup, e);
    if (!rc)
        rc = conversation_open(&c.talk, a->system, e);
    if (!rc)
        rc = setup_load(&c.setup, a, &limits, e);
    if (!rc)
        rc = sampler_open(&c.sampler, &c.setup.sampling, c.setup.model->shape.n_vocab,
                          tokenizer_size(c.setup.tokenizer), e);
    if (!rc && terminal_is(stdout))
        printf("%s, %.1f MiB of weights; /help lists the commands\n", a->word[0],
               (double)c.setup.weights->bytes / (1 << 20));
    if (!rc)
        rc = loop(&c, e);
    if (!rc && a->stats)
        stats(&c, "", e);
    sampler_close(&c.sampler);
    conversation_close(&c.talk);
    setup_close(&c.setup);
    return rc ? rc : terminal_flush(e);
}

const struct command command_chat = {
    .name = "chat",
    .usage = "MODEL",
    .summary = "talk with a model in the terminal",
    .help = "A conversation: each line is a message, /help lists the commands, Ctrl-C stops an\n"
            "answer, Ctrl-D ends. The model's reasoning is shown dimmed. History is kept in\n"
            "$XDG_STATE_HOME/tonne (~/.local/state/tonne).\n"
            "\n"
            "Examples\n"
            "  tonne chat Qwen3-30B-A3B --type q4_k_m\n"
            "  tonne chat models/novelist.gguf --temp 0.8 --max-tokens 200\n"
            "  tonne chat Qwen3-30B-A3B --system \"Answer in one sentence.\" --no-think\n",
    .min_words = 1,
    .max_words = 1,
    .group = { &options_prompt, &options_sampling, &options_run, &options_model },
    .run = chat,
};
