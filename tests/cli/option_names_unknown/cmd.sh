for o in "--type q9" "--kv-type int3" "--cpu z80" "--template llama9"; do
    $TONNE run tiny/qwen3 hello $o
    echo "$o: $?"
done
