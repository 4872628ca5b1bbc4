for o in --type=q3 --kv-type=q8_0 --ram=lots --ram=0 --machine=ram --machine=rambw=200 --ctx=0 --batch=0; do
    $TONNE plan tiny/qwen3 "$o"
    echo "$o: $?"
done
