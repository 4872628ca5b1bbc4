$TONNE run tiny/qwen3 tell me
