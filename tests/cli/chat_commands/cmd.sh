$TONNE chat tiny/qwen3 --temp 0 --max-tokens 3 <<'END'
/help
/system
/system Be kind.
/system
/statistic
/save
/load nowhere.json
/frobnicate
/quit
never read
END
