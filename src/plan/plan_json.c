/* plan_json.c: a plan for programs. */
#include "plan/plan_private.h"

static json_t *groups_json(const struct plan *p)
{
    json_t *list = json_array();
    for (int g = 0; g < PLAN_GROUPS; g++) {
        const struct plan_part *part = &p->part[g];
        if (part->weights)
            json_array_append_new(list, json_pack("{s:s, s:I, s:s, s:I, s:I}", "name",
                                                  plan_group_name((enum plan_group)g), "weights",
                                                  (json_int_t)part->weights, "format", part->types,
                                                  "ram_bytes", (json_int_t)part->bytes[TIER_RAM],
                                                  "disk_bytes", (json_int_t)part->bytes[TIER_DISK]));
    }
    return list;
}

static json_t *memory_json(const struct plan *p)
{
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "weights", (json_int_t)p->weights_bytes,
                     "expert_cache", (json_int_t)p->cache_bytes, "keys_and_values", (json_int_t)p->kv_bytes,
                     "recurrent_states", (json_int_t)p->state_bytes, "work_buffers",
                     (json_int_t)p->work_bytes, "other", (json_int_t)p->other_bytes, "staging",
                     (json_int_t)p->staging_bytes);
}

static json_t *tiers_json(const struct plan *p)
{
    size_t disk = 0;
    for (int g = 0; g < PLAN_GROUPS; g++)
        disk += p->part[g].bytes[TIER_DISK];
    return json_pack("{s:I, s:I}", "ram", (json_int_t)p->total_bytes, "disk", (json_int_t)disk);
}

/* The rate, or null when it is not known. */
static json_t *rate(double tps)
{
    return tps > 0 ? json_real(tps) : json_null();
}

static json_t *expected_json(const struct plan *p)
{
    return json_pack("{s:o, s:s?, s:o, s:s?, s:I, s:f}", "decode_tokens_per_second", rate(p->decode_tps),
                     "decode_limit", p->decode_limit, "prefill_tokens_per_second", rate(p->prefill_tps),
                     "prefill_limit", p->prefill_limit, "decode_bytes_per_token", (json_int_t)p->decode_bytes,
                     "cache_hit_rate", p->hit_rate);
}

static json_t *experts_json(const struct plan *p)
{
    return json_pack("{s:I, s:b, s:I, s:i, s:b, s:I}", "number", (json_int_t)p->n_experts, "on_disk",
                     p->experts_on_disk, "bytes_each", (json_int_t)p->expert_bytes, "cached", p->cache_slots,
                     "pack", p->pack, "pack_bytes", (json_int_t)p->disk_bytes);
}

static json_t *changes_json(const struct plan_changes *c)
{
    json_t *list = json_array();
    for (int i = 0; i < c->n; i++)
        json_array_append_new(list, json_string(c->line[i]));
    return list;
}

int plan_json(const struct plan *p, json_t **out, struct err *e)
{
    struct plan_changes c;
    int rc = plan_what_if(p, &c, e);
    if (rc)
        return rc;
    json_t *j = json_pack("{s:s, s:s, s:b, s:I, s:I, s:I}", "model", p->model->path, "architecture",
                          arch_hf_name(p->model->shape.arch), "fits", p->fits, "total_bytes",
                          (json_int_t)p->total_bytes, "peak_load_bytes", (json_int_t)p->peak_load_bytes,
                          "minimum_ram_bytes", (json_int_t)p->minimum_ram_bytes);
    json_t *rest = json_pack(
        "{s:o, s:s, s:i, s:i, s:i, s:i, s:s, s:o, s:o, s:o, s:o, s:o, s:o}", "budget_bytes",
        p->budget_bytes == SIZE_MAX ? json_null() : json_integer((json_int_t)p->budget_bytes), "type",
        p->asked.mix ? mix_name(p->asked.mix) : "as stored", "context", p->opt.ctx, "batch", p->opt.batch,
        "sessions", p->opt.sessions, "threads", p->opt.threads, "kv_type", qtype_info(p->opt.kv_type)->name,
        "tiers", tiers_json(p), "memory", memory_json(p), "groups", groups_json(p), "experts",
        experts_json(p), "expected", expected_json(p), "changes", changes_json(&c));
    if (!j || !rest || json_object_update(j, rest)) {
        json_decref(j);
        j = NULL;
    }
    json_decref(rest);
    *out = j;
    return j ? 0 : err_set(e, ERR_MEMORY, "no memory for the JSON text");
}
