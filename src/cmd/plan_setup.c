/* plan_setup.c: see plan_setup.h. */
#include "cmd/plan_setup.h"

#include <string.h>

#include "base/size.h"
#include "cmd/cache_dir.h"
#include "engine/engine.h"

/* ---- what engine and device take ---- */

static size_t work_bytes(const struct shape *s, bool has_mtp, const struct plan_options *o)
{
    const struct engine_options engine = {
        .max_batch = o->batch, .max_sessions = o->sessions, .max_ctx = o->ctx, .max_logits = o->logits
    };
    struct device_limits limits;
    size_t n = engine_measure(s, has_mtp, &engine, &limits);
    return n + device_cpu_scratch_bytes(&limits, o->threads);
}

static size_t session_bytes_of(const struct shape *s, bool has_mtp, const struct plan_options *o,
                               size_t *state_bytes)
{
    const struct session_options session = { .ctx = o->ctx, .kv_type = o->kv_type };
    return session_measure(s, has_mtp, &session, device_cpu_kv_bytes, state_bytes);
}

/* ---- the machine ---- */

int plan_machine(struct machine *m, const struct args *a, const char *path, struct err *e)
{
    char cache[1024];
    if (a->machine)
        return machine_parse(m, a->machine, e);
    int rc = machine_look(m, path, e);
    if (!rc && cache_path(cache, sizeof cache, "machine.json", NULL) == 0)
        machine_load(m, cache, NULL); /* without it the plan has no speeds, and says so */
    return rc;
}

/* ---- options ---- */

static int parse_mix(const char *name, enum mix *out, struct err *e)
{
    *out = name ? mix_from_name(name) : MIX_NONE;
    if (!name || *out != MIX_NONE)
        return 0;
    err_set(e, ERR_USAGE, "--type \"%.60s\" is not known", name);
    err_hint(e, "one of: %s", mix_list());
    return ERR_USAGE;
}

static int parse_kv_type(const char *name, enum qtype *out, struct err *e)
{
    *out = name ? qtype_from_name(name) : QTYPE_NONE;
    if (!name || *out == QTYPE_F16 || *out == QTYPE_BF16 || *out == QTYPE_F32)
        return 0;
    err_set(e, ERR_USAGE, "--kv-type \"%.60s\" is not known", name);
    err_hint(e, "one of: f16 bf16 f32");
    return ERR_USAGE;
}

static int parse_size(const char *option, const char *text, size_t *out, struct err *e)
{
    uint64_t bytes = 0;
    if (text && (!size_parse(text, strlen(text), &bytes) || bytes == 0)) {
        err_set(e, ERR_USAGE, "%s \"%.60s\" is not a size", option, text);
        err_hint(e, "write it like %s 24G or %s 1536M", option, option);
        return ERR_USAGE;
    }
    *out = (size_t)bytes;
    return 0;
}

int plan_options_from(struct plan_options *o, const struct args *a, struct err *e)
{
    *o = (struct plan_options){ .skip_mtp = true,
                                .ctx = a->ctx,
                                .batch = a->batch,
                                .threads = a->threads,
                                .no_pack = a->no_pack,
                                .work_bytes = work_bytes,
                                .session_bytes = session_bytes_of };
    int rc = parse_mix(a->type, &o->mix, e);
    if (!rc)
        rc = parse_kv_type(a->kv_type, &o->kv_type, e);
    return rc ? rc : parse_size("--ram", a->ram, &o->ram_budget, e);
}
