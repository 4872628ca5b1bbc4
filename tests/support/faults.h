/*
 * faults.h: counts calls of the system and says which one is to fail. The calls themselves are replaced by
 * the test program (tests/fault/test_faults.c), for in a library they would be linked into every test.
 */
#ifndef TONNE_TESTS_FAULTS_H
#define TONNE_TESTS_FAULTS_H

#include <stdbool.h>

enum fault_kind {
    FAULT_ALLOC,
    FAULT_OPEN,
    FAULT_READ,
    FAULT_SHORT_READ,
    FAULT_WRITE,
    FAULT_RENAME,
    FAULT_FSYNC,
    FAULT_MMAP,
    FAULT_KINDS
};

/* From now on the k-th call (from 0) of this kind fails, on whatever thread. */
void faults_arm(enum fault_kind kind, int k);
/* Ends that; true when the call was reached. */
bool faults_disarm(void);
/* For the replaced calls: counts one, true when it is the one that fails. */
bool faults_now(enum fault_kind kind);
const char *fault_name(enum fault_kind kind);

/* Open descriptors and threads of this process, and entries of a folder. */
int faults_descriptors(void);
int faults_threads(void);
int faults_entries(const char *folder);

#endif
