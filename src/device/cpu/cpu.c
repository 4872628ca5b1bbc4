/* cpu.c: the cpu device itself: which instruction set, memory, scratch, the table of operations. */
#include "device/cpu/cpu.h"

#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__)

/* avx2 stands for f16c too: no processor has the one without the other. */
enum cpu_isa device_cpu_isa(void)
{
    bool avx2 =
        __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
    bool wide = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
    bool dots = __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bf16") &&
                __builtin_cpu_supports("avx512vbmi");
    if (avx2 && wide && dots)
        return CPU_ISA_AVX512;
    return avx2 ? CPU_ISA_AVX2 : CPU_ISA_PLAIN;
}

static const struct vec_kernels *const tables[] = { &vec_plain, &vec_avx2, &vec_avx512 };

#else

enum cpu_isa device_cpu_isa(void)
{
    return CPU_ISA_PLAIN;
}

static const struct vec_kernels *const tables[] = { &vec_plain };

#endif

const char *device_cpu_isa_name(enum cpu_isa isa)
{
    static const char *const name[] = { "plain C", "AVX2", "AVX-512 VNNI BF16" };
    return name[isa == CPU_ISA_BEST ? device_cpu_isa() : isa];
}

const struct vec_kernels *vec_pick(enum cpu_isa isa)
{
    const struct vec_kernels *best = tables[0];
    for (size_t i = 1; i < sizeof tables / sizeof *tables; i++)
        if (tables[i]->needs <= isa)
            best = tables[i];
    return best;
}

static int cpu_alloc(struct device *d, struct mem *out, size_t bytes, const char *purpose, struct err *e)
{
    (void)d;
    return mem_ram(out, bytes, purpose, e);
}

static void cpu_free(struct device *d, struct mem *m)
{
    (void)d;
    mem_free(m);
}

static int cpu_copy(struct device *d, void *dst, const void *src, size_t n, struct err *e)
{
    (void)d, (void)e;
    if (n)
        memcpy(dst, src, n);
    return 0;
}

static void cpu_clear(struct device *d, void *dst, size_t n)
{
    (void)d;
    memset(dst, 0, n);
}

static int cpu_sync(struct device *d, struct err *e)
{
    (void)d, (void)e;
    return 0;
}

static void cpu_carve(struct cpu_device *c, struct arena *a)
{
    matmul_carve(c, a);
    attention_carve(c, a);
    delta_net_carve(c, a);
}

static int cpu_reserve(struct device *d, const struct device_limits *l, struct err *e)
{
    struct cpu_device *c = (struct cpu_device *)d;
    struct device_limits before = c->limits;
    if (l->conv_kernel > CPU_MAX_TAPS)
        return err_set(e, ERR_DEVICE, "a convolution over %d tokens is longer than the %d this device can do",
                       l->conv_kernel, CPU_MAX_TAPS);
    c->limits = device_limits_larger(&before, l);
    struct arena a = { 0 };
    cpu_carve(c, &a);
    struct mem block;
    int rc = mem_ram(&block, a.used, "scratch memory", e);
    if (rc < 0) {
        c->limits = before;
    } else {
        mem_free(&c->scratch);
        c->scratch = block;
    }
    a = (struct arena){ .base = c->scratch.ptr, .capacity = c->scratch.bytes };
    cpu_carve(c, &a);
    return rc;
}

size_t device_cpu_scratch_bytes(const struct device_limits *l, int threads)
{
    struct cpu_device c = { .limits = *l, .n_threads = threads };
    struct arena a = { 0 };
    cpu_carve(&c, &a);
    return a.used;
}

size_t device_cpu_kv_bytes(enum qtype type, int positions, int n_head_kv, int d_head)
{
    return cpu_kv_bytes(type, positions, n_head_kv, d_head);
}

static void cpu_close(struct device *d)
{
    struct cpu_device *c = (struct cpu_device *)d;
    if (!c)
        return;
    mem_free(&c->scratch);
    free(c);
}

static const struct device_ops cpu_ops = {
    .name = "cpu",
    .close = cpu_close,
    .alloc = cpu_alloc,
    .free = cpu_free,
    .upload = cpu_copy,
    .download = cpu_copy,
    .clear = cpu_clear,
    .sync = cpu_sync,
    .kv_bytes = cpu_kv_bytes,
    .reserve = cpu_reserve,
    .embed = cpu_embed,
    .norm = cpu_norm,
    .project = cpu_project,
    .attention = cpu_attention,
    .delta_net = cpu_delta_net,
    .route = cpu_route,
    .moe = cpu_moe,
    .mlp = cpu_mlp,
};

int device_cpu_open(struct device **out, const struct device_cpu_options *opt, struct err *e)
{
    enum cpu_isa best = device_cpu_isa(), isa = opt->isa == CPU_ISA_BEST ? best : opt->isa;
    if (isa > best) {
        err_set(e, ERR_DEVICE, "this processor has no %s", device_cpu_isa_name(isa));
        err_hint(e, "it can run %s", device_cpu_isa_name(best));
        return ERR_DEVICE;
    }
    struct cpu_device *c = calloc(1, sizeof *c);
    if (!c)
        return err_set(e, ERR_MEMORY, "no memory for the cpu device");
    c->base.ops = &cpu_ops;
    c->act = opt->act;
    c->isa = isa;
    c->threads = opt->threads;
    c->n_threads = threads_count(opt->threads);
    c->vec = vec_pick(isa);
    *out = &c->base;
    return 0;
}
