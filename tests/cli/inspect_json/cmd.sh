$TONNE inspect tiny/qwen3_5 --json
