# The same seed gives the same text on any number of threads, another seed another text.
$TONNE run tiny/qwen3_moe hello --temp 1 --seed 7 --max-tokens 30 >1
$TONNE run tiny/qwen3_moe hello --temp 1 --seed 7 --max-tokens 30 --threads 3 >2
$TONNE run tiny/qwen3_moe hello --temp 1 --seed 8 --max-tokens 30 >3
cmp 1 2 && ! cmp -s 1 3
