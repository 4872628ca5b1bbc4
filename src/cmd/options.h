/*
 * options.h: the command line, declared. A command is a row of data: its words, its options as groups of
 * rows, its help; parsing, range checks, suggestions and --help come from that. Every command fills the same
 * struct args, so that an option means the same everywhere.
 *
 * Forms: --opt value, --opt=value, -p value (names of one letter), -- ends options, "-" is an argument.
 * Counts read 4096 and 32K (1024s).
 */
#ifndef TONNE_CMD_OPTIONS_H
#define TONNE_CMD_OPTIONS_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "text/sampler.h"

enum { ARGS_MAX_WORDS = 4, ARGS_MAX_STOP = 32, ARGS_MAX_BIAS = 64 };

struct args { /* strings are borrowed from argv; numbers not given keep args_defaults' value */
    const char *word[ARGS_MAX_WORDS]; /* arguments that are no options: MODEL, PROMPT, ... */
    int n_word;
    /* model and machine */
    const char *type, *kv_type, *cpu, *template_name, *ram, *machine;
    int threads, ctx, batch; /* 0: chosen by the program */
    int exact, no_pack;
    /* sampling; NAN or -1: as the model's generation_config.json says */
    float temp, top_p, min_p, repeat_penalty, presence_penalty, frequency_penalty;
    int top_k;
    uint64_t seed;
    int seed_given;
    struct logit_bias bias[ARGS_MAX_BIAS];
    int n_bias;
    /* prompt and answer */
    const char *system, *file;
    const char *stop[ARGS_MAX_STOP];
    int n_stop;
    int max_tokens; /* 0: until the model stops or the context is full */
    int raw, think; /* think: -1 not given */
    /* output */
    int stats, json, tensors;
    /* perplexity */
    const char *reference;
    int windows; /* 0: all */
    /* bench: lists are numbers with commas between */
    const char *like, *write, *plot, *prompt_list, *depth_list, *thread_list, *batch_list;
    int layers, generate, runs, csv;
};

enum option_kind {
    OPTION_FLAG,  /* int = .value */
    OPTION_COUNT, /* int, min..max, 32K allowed */
    OPTION_REAL,  /* float, min..max */
    OPTION_SEED,  /* uint64_t seed, sets seed_given */
    OPTION_TEXT,  /* const char * */
    OPTION_STOP,  /* appended to stop */
    OPTION_BIAS   /* ID=BIAS, appended to bias */
};

struct option {
    const char *name;     /* without the dashes: one for a single letter, else two; NULL ends a table */
    const char *argument; /* what help calls the value; NULL for flags */
    enum option_kind kind;
    size_t offset; /* of the field in struct args */
    double min, max;
    int value; /* OPTION_FLAG: what is stored */
    const char *help;
};

/* Rows of a table. */
#define OPT_FLAG(name, field, value, help)                                                                   \
    {                                                                                                        \
        name, NULL, OPTION_FLAG, offsetof(struct args, field), 0, 0, value, help                             \
    }
#define OPT_COUNT(name, argument, field, min, max, help)                                                     \
    {                                                                                                        \
        name, argument, OPTION_COUNT, offsetof(struct args, field), min, max, 0, help                        \
    }
#define OPT_REAL(name, argument, field, min, max, help)                                                      \
    {                                                                                                        \
        name, argument, OPTION_REAL, offsetof(struct args, field), min, max, 0, help                         \
    }
#define OPT_TEXT(name, argument, field, help)                                                                \
    {                                                                                                        \
        name, argument, OPTION_TEXT, offsetof(struct args, field), 0, 0, 0, help                             \
    }

struct option_group {
    const char *title;
    const struct option *option; /* ended by a row without a name */
};

/* Groups that several commands share (options.c). */
extern const struct option_group options_model, options_run, options_sampling, options_prompt;

struct command {
    const char *name, *usage; /* usage: "MODEL [PROMPT]" */
    const char *summary;      /* one line */
    const char *help;         /* paragraphs and examples; ends with a newline */
    int min_words, max_words;
    const struct option_group *group[6];
    int (*run)(const struct args *a, struct err *e);
};

struct args args_defaults(void);

/* Fills *a from argv[0..argc), which begin after the command's name. ERR_USAGE says what and suggests. */
int args_parse(struct args *a, const struct command *c, int argc, char **argv, struct err *e);

/* The command's --help on stdout. */
void command_help(const struct command *c);

/* The candidate nearest to word, or NULL when none is near. */
const char *nearest_word(const char *word, const char *const *candidate, int n);

/* ---- the commands ---- */

extern const struct command command_run, command_chat, command_inspect, command_perplexity, command_quantize,
    command_plan, command_doctor, command_bench;

#endif
