$TONNE bench --help
