/* expert_files.c: see expert_files.h. */
#include "support/expert_files.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/tiny_files.h"

enum { FILE_BYTES = 300 * 1024 + 1234, MAX_ROW = 9000 };

static unsigned next_random(unsigned *seed)
{
    *seed = *seed * 1103515245 + 12345;
    return *seed >> 8;
}

static void write_file(struct expert_files *f, int i, unsigned *seed)
{
    f->bytes[i] = malloc(FILE_BYTES);
    snprintf(f->path[i], sizeof f->path[i], "%s/experts%d.bin", f->folder, i);
    FILE *out = fopen(f->path[i], "wb");
    if (!out || !f->bytes[i])
        abort();
    for (int k = 0; k < FILE_BYTES; k++)
        f->bytes[i][k] = (unsigned char)next_random(seed);
    if (fwrite(f->bytes[i], 1, FILE_BYTES, out) != FILE_BYTES || fclose(out))
        abort();
    f->file[i] = (struct expert_file){ f->path[i], FILE_BYTES };
}

void expert_files_make(struct expert_files *f, int n_layer, int n_expert)
{
    unsigned seed = 5;
    memset(f, 0, sizeof *f);
    f->folder = tiny_folder();
    for (int i = 0; i < 2; i++)
        write_file(f, i, &seed);
    f->layout = calloc((size_t)n_layer, sizeof *f->layout);
    f->place = calloc((size_t)(n_layer * n_expert), sizeof *f->place);
    f->source = (struct expert_source){ f->file, 2, n_layer, n_expert, f->layout, f->place, 0 };
    for (int l = 0; l < n_layer; l++) {
        int64_t cols = 1 + next_random(&seed) % MAX_ROW;
        struct qmat row = { .type = QTYPE_U8, .rows = 1, .cols = cols };
        f->layout[l] = (struct expert_layout){ .shape = { row, row, row },
                                               .gate = { 0, 0 },
                                               .up = { 1, 0 },
                                               .down = { 2, 0 },
                                               .gate_scale = { -1, 0 },
                                               .up_scale = { -1, 0 },
                                               .down_scale = { 0, (uint64_t)cols / 2 } };
        for (int x = 0; x < n_expert; x++) {
            struct expert_place *p = &f->place[l * n_expert + x];
            size_t region = 0;
            for (p->n_extent = 0; p->n_extent < 3; p->n_extent++) {
                uint64_t n = (uint64_t)cols, room = FILE_BYTES - n;
                uint64_t offset = x == n_expert - 1 ? room : next_random(&seed) % room;
                p->extent[p->n_extent] =
                    (struct expert_extent){ offset, n, (int)(next_random(&seed) % 2), region };
                region += expert_region_bytes(offset, n);
            }
            if (region > f->source.slot_bytes)
                f->source.slot_bytes = region;
        }
    }
}

void expert_files_end(struct expert_files *f)
{
    for (int i = 0; i < 2; i++)
        free(f->bytes[i]);
    tiny_folder_end(&f->folder);
    free(f->layout);
    free(f->place);
}

bool expert_files_match(const struct expert_files *f, int layer, int expert, const void *slot)
{
    const struct expert_place *p = expert_place_of(&f->source, layer, expert);
    for (int i = 0; i < p->n_extent; i++) {
        const struct expert_extent *x = &p->extent[i];
        const char *at = (const char *)slot + x->region + x->offset % EXPERT_PAGE;
        if (memcmp(at, f->bytes[x->file] + x->offset, x->bytes))
            return false;
    }
    return true;
}
