# Speeds and memory differ from run to run.
$TONNE run tiny/qwen3 hello --raw --temp 0 --max-tokens 4 --seed 1 --json | sed 's/\(per_second\|seconds\|bytes\)": [0-9.e+-]*/\1": N/'
