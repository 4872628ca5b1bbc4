/* plan.c: `tonne plan MODEL`: every byte and the expected speed, from the headers alone. */
#include <stdlib.h>
#include <string.h>

#include "cmd/plan_setup.h"
#include "cmd/terminal.h"

static int print_plan(const struct plan *p, bool as_json, struct err *e)
{
    char *text = NULL;
    json_t *j = NULL;
    int rc = as_json ? plan_json(p, &j, e) : plan_text(p, &text, e);
    if (!rc && as_json && !(text = json_dumps(j, JSON_INDENT(1) | JSON_REAL_PRECISION(6))))
        rc = err_set(e, ERR_MEMORY, "no memory for the JSON text");
    if (!rc)
        rc = terminal_write(text, strlen(text), e);
    if (!rc && as_json)
        rc = terminal_write("\n", 1, e);
    json_decref(j);
    free(text);
    return rc ? rc : terminal_flush(e);
}

static int plan(const struct args *a, struct err *e)
{
    struct model *m = NULL;
    struct plan *p = NULL;
    struct machine machine;
    struct plan_options opt;
    int rc = plan_options_from(&opt, a, e);
    if (!rc)
        rc = model_open(&m, a->word[0], e);
    if (!rc)
        rc = plan_machine(&machine, a, m->folder, e);
    if (!rc)
        rc = plan_build(&p, m, &machine, &opt, e);
    if (!rc)
        rc = print_plan(p, a->json, e);
    if (!rc)
        rc = plan_refuse(p, e);
    plan_close(&p);
    model_close(&m);
    return rc;
}

/* clang-format off: a table */
static const struct option own[] = {
    OPT_TEXT("machine", "LIST", machine, "plan for another machine: ram=256G,rambw=205,cores=64,disk=7"),
    OPT_COUNT("ctx", "N", ctx, 1, INT32_MAX, "tokens the context holds (default: what fits, at most 32K)"),
    OPT_COUNT("batch", "N", batch, 1, 1 << 20,
              "prompt tokens evaluated at once (default: what fits, at most 512)"),
    OPT_TEXT("kv-type", "TYPE", kv_type, "how keys and values are kept: f16 (default), bf16, f32"),
    OPT_TEXT("type", "TYPE", type, "quantize while loading: q4_k_m, q8_0, nf4, nf4-dq, bf16, ..."),
    OPT_TEXT("ram", "SIZE", ram, "plan with this much memory: 24G (default: what is free)"),
    OPT_FLAG("no-pack", no_pack, 1, "with --type: keep no packed file of the quantized weights"),
    OPT_COUNT("threads", "N", threads, 1, 1024,
              "CPU threads (default: the physical cores this process may use)"),
    OPT_FLAG("json", json, 1, "print one JSON object"),
    { 0 }
};
/* clang-format on */
static const struct option_group group = { "What to plan", own };

const struct command command_plan = {
    .name = "plan",
    .usage = "MODEL",
    .summary = "show how much memory a model needs and how fast it will be",
    .help = "Reads the model's headers only. Prints every group of weights with its size and place, what\n"
            "a session, the buffers and loading need, how fast prompts are read and answers written, and\n"
            "what would change that. What is not given is chosen so that the model fits: a shorter\n"
            "context, smaller batches, then experts that stay on the drive.\n"
            "\n"
            "Speeds come from what `tonne doctor` measured, or from --machine, a list of ram=256G,\n"
            "rambw=205 (GB/s), cores=64, disk=7 (GB/s) or disk=off, diskfree=800G, int8=3000, f32=700 (1e9\n"
            "multiply-adds/s). Exit code 3: the model does not fit.\n"
            "\n"
            "Examples\n"
            "  tonne plan Qwen3.5-397B-A17B --type nf4-dq\n"
            "  tonne plan Qwen3-30B-A3B --type q4_k_m --ctx 128K --ram 24G\n"
            "  tonne plan Qwen3.5-397B-A17B --machine ram=256G,rambw=205,cores=64,disk=7 --json\n",
    .min_words = 1,
    .max_words = 1,
    .group = { &group },
    .run = plan,
};
