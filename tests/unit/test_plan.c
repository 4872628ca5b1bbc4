/* test_plan.c: sizes recomputed on their own, what gives way when memory is short, refusals, models nobody
 * could load here. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "plan/plan.h"
#include "support/tiny_model.h"

static const size_t MIB = 1 << 20, GIB = 1 << 30;

/* ---- helpers ---- */

static struct model *open_tiny(const char *config, unsigned style, char **folder)
{
    struct err e = { 0 };
    struct model *m;
    *folder = tiny_checkpoint(config, style);
    if (model_open(&m, *folder, &e))
        fail_msg("%s", e.what);
    return m;
}

static struct machine machine_with(size_t ram)
{
    return (struct machine){
        .ram_total = ram, .ram_available = ram, .usable_cores = 4, .disk_free = (size_t)1 << 50, .here = true
    };
}

static struct plan *plan_for(const struct model *m, const struct machine *machine,
                             const struct plan_options *opt)
{
    struct err e = { 0 };
    struct plan *p;
    if (plan_build(&p, m, machine, opt, &e))
        fail_msg("%s", e.what);
    return p;
}

/* Made-up sizes that grow with the settings as the real ones do. */
static size_t work_of(const struct shape *s, bool has_mtp, const struct plan_options *o)
{
    (void)has_mtp;
    return (size_t)o->batch * (size_t)s->d_model * 64 + (size_t)o->ctx * 8;
}

static size_t session_of(const struct shape *s, bool has_mtp, const struct plan_options *o,
                         size_t *state_bytes)
{
    (void)has_mtp;
    *state_bytes = 1000;
    return 1000 + (size_t)o->ctx * (size_t)s->n_layer * 512;
}

static const struct plan_options sized = { .work_bytes = work_of, .session_bytes = session_of };

/* ---- sizes ---- */

static size_t up(size_t n, size_t to)
{
    return (n + to - 1) / to * to;
}

/* The tiny model in BF16: every role's rows and columns come from the configuration alone. */
static void sizes_of_a_tiny_model_are_exact(void **state)
{
    (void)state;
    char *folder;
    struct model *m = open_tiny(tiny_moe_config, TINY_PLAIN, &folder);
    struct machine machine = { 0 };
    struct plan_options opt = { .skip_mtp = true };
    struct plan *p = plan_for(m, &machine, &opt);
    enum { D = 192, V = 20, F = 4, H = 2 }; /* width, vocabulary, bytes of f32 and bf16 */
    size_t moe = up(3 * D * H, 64) + 2 * up(64 * D * H, 64) + up(D * 64 * H, 64) + up(D * F, 64);
    size_t norms = 2 * up(D * F, 64);
    /* key and value heads: 1 and 2 of 32, so qkv is 2 * 32 + 64 = 128 wide */
    size_t delta_net = up(128 * D * H, 64) + up(64 * D * H, 64) + 2 * up(2 * D * H, 64) +
                       up(128 * 4 * F, 64) + 2 * up(2 * F, 64) + up(32 * F, 64) + up(D * 64 * H, 64);
    /* two heads of 64 with gates, one key and value head, q and k norms */
    size_t attention =
        up(256 * D * H, 64) + 2 * up(64 * D * H, 64) + up(D * 128 * H, 64) + 2 * up(64 * F, 64);
    size_t outside = 2 * up(V * D * H, 64) + up(D * F, 64);
    size_t experts = 2 * 3 * (3 * up(128 * D * H, 64));
    assert_int_equal(p->part[PLAN_ATTENTION].bytes[TIER_RAM], attention);
    assert_int_equal(p->part[PLAN_DELTA_NET].bytes[TIER_RAM], delta_net);
    assert_int_equal(p->part[PLAN_EXPERTS].bytes[TIER_RAM], experts);
    assert_int_equal(p->part[PLAN_EXPERTS].weights, 2 * 3 * 3 * 128 * D);
    assert_string_equal(p->part[PLAN_EXPERTS].types, "bf16");
    assert_string_equal(p->part[PLAN_ATTENTION].types, "bf16 f32");
    assert_int_equal(p->weights_bytes, outside + 2 * (norms + moe) + delta_net + attention + experts);
    assert_int_equal(p->n_experts, 6);
    assert_true(p->fits);
    plan_close(&p);
    model_close(&m);
    tiny_folder_end(&folder);
}

/* Items neither overlap nor leave the block, are aligned, and experts are contiguous. */
static void places_are_disjoint_and_aligned(void **state)
{
    (void)state;
    for (int style = 0; style < 3; style++) {
        char *folder;
        struct model *m = open_tiny(tiny_moe_config,
                                    style == 0   ? TINY_PLAIN
                                    : style == 1 ? TINY_FP8
                                                 : TINY_NF4,
                                    &folder);
        struct machine machine = { 0 };
        struct plan_options opt = { .mix = style == 0 ? MIX_NF4_DQ : MIX_NONE };
        struct plan *p = plan_for(m, &machine, &opt);
        uint64_t end = 0;
        for (int i = 0; i < p->n_item; i++) {
            const struct plan_item *it = &p->item[i];
            assert_int_equal(it->data_at % 64, 0);
            assert_int_equal(it->scale_at % 64, 0);
            assert_int_equal(it->data_at, end);
            assert_true(it->scale_at >= it->data_at + it->data_bytes);
            end = up(it->scale_at + it->scale_bytes, 64);
            assert_int_equal(it->expert >= 0, i >= p->n_dense);
            if (i >= p->n_dense)
                assert_int_equal(it->role, ROLE_EXPERT_GATE + (i - p->n_dense) % 3);
        }
        assert_int_equal(end, p->weights_bytes);
        plan_close(&p);
        model_close(&m);
        tiny_folder_end(&folder);
    }
}

static void totals_are_the_sums_of_their_parts(void **state)
{
    (void)state;
    char *folder;
    struct model *m = open_tiny(tiny_moe_config, TINY_PLAIN, &folder);
    struct machine machine = machine_with(64 * GIB);
    struct plan_options opt = sized;
    opt.ctx = 1000;
    opt.batch = 100;
    opt.sessions = 3;
    struct plan *p = plan_for(m, &machine, &opt);
    size_t parts = 0;
    for (int g = 0; g < PLAN_GROUPS; g++)
        parts += p->part[g].bytes[TIER_RAM];
    assert_int_equal(parts, p->weights_bytes);
    assert_int_equal(p->kv_bytes, 3 * 1000 * 2 * 512);
    assert_int_equal(p->state_bytes, 3 * 1000);
    assert_int_equal(p->work_bytes, 100 * 192 * 64 + 1000 * 8);
    assert_int_equal(p->cache_bytes, 0);
    assert_int_equal(p->total_bytes,
                     p->weights_bytes + p->kv_bytes + p->state_bytes + p->work_bytes + p->other_bytes);
    assert_int_equal(p->peak_load_bytes, p->weights_bytes + p->staging_bytes + p->other_bytes);
    assert_int_equal(p->opt.threads, 4);
    plan_close(&p);
    model_close(&m);
    tiny_folder_end(&folder);
}

/* ---- what gives way ---- */

/* 6 layers of 16 experts, 256 wide: large enough that 1 MiB more or less decides something. */
static const char middle_config[] =
    "{\"model_type\": \"qwen3_moe\", \"vocab_size\": 300, \"hidden_size\": 256, \"num_hidden_layers\": 6,"
    "\"num_attention_heads\": 4, \"num_key_value_heads\": 2, \"head_dim\": 64, \"num_experts\": 16,"
    "\"num_experts_per_tok\": 2, \"moe_intermediate_size\": 256, \"max_position_embeddings\": 40960}";

static struct machine measured(size_t ram)
{
    struct machine m = machine_with(ram);
    m.n_ram_gbs = 4;
    for (int i = 0; i < 4; i++)
        m.ram_gbs[i] = 0.01 * (i + 1);
    m.int8_gmacs = m.bf16_gmacs = m.f32_gmacs = 100;
    m.disk_gbs = 0.005;
    m.disk_latency_us = 100;
    return m;
}

/* From nothing to more than everything: what fits stays fitting, speed, cache and context never fall. */
static void more_ram_is_never_worse(void **state)
{
    (void)state;
    char *folder;
    struct model *m = open_tiny(middle_config, TINY_PLAIN, &folder);
    for (int mix = 0; mix < 2; mix++) {
        struct plan_options opt = sized;
        opt.mix = mix ? MIX_NF4 : MIX_NONE;
        bool fits = false, in_ram = false;
        double speed = 0;
        int slots = 0, ctx = 0, batch = 0, kinds = 0;
        for (size_t ram = 8 * MIB; ram < 256 * MIB; ram += ram < 60 * MIB ? 100000 : 2000000) {
            struct machine machine = measured(ram);
            struct plan *p = plan_for(m, &machine, &opt);
            assert_true(p->fits || !fits);
            assert_int_equal(p->fits, ram >= p->minimum_ram_bytes);
            if (p->fits) {
                assert_true(p->total_bytes <= ram && p->peak_load_bytes <= ram);
                assert_true(p->decode_tps >= speed);
                assert_true(p->experts_on_disk || in_ram || !fits || slots > 0);
                if (fits && in_ram == !p->experts_on_disk)
                    assert_true(p->cache_slots >= slots && p->opt.ctx >= ctx && p->opt.batch >= batch);
                kinds |= p->experts_on_disk ? 1 : 2;
                assert_false(in_ram && p->experts_on_disk);
                in_ram = !p->experts_on_disk;
                speed = p->decode_tps;
                slots = p->cache_slots;
                ctx = p->opt.ctx;
                batch = p->opt.batch;
                fits = true;
            }
            plan_close(&p);
        }
        assert_int_equal(kinds, 3);
        assert_true(in_ram && ctx == 32768 && batch == 512);
    }
    model_close(&m);
    tiny_folder_end(&folder);
}

static void given_settings_are_kept(void **state)
{
    (void)state;
    char *folder;
    struct model *m = open_tiny(middle_config, TINY_PLAIN, &folder);
    struct plan_options opt = sized;
    opt.ctx = 20000;
    opt.batch = 100;
    struct machine machine = measured(100 * MIB);
    struct plan *p = plan_for(m, &machine, &opt);
    assert_int_equal(p->opt.ctx, 20000);
    assert_int_equal(p->opt.batch, 100);
    size_t least = p->minimum_ram_bytes;
    plan_close(&p);
    opt.ram_budget = least;
    p = plan_for(m, &machine, &opt);
    assert_true(p->fits && p->experts_on_disk);
    assert_int_equal(p->cache_slots, 6); /* top_k + 4 */
    assert_int_equal(p->total_bytes, least);
    plan_close(&p);
    opt.ram_budget = least - 1;
    p = plan_for(m, &machine, &opt);
    assert_false(p->fits);
    plan_close(&p);
    opt.ram_budget = least;
    opt.no_disk = true;
    p = plan_for(m, &machine, &opt);
    assert_false(p->fits || p->experts_on_disk);
    plan_close(&p);
    model_close(&m);
    tiny_folder_end(&folder);
}

/* Stored formats are read in place, in whole pages of the file; others need a packed file and room for it. */
static void experts_on_disk_have_places(void **state)
{
    (void)state;
    char *folder;
    struct model *m = open_tiny(middle_config, TINY_PLAIN, &folder);
    struct machine machine = measured(40 * MIB);
    struct plan_options opt = sized;
    opt.ram_budget = 30 * MIB;
    struct plan *p = plan_for(m, &machine, &opt);
    assert_true(p->experts_on_disk && !p->pack && p->disk_bytes == 0);
    for (int i = p->n_dense; i < p->n_item; i += 3) {
        uint64_t end = 0;
        for (int k = 0; k < 3; k++) {
            const struct plan_item *it = &p->item[i + k];
            assert_int_equal(it->tier, TIER_DISK);
            assert_int_equal(it->data_at % 4096, (it->src.tensor->offset + it->src.offset) % 4096);
            assert_true(it->data_at - it->data_at % 4096 >= end);
            end = up(it->data_at + it->data_bytes, 4096);
        }
        assert_true(end <= p->expert_bytes);
    }
    assert_int_equal(p->part[PLAN_EXPERTS].bytes[TIER_RAM], 0);
    plan_close(&p);
    opt.mix = MIX_NF4;
    opt.ram_budget = 24 * MIB;
    p = plan_for(m, &machine, &opt);
    assert_true(p->fits && p->experts_on_disk && p->pack);
    /* codes at half a byte and a scale in f32 for every 64 */
    assert_int_equal(p->expert_bytes, up(3 * (256 * 256 / 2 + 256 * 256 / 64 * 4), 4096));
    assert_int_equal(p->disk_bytes, 6 * 16 * p->expert_bytes);
    assert_int_equal(p->cache_bytes, (size_t)p->cache_slots * p->expert_bytes);
    size_t room = p->disk_bytes;
    plan_close(&p);
    machine.disk_free = room - 1;
    p = plan_for(m, &machine, &opt);
    assert_false(p->fits);
    assert_int_equal(p->pack_too_large, room);
    plan_close(&p);
    opt.no_pack = true;
    machine.disk_free = room;
    p = plan_for(m, &machine, &opt);
    assert_false(p->fits);
    plan_close(&p);
    model_close(&m);
    tiny_folder_end(&folder);
}

/* ---- refusing ---- */

static void refusals_name_what_would_fit(void **state)
{
    (void)state;
    char *folder;
    struct err e = { 0 };
    struct model *m = open_tiny(middle_config, TINY_PLAIN, &folder);
    struct machine machine = machine_with(60 * MIB);
    struct plan_options opt = sized;
    opt.no_disk = true;
    opt.ctx = 32768;
    struct plan *p = plan_for(m, &machine, &opt);
    assert_int_equal(plan_refuse(p, &e), ERR_NO_ROOM);
    assert_string_equal(e.what, "the model needs 142.7 MiB of RAM with these settings; 60.0 MiB are free");
    assert_string_equal(e.where, folder);
    assert_string_equal(e.hint, "--ctx 4096, or a machine with 142.7 MiB of free RAM");
    assert_int_equal(err_exit_code(&e), 3);
    plan_close(&p);
    opt.ctx = 4096;
    opt.ram_budget = 40 * MIB;
    p = plan_for(m, &machine, &opt);
    assert_int_equal(plan_refuse(p, &e), ERR_NO_ROOM);
    assert_string_equal(e.what,
                        "the model needs 58.5 MiB of RAM with these settings; 40.0 MiB are allowed (--ram)");
    assert_string_equal(e.hint, "--ram 59M, or --type q4_k_m, or a machine with 58.5 MiB of free RAM");
    plan_close(&p);
    opt.ram_budget = 0;
    p = plan_for(m, &machine, &opt);
    assert_int_equal(plan_refuse(p, &e), 0);
    plan_close(&p);
    model_close(&m);
    tiny_folder_end(&folder);
}

/* ---- expectations ---- */

static void hit_rates_follow_the_published_points(void **state)
{
    (void)state;
    static const double point[][2] = { { 0, 0 },      { 0.06, 0.59 }, { 0.12, 0.67 },  { 0.25, 0.80 },
                                       { 0.5, 0.92 }, { 1, 1 },       { 0.03, 0.295 }, { 0.75, 0.96 },
                                       { -1, 0 },     { 2, 1 } };
    for (size_t i = 0; i < sizeof point / sizeof *point; i++)
        assert_true(plan_hit_rate(point[i][0]) > point[i][1] - 1e-9 &&
                    plan_hit_rate(point[i][0]) < point[i][1] + 1e-9);
    for (int i = 0; i < 1000; i++)
        assert_true(plan_hit_rate(i / 1000.0) <= plan_hit_rate((i + 1) / 1000.0));
}

static void the_slowest_part_is_the_limit(void **state)
{
    (void)state;
    char *folder;
    struct model *m = open_tiny(middle_config, TINY_PLAIN, &folder);
    struct machine machine = measured(512 * MIB);
    struct plan_options opt = sized;
    struct plan *p = plan_for(m, &machine, &opt);
    assert_string_equal(p->decode_limit, "RAM bandwidth");
    /* attention, norms, router and head in full, 2 of 16 experts */
    size_t attention = 6 * ((256 + 128 + 128 + 256) * 256 * 2 + 2 * 64 * 4), norms = 13 * 256 * 4;
    size_t others = 6 * 16 * 256 * 2 + 300 * 256 * 2, experts = 6 * 2 * 3 * 256 * 256 * 2;
    assert_int_equal(p->decode_bytes, attention + norms + others + experts);
    assert_true(p->decode_tps < 0.04e9 / (double)p->decode_bytes);
    assert_true(p->decode_tps > 0.5 * 0.04e9 / (double)p->decode_bytes);
    plan_close(&p);
    machine.f32_gmacs = 0.01;
    p = plan_for(m, &machine, &opt);
    assert_string_equal(p->decode_limit, "arithmetic");
    assert_string_equal(p->prefill_limit, "arithmetic");
    plan_close(&p);
    machine = measured(512 * MIB);
    opt.ram_budget = 30 * MIB;
    p = plan_for(m, &machine, &opt);
    assert_string_equal(p->decode_limit, "drive");
    assert_string_equal(p->prefill_limit, "drive");
    plan_close(&p);
    machine.n_ram_gbs = 0;
    p = plan_for(m, &machine, &opt);
    assert_true(p->decode_tps == 0 && p->prefill_tps == 0 && !p->decode_limit);
    plan_close(&p);
    model_close(&m);
    tiny_folder_end(&folder);
}

static void more_ram_is_offered(void **state)
{
    (void)state;
    char *folder;
    struct err e = { 0 };
    struct model *m = open_tiny(middle_config, TINY_PLAIN, &folder);
    struct machine machine = measured(28 * MIB);
    struct plan *p = plan_for(m, &machine, &sized);
    struct plan_changes c;
    assert_int_equal(plan_what_if(p, &c, &e), 0);
    assert_true(c.n >= 2);
    assert_memory_equal(c.line[0], "14.0 MiB more RAM: ", 19);
    assert_non_null(strstr(c.line[0], " tokens/s"));
    plan_close(&p);
    model_close(&m);
    tiny_folder_end(&folder);
}

/* ---- 397B ---- */

static const char huge_config[] =
    "{\"model_type\": \"qwen3_5_moe\", \"text_config\": {\"vocab_size\": 248320, \"hidden_size\": 4096,"
    "\"num_hidden_layers\": 60, \"num_attention_heads\": 32, \"num_key_value_heads\": 2, \"head_dim\": 256,"
    "\"full_attention_interval\": 4, \"linear_num_key_heads\": 16, \"linear_num_value_heads\": 64,"
    "\"linear_key_head_dim\": 128, \"linear_value_head_dim\": 128, \"num_experts\": 512,"
    "\"num_experts_per_tok\": 10, \"moe_intermediate_size\": 1024, \"shared_expert_intermediate_size\": 1024,"
    "\"max_position_embeddings\": 262144,"
    "\"rope_parameters\": {\"rope_theta\": 10000000, \"partial_rotary_factor\": 0.25}}}";

static char *huge_checkpoint(void)
{
    struct shape s;
    struct tiny *t = tiny_new();
    char *folder = tiny_folder();
    tiny_shape(&s, huge_config);
    tiny_holes(t);
    tiny_add_weights(t, &s, TINY_PLAIN);
    tiny_write_text(folder, "config.json", huge_config);
    tiny_write_safetensors(t, folder, "model.safetensors");
    tiny_free(&t);
    return folder;
}

static void the_397b_model_is_planned_at_once(void **state)
{
    (void)state;
    struct err e = { 0 };
    struct model *m;
    char *folder = huge_checkpoint(), *text;
    struct machine machine = measured(64 * GIB);
    machine.usable_cores = 16;
    machine.ram_gbs[3] = 200;
    machine.disk_gbs = 7;
    machine.int8_gmacs = machine.f32_gmacs = 3000;
    double begin = clock_seconds();
    assert_int_equal(model_open(&m, folder, &e), 0);
    struct plan_options opt = { .mix = MIX_NF4_DQ, .skip_mtp = true };
    struct plan *p = plan_for(m, &machine, &opt);
    assert_int_equal(plan_text(p, &text, &e), 0);
    assert_true(clock_seconds() - begin < 2);
    assert_int_equal(p->part[PLAN_EXPERTS].weights, 60ull * 512 * 3 * 4096 * 1024);
    assert_int_equal(p->part[PLAN_EMBED].weights, 248320ull * 4096);
    /* 4-bit codes; a scale byte for every 64, and for every matrix 8 + 1024 + 4 bytes for each 256 of those
     */
    size_t matrix = 4096 * 1024 / 2, plane = 8 + 1024 + 4 * (65536 / 256) + 65536;
    assert_int_equal(p->expert_bytes, up(3 * (matrix + up(plane, 64)), 4096));
    assert_true(p->fits && p->experts_on_disk && p->pack);
    assert_int_equal(p->disk_bytes, 60 * 512 * p->expert_bytes);
    assert_true(p->total_bytes <= 64 * GIB && p->total_bytes > 63 * GIB);
    assert_true(p->minimum_ram_bytes < 10 * GIB);
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
        assert_true(strlen(line) <= 100);
    free(text);
    plan_close(&p);
    model_close(&m);
    tiny_folder_end(&folder);
}

static void json_says_the_same(void **state)
{
    (void)state;
    char *folder;
    struct err e = { 0 };
    struct model *m = open_tiny(middle_config, TINY_PLAIN, &folder);
    struct machine machine = measured(28 * MIB);
    struct plan *p = plan_for(m, &machine, &sized);
    json_t *j, *tiers;
    assert_int_equal(plan_json(p, &j, &e), 0);
    assert_int_equal(json_integer_value(json_object_get(j, "total_bytes")), p->total_bytes);
    assert_int_equal(json_integer_value(json_object_get(j, "peak_load_bytes")), p->peak_load_bytes);
    assert_int_equal(json_integer_value(json_object_get(j, "minimum_ram_bytes")), p->minimum_ram_bytes);
    assert_true(json_is_true(json_object_get(j, "fits")));
    tiers = json_object_get(j, "tiers");
    assert_int_equal(json_integer_value(json_object_get(tiers, "disk")), 6 * 16 * 3 * 256 * 256 * 2);
    assert_int_equal(json_integer_value(json_object_get(tiers, "ram")), p->total_bytes);
    assert_true(json_is_real(json_object_get(json_object_get(j, "expected"), "decode_tokens_per_second")));
    json_decref(j);
    plan_close(&p);
    model_close(&m);
    tiny_folder_end(&folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_of_a_tiny_model_are_exact),
        cmocka_unit_test(places_are_disjoint_and_aligned),
        cmocka_unit_test(totals_are_the_sums_of_their_parts),
        cmocka_unit_test(more_ram_is_never_worse),
        cmocka_unit_test(given_settings_are_kept),
        cmocka_unit_test(experts_on_disk_have_places),
        cmocka_unit_test(refusals_name_what_would_fit),
        cmocka_unit_test(hit_rates_follow_the_published_points),
        cmocka_unit_test(the_slowest_part_is_the_limit),
        cmocka_unit_test(more_ram_is_offered),
        cmocka_unit_test(the_397b_model_is_planned_at_once),
        cmocka_unit_test(json_says_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
