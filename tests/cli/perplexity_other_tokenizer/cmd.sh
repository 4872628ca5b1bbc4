yes "the old house was still" | head -60 >t
cp -r tiny/qwen3 m && chmod -R u+w m
sed 's/"content": "<think>"/"content": "house"/' tiny/qwen3/tokenizer.json >m/tokenizer.json
$TONNE perplexity tiny/qwen3 --reference m --file t --ctx 32 --windows 2
