#!/bin/sh
# Runs every quick test: the layout rules, the test programs, fuzz corpora and CLI goldens.  check.sh BUILD
# Exit 77 of a test means that this machine cannot run it.
set -u
build=$1 passed=0 failed=0 skipped=0
log=$build/check.log
: >"$log"
start=$(date +%s)
one() { # NAME COMMAND...
    name=$1; shift
    "$@" >"$build/one.log" 2>&1; rc=$?
    { echo "== $name"; cat "$build/one.log"; } >>"$log"
    case $rc in
    0) passed=$((passed + 1)); echo "  ok    $name" ;;
    77) skipped=$((skipped + 1)); echo "  skip  $name: $(tail -1 "$build/one.log")" ;;
    *) failed=$((failed + 1)); echo "  FAIL  $name"; sed 's/^/        /' "$build/one.log" | tail -30 ;;
    esac
}
one layout tools/check_layout.sh
for t in "$build"/tests/unit/* "$build"/tests/device/* "$build"/tests/fault/* "$build"/tests/parity/*; do
    case $t in *.o | *.d) continue ;; esac
    [ -x "$t" ] && one "${t#"$build"/tests/}" "$t"
done
for t in "$build"/tests/fuzz/fuzz_*; do
    case $t in *.o | *.d) continue ;; esac
    name=$(basename "$t")
    [ -x "$t" ] && one "fuzz/$name" "$t" tests/fuzz/corpus/"${name#fuzz_}"
done
[ -x tests/cli/run.sh ] && one cli tests/cli/run.sh "$build"
echo "check took $(($(date +%s) - start)) s; details in $log"
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
