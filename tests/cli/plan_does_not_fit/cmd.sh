# The table comes all the same; run says the same before it loads anything.
$TONNE plan tiny/qwen3_5_moe --machine ram=6M,cores=2 --ctx 64 --batch 8 | tail -3
$TONNE plan tiny/qwen3_5_moe --machine ram=6M,cores=2 --ctx 64 --batch 8 >/dev/null
echo "exit $?"
$TONNE run tiny/qwen3 hello --raw --threads 1 --ram 5M --ctx 64 --batch 8
