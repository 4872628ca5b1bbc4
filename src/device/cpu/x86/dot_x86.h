/* dot_x86.h: the x86 kernels of dot.c's table. All have the contract of dot_fn (dot.h). */
#ifndef TONNE_DEVICE_CPU_X86_DOT_X86_H
#define TONNE_DEVICE_CPU_X86_DOT_X86_H

#include "device/cpu/dot.h"

/* dot_k_*.c: blocks of 256 */
dot_kernel_fn dot_q4_k_avx2, dot_q5_k_avx2, dot_q6_k_avx2;
dot_kernel_fn dot_q4_k_avx512, dot_q5_k_avx512, dot_q6_k_avx512;
/* dot_legacy_*.c: blocks of 32 with one scale, and what decodes alike */
dot_kernel_fn dot_q4_0_avx2, dot_q5_0_avx2, dot_q8_0_avx2, dot_iq4_nl_avx2, dot_iq4_xs_avx2, dot_mxfp4_avx2;
dot_kernel_fn dot_q4_0_avx512, dot_q5_0_avx512, dot_q8_0_avx512, dot_iq4_nl_avx512, dot_iq4_xs_avx512,
    dot_mxfp4_avx512;
/* dot_float_*.c: f32 sums */
dot_kernel_fn dot_f32_avx2, dot_f16_avx2, dot_bf16_avx2, dot_fp8_e4m3_avx2, dot_fp8_e5m2_avx2;
dot_kernel_fn dot_f32_avx512, dot_f16_avx512, dot_bf16_avx512, dot_fp8_e4m3_avx512, dot_fp8_e5m2_avx512;
/* dot_nf4_*.c: codebooks of 16 floats */
dot_kernel_fn dot_nf4_avx2, dot_nf4_dq_avx2, dot_fp4_avx2, dot_fp4_dq_avx2;
dot_kernel_fn dot_nf4_avx512, dot_nf4_dq_avx512, dot_fp4_avx512, dot_fp4_dq_avx512;

#endif
