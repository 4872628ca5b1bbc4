# With experts and without.
$TONNE plan tiny/qwen3_5_moe --machine ram=64G,rambw=200,cores=16,disk=7,int8=3000,f32=1000 --ctx 2000 --batch 64
$TONNE plan tiny/qwen3.gguf --machine ram=1G,cores=4 --type q8_0 --ctx 2000
