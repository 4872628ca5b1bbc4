cp -r tiny/qwen3 m && chmod -R u+w m
echo "{}" >m/tokenizer_config.json
echo hello | $TONNE chat m
