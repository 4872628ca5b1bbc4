#!/bin/sh
# Who may include whom (doc/tour.md), and what does not belong in the library.
set -u
bad=0
allow() {
    case $1 in
    base) echo base ;; quant) echo base quant ;; device) echo base quant device ;; model) echo base quant model ;;
    plan) echo base quant device model plan ;; load) echo base quant device model plan load ;;
    engine) echo base quant device model load engine ;; text) echo base quant model text ;;
    serve) echo base quant device model load engine text serve ;;
    *) echo base quant device model plan load engine text serve cmd ;;
    esac
}
complain() { echo "$*"; bad=1; }
for file in $(find src -name '*.[ch]' -o -name '*.cu' -o -name '*.cuh'); do
    folder=${file#src/}; folder=${folder%%/*}
    for to in $(sed -n 's/^#include "\([a-z]*\)\/.*/\1/p' "$file" | sort -u); do
        case " $(allow "$folder") " in *" $to "*) ;; *) complain "$file: $folder may not include $to/" ;; esac
    done
    lines=$(wc -l <"$file")
    case $file in *_tables.[ch] | *_grids.c) ;; *) [ "$lines" -le 1000 ] || complain "$file: $lines lines" ;; esac
done
grep -nE '\b(getenv|exit|abort|printf|puts)\(' $(find src -name '*.c' -not -path 'src/cmd/*') && complain 'getenv, exit and printing belong to cmd/'
grep -nE '#include "[^"]*\.c"' -r src tests && complain 'no .c is included'
exit $bad
