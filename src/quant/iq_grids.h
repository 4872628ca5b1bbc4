/* iq_grids.h: the constant tables of the IQ1, IQ2 and IQ3 formats; private to quant/. */
#ifndef TONNE_QUANT_IQ_GRIDS_H
#define TONNE_QUANT_IQ_GRIDS_H

#include <stdint.h>

/* iq_grids.c: groups packed as digits, the coding is stated there. */
extern const uint16_t iq_grid2xxs[256], iq_grid2xs[512], iq_grid2s[1024];
extern const uint16_t iq_grid3xxs[256], iq_grid3s[512];
extern const uint16_t iq_grid1s[2048];

#endif
