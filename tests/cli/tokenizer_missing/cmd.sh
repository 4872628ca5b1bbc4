cp -r tiny/qwen3 m && chmod -R u+w m
rm m/tokenizer.json
$TONNE run m hello
