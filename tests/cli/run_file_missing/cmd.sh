$TONNE run tiny/qwen3 --file p
