/* packed_private.h: the head of a pack, and the folder of packs; private to packed*.c. */
#ifndef TONNE_LOAD_PACKED_PRIVATE_H
#define TONNE_LOAD_PACKED_PRIVATE_H

#include "load/packed.h"

/* Counts up whenever other bytes would be written for the same key: a converter or a layout that changed. */
enum { PACKED_VERSION = 1 };

struct packed_head { /* byte 0 of the file; little-endian, as this machine is */
    char magic[8];
    uint32_t version, n_item;
    struct packed_key key;
    uint64_t file_bytes;
    uint64_t table_bytes; /* of records and checksums after the head */
    uint64_t table_sum;   /* XXH3 of them */
    uint64_t head_sum;    /* XXH3 of the head before this */
};

extern const char packed_magic[8];

/* True when the head's own checksum, magic and version are right. */
bool packed_head_valid(const struct packed_head *h);

/* One formatted line to opt->say. */
void packed_say(const struct packed_options *opt, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* "FOLDER/KEY.pack", malloc'ed; NULL without memory. */
char *packed_file_name(const struct packed_options *opt, const struct packed_key *key);

/* Makes the folder, removes leftovers and packs out of date, then the least recently used until `bytes` more
 * keep within the limit and the drive has room for them. ERR_NO_ROOM, ERR_IO. */
int packed_make_room(const struct packed_options *opt, const struct packed_key *key, uint64_t bytes,
                     struct err *e);

#endif
