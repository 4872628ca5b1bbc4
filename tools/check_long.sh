#!/bin/sh
# The long runs: every fuzz target for MINUTES (default 10), the judges, and the sanitizers.  check_long.sh BUILD
set -u
build=$1 minutes=${MINUTES:-10} passed=0 failed=0
count() { if [ "$1" = 0 ]; then passed=$((passed + 1)); else failed=$((failed + 1)); echo "  FAIL  $2"; fi; }
for target in "$build"/fuzz/fuzz_*; do
    case $target in *.o | *.d) continue ;; esac
    name=$(basename "$target")
    mkdir -p "$build/corpus/$name"
    echo "fuzzing $name for $minutes minutes"
    "$target" -max_total_time=$((minutes * 60)) -rss_limit_mb=2048 -timeout=10 -print_final_stats=1 \
        -artifact_prefix="$build/corpus/" "$build/corpus/$name" "tests/fuzz/corpus/${name#fuzz_}" >"$build/$name.log" 2>&1
    rc=$?
    grep -E 'number_of_executed_units|average_exec' "$build/$name.log" | tr '\n' ' '; echo
    count $rc "$name: $build/$name.log"
done
echo "kill -9 while a packed model is written, 100 times"
"$build"/tests/fault/test_pack_kill 100
count $? "fault/test_pack_kill 100"
for san in address thread; do
    echo "make check SAN=$san"
    make --no-print-directory -j2 check SAN=$san >"$build/check-$san.log" 2>&1
    count $? "SAN=$san: $build/check-$san.log"
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
