$TONNE run --help
