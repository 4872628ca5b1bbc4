cp -r tiny/qwen3 m && chmod -R u+w m
echo "{}" >m/tokenizer_config.json
$TONNE run m hello --system "Be brief."
