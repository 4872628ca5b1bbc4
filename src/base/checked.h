/* checked.h: overflow-safe arithmetic for sizes that come from files and requests. */
#ifndef TONNE_BASE_CHECKED_H
#define TONNE_BASE_CHECKED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Each returns true when the exact result fits, and writes it; false otherwise (*out is then undefined). */
static inline bool checked_mul(uint64_t a, uint64_t b, uint64_t *out)
{
    return !__builtin_mul_overflow(a, b, out);
}

static inline bool checked_add(uint64_t a, uint64_t b, uint64_t *out)
{
    return !__builtin_add_overflow(a, b, out);
}

/* True when [begin, begin + n) lies inside [0, size). */
static inline bool checked_range(uint64_t begin, uint64_t n, uint64_t size)
{
    return begin <= size && n <= size - begin;
}

/* x rounded up to a multiple of align (a power of two); x must not be within align of UINT64_MAX. */
static inline uint64_t align_up(uint64_t x, uint64_t align)
{
    return (x + align - 1) & ~(align - 1);
}

#endif
