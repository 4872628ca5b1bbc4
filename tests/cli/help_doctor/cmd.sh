$TONNE doctor --help
