$TONNE perplexity tiny/qwen3
