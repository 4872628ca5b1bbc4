/* target.h: the one function of a fuzz target, called by libFuzzer (`make fuzz`) or corpus_main.c (`make
 * tests`). */
#ifndef TONNE_FUZZ_TARGET_H
#define TONNE_FUZZ_TARGET_H

#include <stddef.h>
#include <stdint.h>

/* Runs the code under test on one input; returns 0. Must not leak and must not read beyond n. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#endif
