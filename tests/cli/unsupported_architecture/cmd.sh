cp -r tiny/qwen3 m && chmod -R u+w m
sed 's/"qwen3"/"gpt_neox"/; s/Qwen3ForCausalLM/GPTNeoXForCausalLM/' tiny/qwen3/config.json >m/config.json
$TONNE inspect m
