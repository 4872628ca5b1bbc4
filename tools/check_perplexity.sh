#!/bin/sh
# Perplexity of the trained model in every format against the table in README.md and against the same weights
# multiplied exactly (--exact).  check_perplexity.sh BUILD   Exit 77 without ../shared.
set -u
build=$1
tonne=./tonne
[ "$build" = build ] || tonne=$build/tonne
shared=${TONNE_SHARED:-../shared}
model=$shared/models/novelist text=$shared/texts/alice.txt
[ -e "$text" ] || { echo "the trained model is not here"; exit 77; }
failed=0
measure() { # MODEL ARGS... -> perplexity
    m=$1; shift
    "$tonne" perplexity "$m" --file "$text" --ctx 512 --windows 32 --json "$@" | sed -n 's/.*"perplexity": *\([0-9.]*\).*/\1/p'
}
within() { # NAME GOT WANT BOUND(relative)
    awk -v n="$1" -v g="$2" -v w="$3" -v b="$4" 'BEGIN { d = g / w - 1; if (d < 0) d = -d; ok = g > 0 && d <= b
        printf "%s %-28s %s against %s: %.3f %%\n", ok ? "ok" : "FAIL", n, g, w, 100 * d; exit !ok }' || failed=1
}
within bf16 "$(measure "$model")" 31.81 0.0016
within "llama.cpp's q8_0 file" "$(measure "$shared/models/novelist-q8_0.gguf")" 31.81 0.003
for type in q8_0 q6_k q4_k_m nf4 nf4-dq mxfp4; do
    got=$(measure "$model" --type $type)
    within "$type, exact products" "$got" "$(measure "$model" --type $type --exact)" 0.002
    table=$(sed -n "s/^| *\`$type\` *| *[0-9.]* *| *\([0-9.]*\) *|.*/\1/p" README.md)
    within "$type, README" "$got" "${table:-0.001}" 0.001
done
[ $failed = 0 ] && echo "every format within its bound"
exit $failed
