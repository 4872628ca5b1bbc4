cp -r tiny/qwen3 m && chmod -R u+w m
printf '{"model_type": ' >m/config.json
$TONNE inspect m
