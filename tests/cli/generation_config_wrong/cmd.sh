cp -r tiny/qwen3 m && chmod -R u+w m
echo '{"temperature": -3}' >m/generation_config.json
$TONNE run m hello
