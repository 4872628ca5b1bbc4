echo '{"messages": [1]}' >x.json
echo "/load x.json" | $TONNE chat tiny/qwen3
