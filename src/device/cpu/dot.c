/* dot.c: every way the CPU multiplies a format, slowest first. */
#include "device/cpu/dot.h"

#include "device/cpu/dot_plain.h"
#if defined(__x86_64__)
#include "device/cpu/x86/dot_x86.h"
#endif

/* clang-format off: a table */
const struct dot_kernel dot_kernels[] = {
    /* name                  format          activations  needs            run */
    /* dot_plain.c */
    { "dot_f32_plain", QTYPE_F32, QACT_F32, CPU_ISA_PLAIN, dot_f32_plain },
    { "dot_bf16_plain", QTYPE_BF16, QACT_F32, CPU_ISA_PLAIN, dot_bf16_plain },
#if defined(__x86_64__)
    /* x86/dot_float_*.c */
    { "dot_f32_avx2", QTYPE_F32, QACT_F32, CPU_ISA_AVX2, dot_f32_avx2 },
    { "dot_f32_avx512", QTYPE_F32, QACT_F32, CPU_ISA_AVX512, dot_f32_avx512 },
    { "dot_f16_avx2", QTYPE_F16, QACT_F32, CPU_ISA_AVX2, dot_f16_avx2 },
    { "dot_f16_avx512", QTYPE_F16, QACT_F32, CPU_ISA_AVX512, dot_f16_avx512 },
    { "dot_bf16_avx2", QTYPE_BF16, QACT_F32, CPU_ISA_AVX2, dot_bf16_avx2 },
    { "dot_bf16_avx512", QTYPE_BF16, QACT_F32, CPU_ISA_AVX512, dot_bf16_avx512 },
    { "dot_fp8_e4m3_avx2", QTYPE_FP8_E4M3, QACT_F32, CPU_ISA_AVX2, dot_fp8_e4m3_avx2 },
    { "dot_fp8_e4m3_avx512", QTYPE_FP8_E4M3, QACT_F32, CPU_ISA_AVX512, dot_fp8_e4m3_avx512 },
    { "dot_fp8_e5m2_avx2", QTYPE_FP8_E5M2, QACT_F32, CPU_ISA_AVX2, dot_fp8_e5m2_avx2 },
    { "dot_fp8_e5m2_avx512", QTYPE_FP8_E5M2, QACT_F32, CPU_ISA_AVX512, dot_fp8_e5m2_avx512 },
    /* x86/dot_nf4_*.c */
    { "dot_nf4_avx2", QTYPE_NF4, QACT_F32, CPU_ISA_AVX2, dot_nf4_avx2 },
    { "dot_nf4_avx512", QTYPE_NF4, QACT_F32, CPU_ISA_AVX512, dot_nf4_avx512 },
    { "dot_nf4_dq_avx2", QTYPE_NF4_DQ, QACT_F32, CPU_ISA_AVX2, dot_nf4_dq_avx2 },
    { "dot_nf4_dq_avx512", QTYPE_NF4_DQ, QACT_F32, CPU_ISA_AVX512, dot_nf4_dq_avx512 },
    { "dot_fp4_avx2", QTYPE_FP4, QACT_F32, CPU_ISA_AVX2, dot_fp4_avx2 },
    { "dot_fp4_avx512", QTYPE_FP4, QACT_F32, CPU_ISA_AVX512, dot_fp4_avx512 },
    { "dot_fp4_dq_avx2", QTYPE_FP4_DQ, QACT_F32, CPU_ISA_AVX2, dot_fp4_dq_avx2 },
    { "dot_fp4_dq_avx512", QTYPE_FP4_DQ, QACT_F32, CPU_ISA_AVX512, dot_fp4_dq_avx512 },
    /* x86/dot_k_*.c */
    { "dot_q4_k_avx2", QTYPE_Q4_K, QACT_Q8, CPU_ISA_AVX2, dot_q4_k_avx2 },
    { "dot_q4_k_avx512", QTYPE_Q4_K, QACT_Q8, CPU_ISA_AVX512, dot_q4_k_avx512 },
    { "dot_q5_k_avx2", QTYPE_Q5_K, QACT_Q8, CPU_ISA_AVX2, dot_q5_k_avx2 },
    { "dot_q5_k_avx512", QTYPE_Q5_K, QACT_Q8, CPU_ISA_AVX512, dot_q5_k_avx512 },
    { "dot_q6_k_avx2", QTYPE_Q6_K, QACT_Q8, CPU_ISA_AVX2, dot_q6_k_avx2 },
    { "dot_q6_k_avx512", QTYPE_Q6_K, QACT_Q8, CPU_ISA_AVX512, dot_q6_k_avx512 },
    /* x86/dot_legacy_*.c */
    { "dot_q4_0_avx2", QTYPE_Q4_0, QACT_Q8, CPU_ISA_AVX2, dot_q4_0_avx2 },
    { "dot_q4_0_avx512", QTYPE_Q4_0, QACT_Q8, CPU_ISA_AVX512, dot_q4_0_avx512 },
    { "dot_q5_0_avx2", QTYPE_Q5_0, QACT_Q8, CPU_ISA_AVX2, dot_q5_0_avx2 },
    { "dot_q5_0_avx512", QTYPE_Q5_0, QACT_Q8, CPU_ISA_AVX512, dot_q5_0_avx512 },
    { "dot_q8_0_avx2", QTYPE_Q8_0, QACT_Q8, CPU_ISA_AVX2, dot_q8_0_avx2 },
    { "dot_q8_0_avx512", QTYPE_Q8_0, QACT_Q8, CPU_ISA_AVX512, dot_q8_0_avx512 },
    { "dot_iq4_nl_avx2", QTYPE_IQ4_NL, QACT_Q8, CPU_ISA_AVX2, dot_iq4_nl_avx2 },
    { "dot_iq4_nl_avx512", QTYPE_IQ4_NL, QACT_Q8, CPU_ISA_AVX512, dot_iq4_nl_avx512 },
    { "dot_iq4_xs_avx2", QTYPE_IQ4_XS, QACT_Q8, CPU_ISA_AVX2, dot_iq4_xs_avx2 },
    { "dot_iq4_xs_avx512", QTYPE_IQ4_XS, QACT_Q8, CPU_ISA_AVX512, dot_iq4_xs_avx512 },
    { "dot_mxfp4_avx2", QTYPE_MXFP4, QACT_Q8, CPU_ISA_AVX2, dot_mxfp4_avx2 },
    { "dot_mxfp4_avx512", QTYPE_MXFP4, QACT_Q8, CPU_ISA_AVX512, dot_mxfp4_avx512 },
#endif
};
/* clang-format on */
const int dot_kernel_count = sizeof dot_kernels / sizeof *dot_kernels;

const struct dot_kernel *dot_pick(enum qtype type, enum qact act, enum cpu_isa isa)
{
    const struct dot_kernel *best = NULL;
    for (int i = 0; i < dot_kernel_count; i++) {
        const struct dot_kernel *k = &dot_kernels[i];
        if (k->type == type && k->act == act && k->needs <= isa && (!best || k->needs > best->needs))
            best = k;
    }
    return best;
}
