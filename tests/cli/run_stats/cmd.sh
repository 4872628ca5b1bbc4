$TONNE run tiny/qwen3 hello --raw --temp 0 --max-tokens 4 --seed 1 --stats 2>&1 >text | sed 's/[0-9.][0-9.]* \(tokens.s\|s \|MiB\|of them\)/N \1/g; s/  *N/ N/g'
[ -s text ]
