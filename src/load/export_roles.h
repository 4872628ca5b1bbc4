/* export_roles.h: the weights of a model in the order in which they are written. */
#ifndef TONNE_LOAD_EXPORT_ROLES_H
#define TONNE_LOAD_EXPORT_ROLES_H

#include "model/model.h"

/* Calls fn for every weight that m has: Hugging Face's names in alphabetical order with numbers counting,
 * which is the order of llama.cpp's converter too: head, embedding, layers, final norm, MTP. layer as in
 * model_find. Stops at the first error. */
int export_each_role(const struct model *m, int (*fn)(void *user, enum role role, int layer, struct err *e),
                     void *user, struct err *e);

/* The tensor's dimensions as both containers store it: experts [n][rows][cols], vectors [cols]. hf:
 * convolutions keep their middle dimension of 1. Gives their number. */
int export_role_dims(const struct model *m, enum role role, bool hf, int64_t dim[4]);

#endif
