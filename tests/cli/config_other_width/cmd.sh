cp -r tiny/qwen3 m && chmod -R u+w m
sed 's/"hidden_size": 64/"hidden_size": 128/' tiny/qwen3/config.json >m/config.json
$TONNE inspect m
