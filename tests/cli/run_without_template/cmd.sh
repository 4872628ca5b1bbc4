cp -r tiny/qwen3 m && chmod -R u+w m
echo "{}" >m/tokenizer_config.json
$TONNE run m hello --temp 0 --max-tokens 8 >1
$TONNE run m hello --raw --temp 0 --max-tokens 8 >2
cmp 1 2 && [ -s 1 ]
