/* size.h: byte counts as people write them. */
#ifndef TONNE_BASE_SIZE_H
#define TONNE_BASE_SIZE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Reads text[0..n), all of it: a number (decimals allowed), then nothing or B (bytes), K M G T P or KiB ...
 * PiB (powers of 1024), KB ... PB (powers of 1000); letters in any case. False, *bytes untouched, for
 * anything else and from 2^62 bytes on. */
bool size_parse(const char *text, size_t n, uint64_t *bytes);

enum { SIZE_TEXT = 24 };
/* Writes "512 bytes", "1.5 MiB", "24.0 GiB" into out[0..SIZE_TEXT) and returns out. */
const char *size_text(char *out, uint64_t bytes);

#endif
