# The argument, standard input and a file are the same prompt.
printf 'a storm' >p
$TONNE run tiny/qwen3 "a storm" --temp 0 --max-tokens 9 >1
$TONNE run tiny/qwen3 --temp 0 --max-tokens 9 <p >2
$TONNE run tiny/qwen3 --file p --temp 0 --max-tokens 9 >3
echo "a storm" | $TONNE run tiny/qwen3 - --temp 0 --max-tokens 9 >4
cmp 1 2 && cmp 1 3 && cmp 1 4 && [ -s 1 ]
