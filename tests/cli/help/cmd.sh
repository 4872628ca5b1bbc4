$TONNE --help
