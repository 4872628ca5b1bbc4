cp -r tiny/qwen3 m && chmod -R u+w m
echo '{"chat_template": "[INST] {{ messages }} [/INST]"}' >m/tokenizer_config.json
$TONNE run m hello
