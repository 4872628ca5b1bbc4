/* dot_plain.h: the portable kernels of dot.c's table. */
#ifndef TONNE_DEVICE_CPU_DOT_PLAIN_H
#define TONNE_DEVICE_CPU_DOT_PLAIN_H

#include "device/cpu/dot.h"

dot_kernel_fn dot_f32_plain, dot_bf16_plain;

#endif
