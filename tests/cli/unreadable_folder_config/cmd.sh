cp -r tiny/qwen3 m && chmod -R u+w m
rm m/config.json
$TONNE inspect m
