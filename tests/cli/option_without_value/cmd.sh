$TONNE run tiny/qwen3 hello --max-tokens
