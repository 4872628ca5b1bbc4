# No divergence from itself; threads change nothing, batches nothing but rounding.
yes "the old house was still" | head -60 >t
$TONNE perplexity tiny/qwen3_5_moe --reference tiny/qwen3_5_moe --file t --ctx 48 --windows 3 >1
$TONNE perplexity tiny/qwen3_5_moe --file t --ctx 48 --windows 3 --threads 1 >2
$TONNE perplexity tiny/qwen3_5_moe --file t --ctx 48 --windows 3 --batch 7 >3
sed -n '4,$p' 1
head -3 1 | cmp - 2
cut -c 1-19 1 | head -1 >4
cut -c 1-19 3 | head -1 | cmp - 4
