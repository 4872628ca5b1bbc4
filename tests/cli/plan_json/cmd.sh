# The keys that programs may rely on.
$TONNE plan tiny/qwen3_5_moe --machine ram=64G,rambw=200,cores=16,disk=7,int8=3000,f32=1000 --json >out || exit
grep -o '"[a-z_]*":' out | sort -u
