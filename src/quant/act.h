/*
 * act.h: activations rounded to int8 for integer products, the same on every device.
 *
 * Blocks of 32: d = max|x| / 127 in f32, q = nearest even of x * (1/d), clamped to +-127; sum = the 32 codes
 * added up (for formats with a minimum). A block with max|x| below Q8_ZERO, where 1/d would leave the range
 * of f32, counts as zero: d, codes and sum are 0. One row is one struct q8_row.
 */
#ifndef TONNE_QUANT_ACT_H
#define TONNE_QUANT_ACT_H

#include <stddef.h>
#include <stdint.h>

enum { Q8_BLOCK = 32 };
#define Q8_ZERO 0x1p-119f

/* A row of n values (n % 32 == 0) lies in one piece of q8_row_bytes(n) bytes, 64-byte aligned:
 *   int8_t q[n] | float d[n/32] | int32_t sum[n/32]   each part padded to 64 bytes */
struct q8_row {
    const int8_t *q;
    const float *d;
    const int32_t *sum;
};

size_t q8_row_bytes(int64_t n);
struct q8_row q8_row_at(const void *row, int64_t n);

/* Fills a row from x[n]. The scalar definition; devices must give the same bits. */
void q8_quantize(void *row, const float *x, int64_t n);

#endif
