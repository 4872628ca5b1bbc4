/*
 * plan_setup.h: from the command line to a plan: which machine, which options, and how many bytes the engine
 * and the cpu device will take. Used by `plan` and by everything that loads a model.
 */
#ifndef TONNE_CMD_PLAN_SETUP_H
#define TONNE_CMD_PLAN_SETUP_H

#include "cmd/options.h"
#include "plan/plan.h"

/* --machine, else this machine, with the drive of `path`, and with what doctor measured when it has. */
int plan_machine(struct machine *m, const struct args *a, const char *path, struct err *e);

/* --type, --ctx, --batch, --kv-type, --threads, --ram as options of a plan for the cpu device. */
int plan_options_from(struct plan_options *o, const struct args *a, struct err *e);

#endif
