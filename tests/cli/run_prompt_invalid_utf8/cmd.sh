printf 'caf\351 noir' | $TONNE run tiny/qwen3
