yes "the old house was still" | head -60 >t
$TONNE perplexity tiny/qwen3 --file t --ctx 32 --windows 4 --json | sed 's/": [0-9.]*\.[0-9]*/": N/'
